"""How many fetches, listings or saves run at once, and how many may wait for their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from athens_tx.errors import Overloaded


class Pool:
    """
    Slots, given in the order they were asked for.

    @ivar in_flight: how many are taken.
    @ivar queued: how many wait for one.
    """

    def __init__(
        self,
        limit: int,
        queue_limit: int,
        *,
        retry_after: int = 10,
        clock: IReactorTime | None = None,
        wait_limit: float = 0.0,
        doing: str = "fetched",
    ) -> None:
        """
        @param limit: how many slots, C{>= 1}.
        @param queue_limit: how many may wait; more are refused.
        @param wait_limit: seconds that one may wait, by C{clock}; 0 for as long as it takes.
        @param retry_after: seconds that one who is refused is told to wait.
        @param doing: what is done with a slot, for messages.
        """
        self.limit = limit
        self.queue_limit = queue_limit
        self.in_flight = 0
        self.queued = 0
        self._retry_after = retry_after
        self._clock = clock
        self._wait_limit = wait_limit
        self._doing = doing
        self._slots = DeferredSemaphore(limit)
        self._free = 0
        self._handing_on = False

    @asynccontextmanager
    async def slot(self, had: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
        """
        Wait for a slot and hold it.

        @param had: called when it is had.
        @raise Overloaded: too many wait already, or it took too long.
        """
        if self._slots.tokens == 0 and self.queued >= self.queue_limit:
            raise Overloaded(f"too much is being {self._doing} already", retry_after=self._retry_after)
        self.queued += 1
        try:
            await self._turn()
        finally:
            self.queued -= 1
        self.in_flight += 1
        try:
            had()
            yield
        finally:
            self.in_flight -= 1
            self._hand_on()

    def _hand_on(self) -> None:
        """Give a slot to the next one. Who ends at once gives it back from within this call, and must not nest."""
        self._free += 1
        if self._handing_on:
            return
        self._handing_on = True
        try:
            while self._free:
                self._free -= 1
                self._slots.release()
        finally:
            self._handing_on = False

    def _turn(self) -> Deferred[DeferredSemaphore]:
        turn = self._slots.acquire()
        if self._clock is not None and self._wait_limit > 0:
            turn.addTimeout(self._wait_limit, self._clock, self._too_long)
        return turn

    def _too_long(self, result: object, limit: float) -> NoReturn:
        text = f"too much is being {self._doing}: no turn within {limit:g} s"
        raise Overloaded(text, retry_after=self._retry_after)
