"""Singleflight across processes: a lock service says whose turn it is, the storage says what is done already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import AthensError, LockLost, LockUnavailable
from athens_tx.interfaces import ILocks, ISingleFlight
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.turns import POLL, Slots, Turn, Turns, Wish, jittered
from athens_tx.singleflight.waiters import Waiters

Work = Callable[[], Awaitable[ModuleVersion]]

#: Seconds that locks get for their release when the daemon stops.
FAREWELL = 5.0
#: Seconds for which the answer of one look at the service is that of all who ask whether it works.
LOOKED_FOR = 3.0


@attrs.define(eq=False)
class _Flight:
    """
    @ivar begun: whether the work has.
    @ivar lost: whether it is known that the lock is not ours any more.
    """

    wish: Wish
    result: Waiters[ModuleVersion]
    begun: bool = False
    lost: bool = False


@implementer(ISingleFlight)
class LockedSingleFlight(Service):
    """
    One fetch of a version at a time for all daemons that share C{locks}.

    In this process those who want the same wait for one flight; the flight waits for the lock, or until the version is
    stored. While the work is done the lock is renewed. It guards against doing work twice, and nothing more: a save
    harms no other save. So without the service, or with the lock lost, the work is done all the same.

    @ivar held: how many locks are held now.
    @ivar waiting: how many are waited for.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        locks: ILocks,
        *,
        exists: Callable[[ModuleVersion], Awaitable[bool]],
        limit: float,
        slots: Slots | None = None,
        waited: Callable[[str, float], None] = lambda turn, seconds: None,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param exists: whether a version is stored.
        @param limit: seconds that one may wait for a lock.
        @param slots: how much may be done at once; without any limit if it is not given.
        @param waited: told the end of each wait (a value of L{Turn}; C{gave_up}; C{left} where nobody wanted it any
            more) and its seconds, for metrics.
        @param lost: told of each lock that was lost.
        """
        self._reactor = reactor
        self._locks = locks
        self._turns = Turns(reactor, locks, exists=exists, limit=limit, slots=slots or Slots())
        self._waited = waited
        self._count_lost = lost
        self._flights: dict[ModuleVersion, _Flight] = {}
        self._running: dict[_Flight, Deferred[None]] = {}
        self.held = 0
        self.waiting = 0
        self._last: Deferred[None] | None = None
        self._look: Waiters[None] | None = None
        self._looked = 0.0
        self.ready: Deferred[None]

    def startService(self) -> None:
        """Look whether the lock service can be used, see C{ready}."""
        super().startService()
        self.ready = Deferred.fromCoroutine(_awaited(self._locks.connect()))

    def stopService(self) -> Deferred[None]:
        """Give up what waits, release what is held, let go of the service."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    @property
    def away(self) -> bool:
        """Whether the lock service did not answer when it was last asked."""
        return self._turns.away

    async def check(self) -> None:
        """Look whether the lock service works, for readiness: once for all who ask within L{LOOKED_FOR}."""
        now = self._reactor.seconds()
        if self._look is None or (self._look.landed and now - self._looked >= LOOKED_FOR):
            self._look = Waiters()
            Deferred.fromCoroutine(self._check(now)).addBoth(self._look.land)
        await self._look.wait()

    async def _check(self, now: float) -> None:
        self._looked = now
        try:
            await self._locks.check()
        except LockUnavailable:
            self._turns.asked(now, answered=False)
            raise
        self._turns.asked(now, answered=True)

    def run(self, mv: ModuleVersion, work: Work, *, nested: bool = False) -> Deferred[ModuleVersion]:
        """See L{ISingleFlight.run}: whoever runs it already may be here or elsewhere."""
        flight = self._flights.get(mv)
        if flight is not None:
            if nested:
                flight.wish.nest()
            return flight.result.wait()
        result: Waiters[ModuleVersion] = Waiters(lambda: self._unwanted(mv))
        flight = self._flights[mv] = _Flight(self._turns.wish(mv, nested=nested), result)
        waiter = flight.result.wait()
        running = Deferred.fromCoroutine(self._fly(flight, work))
        self._running[flight] = running
        running.addBoth(self._ended, flight)
        return waiter

    def _unwanted(self, mv: ModuleVersion) -> None:
        """Nobody waits any more for a version: nobody shall wait for its lock either."""
        flight = self._flights.get(mv)
        if flight is not None and not flight.begun:
            self._running[flight].cancel()

    def _ended(self, result: Any, flight: _Flight) -> None:
        del self._running[flight]
        if isinstance(result, Failure) and not result.check(CancelledError):
            self.log.failure("a flight broke", result)

    async def _stop(self) -> None:
        for flight in list(self._flights.values()):
            self._running[flight].cancel()
        if self._running:
            self._last = Deferred()
            for running in self._running.values():
                running.addBoth(self._one_less)
            timer = self._reactor.callLater(FAREWELL, self._last.callback, None)
            await self._last
            if timer.active():
                timer.cancel()
        await self._locks.close()

    def _one_less(self, _: Any) -> None:
        if not self._running and self._last is not None and not self._last.called:
            self._last.callback(None)

    # -- a flight

    async def _fly(self, flight: _Flight, work: Work) -> None:
        """Take the lock and work. The result is out before the release, for which nobody has to wait."""
        held = False
        try:
            turn = await self._timed_turn(flight)
            held, flight.begun = turn is Turn.HELD, True
            result: Any = flight.wish.mv if turn is Turn.STORED else await self._work(flight, work, held)
        except Exception:
            result = Failure()
        await flight.wish.slot.aclose()
        del self._flights[flight.wish.mv]
        flight.result.land(result)
        await self._release(flight, held)

    async def _work(self, flight: _Flight, work: Work, held: bool) -> ModuleVersion:
        if not held:
            return await work()
        renewing = Deferred.fromCoroutine(self._renew(flight))
        renewing.addErrback(self._not_renewed, flight)
        self.held += 1
        try:
            return await work()
        finally:
            self.held -= 1
            renewing.cancel()

    async def _renew(self, flight: _Flight) -> None:
        """Renew the lock until cancelled; where that fails the work goes on, for saving twice harms nothing."""
        lock, known = flight.wish.lock, False
        pause = lock.lease / 3
        while True:
            await deferLater(self._reactor, pause)
            pause = lock.lease / 3
            try:
                if await lock.renew():
                    known = False
                    continue
            except LockUnavailable as error:
                pause = min(pause, jittered(POLL))
                if not known:
                    known = True
                    self._warn("could not renew the lock of {mv}, the work goes on: {reason}", flight, error)
                continue
            flight.lost = True
            self._count_lost()
            text = "the lock of {mv} is lost, the work goes on: was this daemon stopped?"
            self.log.warn(text, mv=str(flight.wish.mv))
            return

    def _not_renewed(self, failure: Failure, flight: _Flight) -> None:
        if not failure.check(CancelledError):
            self.log.failure("the lock of {mv} is not renewed any more", failure, mv=str(flight.wish.mv))

    async def _release(self, flight: _Flight, held: bool) -> None:
        """Whatever goes wrong here concerns nobody who asked for a module: the lock ends with its lease."""
        try:
            await flight.wish.lock.release()
        except LockLost as error:
            if held and not flight.lost:
                self._count_lost()
                self._warn("the lock of {mv} was lost before its work was done: {reason}", flight, error)
        except LockUnavailable as error:
            if held and not flight.lost:
                self._warn("could not release the lock of {mv}: {reason}", flight, error)

    def _warn(self, text: str, flight: _Flight, error: AthensError) -> None:
        self.log.warn(text, mv=str(flight.wish.mv), reason=str(error), detail=error.detail)

    # -- the wait for a turn

    async def _timed_turn(self, flight: _Flight) -> Turn:
        began, ended = self._reactor.seconds(), "gave_up"
        self.waiting += 1
        try:
            turn = await self._turns.turn(flight.wish, began)
            ended = turn.value
            return turn
        except CancelledError:
            ended = "left"
            raise
        finally:
            self.waiting -= 1
            self._waited(ended, max(0.0, self._reactor.seconds() - began))


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable
