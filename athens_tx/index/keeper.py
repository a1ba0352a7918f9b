"""Where the lines of an index wait for its database: in the journal, and in memory while the disk is in trouble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from athens_tx.errors import IndexUnavailable
from athens_tx.index.journal import Batch, Journal, JournalFull
from athens_tx.interfaces import IndexLine

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that one who adds a line waits for the disk.
DISK_LIMIT = 5.0
#: Lines that wait in memory while the disk does not answer, or does not take them.
MOST_IN_MEMORY = 10_000


@attrs.frozen
class _Arrival:
    line: IndexLine
    kept: Deferred[None]


class Keeper:
    """
    @ivar problem: why the journal takes no lines; empty where it does.
    @ivar lost: how many lines found no room.
    """

    log = Logger()

    def __init__(self, reactor: Any, journal: Journal, arrived: Callable[[], None]) -> None:
        """@param arrived: called when there are lines to be written to the database."""
        self.problem = ""
        self.lost = 0
        self._reactor = reactor
        self._journal = journal
        self._arrived = arrived
        self._arriving: list[_Arrival] = []
        self._appending: Deferred[None] | None = None
        self._memory: list[IndexLine] = []

    @property
    def waiting(self) -> int:
        """How many lines are not in the database yet."""
        return self._journal.waiting + len(self._memory) + len(self._arriving)

    @property
    def writable(self) -> bool:
        """Whether L{read} gives something."""
        return bool(self._journal.waiting or self._memory)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest of them waits."""
        times = [arrival.line.time for arrival in self._arriving[:1]] + [line.time for line in self._memory[:1]]
        if self._journal.oldest is not None:
            times.append(self._journal.oldest)
        return min(times, default=None)

    async def open(self) -> None:
        """Open the journal; OSError where that can't be done."""
        await self.thread(self._journal.open)

    async def adopt(self) -> None:
        """See L{Journal.adopt}."""
        await self.thread(self._journal.adopt)

    async def close(self) -> None:
        """Close the journal, once what arrived is in it."""
        if self._appending is not None:
            await self._wait(self._appending, DISK_LIMIT)
        left = len(self._memory) + len(self._arriving)
        if left:
            self._lose(left)
            self.log.error("{count} lines of the index are lost: {reason}", count=left, reason=self.problem)
        await self.thread(self._journal.close)

    async def keep(self, line: IndexLine) -> None:
        """
        Write a line down, together with those that arrive at the same time; on return it is on the disk, as a rule.

        @raise IndexUnavailable: there is no room for it, it is lost.
        """
        if len(self._arriving) + len(self._memory) >= MOST_IN_MEMORY:
            self._lose(1)
            raise self._full(self.problem or "the disk does not answer")
        kept: Deferred[None] = Deferred()
        self._arriving.append(_Arrival(line, kept))
        if self._appending is None:
            self._appending = Deferred.fromCoroutine(self._append())
        if not await self._wait(kept, DISK_LIMIT):
            self._trouble(f"the disk did not answer within {DISK_LIMIT:g} s")

    async def _append(self) -> None:
        while self._arriving:
            taken = list(self._arriving)
            failure: Exception | None = None
            try:
                await self.thread(self._journal.append, [arrival.line for arrival in taken])
            except JournalFull as full:
                self._lose(len(taken))
                self._trouble(f"it is full, {full}")
                failure = self._full("the journal is full")
            except Exception as error:
                if not isinstance(error, OSError):
                    self.log.failure("writing to the index journal failed")
                self._trouble(getattr(error, "strerror", None) or str(error))
                self._memory += [arrival.line for arrival in taken]
            else:
                self._works()
            del self._arriving[: len(taken)]
            self._arrived()  # before those who wait, and may read at once
            for arrival in taken:
                if not arrival.kept.called:
                    arrival.kept.callback(None) if failure is None else arrival.kept.errback(failure)
        self._appending = None

    def _full(self, reason: str) -> IndexUnavailable:
        return IndexUnavailable(
            f"the line is lost: {reason}",
            detail="see IndexJournal; when the database is back, athens-tx index rebuild adds what is missing",
        )

    def _lose(self, count: int) -> None:
        self.lost += count

    def _trouble(self, problem: str) -> None:
        if not self.problem:
            self.log.error("the index journal takes no lines: {problem}", problem=problem)
        self.problem = problem

    def _works(self) -> None:
        if self.problem:
            self.log.info("the index journal takes lines again")
        self.problem = ""

    async def read(self, limit: int) -> tuple[Sequence[IndexLine], Callable[[], Deferred[None]]]:
        """@return: the lines that are to be written next, and what forgets them when they are."""
        if self._memory:
            lines = self._memory[:limit]

            async def forget() -> None:
                del self._memory[: len(lines)]

            return lines, lambda: Deferred.fromCoroutine(forget())
        batch: Batch = await self.thread(self._journal.read, limit)
        return batch.lines, lambda: self.thread(self._journal.advance, batch)

    def thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """@return: fires with what C{function} gives in a thread."""
        made: Deferred[T] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args, **kwargs)
        return made

    async def _wait(self, waited: Deferred[None], limit: float) -> bool:
        """@return: whether it fired in time; nobody else is disturbed if it did not."""
        waiter: Deferred[bool] = Deferred()

        def fired(result: Any) -> Any:
            if not waiter.called:
                waiter.callback(result if hasattr(result, "raiseException") else True)
                return None
            return result

        waited.addBoth(fired)

        def expired() -> None:
            if not waiter.called:
                waiter.callback(False)

        late = self._reactor.callLater(limit, expired)
        try:
            return await waiter
        finally:
            if late.active():
                late.cancel()
