"""What checksum databases said: in memory up to a size, and in a directory if there is one."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from athens_tx.cache.expiring import ExpiringCache

T = TypeVar("T")

#: Bytes of answers in memory: about 60000 lookups.
MEMORY_LIMIT = 32 * 1024 * 1024

#: Bytes below the directory, each file counted as whole blocks; when they are used up, nothing new is written.
DISK_LIMIT = 1024 * 1024 * 1024

#: Answers that may wait for being written; one too many is kept in memory only.
WAITING = 1000

_BLOCK = 4096
_TEMPORARY = ".new-"
_STALE = 3600.0


class Store:
    """
    Keeps answers by the name of a database and a path in it.

    What is in the directory lives on: one file for each answer, C{NAME/lookup/MODULE@VERSION} and C{NAME/tile/...} (a
    tile may have less hashes than its name says), and C{NAME/head}, the last signed tree that was proven. A file
    appears whole or not at all. Anything in it may be deleted at any time; several processes may share it.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: Path | None = None,
        *,
        memory_limit: int = MEMORY_LIMIT,
        disk_limit: int = DISK_LIMIT,
    ) -> None:
        """
        @param reactor: its clock, and its thread pool for all work with files.
        @param directory: C{SumDBCacheDir}; made when it is needed. C{None} keeps everything in memory only.
        """
        self._reactor = reactor
        self._directory = directory
        self._disk_limit = disk_limit
        self._memory: ExpiringCache[tuple[str, str], bytes] = ExpiringCache(reactor, float("inf"), memory_limit)
        self._lock = DeferredLock()
        self._doomed: set[Path] = set()
        self._used: int | None = None
        self._complained = False

    def recall(self, name: str, path: str) -> bytes | None:
        """@return: what is in memory."""
        return self._memory.get((name, path))

    async def get(self, name: str, path: str) -> bytes | None:
        """@return: what is in memory or in the directory."""
        body = self.recall(name, path)
        file = self._file(name, path)
        if body is not None or file is None or file in self._doomed:
            return body
        body = await self._thread(_read, file)
        newer = self.recall(name, path)
        if newer is not None or file in self._doomed:
            return newer
        if body is not None:
            self._remember(name, path, body)
        return body

    def put(self, name: str, path: str, body: bytes) -> None:
        """Keep an answer; it is written behind the back of the caller."""
        self._remember(name, path, body)
        file = self._file(name, path)
        if file is not None and len(self._lock.waiting) < WAITING:
            self._behind(self._write, file, body)

    def forget(self, name: str, path: str) -> None:
        """Keep it no longer: it turned out to be wrong."""
        self._memory.forget((name, path))
        file = self._file(name, path)
        if file is not None:
            self._doomed.add(file)  # not read any more, though it is removed a moment later
            self._behind(self._remove, file).addBoth(lambda _: self._doomed.discard(file))

    async def settle(self) -> None:
        """Wait until all that was put is written."""
        await self._lock.run(succeed, None)

    def _remember(self, name: str, path: str, body: bytes) -> None:
        self._memory.put((name, path), body, 200 + len(name) + len(path) + len(body))

    def _file(self, name: str, path: str) -> Path | None:
        if self._directory is None or any(len(part) > 255 for part in path.split("/")):
            return None
        return self._directory / quote(name, safe="") / path

    def _behind(self, work: Callable[..., None], *args: Any) -> Deferred[None]:
        """One piece of work at a time, in a thread and in order."""
        working: Deferred[None] = self._lock.run(self._thread, work, *args)
        return working.addErrback(lambda failure: self._complain(str(failure.value)))

    def _thread(self, work: Callable[..., T], *args: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *args)

    def _complain(self, reason: str) -> None:
        """Say it once: what ails one file ails thousands."""
        if not self._complained:
            self._complained = True
            self.log.warn("SumDBCacheDir: some answers are kept in memory only: {reason}", reason=reason)

    def _write(self, file: Path, body: bytes) -> None:
        """In a thread."""
        assert self._directory is not None
        if self._used is None:
            self._used = _sweep(self._directory)
        size = _on_disk(len(body))
        try:
            before = _on_disk(file.stat().st_size)
        except FileNotFoundError:
            before = 0
        if self._used + size > self._disk_limit and not before:
            raise OSError(f"{self._disk_limit} bytes are used up")
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, body)
        self._used += size - before

    def _remove(self, file: Path) -> None:
        """In a thread."""
        try:
            size = _on_disk(file.stat().st_size)
            file.unlink()
        except FileNotFoundError:
            return
        if self._used is not None:
            self._used -= size


def _on_disk(size: int) -> int:
    return max(1, -(-size // _BLOCK)) * _BLOCK


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes() or None
    except OSError:
        return None


def _replace(file: Path, body: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(body)
            out.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _sweep(directory: Path) -> int:
    """@return: the bytes in use, after files that an interrupted process left are gone."""
    used = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            file = Path(folder, name)
            try:
                status = file.stat()
                if name.startswith(_TEMPORARY) and time.time() - status.st_mtime > _STALE:
                    file.unlink()
                else:
                    used += _on_disk(status.st_size)
            except FileNotFoundError:
                continue
    return used
