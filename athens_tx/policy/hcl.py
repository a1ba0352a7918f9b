"""
The small part of HCL 2 that a download-mode file is made of: arguments that are constant strings, and labelled blocks.

Built on the parse tree of python-hcl2, not on the dictionary that C{hcl2.loads} gives: that one loses the line numbers
and all but the last of two equal arguments, leaves quotes and escapes in the strings, and needs a stack as deep as the
file is nested.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import attrs

#: Characters; a file of this size takes about a second to parse.
LIMIT = 256 * 1024

#: Blocks within blocks; a download-mode file has one level.
DEPTH = 20

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


class HCLError(Exception):
    """
    The text is not HCL, or more of it than is read here.

    @ivar line: the number of the line, the first is 1; 0 where there is none to name.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@attrs.frozen
class Argument:
    """C{name = value}. The value is C{None} where it is anything but a constant string in quotes."""

    name: str
    value: str | None
    line: int


@attrs.frozen
class Block:
    """C{kind "label" ... { ... }}. A label is C{None} where it is not a constant."""

    kind: str
    labels: tuple[str | None, ...]
    arguments: tuple[Argument, ...]
    blocks: tuple[Block, ...]
    line: int


def read(text: str) -> Block:
    """
    Blocks the caller for up to a second.

    @return: the whole file as a block without kind and labels.
    @raise HCLError: C{text} can't be read.
    """
    if len(text) > LIMIT:
        raise HCLError(0, f"longer than {LIMIT} characters")
    # Here, because the import takes longer than all others of this room and few need it.
    import hcl2
    from lark.exceptions import LarkError

    try:
        tree = hcl2.parses_to_tree(text)
    except LarkError as error:
        raise _syntax_error(error) from error
    return _body(tree.children[0], "", (), 1, 0)


def _syntax_error(error: Any) -> HCLError:
    line = getattr(error, "line", None) or 0
    token = str(getattr(error, "token", "") or getattr(error, "char", ""))
    shown = token.strip().split("\n")[0][:40]
    return HCLError(max(line, 0), f"not HCL, at {shown!r}" if shown else "not HCL: something is missing here")


def _body(tree: Any, kind: str, labels: tuple[str | None, ...], line: int, depth: int) -> Block:
    if depth > DEPTH:
        raise HCLError(line, "nested too deeply")
    arguments: list[Argument] = []
    blocks: list[Block] = []
    last = 0
    for item in tree.children:
        if item.data == "new_line_or_comment":
            continue
        if item.meta.line == last:
            raise HCLError(last, "each argument and each block needs a line of its own")
        last = item.meta.end_line
        if item.data == "attribute":
            arguments.append(Argument(_name(item.children[0]), _constant(item.children[-1]), item.meta.line))
        else:
            blocks.append(_block(item, depth))
    return Block(kind, labels, tuple(arguments), tuple(blocks), line)


def _block(tree: Any, depth: int) -> Block:
    head = [child for child in tree.children[:-2] if getattr(child, "data", "") not in ("", "new_line_or_comment")]
    labels = tuple(_string(child) if child.data == "string" else _name(child) for child in head[1:])
    return _body(tree.children[-2], _name(head[0]), labels, tree.meta.line, depth + 1)


def _name(tree: Any) -> str:
    return str(tree.children[0])


def _constant(expression: Any) -> str | None:
    if expression.data != "expr_term" or len(expression.children) != 1:
        return None
    value = expression.children[0]
    return _string(value) if getattr(value, "data", "") == "string" else None


def _string(tree: Any) -> str | None:
    parts = []
    for part in tree.children[1:-1]:
        token = part.children[0]
        kind = getattr(token, "type", "")
        if kind == "STRING_CHARS":
            if "\n" in token:
                raise HCLError(token.line, "a string has to end on its line")
            parts.append(_ESCAPE.sub(partial(_unescape, token.line), token))
        elif kind in ("ESCAPED_INTERPOLATION", "ESCAPED_DIRECTIVE"):
            parts.append(str(token)[1:])
        else:
            return None
    return "".join(parts)


def _unescape(line: int, match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) > 1:
        code = int(escape[1:], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise HCLError(line, f"\\{escape} is no character")
        return chr(code)
    if escape not in _ESCAPED:
        raise HCLError(line, f"\\{escape} is not an escape of HCL")
    return _ESCAPED[escape]
