"""
How object stores name the files of a version, as Athens does, and how the keys of a listing make versions again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from urllib.parse import quote, unquote

import attrs

from athens_tx.errors import InvalidModule, InvalidRequest
from athens_tx.interfaces import StoredObject
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.layout import check_names

#: The files of a version, by their place in what L{Layout.files} gives.
INFO, MOD, ZIP = range(3)


class Layout(Protocol):
    """
    Where the files of a version lie.

    @cvar types: the content types of info, mod and zip.
    @cvar leftovers: what the keys begin with under which Athens may leave something behind; empty if it does not.
    """

    types: tuple[str, str, str]
    leftovers: str

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        """@return: the keys of info, mod and zip."""

    def group(self, mv: ModuleVersion) -> str:
        """@return: what the keys of a version, and few others, begin with."""

    def listed(self, path: str) -> str:
        """@return: what the keys of all versions of a module begin with that a list shows, and few others."""

    def place(self, key: str) -> tuple[ModuleVersion, int] | None:
        """@return: whose file this is, and which one; C{None} if it is none."""

    def is_leftover(self, key: str) -> bool:
        """@return: whether this is what Athens leaves behind when it is interrupted."""

    def token(self, mv: ModuleVersion) -> str:
        """@return: Athens' token of a page that ends with C{mv}."""

    def cursor(self, token: str) -> str:
        """@return: the key that a token stands for; raise L{InvalidRequest} if it is none."""


class ByVersion:
    """As in URLs: C{M/@v/V.info}, C{.mod}, C{.zip}. The layout of s3, gcp and azureblob."""

    types = ("application/json", "text/plain", "application/octet-stream")
    leftovers = ""
    _endings = (".info", ".mod", ".zip")

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        """@return: see L{Layout.files}."""
        group = f"{mv.path}/@v/{mv.version}"
        return f"{group}.info", f"{group}.mod", f"{group}.zip"

    def group(self, mv: ModuleVersion) -> str:
        """@return: see L{Layout.group}."""
        return f"{mv.path}/@v/{mv.version}."

    def listed(self, path: str) -> str:
        """@return: see L{Layout.listed}."""
        return f"{path}/@v/v"

    def place(self, key: str) -> tuple[ModuleVersion, int] | None:
        """@return: see L{Layout.place}."""
        path, found, name = key.partition("/@v/")
        if not found or "/" in name:
            return None
        for index, ending in enumerate(self._endings):
            if name.endswith(ending):
                return _checked(path, name[: -len(ending)], index)
        return None

    def is_leftover(self, key: str) -> bool:
        """@return: see L{Layout.is_leftover}."""
        return False

    def token(self, mv: ModuleVersion) -> str:
        """@return: see L{Layout.token}."""
        return self.files(mv)[INFO]

    def cursor(self, token: str) -> str:
        """@return: see L{Layout.cursor}."""
        return _info_key(self, token)


class ByFolder:
    """As on disk: C{M/V/V.info}, C{M/V/go.mod}, C{M/V/source.zip}; parts of a zip below C{parts/}. Of minio."""

    types = ("application/octet-stream",) * 3
    leftovers = "parts/"

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        """@return: see L{Layout.files}."""
        group = self.group(mv)
        return f"{group}{mv.version}.info", f"{group}go.mod", f"{group}source.zip"

    def group(self, mv: ModuleVersion) -> str:
        """@return: see L{Layout.group}."""
        return f"{mv.path}/{mv.version}/"

    def listed(self, path: str) -> str:
        """@return: see L{Layout.listed}: not all that is below C{path}, which may be half of the bucket."""
        return f"{path}/v"

    def place(self, key: str) -> tuple[ModuleVersion, int] | None:
        """@return: see L{Layout.place}."""
        folder, _, name = key.rpartition("/")
        path, _, version = folder.rpartition("/")
        index = {f"{version}.info": INFO, "go.mod": MOD, "source.zip": ZIP}.get(name)
        return None if index is None else _checked(path, version, index)

    def is_leftover(self, key: str) -> bool:
        """@return: see L{Layout.is_leftover}: C{parts/M/V/0}, C{1} and so on."""
        folder, _, number = key.removeprefix(self.leftovers).rpartition("/")
        path, _, version = folder.rpartition("/")
        return key.startswith(self.leftovers) and number.isdecimal() and _checked(path, version, ZIP) is not None

    def token(self, mv: ModuleVersion) -> str:
        """@return: see L{Layout.token}; Athens hands it out as it came, escaped for a URL."""
        return quote(self.files(mv)[INFO], safe="/~!@:()*',;$=&")

    def cursor(self, token: str) -> str:
        """@return: see L{Layout.cursor}."""
        return _info_key(self, unquote(token))


