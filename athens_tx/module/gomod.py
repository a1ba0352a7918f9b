"""
A tolerant reader of go.mod files: what it does not know it passes over, as the go command does for a dependency.

It takes time in proportion to the length of the file, whatever is in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from athens_tx.errors import BadUpstream
from athens_tx.module.version import canonical, sort_key

#: How large a go.mod may be, in bytes; the go command's own limit.
MAX_GO_MOD = 16 << 20
_MAX_LINE = 64 << 10
_MAX_STATEMENTS = 10_000  # of the kinds that are looked at, and as many lines in their blocks

# A line that opens a block of any kind, or a statement of the kinds that are read here.
_STATEMENT = re.compile(
    r"^[ \t\r]*+(?:(module|retract)(?![^\s()\[\]{},\"`])([^\n]*)|[a-z]++[ \t]*+\([ \t\r]*+(?=//|$))", re.MULTILINE
)
_LINE = re.compile(r"^[ \t\r]*+(?!//)[^\s][^\n]*", re.MULTILINE)
_END_OF_BLOCK = re.compile(r"^[ \t\r]*+\)", re.MULTILINE)
_TOKEN = re.compile(r"//.*|\"(?:[^\"\\]|\\.)*+\"|`[^`]*`|[()\[\]{},]|(?:(?!//)[^\s()\[\]{},])+")
_ESCAPE = re.compile(r"\\(.)")


def module_path(mod: bytes) -> str | None:
    """@return: the path that the C{module} statement names; C{None} if there is none, or none that can be read."""
    for words in _statements(mod, "module"):
        return _unquoted(words[0]) if len(words) == 1 else None
    return None


def retractions(mod: bytes) -> Sequence[tuple[str, str]]:
    """@return: the first and the last version of each retracted range, both included and canonical."""
    found = []
    for words in islice(_statements(mod, "retract"), _MAX_STATEMENTS):
        match words:
            case ["[", low, ",", high, "]"]:
                pair = low, high
            case [only]:
                pair = only, only
            case _:
                continue
        first, last = (canonical(_unquoted(word) or "") for word in pair)
        if first and last:
            found.append((first, last))
    return found


def unretracted(versions: Iterable[str], ranges: Iterable[tuple[str, str]]) -> list[str]:
    """
    @param ranges: of L{retractions}.
    @return: the versions that none of them covers, in their order. Takes little more time than sorting both: the author
        of a module says how many there are.
    """
    lows, highs = _merged(ranges)
    left = []
    for version in versions:
        key = sort_key(version)[:-1]
        at = bisect_right(lows, key) - 1
        if at < 0 or key > highs[at]:
            left.append(version)
    return left


def _merged(ranges: Iterable[tuple[str, str]]) -> tuple[list[Any], list[Any]]:
    """@return: where each range begins and ends, in order; those that overlap have become one."""
    lows: list[Any] = []
    highs: list[Any] = []
    for low, high in sorted((sort_key(low)[:-1], sort_key(high)[:-1]) for low, high in ranges):
        if low > high:
            continue
        if highs and low <= highs[-1]:
            highs[-1] = max(highs[-1], high)
        else:
            lows.append(low)
            highs.append(high)
    return lows, highs


def is_retracted(version: str, ranges: Iterable[tuple[str, str]]) -> bool:
    """@return: whether one of the ranges of L{retractions} covers C{version}."""
    return not unretracted([version], ranges)


def check_mod(mod: bytes) -> None:
    """
    Look whether a C{.mod} file is one. It may name another module: a fork that is used by C{replace} does, and the go
    command downloads it.

    @raise BadUpstream: it names no module, or is larger than L{MAX_GO_MOD}.
    """
    if len(mod) > MAX_GO_MOD:
        raise BadUpstream(f"the go.mod file has {len(mod)} bytes, more than {MAX_GO_MOD}")
    if not module_path(mod):
        raise BadUpstream("the go.mod file names no module")


def synthesize(path: str) -> bytes:
    """@return: the go.mod that the go command makes up for a module without one."""
    return b"module %s\n" % path.encode()


def _statements(mod: bytes, kind: str) -> Iterator[list[str]]:
    """@return: the words of each statement of this kind, without its name, in a block or by itself."""
    text = mod.decode(errors="replace")
    at = 0
    for _ in range(_MAX_STATEMENTS):
        found = _STATEMENT.search(text, at)
        if found is None:
            return
        at = found.end()
        words = _words(found[2]) if found[1] else ["("]
        if words == ["("]:
            end = _END_OF_BLOCK.search(text, at)
            stop = len(text) if end is None else end.start()
            if found[1] == kind:
                yield from filter(None, (_words(line[0]) for line in _LINE.finditer(text, at, stop)))
            at = stop
        elif found[1] == kind:
            yield words


def _words(line: str) -> list[str]:
    if len(line) > _MAX_LINE:
        return []
    return [word for word in _TOKEN.findall(line) if not word.startswith("//")]


def _unquoted(word: str) -> str | None:
    """@return: what a word stands for; C{None} if it is quoted wrongly, or has an escape that no path needs."""
    if len(word) > 1 and word[0] == word[-1] == "`":
        return word[1:-1]
    if len(word) > 1 and word[0] == word[-1] == '"':
        word = word[1:-1]
        return None if set(_ESCAPE.findall(word)) - {'"', "\\"} else _ESCAPE.sub(r"\1", word)
    return None if re.search("[\"'`]", word) else word
