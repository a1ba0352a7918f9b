"""The filter file: which modules and versions are served, refused, or to be had elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from athens_tx.errors import ConfigError
from athens_tx.policy.versions import VersionItem


class Rule(Enum):
    """What a line of the filter file says of a module, by the sign it begins with."""

    INCLUDE = "+"
    EXCLUDE = "-"
    DIRECT = "D"


@attrs.define
class _Node:
    """One path element: the rule that ends here, and what comes below."""

    rule: Rule | None = None
    versions: tuple[VersionItem, ...] = ()
    line: int = 0
    below: dict[str, _Node] = attrs.Factory(dict)

    def applies(self, version: str | None, thinned: bool) -> bool:
        if version is None and thinned and self.rule is Rule.EXCLUDE:
            return not self.versions
        return version is None or not self.versions or any(item.matches(version) for item in self.versions)


class Filter:
    """
    The rules as a tree of path elements; the deepest rule on the way of a module's path wins whose version list fits.

    Made by L{parse}; without a rule it includes everything.

    @ivar warnings: what is allowed in the file but hardly meant, one line each.
    @ivar direct_line: the number of the first line that says C{D}; 0 if none does.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self.warnings: list[str] = []
        self.direct_line = 0

    @classmethod
    def parse(cls, text: str, *, exact: bool = False) -> Filter:
        """
        @param text: one rule a line: C{sign [path [version,version...]]}, fields separated by one space.
        @param exact: C{FilterExactVersions}: C{v1.2.3} means this version and not also C{v1.2.30}.
        @raise ConfigError: with all bad lines and their numbers.
        """
        rules = cls()
        problems: list[str] = []
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            try:
                rules._add(number, line, exact)
            except ValueError as error:
                problems.append(f"FilterFile line {number}: {error}")
        if problems:
            raise ConfigError(problems)
        return rules

    def rule(self, path: str, version: str | None, *, thinned: bool = False) -> Rule:
        """
        @param path: the module path, unescaped.
        @param version: C{None} asks for the module as a whole (list, latest): version lists then fit always.
        @param thinned: what is excluded will be left out of the list, so a rule that excludes only some versions does
            not exclude the module.
        """
        node = self._root
        found = node.rule
        for element in path.rstrip("/").split("/"):
            below = node.below.get(element)
            if below is None:
                break
            node = below
            if node.rule is not None and node.applies(version, thinned):
                found = node.rule
        return found or Rule.INCLUDE

    def _add(self, number: int, line: str, exact: bool) -> None:
        sign, path, versions = _fields(line)
        rule = Rule(sign)
        items = self._items(number, versions, exact)
        node = self._root
        elements = path.rstrip("/").split("/") if path.rstrip("/") else []
        for element in elements:
            node = node.below.setdefault(element, _Node())
        if node.rule is not None:
            self._warn(number, f"replaces the rule of line {node.line} for {path or 'all modules'}")
        node.rule, node.line = rule, number
        node.versions = items if elements else ()  # the root rule has no version list
        if rule is Rule.DIRECT and not self.direct_line:
            self.direct_line = number

    def _items(self, number: int, versions: str | None, exact: bool) -> tuple[VersionItem, ...]:
        if versions is None:
            return ()
        parsed = []
        for text in versions.split(","):
            item = VersionItem.parse(text, exact=exact)
            if item.hopeless:
                self._warn(number, f"{text} never matches a version (they begin with v; ~ ^ < need three numbers)")
            parsed.append(item)
        return tuple(parsed)

    def _warn(self, number: int, text: str) -> None:
        self.warnings.append(f"FilterFile line {number}: {text}")


def _fields(line: str) -> tuple[str, str, str | None]:
    """@return: sign, path (empty for all modules) and version list."""
    fields: Sequence[str] = line.split(" ")
    if "" in fields or len(line.split()) != len(fields):
        raise ValueError("fields are separated by exactly one space")
    if len(fields) > 3:
        raise ValueError("more than three fields: sign, module path, version list")
    if fields[0] not in {rule.value for rule in Rule}:
        raise ValueError(f"a line begins with +, - or D, not with {fields[0][:40]!r}")
    return fields[0], fields[1] if len(fields) > 1 else "", fields[2] if len(fields) > 2 else None
