"""One result that many wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """
    A result, awaited by any number of Deferreds, one for each who waits.

    Of two that await one and the same Deferred the second gets C{None}, and the first to be cancelled would cancel
    both; here a waiter that is cancelled leaves, and nobody else notices.
    """

    def __init__(self, left: Callable[[], object] = lambda: None) -> None:
        """@param left: called when the last who waited has left, and nobody waits for what is to come."""
        self._left = left
        self._waiting: list[Deferred[T]] = []
        self._landed: list[T | Failure] = []

    @property
    def landed(self) -> bool:
        """Whether the result is known."""
        return bool(self._landed)

    def wait(self) -> Deferred[T]:
        """@return: a Deferred of the caller's own, which fires at once if the result is known."""
        waiter: Deferred[T] = Deferred(self._leave)
        self._waiting.append(waiter)
        if self._landed:
            self._answer(self._landed[0])
        return waiter

    def land(self, result: T | Failure) -> None:
        """Answer all who wait and all who will; only the first call counts."""
        if not self._landed:
            self._landed.append(result)
            self._answer(result)

    def _answer(self, result: T | Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            # A Failure of its own for each: raising one adds to its traceback.
            waiter.callback(Failure(result.value, result.type) if isinstance(result, Failure) else result)

    def _leave(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not self._waiting:
                self._left()
