"""The indexes that need no server: none at all, and a list in the process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta

from twisted.application.service import Service
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.interfaces import IIndex, IndexLine
from athens_tx.module.version import ModuleVersion

#: Lines that are kept, of 400 bytes or so each; beyond, the oldest go.
MOST_LINES = 250_000
#: Lines that are given at once.
PAGE = 1000

_TICK = timedelta(microseconds=1)


@implementer(IIndex)
class NoIndex(Service):
    """C{IndexType = "none"}: every version is taken, none is remembered."""

    async def begin(self, mv: ModuleVersion) -> None:
        """Nothing outlives the process."""

    async def add(self, mv: ModuleVersion) -> None:
        """Forget C{mv} at once."""

    async def lines(self, since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """Give nothing, as Athens answers without an index."""
        return
        yield ()

    async def check(self) -> None:
        """Nothing can be wrong."""


@implementer(IIndex)
class MemoryIndex(Service):
    """
    C{IndexType = "memory"}: lost at the end of the process, and bounded.

    @param now: gives the time, aware and in UTC.
    @param limit: how many lines are kept.
    """

    log = Logger()

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), *, limit: int = MOST_LINES) -> None:
        self._now = now
        self._limit = limit
        self._dropped = 0
        self._known: set[ModuleVersion] = set()
        self._lines: list[IndexLine] = []

    async def begin(self, mv: ModuleVersion) -> None:
        """Nothing outlives the process."""

    async def add(self, mv: ModuleVersion) -> None:
        """Append C{mv} unless it is there; the times always go on, even if the clock does not."""
        if mv in self._known:
            return
        self._known.add(mv)
        now = self._now()
        if self._lines:
            now = max(now, self._lines[-1].time + _TICK)
        self._lines.append(IndexLine(mv.path, mv.version, now))
        if len(self._lines) > self._limit:
            self._drop()

    def _drop(self) -> None:
        """Forget the oldest hundredth at once: one by one, each would move all the others."""
        if not self._dropped:
            self.log.warn("the index has over {limit} lines: from now on the oldest are dropped", limit=self._limit)
        oldest = self._lines[: max(1, self._limit // 100)]
        del self._lines[: len(oldest)]
        self._dropped += len(oldest)
        self._known.difference_update(ModuleVersion(line.path, line.version) for line in oldest)

    async def lines(self, since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """See L{IIndex.lines}; what is dropped or added meanwhile does not move the place."""
        start = 0 if since is None else bisect_left(self._lines, since, key=lambda line: line.time)
        place = self._dropped + start
        while limit > 0:
            start = max(0, place - self._dropped)
            page = self._lines[start : start + min(PAGE, limit)]
            if not page:
                return
            place = self._dropped + start + len(page)
            limit -= len(page)
            yield page

    async def check(self) -> None:
        """Nothing can be wrong."""