def _checked(path: str, version: str, index: int) -> tuple[ModuleVersion, int] | None:
    mv = ModuleVersion(path, version)
    try:
        check_names(mv)
    except InvalidModule:
        return None
    return mv, index


def _info_key(layout: Layout, key: str) -> str:
    if not key:
        return ""
    place = layout.place(key)
    if place is None or place[1] != INFO:
        raise InvalidRequest("the token of the catalog is not one that it gave")
    return key


@attrs.define(eq=False)
class Group:
    """
    The files of one version that a listing has shown so far.

    @ivar files: by their place in L{Layout.files}.
    @ivar uncertain: whether there may be others that this listing does not show.
    """

    mv: ModuleVersion
    prefix: str
    files: dict[int, StoredObject]
    uncertain: bool = False
    closed: bool = False

    def tag(self, index: int) -> str:
        """@return: the tag of a file; empty if it is not there."""
        return self.files[index].tag if index in self.files else ""

    @property
    def complete(self) -> bool:
        """Whether all three files are there; an empty C{.info} or go.mod is none."""
        return len(self.files) == 3 and self.files[INFO].size > 0 and self.files[MOD].size > 0


class Groups:
    """
    Puts the objects of a listing together to versions.

    What begins with the same prefix stands together in a listing, though there may be something between the files of a
    version: C{v1-a.info}, C{v1-a.b.info}, C{v1-a.mod}. Versions come out in the order of their C{.info}, which is what
    the tokens of the catalog count, once nothing more can come that belongs to them.
    """

    def __init__(self, layout: Layout, behind: str = "") -> None:
        """@param behind: the key behind which the listing begins."""
        self._layout = layout
        self._behind = behind
        self._open: list[Group] = []
        self._counted: deque[Group] = deque()
        self._partial: list[Group] = []

    def add(self, stored: StoredObject) -> None:
        """Take the next object."""
        self._close(lambda group: not stored.key.startswith(group.prefix))
        place = self._layout.place(stored.key)
        if place is None:
            return
        mv, index = place
        group = next((group for group in self._open if group.mv == mv), None)
        if group is None:
            prefix = self._layout.group(mv)
            group = Group(mv, prefix, {}, uncertain=bool(self._behind) and self._behind.startswith(prefix))
            self._open.append(group)
        group.files[index] = stored
        if index == INFO:
            self._counted.append(group)

    def end(self, *, cut: bool = False) -> None:
        """No more objects. @param cut: the store has more."""
        for group in self._open:
            group.uncertain = group.uncertain or cut
        self._close(lambda group: True)

    def _close(self, over: Callable[[Group], bool]) -> None:
        for group in [group for group in self._open if over(group)]:
            self._open.remove(group)
            group.closed = True
            if INFO not in group.files:
                self._partial.append(group)

    def take(self) -> Iterator[Group]:
        """@return: the groups with an C{.info} of which all is known, each once."""
        while self._counted and self._counted[0].closed:
            yield self._counted.popleft()

    def without_info(self) -> Iterable[Group]:
        """@return: the groups without an C{.info} of which all is known, each once."""
        partial, self._partial = self._partial, []
        return partial
