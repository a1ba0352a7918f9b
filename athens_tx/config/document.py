"""Reading the file of settings, down to values with their lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from athens_tx.config.lines import key_lines

_PLACE = re.compile(r" \((?:at line (\d+), column \d+|at end of document)\)$")
#: Messages of the reader that a valid document of TOML 1.1 can cause.
_NEWER = re.compile(r"(?i)unescaped|escape|inline table|initial character for a key part")


class BadDocument(ValueError):
    """The file can't be read, or is no TOML; the text is the whole line for the administrator."""


@attrs.frozen
class Document:
    """
    A file of settings.

    @ivar lines: the line of each key, by its path.
    """

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int]


def read_document(path: Path) -> Document:
    """@raise BadDocument: it can't be read, is not UTF-8, or not TOML."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadDocument(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadDocument(f"{path}:{line}: is not UTF-8") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadDocument(_syntax(path, text, str(error))) from error
    except (RecursionError, ValueError) as error:  # brackets without end, a number of thousands of digits
        raise BadDocument(f"{path}: is not a sensible TOML 1.0 file: {type(error).__name__}") from error
    return Document(path, values, key_lines(text))


def _syntax(path: Path, text: str, message: str) -> str:
    match = _PLACE.search(message)
    line = int(match[1]) if match and match[1] else len(text.splitlines())
    what = message[: match.start()] if match else message
    hint = (
        "; tables in braces over several lines, or with a final comma, and the escapes \\e and \\xHH are of TOML 1.1"
        if _NEWER.search(what)
        else ""
    )
    return f"{path}:{line}: is not TOML 1.0: {what}{hint}"
