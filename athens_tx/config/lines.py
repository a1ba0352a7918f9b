"""
On which line of a TOML document each key stands.

The reader of the standard library does not say, so this walks once more over a document that is known to be valid, and
looks at nothing but keys.
"""

from __future__ import annotations

import re
import tomllib

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
#: A date may have a blank in front of the time.
_BARE = re.compile(r"[^,\[\]{}#\s]+(?: [0-9]{2}:[^,\]}#\s]+)?")

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """
    @param text: a valid document, line ends as they are in the file.
    @return: the line on which each key, table header and inline key first appears, by its path. Keys inside of
        arrays are left out.
    """
    return _Walk(text).document()


class _Walk:
    """One walk over a document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip() < len(self._text):
            if not self._takes("["):
                self._pair(table)
                continue
            self._takes("[")
            self._skip()
            table = self._path(())
            self._at = self._text.index("]", self._at)
            self._takes("]")
            self._takes("]")
        return self._lines

    def _skip(self) -> int:
        match = _BLANK.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._at

    def _takes(self, token: str) -> bool:
        there = self._text.startswith(token, self._at)
        self._at += len(token) if there else 0
        return there

    def _path(self, table: Path) -> Path:
        line = self._text.count("\n", 0, self._at) + 1
        path = table
        while True:
            path = (*path, self._part())
            self._lines.setdefault(path, line)
            dot = _DOT.match(self._text, self._at)
            if dot is None:
                return path
            self._at = dot.end()

    def _part(self) -> str:
        match = _KEY.match(self._text, self._at)
        assert match is not None, self._at
        self._at = match.end()
        part = match[0]
        # The library knows best what an escape in a quoted key means.
        return next(iter(tomllib.loads(f"{part} = 0"))) if part[0] in "\"'" else part

    def _pair(self, table: Path) -> None:
        path = self._path(table)
        self._skip()
        self._takes("=")
        self._skip()
        if self._takes("{"):
            self._inline(path)
        elif self._text.startswith("[", self._at):
            self._array()
        else:
            self._scalar()

    def _inline(self, table: Path) -> None:
        self._skip()
        while not self._takes("}"):
            self._pair(table)
            self._skip()
            self._takes(",")
            self._skip()

    def _array(self) -> None:
        depth = 0
        while True:
            self._skip()
            bracket = self._text[self._at]
            if bracket in "[]{},=":
                self._at += 1
                depth += {"[": 1, "]": -1}.get(bracket, 0)
                if not depth:
                    return
            else:
                self._scalar()

    def _scalar(self) -> None:
        match = _STRING.match(self._text, self._at) or _BARE.match(self._text, self._at)
        assert match is not None, self._at
        self._at = match.end()
