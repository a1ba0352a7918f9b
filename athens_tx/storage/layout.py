"""
What every storage goes by: safe names, sizes, which versions a list shows, and the tokens of the catalog.

Names are kept decoded, capitals as they are, as Athens keeps them.
"""

from __future__ import annotations

import re

from athens_tx.errors import BadUpstream, InvalidModule, InvalidRequest
from athens_tx.module.version import ModuleVersion

#: The directory below the root of a disk storage where versions are put together. No module path has such an element.
STAGING = ".athens-tx-staging"

#: How many bytes the file systems allow in a name.
LONGEST_NAME = 255

#: How many bytes of C{.info} and of go.mod a version may have.
INFO_LIMIT = 1 << 20
MOD_LIMIT = 16 << 20

_FULL_SEMVER = re.compile(
    r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


def is_listed(version: str) -> bool:
    """@return: whether a list may show C{version}: three numbers after a C{v}, as in C{v1.2.3-pre+meta}."""
    return _FULL_SEMVER.fullmatch(version) is not None


def check_path(path: str) -> None:
    """Raise L{InvalidModule} if C{path} could lead anywhere but below the root; hidden elements do."""
    for element in path.split("/"):
        _check_element(element, path)


def check_names(mv: ModuleVersion) -> None:
    """Raise L{InvalidModule} if C{mv} could lead anywhere but below the root."""
    check_path(mv.path)
    if "/" in mv.version:
        raise InvalidModule(f"a version has no slash: {str(mv)!r}")
    _check_element(mv.version, str(mv), LONGEST_NAME - len(".info"))


def _check_element(element: str, whole: str, longest: int = LONGEST_NAME) -> None:
    # What can't be printed (control characters, those that turn the line around) would forge lines of a listing.
    if not element or element[0] == "." or not element.isprintable() or "\\" in element:
        raise InvalidModule(f"not a name that can be stored: {whole!r}")
    try:
        size = len(element) if element.isascii() else len(element.encode())
    except UnicodeEncodeError:
        raise InvalidModule(f"not a name that can be stored: {whole!r}") from None
    if size > longest:
        raise InvalidModule(f"too long a name to be stored: {element[:20]!r}...")


def check_files(mv: ModuleVersion, info: bytes, mod: bytes) -> None:
    """Raise L{BadUpstream} if no version can have these. Empty ones are what a torn save of Athens leaves."""
    if not 0 < len(info) <= INFO_LIMIT or not 0 < len(mod) <= MOD_LIMIT:
        raise BadUpstream(f"{mv} has {len(info)} bytes of .info and {len(mod)} bytes of go.mod")


def order(mv: ModuleVersion) -> tuple[str, ...]:
    """@return: what the catalog is sorted by: element by element, as Athens walks its tree, so its tokens go on."""
    return (*mv.path.split("/"), mv.version)


def token_of(mv: ModuleVersion) -> str:
    """@return: the token of a page that ends with C{mv}."""
    return f"{mv.path}|{mv.version}"


def parse_token(token: str) -> tuple[str, ...]:
    """
    @return: L{order} of the last version already given; empty for the first page.
    @raise InvalidRequest: it is no token.
    """
    if not token:
        return ()
    path, bar, version = token.rpartition("|")
    mv = ModuleVersion(path, version)
    try:
        check_names(mv)
    except InvalidModule:
        bar = ""
    if not bar:
        raise InvalidRequest("the token of the catalog is not one that it gave")
    return order(mv)


def check_limit(limit: int) -> None:
    """Raise L{InvalidRequest} if C{limit} is no page size."""
    if limit < 1:
        raise InvalidRequest("a page of the catalog has at least one entry")
