"""
The versions whose save has begun and that have no line yet, in a file.

It is not forced to the disk: what a process wrote stays in the memory of the machine when the process is killed, and
only a machine that fails takes it along. So it costs next to nothing, and answers which of the versions that are stored
may lack their line. All of this blocks, and runs in threads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from athens_tx.index.journal_lines import create, same, write_at
from athens_tx.module.version import ModuleVersion

#: Bytes that the file may have before what is settled is left out of it.
_SLACK = 1 << 20
#: The time of those that another process began.
LONG_AGO = float("-inf")


class Intents:
    """
    @ivar open_since: when each save began, by a clock of the caller's; L{LONG_AGO} for those of a dead process.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self.open_since: dict[ModuleVersion, float] = dict.fromkeys(read(path), LONG_AGO)
        self._path = path
        self._size = 0
        self._file = create(path, os.O_APPEND)
        try:
            self._compact()
        except BaseException:
            os.close(self._file)
            raise

    def begin(self, versions: Mapping[ModuleVersion, float]) -> None:
        """Note that saves begin; OSError where that can't be written down, it counts for this process all the same."""
        self.open_since.update(versions)
        self._write(b"".join(_written("+", mv) for mv in versions))

    def settle(self, versions: Collection[ModuleVersion]) -> None:
        """Forget these. If that can't be written down, whoever reads the file looks at them again."""
        known = [mv for mv in versions if self.open_since.pop(mv, None) is not None]
        if not known:
            return
        with suppress(OSError):
            if self.open_since:
                self._write(b"".join(_written("-", mv) for mv in known))
            else:
                os.ftruncate(self._file, 0)
                self._size = 0

    def _write(self, data: bytes) -> None:
        before = self._size
        try:
            write_at(self._file, data, before)  # at its end, whatever else happens
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, before)
            raise
        self._size = before + len(data)
        if self._size > _SLACK:
            self._compact()

    def there(self) -> bool:
        """@return: whether the file still has its name."""
        return same(self._file, self._path)

    def move(self, path: Path) -> None:
        """Go on in another place."""
        self._path = path
        self._compact()

    def _compact(self) -> None:
        """Write the file anew, with what is open only."""
        rest = self._path.with_name(new_name(self._path.name))
        file = create(rest, os.O_APPEND | os.O_TRUNC)
        try:
            data = b"".join(_written("+", mv) for mv in self.open_since)
            write_at(file, data, 0)
            os.rename(rest, self._path)
        except BaseException:
            os.close(file)
            raise
        os.close(self._file)
        self._file, self._size = file, len(data)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._file)


def new_name(name: str) -> str:
    """@return: what a file is called until it is whole."""
    return f"{name}.new"


def read(path: Path) -> list[ModuleVersion]:
    """@return: what is open in a file; nothing if there is none. What can't be read is passed over."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found: dict[ModuleVersion, None] = {}
    for piece in data.split(b"\n"):
        with suppress(ValueError, TypeError, RecursionError):
            sign, name, version = json.loads(piece.lstrip(b"\0"))
            if isinstance(name, str) and isinstance(version, str):
                mv = ModuleVersion(name, version)
                if sign == "+":
                    found[mv] = None
                else:
                    found.pop(mv, None)
    return list(found)


def _written(sign: str, mv: ModuleVersion) -> bytes:
    return json.dumps([sign, mv.path, mv.version], separators=(",", ":")).encode() + b"\n"
