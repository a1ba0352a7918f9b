"""
The staging of a disk storage: directories of our own below its root, where versions are put together and taken apart.

Each process has its directory C{.athens-tx-staging/<random>/}, and holds a lock on the file C{lock} in it for as long
as it lives: the leftovers of a process that was killed are told by that from the work of one that shares the root.
All of this blocks, and runs in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twisted.logger import Logger

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.layout import STAGING

#: How long another process may hold the lock that L{Staging.exclusive} wants; it needs it for microseconds.
PATIENCE = 10.0

#: How much L{Staging.probe} writes.
_BLOCK = 4096


def fsync_directory(path: str | Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Staging:
    """
    The staging directory of one process.

    @ivar path: the directory, of a name that no other process takes.
    """

    log = Logger()

    def __init__(self, root: Path, stash_limit: float) -> None:
        self._root = root
        self._all = root / STAGING
        self.path = self._all / secrets.token_hex(8)
        self._stash_limit = stash_limit
        self._wanted = False  # between open and close, whether or not the disk let us
        self._lock = -1
        self._identity = (0, 0)
        self._opening = threading.Lock()

    def open(self) -> None:
        """Make the directory and lock it; OSError where the root does not let us."""
        self._wanted = True
        with self._opening:
            self._open()

    def _open(self) -> None:
        root = os.stat(self._root)
        self._all.mkdir(exist_ok=True)
        while self._lock < 0:
            self._lock = self._make()
        self._identity = (root.st_dev, root.st_ino)

    def _make(self) -> int:
        """@return: the descriptor that holds the lock; -1 if a sweeper took the directory before it was locked."""
        self.path.mkdir(exist_ok=True)
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            return -1
        try:
            ours = _lock(descriptor) is not False
            if ours and os.path.samestat(os.fstat(descriptor), os.stat(self.path / "lock")):
                kept, descriptor = descriptor, -1
                return kept
        except FileNotFoundError:
            pass
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return -1

    def close(self) -> None:
        """Remove the directory, and give the lock up."""
        self._wanted = False
        with self._opening:
            lock, self._lock = self._lock, -1
            if lock >= 0:
                shutil.rmtree(self.path, ignore_errors=True)
                os.close(lock)

    def confirm(self) -> None:
        """
        Look whether the root is still the one that was opened. One that is gone (a file system that is not mounted any
        more) looks like one where nothing is stored, and everything would be fetched again.

        @raise StorageUnavailable: it is not.
        """
        if self._lock >= 0 and not os.path.isdir(self.path):
            self._recover()

    def _recover(self) -> None:
        """
        Make the directory anew where somebody removed it, or where it could not be made before.

        @raise StorageUnavailable: the root is not the one that was opened, or the storage is not running.
        """
        with self._opening:
            if not self._wanted:
                raise StorageUnavailable("the storage is not running")
            if self._lock >= 0 and os.path.isdir(self.path):
                return  # another thread did it
            try:
                root = os.stat(self._root)
            except FileNotFoundError:
                raise StorageUnavailable("the folder of the storage is gone") from None
            if self._lock >= 0:
                if (root.st_dev, root.st_ino) != self._identity:
                    raise StorageUnavailable("the folder of the storage is not the one it was at start")
                os.close(self._lock)
                self._lock = -1
            self._open()

    def name(self) -> str:
        """@return: the path of a directory that can be made."""
        return str(self.path / secrets.token_hex(8))

    def make(self, name: str) -> None:
        """Make the directory C{name}, with the modes that a version has."""
        if self._lock < 0:
            self._recover()
        try:
            os.mkdir(name)
        except FileNotFoundError:
            self._recover()
            os.mkdir(name)

    def discard(self, name: str) -> None:
        """Remove the directory C{name}, if it is there; no other thread may be at work in it."""
        shutil.rmtree(name, ignore_errors=True)

    def probe(self) -> None:
        """
        Make a directory with a file in it, wait until that is on the disk, and remove both.

        @raise OSError: that can't be done: the disk may be full, which nothing but a written block tells.
        @raise StorageUnavailable: as L{make}.
        """
        name = self.name()
        self.make(name)
        try:
            descriptor = os.open(f"{name}/probe", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                if os.write(descriptor, bytes(_BLOCK)) < _BLOCK:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            self.discard(name)

    def trash(self, target: str) -> None:
        """Remove a directory, at once for those who look for it by its name."""
        taken = self.name()
        os.rename(target, taken)
        fsync_directory(os.path.dirname(target))
        _remove(taken)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep out whoever else of us, here or in another process, takes something out of the tree."""
        self.confirm()
        if self._lock < 0:
            self._recover()
        descriptor = os.open(self._all / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            end = time.monotonic() + PATIENCE
            while _lock(descriptor) is False:
                if time.monotonic() > end:
                    raise StorageUnavailable("another process does not give up its lock on the storage")
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """
        Before L{open}: remove what processes that are no more have left, and what nobody can be asked about and is old.
        """
        try:
            entries = list(os.scandir(self._all))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                try:
                    self._sweep(entry.path)
                except OSError as error:
                    self.log.warn("can't remove {path}: {reason}", path=entry.path, reason=error.strerror)

    def _sweep(self, path: str) -> None:
        with suppress(OSError):
            os.rmdir(path)  # whoever is about to put a lock there tries again
            return
        try:
            descriptor = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            descriptor = -1
        try:
            dead = _lock(descriptor) if descriptor >= 0 else None
            if dead is None:  # who knows; a daemon that lives makes its directory anew
                dead = time.time() - os.stat(path).st_mtime > self._stash_limit
            if not dead:
                return
            shutil.rmtree(path)  # under the lock, or its owner could take it for its own
            self.log.info("removed what an earlier process left in {path}", path=path)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """@return: whether the lock is ours now; C{None} on a file system that has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        return None
    return True


def _remove(path: str) -> None:
    """Remove a directory, or the link to one that an administrator has put in its place."""
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)
