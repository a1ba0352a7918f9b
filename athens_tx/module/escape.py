"""
The C{!} escaping of module paths and versions in URLs and file names: C{BurntSushi} is C{!burnt!sushi}.

Only the escaping is done and undone here; whether a path or a version is a good one is for L{athens_tx.module.path}.
"""

from __future__ import annotations

import re

from athens_tx.errors import InvalidModule

_UPPER = re.compile("[A-Z]")
_BANG = re.compile("!([a-z])")
_ESCAPED = re.compile(r"(?:[^A-Z!\x80-\U0010ffff]|![a-z])*+\Z")


def shown(text: str, limit: int = 80) -> str:
    """@return: C{text} in quotes for a one-line message: printable ASCII, and not much longer than C{limit}."""
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "..."


def _escape(text: str, what: str) -> str:
    if not text.isascii() or "!" in text:
        raise InvalidModule(f"{what} {shown(text)} can't be escaped")
    if text.islower():
        return text
    return _UPPER.sub(lambda letter: "!" + letter[0].lower(), text)


def _unescape(text: str, what: str) -> str:
    if text.islower() and text.isascii() and "!" not in text:
        return text
    if not _ESCAPED.match(text):
        raise InvalidModule(f"{what} {shown(text)} is not escaped as it must be (!x for X)")
    return _BANG.sub(lambda pair: pair[1].upper(), text)


def escape_path(path: str) -> str:
    """
    @param path: a module path, unescaped.
    @return: as in a URL or a file name: each capital is C{!} and its small letter.
    @raise InvalidModule: it holds C{!} or a character beyond ASCII.
    """
    return _escape(path, "module path")


def unescape_path(escaped: str) -> str:
    """
    @param escaped: a module path as in a URL or a file name.
    @raise InvalidModule: it holds a capital, a character beyond ASCII, or a C{!} without a small letter after it.
    """
    return _unescape(escaped, "module path")


def escape_version(version: str) -> str:
    """As L{escape_path}, for a version or a version query."""
    return _escape(version, "version")


def unescape_version(escaped: str) -> str:
    """As L{unescape_path}, for a version or a version query."""
    return _unescape(escaped, "version")
