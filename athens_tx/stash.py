"""Fetch a version once for all who want it, verify it, save it, index it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from athens_tx.errors import (
    AthensError,
    Elsewhere,
    FetchFailed,
    FetchTimeout,
    LockUnavailable,
    NotFound,
    Refused,
    StorageUnavailable,
    UpstreamUnreachable,
)
from athens_tx.interfaces import FetchedVersion, IFetcher, IIndex, ISingleFlight, IStorage, VersionFiles
from athens_tx.module.version import ModuleVersion, is_canonical
from athens_tx.singleflight.waiters import Waiters

T = TypeVar("T")

#: Failures that say nothing of the version: who only waited for somebody else's try makes one of his own.
PASSING = (FetchTimeout, UpstreamUnreachable)


class _GivenUp(FetchFailed):
    """A flight was ended from outside. Not a L{CancelledError}: who only joined it is not cancelled himself."""

    def __init__(self, mv: ModuleVersion) -> None:
        super().__init__(f"{mv}: given up before it was done", retry_after=5)


@attrs.frozen
class Stashed:
    """
    @ivar files: the two small files, under the canonical version.
    @ivar source: C{upstream} or C{go}, or C{storage} if somebody else had stored it meanwhile.
    """

    files: VersionFiles
    source: str


@attrs.define(eq=False)
class _Flight:
    """
    One stash on its way: who waits for the small files, and who for the whole version to be stored.

    @ivar wanted: how many wait for either.
    @ivar turn: our wait in the single flight.
    @ivar work: cancelled, it ends the flight; C{None} until it is our turn.
    """

    mv: ModuleVersion
    wanted: int = 0
    turn: Deferred[ModuleVersion] | None = None
    work: Deferred[ModuleVersion] | None = None
    files: Waiters[Stashed] = attrs.Factory(Waiters)
    whole: Waiters[Stashed] = attrs.Factory(Waiters)


class Stash:
    """
    @param admit: L{athens_tx.interfaces.IGate.admit}, asked for what a query turned out to mean, before it is saved.
    @param zip_body: makes the producer of a fetched zip from its path.
    @param limit: seconds that saving one version may take.
    @param is_queued: whether the fetch of C{path@version} still waits for its turn.
    @param fetched: told the kind of fetcher, the outcome (C{success} or the name of the error) and the seconds,
        for metrics.
    """

    log = Logger()

    def __init__(
        self,
        *,
        fetcher: IFetcher,
        storage: IStorage,
        single_flight: ISingleFlight,
        index: IIndex,
        clock: IReactorTime,
        admit: Callable[[str, str | None], Awaitable[None]],
        zip_body: Callable[[FetchedVersion], IBodyProducer],
        limit: float,
        is_queued: Callable[[str], bool] = lambda subject: False,
        fetched: Callable[[str, str, float], None] = lambda kind, outcome, seconds: None,
    ) -> None:
        self._fetcher = fetcher
        self._storage = storage
        self._single_flight = single_flight
        self._index = index
        self._clock = clock
        self._admit = admit
        self._zip_body = zip_body
        self._limit = limit
        self._is_queued = is_queued
        self._fetched = fetched
        self._flights: dict[ModuleVersion, _Flight] = {}
        self._running: list[Deferred[ModuleVersion]] = []

    @property
    def under_way(self) -> int:
        """How many versions are being stashed now."""
        return len({id(flight) for flight in self._flights.values()})

    def start(self, mv: ModuleVersion) -> None:
        """Stash C{mv} with nobody waiting for it; a failure is logged and counted."""
        self._flight(mv).wanted += 1  # for ever: it is to be stashed whoever leaves

    async def files(self, mv: ModuleVersion) -> Stashed:
        """
        @param mv: as requested, a version or a query.
        @return: the small files, perhaps while the zip is still on its way.
        @raise AthensError: as L{IFetcher.fetch} and L{IStorage.save}.
        @raise Elsewhere: as C{admit}.
        """
        return await self._wait(mv, lambda flight: flight.files)

    async def whole(self, mv: ModuleVersion) -> Stashed:
        """@return: the same as L{files}, but only when all of the version is stored."""
        return await self._wait(mv, lambda flight: flight.whole)

    async def drain(self) -> None:
        """Wait until nothing is under way; who calls limits the wait and then calls L{cancel}."""
        while self._flights:
            flight = next(iter(self._flights.values()))
            try:
                await flight.whole.wait()
            except CancelledError:
                raise
            except Exception:  # noqa: S110  its waiters and the log have it
                pass

    def cancel(self) -> None:
        """Give up all that is under way: fetches are cancelled, which kills their processes."""
        for running in list(self._running):
            running.cancel()
        for flight in list(self._flights.values()):
            if flight.work is None and flight.turn is not None:
                flight.turn.cancel()

    async def _wait(self, mv: ModuleVersion, which: Callable[[_Flight], Waiters[T]]) -> T:
        joined = mv in self._flights
        try:
            return await self._wanted(self._flight(mv), which)
        except PASSING:
            if not joined:
                raise
        return await self._wanted(self._flight(mv), which)

    async def _wanted(self, flight: _Flight, which: Callable[[_Flight], Waiters[T]]) -> T:
        """Wait; when the last who does so leaves a flight that still waits for its turn, it makes room for others."""
        flight.wanted += 1
        try:
            return await which(flight).wait()
        finally:
            flight.wanted -= 1
            if not flight.wanted:
                self._unwanted(flight)

    def _unwanted(self, flight: _Flight) -> None:
        if flight.work is not None:
            if self._is_queued(str(flight.mv)):
                flight.work.cancel()
        elif flight.turn is not None:
            flight.turn.cancel()

    def _flight(self, mv: ModuleVersion) -> _Flight:
        flight = self._flights.get(mv)
        if flight is None:
            flight = self._flights[mv] = _Flight(mv)
            flight.files.wait().addCallbacks(partial(self._means, flight), lambda _: None)
            Deferred.fromCoroutine(self._fly(mv, flight)).addErrback(self._broken, flight)
        return flight

    def _means(self, flight: _Flight, known: Stashed) -> None:
        # Who asked for a branch asks next for the version it means, mostly before the zip is there: he joins, too.
        self._flights.setdefault(known.files.mv, flight)

    async def _fly(self, mv: ModuleVersion, flight: _Flight) -> None:
        try:
            flight.turn = self._single_flight.run(mv, partial(self._detached, mv, flight))
            canonical = await flight.turn
            if not flight.files.landed:  # another process stored it, or it was there already
                found = ModuleVersion(mv.path, canonical.version)
                files = VersionFiles(found, await self._storage.info(found), await self._storage.mod(found))
                flight.files.land(Stashed(files, "storage"))
            outcome: Stashed | Failure = await flight.files.wait()
        except CancelledError:
            outcome = Failure(_GivenUp(mv))
        except _GivenUp as error:
            outcome = Failure(error)
        except AthensError as error:
            outcome = Failure(error)
            self._report(mv, error)
        except Elsewhere as elsewhere:  # the say of the gate: no failure
            outcome = Failure(elsewhere)
        except Exception as error:
            self.log.failure("stashing {mv} failed", mv=str(mv))
            outcome = Failure(FetchFailed(f"{mv}: internal error").with_traceback(error.__traceback__))
        finally:
            for name in [name for name, other in self._flights.items() if other is flight]:
                del self._flights[name]
        flight.files.land(outcome)
        flight.whole.land(outcome)

    def _report(self, mv: ModuleVersion, error: AthensError) -> None:
        level = LogLevel.info if isinstance(error, NotFound | Refused) else LogLevel.error
        self.log.emit(
            level,
            "could not stash {mv}: {reason}",
            mv=str(mv),
            reason=str(error),
            detail=error.detail,
            kind=type(error).__name__,
        )

    def _broken(self, failure: Failure, flight: _Flight) -> None:
        self.log.failure("the flight of {mv} broke", failure, mv=str(flight.mv))
        outcome = Failure(FetchFailed(f"{flight.mv}: internal error"))
        flight.files.land(outcome)  # nobody shall wait for ever
        flight.whole.land(outcome)

    def _detached(self, mv: ModuleVersion, flight: _Flight) -> Deferred[ModuleVersion]:
        """Run the work so that L{cancel} reaches it, whoever else waits for it."""
        work = flight.work = Deferred.fromCoroutine(self._work(mv, flight))
        self._running.append(work)

        def ended(result: T | Failure) -> T | Failure:
            self._running.remove(work)
            if isinstance(result, Failure) and result.check(CancelledError):
                return Failure(_GivenUp(mv))
            return result

        return work.addBoth(ended)

    async def _work(self, mv: ModuleVersion, flight: _Flight) -> ModuleVersion:
        if is_canonical(mv.version) and await self._storage.exists(mv):
            return mv
        async with await self._fetch(mv, flight) as fetched:
            if fetched.mv == mv:
                return await self._save(fetched)
            await self._admit(fetched.mv.path, fetched.mv.version)
            if await self._storage.exists(fetched.mv):
                return fetched.mv
            return await self._save_canonical(fetched)

    async def _save_canonical(self, fetched: FetchedVersion) -> ModuleVersion:
        """
        Save what a query means, unless somebody is at work on that version already and succeeds.

        Always the requested spelling first, then the canonical one: nobody can wait in a circle.
        """
        begun = False

        async def save() -> ModuleVersion:
            nonlocal begun
            begun = True
            return fetched.mv if await self._storage.exists(fetched.mv) else await self._save(fetched)

        try:
            return await self._single_flight.run(fetched.mv, save, nested=True)
        except (CancelledError, LockUnavailable):
            raise
        except Exception:  # of somebody else's work: we have all that it takes
            if begun:
                raise
        return await self._single_flight.run(fetched.mv, save, nested=True)

    async def _fetch(self, mv: ModuleVersion, flight: _Flight) -> FetchedVersion:
        began, kind, result = self._clock.seconds(), "unknown", "error"
        try:
            fetched = await self._fetcher.fetch(mv, lambda files: flight.files.land(Stashed(files, "upstream")))
            kind, result = fetched.origin, "success"
        except AthensError as error:
            kind, result = error.origin or kind, type(error).__name__
            raise
        except CancelledError:
            result = "cancelled"
            raise
        finally:
            self._fetched(kind, result, self._clock.seconds() - began)
        flight.files.land(Stashed(VersionFiles(fetched.mv, fetched.info, fetched.mod), fetched.origin))
        return fetched

    async def _save(self, fetched: FetchedVersion) -> ModuleVersion:
        mv, began = fetched.mv, self._clock.seconds()
        body = self._zip_body(fetched)
        await self._index.begin(mv)
        saving = Deferred.fromCoroutine(self._storage.save(mv, fetched.info, fetched.mod, body))
        try:
            await saving.addTimeout(self._limit, self._clock)
        except DeferredTimeout as late:
            raise StorageUnavailable(
                f"{mv}: the storage took over {self._limit:g} s to save it", retry_after=30
            ) from late
        self.log.info(
            "stashed {mv} ({size} bytes) in {seconds:.2f} s",
            mv=str(mv),
            size=body.length,
            seconds=self._clock.seconds() - began,
            source=fetched.origin,
        )
        try:
            await self._index.add(mv)
        except AthensError as error:  # the module is stored: its user must not pay for the index
            self.log.error("could not index {mv}: {reason}", mv=str(mv), reason=str(error), detail=error.detail)
        return mv
