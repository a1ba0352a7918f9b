"""What arrives while work is done on what arrived before is taken all at once afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Gathering(Generic[T]):
    """
    @ivar items: those that have arrived and are not done with.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[None]], done: Callable[[], None] = lambda: None) -> None:
        """@param work: is given some; C{done} is called after each time, before those who wait are told."""
        self.items: list[T] = []
        self._work = work
        self._done = done
        self._told: list[Deferred[None]] = []
        self._running: Deferred[None] | None = None

    def put(self, item: T) -> Deferred[None]:
        """@return: fires when it is done with; fails as the work did. Is not to be cancelled."""
        told: Deferred[None] = Deferred()
        self.items.append(item)
        self._told.append(told)
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
        return told

    def done(self) -> Deferred[None]:
        """@return: fires when all that is here now is done with; is not to be cancelled."""
        told: Deferred[None] = Deferred()

        def last(result: Any) -> Any:
            told.callback(None)
            return result

        self._told[-1].addBoth(last)
        return told

    async def _run(self) -> None:
        while self.items:
            count = len(self.items)
            failure: Failure | None = None
            try:
                await self._work(self.items[:count])
            except Exception:
                failure = Failure()
            told = self._told[:count]
            del self.items[:count], self._told[:count]
            self._done()
            for each in told:
                each.callback(None) if failure is None else each.errback(Failure(failure.value, failure.type))
        self._running = None
