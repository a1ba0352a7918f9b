"""The indexes that need no server: none at all, and a list in the process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice

from twisted.application.service import Service
from zope.interface import implementer

from athens_tx.interfaces import IIndex, IndexLine
from athens_tx.module.version import ModuleVersion


@implementer(IIndex)
class NoIndex(Service):
    """C{IndexType = "none"}: every version is taken, none is remembered."""

    async def add(self, mv: ModuleVersion) -> None:
        """Forget C{mv} at once."""

    async def lines(self, since: datetime | None, limit: int) -> Iterable[IndexLine]:
        """@return: nothing, as Athens answers without an index."""
        return ()

    async def check(self) -> None:
        """Nothing can be wrong."""


@implementer(IIndex)
class MemoryIndex(Service):
    """
    C{IndexType = "memory"}: lost at the end of the process.

    @param now: gives the time, aware and in UTC.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._known: set[ModuleVersion] = set()
        self._lines: list[IndexLine] = []

    async def add(self, mv: ModuleVersion) -> None:
        """Append C{mv} unless it is there; the times never go back, even if the clock does."""
        if mv in self._known:
            return
        self._known.add(mv)
        now = self._now()
        if self._lines:
            now = max(now, self._lines[-1].time)
        self._lines.append(IndexLine(mv.path, mv.version, now))

    async def lines(self, since: datetime | None, limit: int) -> Iterable[IndexLine]:
        """@return: see L{IIndex.lines}; a view, so that a long index costs no copy."""
        start = 0 if since is None else bisect_left(self._lines, since, key=lambda line: line.time)
        return islice(self._lines[start : start + limit], limit)

    async def check(self) -> None:
        """Nothing can be wrong."""
