"""What a request asks for: the request target, decoded once and checked once."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import attrs

from athens_tx.errors import InvalidRequest

#: How long a path may be, escaped, in bytes; four times what the longest module path can need.
MAX_PATH = 4096

_UNPRINTABLE = re.compile(rb"[^\x21-\x7e]")
_MALFORMED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]*")

#: What Go leaves unescaped in a path besides letters, digits, C{-}, C{_}, C{.} and C{~}.
_GO_SAFE = "/$&+,:;=@~"


@attrs.frozen
class Target:
    """
    @ivar escaped: the path as it was sent, without the query.
    @ivar path: the path, decoded.
    @ivar query: what came behind the question mark, as it was sent.
    """

    escaped: bytes
    path: str
    query: bytes

    def tail(self, start: int) -> bytes:
        """
        @param start: how many bytes of the decoded path (in UTF-8) to leave out.
        @return: the rest of the path, escaped just as it was sent.
        """
        if b"%" not in self.escaped:
            return self.escaped[start:]
        at = 0
        for _ in range(start):
            at += 3 if self.escaped[at : at + 1] == b"%" else 1
        return self.escaped[at:]


def parse_target(uri: bytes) -> Target:
    """
    @param uri: the request target: a path with perhaps a query, or a whole URL, whose host is not looked at.
    @raise InvalidRequest: it is none of these, is too long, or its escapes can't be undone to printable UTF-8.
    """
    if not uri.startswith(b"/"):
        absolute = _ABSOLUTE.match(uri)
        if absolute is None:
            raise InvalidRequest("the request target is not a path")
        uri = uri[absolute.end() :]
        uri = uri if uri.startswith(b"/") else b"/" + uri
    if _UNPRINTABLE.search(uri):
        raise InvalidRequest("the request target holds a space, a control character or a byte beyond ASCII")
    escaped, _, query = uri.partition(b"?")
    if len(escaped) > MAX_PATH:
        raise InvalidRequest(f"the path is longer than {MAX_PATH} bytes")
    return Target(escaped, _decode(escaped), query)


def _decode(escaped: bytes) -> str:
    if b"%" not in escaped:
        return escaped.decode("ascii")
    if _MALFORMED.search(escaped):
        raise InvalidRequest("the path holds a malformed % escape")
    path = unquote_to_bytes(escaped)
    if _CONTROL.search(path):
        raise InvalidRequest("the path holds an escaped control character")
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("the path is not UTF-8") from error


def clean(path: str) -> str:
    """
    @param path: a decoded path that begins with a slash.
    @return: the same without empty elements, C{.} and C{..}; a slash at the end stays. It begins with one slash only.
    """
    if "//" not in path and "/." not in path:
        return path
    elements: list[str] = []
    for element in path.split("/"):
        if element == "..":
            del elements[-1:]
        elif element not in ("", "."):
            elements.append(element)
    cleaned = "/" + "/".join(elements)
    return cleaned + "/" if path.endswith("/") and elements else cleaned


def escape(path: str, keep: str = "") -> str:
    """
    @param path: a decoded path.
    @param keep: characters to leave as they are besides those that Go leaves.
    @return: the path for a URL, escaped as Go does it: C{!} is C{%21}, C{@} and C{+} stay.
    """
    return quote(path, safe=_GO_SAFE + keep)
