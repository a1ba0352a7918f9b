"""What an external storage may answer besides what it was asked for: redirects, and trouble."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from athens_tx.errors import InvalidModule, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.layout import check_names

T = TypeVar("T", Response, OpenResponse)

REDIRECTS = (301, 302, 303, 307, 308)
#: What a server says of something that it does not have at all.
REFUSALS = (404, 405, 501)

_MOST = 10
_TEXT = 200

_ADVICE = {
    401: "the server wants (other) credentials: put them into Storage.External.URL, as http://USER:PASSWORD@HOST/",
    403: "the server refuses these credentials: look at those in Storage.External.URL",
    404: "there is no external storage below this URL: look at the path in Storage.External.URL; of an athens-tx it is"
    " what its ExternalStoragePath says",
    405: "there is no external storage below this URL: look at the path in Storage.External.URL; of an athens-tx it is"
    " what its ExternalStoragePath says",
    400: "Athens' own server for external storage takes no version of more than 1 MiB",
    413: "the version is too large for the server; of an athens-tx, MaxZipSize is the limit",
}


def describe(response: Response) -> str:
    """@return: what to look at after an answer that nobody wants, and what the server says; for the log."""
    advice = _ADVICE.get(response.status, "look at the server that Storage.External.URL names")
    said = " ".join(response.body[:_TEXT].decode("utf-8", "replace").split())
    printable = "".join(character for character in said if character.isprintable())
    return f"{advice}; it says: {printable}" if printable else advice


def is_markup(body: bytes) -> bool:
    """@return: whether it is a page for people, such as one to log in at; no list or small file begins so."""
    return body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def strong_tag(answer: Response | OpenResponse) -> str:
    """@return: its entity tag if that changes whenever a byte does, else nothing."""
    tag = answer.header("ETag") or ""
    return tag if len(tag) > 2 and tag[0] == tag[-1] == '"' else ""


def parse_page(body: bytes) -> tuple[list[ModuleVersion], str, int]:
    """
    @return: the versions of a page of the catalog, the token of the next one, and how many names were left out because
        none can be stored under them.
    @raise ValueError: it is no page.
    """
    found, odd = [], 0
    try:
        page = json.loads(body)
        token = page.get("next") or ""
        entries = [(entry["module"], entry["version"]) for entry in page["modules"] or ()]
        if not all(isinstance(text, str) for text in (token, *(name for entry in entries for name in entry))):
            raise ValueError("not text")
        token.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("no page of a catalog") from None
    for path, version in entries:
        mv = ModuleVersion(path, version)
        try:
            check_names(mv)
        except InvalidModule:
            odd += 1
        else:
            found.append(mv)
    return found, token, odd


class Redirected:
    """Follows redirects, as Athens' client does; the credentials stay with their server."""

    def __init__(self, base: str) -> None:
        """@param base: a URL, with the credentials if there are any."""
        parts = urlsplit(base)
        self._userinfo = parts.netloc.rpartition("@")[0]
        self._server = (parts.scheme, parts.netloc.rpartition("@")[2])

    async def follow(self, url: str, ask: Callable[[str, Collection[int]], Awaitable[T]]) -> T:
        """
        @param ask: given a URL and the statuses that are to be taken as well.
        @return: the first answer that is no redirect.
        """
        for _ in range(_MOST):
            answer = await ask(url, REDIRECTS)
            if answer.status not in REDIRECTS:
                return answer
            if isinstance(answer, OpenResponse):
                answer.abort()
            url = self._target(url, answer.header("Location") or "")
        raise StorageUnavailable("external storage: too many redirects")

    def _target(self, url: str, location: str) -> str:
        try:
            target = urlsplit(urljoin(url, location))
            usable = bool(location and target.hostname) and target.port != 0
        except ValueError:  # half an IPv6 address, or a port out of range
            usable = False
        if not usable:
            raise StorageUnavailable("external storage: a redirect that leads nowhere")
        server = (target.scheme, target.netloc.rpartition("@")[2])
        safe = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
        if target.scheme not in safe:
            raise StorageUnavailable("external storage: a redirect that leads nowhere safe")
        userinfo = f"{self._userinfo}@" if self._userinfo and server == self._server else ""
        return target._replace(netloc=userinfo + server[1]).geturl()
