"""Where the lines of an index wait for its database: in the journal, and in memory while the disk is in trouble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from athens_tx.errors import IndexUnavailable
from athens_tx.index.gathering import Gathering
from athens_tx.index.journal import Batch, Journal, JournalFull
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion

NO_ANSWER = "the disk did not answer in time"

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that one who adds a line waits for the disk.
DISK_LIMIT = 5.0
#: Lines that wait in memory while the disk does not answer, or does not take them.
MOST_IN_MEMORY = 10_000


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
        self._arriving = Gathering(self._append, arrived)
        self._beginning = Gathering(self._begin)
        self._looking = Gathering(self._look)
        #: Lines that the disk did not take, in their order.
        self._memory: dict[IndexLine, None] = {}
        self._remembering = DeferredLock()

    @property
    def waiting(self) -> int:
        """How many lines are not in the database yet."""
        return self._journal.waiting + len(self._memory) + len(self._arriving.items)

    @property
    def writable(self) -> bool:
        """Whether L{read} gives something."""
        return bool(self._journal.waiting or self._memory)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest of them waits."""
        times = [line.time for line in self._arriving.items[:1]] + [line.time for line in islice(self._memory, 1)]
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
        """Close the journal, once all that the disk takes is in it."""
        if self._arriving.items:
            await self._wait(self._arriving.done(), DISK_LIMIT)
        if self._memory and not self._arriving.items:
            await self.look()
        left = len(self._memory) + len(self._arriving.items)
        if left:
            self._lose(left)
            self.log.error("{count} lines of the index are lost: {reason}", count=left, reason=self.problem)
        await self._wait(self.thread(self._journal.close), DISK_LIMIT)

    # -- lines

    async def keep(self, line: IndexLine) -> None:
        """
        Write a line down, together with those that arrive at the same time; on return it is on the disk, as a rule.

        @raise IndexUnavailable: there is no room for it, it is lost.
        """
        if len(self._arriving.items) + len(self._memory) >= MOST_IN_MEMORY:
            self._lose(1)
            raise self._full(self.problem or NO_ANSWER)
        if not await self._wait(self._arriving.put(line), DISK_LIMIT):
            self._trouble(NO_ANSWER)

    async def _append(self, lines: Sequence[IndexLine]) -> None:
        try:
            if self._memory:
                await self._remember()
            await self.thread(self._journal.append, lines)
        except JournalFull as full:
            self._lose(len(lines))
            self._trouble(f"it is full, {full}")
            raise self._full("the journal is full") from full
        except Exception as error:
            self._failed(error)
            self._memory |= dict.fromkeys(lines)
        else:
            self._works()

    async def _remember(self) -> None:
        """Write down what memory has, so that it outlives this process; the journal takes all of it, or raises."""
        async with self._remembering:  # a new line and a look may both find the disk well again
            lines = list(self._memory)
            with suppress(JournalFull):
                await self.thread(self._journal.append, lines)
                for line in lines:
                    self._memory.pop(line, None)

    async def look(self) -> None:
        """Find out whether the disk takes lines; if it does so again, give it those in memory."""
        if not await self._wait(self._looking.put(None), DISK_LIMIT):
            self._trouble(NO_ANSWER)

    async def _look(self, _: Sequence[None]) -> None:
        try:
            await self.thread(self._journal.try_disk)
            if self._memory:
                await self._remember()
        except JournalFull as full:
            self._trouble(f"it is full, {full}")
        except Exception as error:
            self._failed(error)
        else:
            self._works()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            self.log.failure("writing to the index journal failed")
        self._trouble(getattr(error, "strerror", None) or str(error))

    # -- saves that have begun

    async def begin(self, mv: ModuleVersion) -> None:
        """Note that a save is about to begin; where that can't be done, it goes on without."""
        if len(self._beginning.items) < MOST_IN_MEMORY:
            await self._wait(self._beginning.put(mv), DISK_LIMIT)

    async def _begin(self, versions: Sequence[ModuleVersion]) -> None:
        now = self._reactor.seconds()
        try:
            await self.thread(self._journal.begin, dict.fromkeys(versions, now))
        except OSError as error:
            text = "the index journal can't note that saves begin: {reason}"
            self.log.debug(text, reason=error.strerror or str(error))

    async def begun(self, before: float) -> Sequence[tuple[ModuleVersion, float]]:
        """See L{Journal.begun}, by the reactor's clock."""
        return await self.thread(self._journal.begun, before)

    async def settle(self, mv: ModuleVersion, before: float) -> None:
        """See L{Journal.settle}."""
        await self.thread(self._journal.settle, [mv], before)

    # -- the rest

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
        if self._memory:
            return
        if self.problem:
            self.log.info("the index journal takes lines again")
        self.problem = ""

    async def read(self, limit: int) -> tuple[Sequence[IndexLine], Callable[[], Deferred[None]]]:
        """@return: the lines that are to be written next, and what forgets them when they are."""
        if self._memory:
            lines = list(islice(self._memory, limit))

            async def forget() -> None:
                for line in lines:
                    self._memory.pop(line, None)

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

        def fired(result: Any) -> None:  # a failure that comes too late has been noted where it was made
            if not waiter.called:
                waiter.callback(result if hasattr(result, "raiseException") else True)

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
