"""The wait for a lock: whose turn it is, whether the version is stored meanwhile, and when nobody can be asked."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from enum import Enum
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger

from athens_tx.errors import AthensError, LockUnavailable, Overloaded
from athens_tx.interfaces import ILock, ILocks
from athens_tx.module.version import ModuleVersion, is_canonical
from athens_tx.singleflight.waiters import Waiters

#: Seconds, more or less, after which one who waits looks again by himself: who released may be no daemon of ours.
POLL = 1.0
#: The same, at most, for one whose daemon is too busy to take a lock.
LONGEST_POLL = 8.0
#: Seconds that the lock service may be away before the work is done without it.
PATIENCE = 15.0
#: Seconds after which its last failure says nothing any more.
FORGET = 60.0
#: Seconds for an attempt at a service that is away for that long.
TRY_LIMIT = 2.0
#: Seconds for a look into the storage while a lock is waited for.
LOOK_LIMIT = 5.0
#: Seconds after which a client that was sent away may ask again.
RETRY_AFTER = 10


class Turn(Enum):
    """How the wait for a lock ended."""

    HELD = "held"
    STORED = "stored"
    UNLOCKED = "unlocked"


@attrs.frozen
class Slots:
    """
    How much may be done at once by this daemon, so that it takes no locks that it can make no use of.

    @ivar slot: to be held by who takes a lock; raises L{Overloaded} where too many wait for one.
    @ivar busy: whether one would have to wait for it.
    """

    slot: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    busy: Callable[[], bool] = lambda: False


@attrs.define(eq=False)
class Wish:
    """
    One version whose lock is wanted.

    @ivar nested: whether work that has a slot waits for it: it needs none of its own.
    @ivar waited: whether it has been wanted in vain: who has waited is not sent away for want of room.
    @ivar slot: closed, it gives the slot back.
    """

    mv: ModuleVersion
    lock: ILock
    nested: bool = False
    waited: bool = False
    slot: AsyncExitStack = attrs.Factory(AsyncExitStack)
    _queueing: Deferred[None] | None = None

    def nest(self) -> None:
        """Wait for no slot any more."""
        self.nested = True
        if self._queueing is not None:
            self._queueing.cancel()

    def enter(self, slots: Slots) -> Waiters[None]:
        """Queue for a slot, until L{leave}."""
        had: Waiters[None] = Waiters()
        self._queueing = queueing = Deferred.fromCoroutine(self.slot.enter_async_context(slots.slot()))
        queueing.addBoth(had.land)
        return had

    def leave(self) -> None:
        """Queue no more; a slot that is had is kept."""
        queueing, self._queueing = self._queueing, None
        if queueing is not None:
            queueing.cancel()


class Turns:
    """The turns of one daemon."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        locks: ILocks,
        *,
        exists: Callable[[ModuleVersion], Awaitable[bool]],
        limit: float,
        slots: Slots,
    ) -> None:
        """@param exists, limit, slots: see L{LockedSingleFlight}."""
        self._reactor = reactor
        self._locks = locks
        self._exists = exists
        self._limit = limit
        self._slots = slots
        self._away: float | None = None
        self._failed = 0.0

    @property
    def away(self) -> bool:
        """Whether the lock service did not answer when it was last asked."""
        return self._away is not None

    def wish(self, mv: ModuleVersion, *, nested: bool) -> Wish:
        """@return: the wish for the lock of a version."""
        return Wish(mv, self._locks.lock(str(mv)), nested)

    def asked(self, since: float, *, answered: bool) -> None:
        """
        Know how the service is.

        @param since: when it was asked.
        """
        if answered:
            self._away = None
            return
        if self._away is None or since - self._failed > FORGET:
            self._away = since
        self._failed = since

    async def turn(self, wish: Wish, began: float) -> Turn:
        """
        @return: as soon as it is our turn, or the version is stored, or the lock service is away for too long.
        @raise LockUnavailable: the limit is over.
        @raise Overloaded: too many wait already.
        """
        away: float | None = None
        while True:
            if not await self._slot(wish, began + self._limit):
                return Turn.STORED
            asked = self._reactor.seconds()
            try:
                if await self._take(wish.lock, asked):
                    return Turn.HELD
                away = None
            except LockUnavailable as error:
                away = min(asked if away is None else away, asked if self._away is None else self._away)
                if self._reactor.seconds() - away >= PATIENCE:
                    text = "no lock for {mv}, going on without: {reason}"
                    self.log.warn(text, mv=str(wish.mv), reason=str(error), detail=error.detail)
                    return Turn.UNLOCKED
            wish.waited = True
            await wish.slot.aclose()
            left = began + self._limit - self._reactor.seconds()
            if left <= 0:
                raise LockUnavailable(f"{wish.mv}: another server is still busy with it", retry_after=RETRY_AFTER)
            await self._pause(wish.lock, min(left, jittered(POLL)))
            if await self._stored(wish.mv):
                return Turn.STORED

    async def _take(self, lock: ILock, now: float) -> bool:
        taking = Deferred.fromCoroutine(_awaited(lock.take()))
        if self._away is not None and now - self._away >= PATIENCE:
            taking.addTimeout(TRY_LIMIT, self._reactor)
        try:
            held = await taking
        except DeferredTimeout:
            raise LockUnavailable("the lock service is still away") from None
        except LockUnavailable:
            self.asked(now, answered=False)
            raise
        self.asked(now, answered=True)
        return held

    async def _pause(self, lock: ILock, seconds: float) -> None:
        try:
            await lock.changed(seconds)
        except LockUnavailable:
            await deferLater(self._reactor, seconds)

    async def _stored(self, mv: ModuleVersion) -> bool:
        if not is_canonical(mv.version):
            return False
        looking = Deferred.fromCoroutine(_awaited(self._exists(mv)))
        try:
            return await looking.addTimeout(LOOK_LIMIT, self._reactor)
        except (AthensError, DeferredTimeout):  # the work will meet it, too
            return False

    # -- the wait for a slot

    async def _slot(self, wish: Wish, end: float) -> bool:
        """@return: whether there is one now, or none is needed; if not, the version is stored."""
        if wish.nested:
            return True
        if self._slots.busy():
            await self._step_back(wish)
        had, pause = wish.enter(self._slots), POLL
        try:
            while True:
                seconds = max(0.0, min(end - self._reactor.seconds(), jittered(pause)))
                if not seconds and not had.landed:
                    raise Overloaded(f"too much is being fetched: no turn within {self._limit:g} s", retry_after=10)
                try:
                    await had.wait().addTimeout(seconds, self._reactor)
                    return True
                except DeferredTimeout:
                    pass
                except Overloaded:
                    if not wish.waited:
                        raise
                    await deferLater(self._reactor, seconds)
                    had = wish.enter(self._slots)
                if await self._stored(wish.mv):
                    return False
                pause = min(2 * pause, LONGEST_POLL)
        except CancelledError:
            if not wish.nested:
                raise
            return True
        finally:
            wish.leave()

    async def _step_back(self, wish: Wish) -> None:
        """Leave the queue of the lock: who comes to its head holds the lock, which we could make no use of."""
        try:
            await wish.lock.release()
        except LockUnavailable:
            self.log.debug("could not leave the queue of {mv}", mv=str(wish.mv))
        wish.lock = self._locks.lock(str(wish.mv))


def jittered(seconds: float) -> float:
    """@return: about as much, so that not all look at once."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311  no secret


async def _awaited(awaitable: Awaitable[bool]) -> bool:
    return await awaitable
