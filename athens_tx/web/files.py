"""A small file of the administrator's, read again when it changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool

#: How large such a file may be, in bytes.
MAX_FILE = 1 << 20


@attrs.frozen
class Contents:
    """What was in a file, and C{modified}, in seconds since the epoch. Another object whenever the file changed."""

    data: bytes
    modified: float


class WatchedFile:
    """Reads a file in the reactor's thread pool, and only when its time, size or place on the disk is another."""

    def __init__(self, reactor: Any, path: str) -> None:
        """
        @param reactor: provides C{IReactorThreads}.
        @param path: of the file, which may be missing.
        """
        self._reactor = reactor
        self._path = Path(path)
        self._known: tuple[object, Contents] | None = None

    async def contents(self) -> Contents:
        """
        @return: what is in the file; the same object as before while the file is the same.
        @raise OSError: it is missing, no regular file, too large, or can't be read.
        """
        self._known = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read, self._known)
        return self._known[1]

    def _read(self, known: tuple[object, Contents] | None) -> tuple[object, Contents]:
        # Not blocking, for somebody may have put a pipe there.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a regular file")
            if status.st_size > MAX_FILE:
                raise OSError(f"larger than {MAX_FILE} bytes")
            identity = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
            if known is not None and known[0] == identity:
                return known
            return identity, Contents(file.read(MAX_FILE), status.st_mtime)
