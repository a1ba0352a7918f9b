"""What a store still does though nobody waits for it."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError

#: Seconds for which the end of a store waits for it.
CLOSING = 3.0


class Background:
    """Work that goes on whatever becomes of the one who began it, but not for long once the program ends."""

    def __init__(self, reactor: Any) -> None:
        """@param reactor: provides C{IReactorTime}."""
        self._reactor = reactor
        self._running: set[Deferred[None]] = set()

    def __len__(self) -> int:
        """@return: how much there is."""
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """@param work: what has to be done; it tells of its own trouble."""
        running = Deferred.fromCoroutine(work)
        self._running.add(running)
        running.addBoth(self._ended, running)

    def _ended(self, result: object, running: Deferred[None]) -> object:
        self._running.discard(running)
        return result

    async def close(self) -> None:
        """Wait for what is under way, but no longer than L{CLOSING}; then cancel the rest."""
        waiting = DeferredList(list(self._running), consumeErrors=True)
        with suppress(TimeoutError):
            await waiting.addTimeout(CLOSING, self._reactor)
