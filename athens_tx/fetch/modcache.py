"""
The module cache that all runs of go share, kept below a size.

Nothing of it is served: it is there so that a repository is cloned once, however many of its versions are asked for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from athens_tx.fetch.workdir import remove_tree

#: Seconds between two looks at the size, which reads every name in the cache.
_INTERVAL = 60.0


class ModCache:
    """
    Knows who uses the cache, and prunes it when nobody does.

    @ivar path: C{GOMODCACHE}.
    @ivar size: how large it was when last looked at, in bytes.
    """

    log = Logger()

    def __init__(self, reactor: Any, path: Path, limit: int, *, interval: float = _INTERVAL) -> None:
        """
        @param limit: bytes. Above it the cache is pruned as soon as no go runs; above twice as much no go is started
            until it is pruned.
        """
        self.path = path
        self.size = 0
        self._reactor = reactor
        self._limit = limit
        self._interval = interval
        self._users = 0
        self._looked = float("-inf")
        self._looking: Deferred[None] | None = None
        self._over = False
        self._pruning = False
        self._waiting: list[Deferred[None]] = []

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Keep the cache from being pruned; waits while it is being pruned."""
        while self._pruning or (self._users and self.size > 2 * self._limit and self._over):
            waiter: Deferred[None] = Deferred(self._forget)
            self._waiting.append(waiter)
            await waiter
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._look()

    async def settle(self) -> None:
        """Wait until nothing is looked at or pruned, for a stop and for tests."""
        if self._looking is not None:
            done: Deferred[None] = Deferred()
            self._looking.chainDeferred(done)
            await done

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def _look(self) -> None:
        due = self._reactor.seconds() - self._looked >= self._interval
        if self._looking is None and (due or (self._over and not self._users)):
            self._looking = Deferred.fromCoroutine(self._tend())
            self._looking.addErrback(lambda failure: self.log.failure("can't prune the module cache", failure))
            self._looking.addBoth(self._looked_after)
        elif self._looking is None and not self._users:
            self._wake()

    def _looked_after(self, _: object) -> None:
        self._looking = None
        self._pruning = False
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def _tend(self) -> None:
        if not self._over:
            self._looked = self._reactor.seconds()
            self.size = await self._in_thread(tree_size, self.path)
            self._over = self.size > self._limit
        if not self._over or self._users:
            return
        self._pruning = True
        self._over = False
        before = self.size
        self.size = await self._in_thread(prune, self.path, self._limit * 4 // 5)
        self._looked = self._reactor.seconds()
        self.log.info("pruned the module cache from {before} to {after} bytes", before=before, after=self.size)

    def _in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)


def tree_size(path: Path | str) -> int:
    """@return: the bytes that the files of a tree take up; what goes meanwhile does not count. Blocks."""
    total = 0
    folders = [os.fspath(path)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def prune(path: Path, target: int) -> int:
    """
    Make a module cache no larger than C{target}: first what go extracted and zipped, which is stored elsewhere by now,
    then clones, the one used longest ago first. Blocks.

    @return: how large it is then.
    """
    download = path / "cache" / "download"
    for entry in _entries(path):
        if entry.name != "cache":
            remove_tree(entry)
    for entry in _entries(download):
        remove_tree(entry)
    size = tree_size(path)
    for clone in sorted(_clones(path / "cache" / "vcs"), key=_last_use):
        if size <= target:
            break
        size -= tree_size(clone)
        remove_tree(clone)
        for suffix in (".info", ".lock"):
            remove_tree(clone.with_name(clone.name + suffix))
    return size


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _clones(path: Path) -> Iterator[Path]:
    return (entry for entry in _entries(path) if entry.is_dir() and not entry.is_symlink())


def _last_use(clone: Path) -> float:
    """@return: when go last fetched into a clone, or looked up what it is of; reading its size does not count."""
    times = [0.0]
    for path in (clone, clone / "FETCH_HEAD"):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    with suppress(OSError):
        times.append(clone.with_name(clone.name + ".info").stat().st_atime)
    return max(times)
