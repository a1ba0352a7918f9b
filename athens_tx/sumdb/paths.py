"""What can be asked of a checksum database. Nothing else is passed on to one."""

from __future__ import annotations

import re

import attrs

from athens_tx.errors import InvalidModule
from athens_tx.module.escape import escape_path, escape_version, unescape_path, unescape_version
from athens_tx.module.path import check_path, check_version_query
from athens_tx.module.tlog import Tile
from athens_tx.module.version import ModuleVersion

_TILE = re.compile(
    r"tile/([1-9]|[12][0-9]|30)/(?:data|0|[1-9][0-9]?)/(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/([1-9][0-9]{0,9}))?"
)


@attrs.frozen
class Question:
    """
    What stands behind the name of the database in a URL.

    @ivar path: escaped with C{!} as it has to be, not with C{%}, without a slash in front.
    @ivar mv: the version of a lookup.
    @ivar tile: the tile of hashes, of the height that the go command uses; other tiles are passed on only.
    """

    path: str
    mv: ModuleVersion | None = None
    tile: Tile | None = None

    @classmethod
    def parse(cls, path: str) -> Question | None:
        """
        @param path: C{latest}, C{lookup/MODULE@VERSION} or C{tile/...}, not escaped with C{%}.
        @return: C{None} if a database has no answer to it.
        """
        kind, _, rest = path.partition("/")
        if kind == "lookup":
            return cls._lookup(rest)
        if path == "latest":
            return cls(path)
        found = _TILE.fullmatch(path)
        if found is None or (found[2] and int(found[2]) >= 1 << int(found[1])):
            return None
        try:
            return cls(path, tile=Tile.parse(path))
        except ValueError:
            return cls(path)

    @classmethod
    def _lookup(cls, rest: str) -> Question | None:
        module, _, version = rest.rpartition("@")
        try:
            mv = ModuleVersion(unescape_path(module), unescape_version(version))
            check_path(mv.path)
            check_version_query(mv.version)
        except InvalidModule:
            return None
        return cls(f"lookup/{rest}", mv=mv)

    @classmethod
    def lookup(cls, mv: ModuleVersion) -> Question:
        """@raise InvalidModule: C{mv} can't be escaped."""
        return cls(f"lookup/{escape_path(mv.path)}@{escape_version(mv.version)}", mv=mv)

    @classmethod
    def of_tile(cls, tile: Tile) -> Question:
        """@return: the question for a tile of hashes."""
        return cls(tile.path, tile=tile)

    @property
    def kept_as(self) -> str | None:
        """
        The name to keep the answer by; C{None} for what changes or is seldom asked.

        A tile has one name however much of it is there, because its beginning never changes while it grows.
        """
        if self.tile is not None:
            return self.tile.full.path
        return self.path if self.mv is not None else None
