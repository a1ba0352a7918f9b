"""Version lists that are remembered for a while and refreshed behind the answer."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.cache.expiring import ExpiringCache
from athens_tx.errors import AthensError, NotFound
from athens_tx.interfaces import ILister, Listing
from athens_tx.singleflight.waiters import Waiters

#: Bytes that all remembered lists together may have.
LIMIT = 64 * 1024 * 1024


@attrs.frozen
class _Kept:
    listing: Listing
    since: float


@implementer(ILister)
class CachedLister:
    """
    Asks upstream at most once at a time for a module, and seldom.

    An answer is good for C{ttl} seconds. For as long again it is still given, while a new one is fetched behind it;
    older than that, a client waits for the new one, and gets the old one only when upstream is in trouble. That a
    module does not exist is remembered for C{not_found_ttl}; so is any other failure, while upstream is left in peace.

    @param lister: the one who really asks.
    @param hit: told for each question whether it was answered from memory.
    """

    log = Logger()

    def __init__(
        self,
        lister: ILister,
        clock: IReactorTime,
        *,
        ttl: float,
        not_found_ttl: float,
        hit: Callable[[bool], None] = lambda hit: None,
    ) -> None:
        self._lister = lister
        self._clock = clock
        self._ttl = ttl
        self._hit = hit
        # Entries outlive their time by far: they are what is served while upstream fails.
        self._kept: ExpiringCache[str, _Kept] = ExpiringCache(clock, float("inf") if ttl > 0 else 0.0, LIMIT)
        self._failed: ExpiringCache[str, AthensError] = ExpiringCache(clock, not_found_ttl, LIMIT // 8)
        self._flights: dict[str, Waiters[Listing]] = {}

    async def listing(self, path: str) -> Listing:
        """@return: what L{ILister.listing} says, as old as the class says."""
        kept = self._kept.get(path)
        age = self._clock.seconds() - kept.since if kept is not None else float("inf")
        if kept is not None and age < 2 * self._ttl:
            if age >= self._ttl and self._failed.get(path) is None:
                self._refresh(path).addErrback(lambda failure: None)  # logged where it failed
            self._hit(True)
            return kept.listing
        failed = self._failed.get(path)
        self._hit(failed is not None)
        try:
            if failed is not None:
                raise failed.afresh()
            return await self._refresh(path)
        except NotFound:
            raise
        except AthensError:
            if kept is None:
                raise
            return kept.listing

    def _refresh(self, path: str) -> Deferred[Listing]:
        flight = self._flights.get(path)
        if flight is None:
            flight = self._flights[path] = Waiters()
            Deferred.fromCoroutine(self._ask(path)).addBoth(self._land, path)
        return flight.wait()

    async def _ask(self, path: str) -> Listing:
        return await self._lister.listing(path)

    def _land(self, result: Listing | Failure, path: str) -> None:
        if isinstance(result, Failure):
            self._remember_failure(result, path)
        else:
            self._failed.forget(path)
            size = 200 + len(path) + sum(64 + len(version) for version in result.versions)
            remembered = attrs.evolve(result, origin="memory")
            self._kept.put(path, _Kept(remembered, self._clock.seconds()), size)
        self._flights.pop(path).land(result)

    def _remember_failure(self, failure: Failure, path: str) -> None:
        error = failure.value
        if isinstance(error, NotFound):
            self._kept.forget(path)
        if isinstance(error, AthensError):
            self._failed.put(path, error.afresh(), 500 + len(path) + len(str(error)) + len(error.detail))
            if self._kept.get(path) is not None:
                self.log.warn("serving the old list of {module}: {reason}", module=path, reason=str(error))
        else:
            self.log.failure("listing {module} failed", failure, module=path)
