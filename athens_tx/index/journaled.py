"""
An index in a database that may be down: what is added goes to the journal of this machine first, and to the database
behind it, so that no save waits for the database and none is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.errors import AthensError, ConfigError, IndexUnavailable, NotSupported
from athens_tx.index.journal import Journal
from athens_tx.index.keeper import Keeper
from athens_tx.index.sql import BATCH, LONGEST_NAME, LineTable
from athens_tx.index.unfinished import Unfinished
from athens_tx.interfaces import Filled, IFillable, IIndex, ILagging, IndexLine
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.waiters import Waiters

#: Seconds before the database is tried again: twice as many each time.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: Seconds between two looks for what dead processes have left, while there is nothing else to do.
ADOPT_EVERY = 60.0
#: Seconds between two looks whether the disk takes lines again.
LOOK_EVERY = 5.0
#: Seconds that one who reads waits for what was added just before, and that the end waits for the database.
SETTLE_LIMIT = 2.0
END_LIMIT = 5.0

_TICK = timedelta(microseconds=1)


@implementer(IIndex, ILagging, IFillable)
class JournaledIndex(Service):
    """
    @ivar trouble: see L{ILagging}.
    @ivar ready: fires when the table is there and the journal open; fails with L{ConfigError}. Set by C{startService}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        table: LineTable,
        journal: Journal,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        """@param now: gives the time, aware and in UTC."""
        self.ready: Deferred[None] = succeed(None)
        self._reactor = reactor
        self._table = table
        self._keeper = Keeper(reactor, journal, self._arrived)
        self._now = now
        self._chance = chance
        self._last = datetime.min.replace(tzinfo=UTC)
        self._open = False
        self._tasks: list[Deferred[None]] = []
        self.trouble = ""
        self._written: Waiters[None] = Waiters()
        self._sleep: Deferred[None] | None = None

    # -- start and stop

    def startService(self) -> None:
        """Connect; see C{ready}."""
        super().startService()
        self.ready = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._table.connect()
        try:
            await self._keeper.open()
        except OSError as error:
            problem = f"{error.filename or 'its folder'} can't be used: {error.strerror}"
            raise ConfigError([f"IndexJournal (ATHENS_INDEX_JOURNAL): {problem}"]) from error
        self._open = True
        self._run(self._write_on())

    def stopService(self) -> Deferred[None]:
        """Write what waits, if the database is there; what is left stays in the journal for the next start."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        opened, self._open = self._open, False
        if opened:
            await self._settle(END_LIMIT)
            for task in self._tasks:
                task.cancel()
            await self._keeper.close()
        await self._table.close()

    def _run(self, task: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(task)
        running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._tasks.append(running)

    def watch(self, exists: Callable[[ModuleVersion], Awaitable[bool]], limit: float) -> None:
        """See L{ILagging.watch}; after C{ready}."""
        self._run(Unfinished(self._reactor, self._keeper, exists, limit, self.add).run())

    # -- what is asked

    async def begin(self, mv: ModuleVersion) -> None:
        """See L{IIndex.begin}."""
        if self._open and _fits(mv):
            await self._keeper.begin(mv)

    async def add(self, mv: ModuleVersion) -> None:
        """See L{IIndex.add}: on return the line is in the journal."""
        if not self._open:
            raise IndexUnavailable("the index is closed")
        if not _fits(mv):
            raise NotSupported(f"the index takes paths and versions of at most {LONGEST_NAME} characters, of Unicode")
        await self._keeper.keep(self._line(mv))

    async def lines(self, since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """See L{IIndex.lines}: with what was added here before, if the database takes it."""
        await self._settle(SETTLE_LIMIT)
        async for page in self._table.pages(since, limit):
            yield page

    async def check(self) -> None:
        """
        See L{IIndex.check}: fails when lines are being lost.

        A database that is down is no reason to send clients away: versions are served and stored as ever, and were it
        one, all the daemons that share the database would be gone at once.
        """
        if self._keeper.problem:
            raise IndexUnavailable(f"the journal takes no lines: {self._keeper.problem}")

    async def fill(self, versions: Sequence[ModuleVersion]) -> Filled:
        """See L{IFillable.fill}; past the journal."""
        fitting = list(dict.fromkeys(mv for mv in versions if _fits(mv)))
        refused = [mv for mv in versions if not _fits(mv)]
        there = await self._table.known(fitting)
        missing = [self._line(mv) for mv in fitting if mv not in there]
        await self._table.write(missing)
        # What is not there now was refused, or is the same as another one for a table that knows no case.
        given = [ModuleVersion(line.path, line.version) for line in missing]
        added = await self._table.known(given)
        odd = [mv for mv in given if mv not in added]
        return Filled(len(given) - len(odd), len(fitting) - len(missing), [*refused, *odd])

    @property
    def lost(self) -> int:
        """See L{ILagging}."""
        return self._keeper.lost

    def lag_lines(self) -> int:
        """See L{ILagging.lag_lines}."""
        return self._keeper.waiting

    def lag_seconds(self) -> float:
        """See L{ILagging.lag_seconds}."""
        oldest = self._keeper.oldest
        return 0.0 if oldest is None else max(0.0, (self._now() - oldest).total_seconds())

    def _line(self, mv: ModuleVersion) -> IndexLine:
        """@return: its line, a microsecond behind the one before at least: a client can go on behind any line."""
        self._last = max(self._now(), self._last + _TICK)
        return IndexLine(mv.path, mv.version, self._last)

    # -- behind their backs

    def _arrived(self) -> None:
        if self._keeper.writable and self._written.landed:
            self._written = Waiters()
        sleep, self._sleep = self._sleep, None
        if sleep is not None:
            sleep.callback(None)

    async def _settle(self, limit: float) -> None:
        """Wait until all that was added is in the database, unless it is in trouble, or that takes too long."""
        if not self._keeper.waiting or self.trouble or self._written.landed:
            return
        waiter = self._written.wait()
        late = self._reactor.callLater(limit, waiter.cancel)
        try:
            await waiter
        except CancelledError:
            if late.active():
                raise
        finally:
            if late.active():
                late.cancel()

    async def _write_on(self) -> None:
        """For ever: write what arrives, and again what could not be written."""
        pause = FIRST_PAUSE
        while True:
            try:
                if not self._keeper.writable:
                    await self._idle()
                await self._write_some()
                pause = FIRST_PAUSE
                continue
            except CancelledError:
                raise
            except (AthensError, OSError) as error:
                self._trouble(error)
            except Exception:
                self.log.failure("writing to the index failed")
                self.trouble = "internal error"
            await self._keeper.look()  # nobody else does while no line comes
            await deferLater(self._reactor, pause * (0.5 + self._chance() / 2), lambda: None)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _idle(self) -> None:
        """Wait for a line; look now and then for those that nobody else will write."""
        self._written.land(None)
        while not self._keeper.writable:
            sleep: Deferred[None] = Deferred()
            self._sleep = sleep
            every = LOOK_EVERY if self._keeper.problem else ADOPT_EVERY
            late = self._reactor.callLater(every, sleep.callback, None)
            try:
                await sleep
            finally:
                self._sleep = None
                if late.active():
                    late.cancel()
            if not self._keeper.writable:
                await self._keeper.look()
                with suppress(OSError):
                    await self._keeper.adopt()

    async def _write_some(self) -> None:
        lines, forget = await self._keeper.read(BATCH)
        if lines:
            await self._table.write(lines)
        await forget()
        if self.trouble:
            self.log.info("{name}: the index is written again", name=self._table.name)
        self.trouble = ""

    def _trouble(self, error: Exception) -> None:
        """Tell once; and let nobody wait for it."""
        if not self.trouble:
            detail = getattr(error, "detail", "")
            text = "the index can't be written, lines wait in the journal: {reason}"
            self.log.warn(text, reason=str(error), detail=detail)
        self.trouble = str(error) or type(error).__name__
        waiters, self._written = self._written, Waiters()
        waiters.land(None)


def _fits(mv: ModuleVersion) -> bool:
    if max(len(mv.path), len(mv.version)) > LONGEST_NAME:
        return False
    try:
        str(mv).encode()
    except UnicodeEncodeError:
        return False
    return True
