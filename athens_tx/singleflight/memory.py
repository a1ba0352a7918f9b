"""Singleflight inside one process: what Athens calls C{memory}."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from athens_tx.interfaces import ISingleFlight
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.waiters import Waiters


@implementer(ISingleFlight)
class MemorySingleFlight(Service):
    """A map from the version as requested to those who wait for it; no other process is asked."""

    def __init__(self) -> None:
        self._flights: dict[ModuleVersion, Waiters[ModuleVersion]] = {}

    def run(
        self, mv: ModuleVersion, work: Callable[[], Awaitable[ModuleVersion]], *, nested: bool = False
    ) -> Deferred[ModuleVersion]:
        """Run C{work} for the first caller; whoever comes before it ends gets the same result, its failure included."""
        flight = self._flights.get(mv)
        if flight is not None:
            return flight.wait()
        flight = self._flights[mv] = Waiters()
        waiter = flight.wait()
        Deferred.fromCoroutine(_started(work)).addBoth(lambda result: self._flights.pop(mv).land(result))
        return waiter

    async def check(self) -> None:
        """There is nothing to fail."""


async def _started(work: Callable[[], Awaitable[ModuleVersion]]) -> ModuleVersion:
    """Turn an exception of C{work} itself, not only of what it returns, into a failure of the flight."""
    return await work()
