"""How many fetches or listings run at once, and how many may wait for their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredSemaphore

from athens_tx.errors import Overloaded


class Pool:
    """
    Slots, given in the order they were asked for.

    @ivar in_flight: how many are taken.
    @ivar queued: how many wait for one.
    """

    def __init__(self, limit: int, queue_limit: int, *, retry_after: int = 10) -> None:
        """
        @param limit: how many slots, C{>= 1}.
        @param queue_limit: how many may wait; more are refused.
        @param retry_after: seconds that one who is refused is told to wait.
        """
        self.limit = limit
        self.queue_limit = queue_limit
        self.in_flight = 0
        self.queued = 0
        self._retry_after = retry_after
        self._slots = DeferredSemaphore(limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """
        Wait for a slot and hold it.

        @raise Overloaded: too many wait already.
        """
        if self._slots.tokens == 0 and self.queued >= self.queue_limit:
            raise Overloaded("too much is being fetched already", retry_after=self._retry_after)
        self.queued += 1
        try:
            await self._slots.acquire()
        finally:
            self.queued -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._slots.release()
