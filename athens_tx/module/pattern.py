"""Patterns of module paths, as in C{GOPRIVATE}: a glob for as many leading path elements as it has itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


def split_patterns(text: str) -> Sequence[str]:
    """@return: the patterns of a comma-separated list, without spaces around them and without empty ones."""
    return [pattern for pattern in (item.strip() for item in text.split(",")) if pattern]


def matches_any(patterns: Iterable[str], path: str) -> bool:
    """@return: whether one of the patterns L{matches}."""
    return any(matches(pattern, path) for pattern in patterns)


def matches(pattern: str, path: str) -> bool:
    """
    @param pattern: a glob: C{*} and C{?} do not cross C{/}, C{[a-z]} and C{[^a-z]} are classes, C{\\x} is C{x}. One
        that is malformed matches nothing. A slash at its end counts, so it matches nothing either.
    @param path: a module path, unescaped.
    @return: whether the pattern, of N elements, matches the first N elements of the path.
    """
    glob = _compiled(pattern)
    count = pattern.count("/") + 1
    elements = path.split("/", count)
    return glob is not None and len(elements) >= count and glob.match("/".join(elements[:count])) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """@return: the whole pattern as an expression of at most quadratic time; C{None} if it is malformed."""
    chunks = [""]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            chunks.append("")
        elif character == "?":
            chunks[-1] += "[^/]"
        elif character == "[":
            found = _CLASS.match(pattern, at)
            if found is None:
                return None
            chunks[-1] += _class(found[1], found[2])
            at = found.end()
        else:
            if character == "\\":
                if at == len(pattern):
                    return None
                character = pattern[at]
                at += 1
            chunks[-1] += re.escape(character)
    # Each chunk has a fixed length, so the leftmost place for it is as good as any: no need to come back to it.
    head, *inner = chunks
    last = "" if not inner else "[^/]*" + inner.pop()
    return re.compile(head + "".join(f"(?>[^/]*?{chunk})" for chunk in inner) + last + r"\Z", re.DOTALL)


_MEMBER = r"(?:\\.|[^\\\]-])"
_RANGE = re.compile(rf"({_MEMBER})(?:-({_MEMBER}))?", re.DOTALL)
_CLASS = re.compile(rf"(\^?+)((?:{_MEMBER}(?:-{_MEMBER})?)+)\]", re.DOTALL)


def _class(negation: str, members: str) -> str:
    """@return: the expression for a class of a glob; a range that is upside down holds nothing."""
    ranges = [(low[-1], (high or low)[-1]) for low, high in _RANGE.findall(members)]
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if inside:
        return f"[{negation}{inside}]"
    return "." if negation else "(?!)"
