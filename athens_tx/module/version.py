"""
Versions and what is one version of one module.

A version is semantic with a C{v} in front, as the go command has it: C{v1} and C{v1.2} are valid and mean C{v1.0.0} and
C{v1.2.0}; build metadata does not count, but C{+incompatible} is kept.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import attrs

from athens_tx.errors import InvalidModule
from athens_tx.module.escape import shown, unescape_path, unescape_version
from athens_tx.module.path import check_path, check_version_query, split_path_version

_NUMBER = r"(?:0|[1-9][0-9]*+)"
_IDENTIFIER = r"(?:[0-9]*+[A-Za-z-][0-9A-Za-z-]*+|0(?![0-9])|[1-9][0-9]*+)"
_SEMVER = re.compile(
    rf"v({_NUMBER})(?:\.({_NUMBER})(?:\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*+))?"
    r"(\+[0-9A-Za-z-]++(?:\.[0-9A-Za-z-]++)*+)?)?)?\Z"
)
_PSEUDO = re.compile(
    r"v[0-9]+\.(?:0\.0-|[0-9]+\.[0-9]+-(?:[^+]*\.)?0\.)[0-9]{14}-[A-Za-z0-9]+(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)

#: See L{sort_key}: (valid, major, minor, patch, no prerelease, identifiers, text); a number is (digits, text).
_Number: TypeAlias = tuple[int, str]
SortKey: TypeAlias = tuple[bool, _Number, _Number, _Number, bool, tuple[tuple[bool, int, str], ...], str]


@attrs.frozen
class ModuleVersion:
    """One version of one module: both unescaped; the version canonical, or a query where that is said."""

    path: str
    version: str

    @classmethod
    def from_url(cls, escaped_path: str, escaped_version: str) -> ModuleVersion:
        """
        Undo the C{!} escaping of both, and check them.

        @return: its version is a query, canonical or not.
        @raise InvalidModule: the go command would refuse it.
        """
        path = unescape_path(escaped_path)
        check_path(path)
        version = unescape_version(escaped_version)
        check_version_query(version)
        return cls(path, version)

    def __str__(self) -> str:
        return f"{self.path}@{self.version}"


def is_semver(v: str) -> bool:
    """@return: whether C{v} is a semantic version, perhaps a short one (C{v1}, C{v1.2})."""
    return _SEMVER.match(v) is not None


def canonical(v: str) -> str:
    """@return: C{v} in full, without build metadata but C{+incompatible}; empty if it is not a semantic version."""
    found = _SEMVER.match(v)
    if found is None:
        return ""
    _, minor, patch, _, build = found.groups()
    if build is not None:
        return v if build == "+incompatible" else v.removesuffix(build)
    return v + (".0.0" if minor is None else ".0" if patch is None else "")


def is_canonical(v: str) -> bool:
    """@return: whether C{v} is a version in full, C{vX.Y.Z[-pre][+incompatible]}: the only kind that is stored."""
    found = _SEMVER.match(v)
    return found is not None and found[3] is not None and found[5] in (None, "+incompatible")


def is_incompatible(v: str) -> bool:
    """@return: whether C{v} is a version with C{+incompatible}: v2 or higher of a module without a go.mod."""
    found = _SEMVER.match(v)
    return found is not None and found[5] == "+incompatible"


def is_pseudo(v: str) -> bool:
    """@return: whether C{v} names a commit by time and hash."""
    return v.count("-") >= 2 and _PSEUDO.match(v) is not None and is_semver(v)


def is_prerelease(v: str) -> bool:
    """@return: whether C{v} has a prerelease part; a pseudo-version always has."""
    found = _SEMVER.match(v)
    return found is not None and found[4] is not None


def major(v: str) -> str:
    """@return: C{v2} of C{v2.1.0}; empty if it is not a semantic version."""
    found = _SEMVER.match(v)
    return "" if found is None else "v" + found[1]


def sort_key(v: str) -> SortKey:
    """
    @return: a key that puts versions into ascending order. What is no version comes first; of versions that differ only
        in build metadata or in their short form, the order is that of their text.
    """
    found = _SEMVER.match(v)
    if found is None:
        return False, (0, ""), (0, ""), (0, ""), False, (), v
    first, second, third, prerelease, _ = found.groups(default="")
    identifiers = prerelease.split(".") if prerelease else ()
    return (
        True,
        _number(first),
        _number(second or "0"),
        _number(third or "0"),
        not prerelease,  # the release comes after all its prereleases
        # numbers by value, before all others; others by text
        tuple((False, len(i), i) if i.isdecimal() else (True, 0, i) for i in identifiers),
        v,
    )


def _number(digits: str) -> _Number:
    # By length, then by text: the same order as by value, at any length (int() refuses very long ones).
    return len(digits), digits


def compare(a: str, b: str) -> int:
    """@return: -1, 0 or 1 by semantic precedence alone: build metadata does not count, all invalid ones are equal."""
    one, other = sort_key(a), sort_key(b)
    if one[:-1] == other[:-1]:
        return 0
    return -1 if one < other else 1


def check_path_major(path: str, version: str) -> None:
    """
    @param path: a module path that L{check_path} lets pass.
    @raise InvalidModule: C{version} does not go with the major version suffix of C{path}: C{/v2} wants C{v2}, no suffix
        wants C{v0}, C{v1} or C{+incompatible}, C{gopkg.in/yaml.v3} wants C{v3}.
    """
    split = split_path_version(path)
    suffix = "" if split is None else split[1].removesuffix("-unstable")
    if suffix == ".v1" and version.startswith("v0.0.0-"):
        return  # pseudo-versions that old go commands made for gopkg.in
    number = major(version)
    if (number in ("v0", "v1") or is_incompatible(version)) if suffix == "" else number == suffix[1:]:
        return
    raise InvalidModule(f"version {shown(version)} does not go with module path {shown(path)}")
