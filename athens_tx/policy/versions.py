"""The version lists of the filter file: which of a module's versions a rule speaks of."""

from __future__ import annotations

import re

import attrs

#: Three numbers and nothing else: the operators know no pre-releases, pseudo-versions or C{+incompatible}.
_NUMBERS = re.compile(r"v([0-9]+)\.([0-9]+)\.([0-9]+)\Z")

_OPERATORS = ("~", "^", "<")


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = _NUMBERS.match(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match is not None and len(version) <= 100 else None


@attrs.frozen
class VersionItem:
    """
    One item of a version list.

    C{~v1.2.3} is C{v1.2.x} from there on, C{^v1.2.3} is C{v1.x.y} from there on, C{<v1.2.3} is all up to and including
    it; all else is the beginning of a version, cut at a dot: C{v1}, C{v1.2.*}, C{v1.2.3}.

    @ivar text: the beginning, or the operator and its version, prepared as Athens does it.
    @ivar whole: C{text} is not a beginning but all there is to the version.
    """

    text: str
    whole: bool = False

    @classmethod
    def parse(cls, item: str, *, exact: bool = False) -> VersionItem:
        """
        @param exact: an item with two dots and no star is one version, C{v1.2.3} and not also C{v1.2.30}.
        @raise ValueError: there is nothing in it but stars.
        """
        text = item.rstrip("*")
        if not text:
            raise ValueError(f"an empty item or a lone * is no version ({item!r})")
        complete = text.count(".") >= 2
        if not text.endswith(".") and not complete:
            text += "."
        whole = exact and complete and text == item and not text.endswith(".") and text[0] not in _OPERATORS
        return cls(text, whole)

    @property
    def hopeless(self) -> bool:
        """Whether no version of a module can ever match."""
        if self.text[0] in _OPERATORS:
            return _numbers(self.text[1:]) is None
        return self.text[0] != "v"

    def matches(self, version: str) -> bool:
        """@param version: canonical; nothing but a beginning matches other queries."""
        if self.text[0] not in _OPERATORS:
            return version == self.text if self.whole else version.startswith(self.text)
        ours, theirs = _numbers(self.text[1:]), _numbers(version)
        if ours is None or theirs is None:
            return False
        if self.text[0] == "<":
            return theirs <= ours
        same = 2 if self.text[0] == "~" else 1
        return theirs[:same] == ours[:same] and theirs >= ours
