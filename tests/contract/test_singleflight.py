"""What every ISingleFlight keeps, whoever shares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from athens_tx.errors import NotFound
from athens_tx.interfaces import ISingleFlight
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.locked import LockedSingleFlight
from athens_tx.singleflight.memory import MemorySingleFlight
from tests.support.lock_service import LockService


def locked() -> LockedSingleFlight:
    """@return: one over a lock service that answers at once; for those of several daemons see test_locks.py."""

    async def exists(mv: ModuleVersion) -> bool:
        return False

    clock = Clock()
    return LockedSingleFlight(clock, LockService(clock).daemon(), exists=exists, limit=60.0)


BACKENDS: dict[str, Callable[[], Any]] = {"locked": locked, "memory": MemorySingleFlight}

MV = ModuleVersion("example.com/a", "v1.0.0")
OTHER = ModuleVersion("example.com/a", "v1.1.0")

check = SynchronousTestCase()


class Work:
    """Work that ends when it is told to, and counts its beginnings."""

    def __init__(self) -> None:
        self.begun: list[Deferred[ModuleVersion]] = []

    async def __call__(self) -> ModuleVersion:
        self.begun.append(Deferred())
        return await self.begun[-1]


@pytest.fixture(params=sorted(BACKENDS))
def flight(request: pytest.FixtureRequest) -> Any:
    return BACKENDS[request.param]()


def run(flight: Any, mv: ModuleVersion, work: Any) -> Deferred[ModuleVersion]:
    async def wait() -> ModuleVersion:
        return await flight.run(mv, work)

    return Deferred.fromCoroutine(wait())


def test_keeps_to_the_interface(flight: Any) -> None:
    assert verifyObject(ISingleFlight, flight)


def test_one_works_and_all_get_its_result(flight: Any) -> None:
    work = Work()
    waiting = [run(flight, MV, work) for _ in range(200)]
    assert len(work.begun) == 1
    work.begun[0].callback(OTHER)
    assert {check.successResultOf(one) for one in waiting} == {OTHER}


def test_different_versions_do_not_wait_for_each_other(flight: Any) -> None:
    work = Work()
    first, second = run(flight, MV, work), run(flight, OTHER, work)
    work.begun[1].callback(OTHER)
    check.assertNoResult(first)
    assert check.successResultOf(second) == OTHER
    work.begun[0].callback(MV)
    assert check.successResultOf(first) == MV


def test_the_first_to_leave_takes_the_work_from_nobody(flight: Any) -> None:
    work = Work()
    first, second = run(flight, MV, work), run(flight, MV, work)
    first.cancel()
    check.failureResultOf(first, CancelledError)
    work.begun[0].callback(MV)
    assert check.successResultOf(second) == MV


def test_the_work_goes_on_when_all_have_left(flight: Any) -> None:
    work = Work()
    only = run(flight, MV, work)
    only.cancel()
    check.failureResultOf(only, CancelledError)
    late = run(flight, MV, work)
    assert len(work.begun) == 1
    work.begun[0].callback(MV)
    assert check.successResultOf(late) == MV


def test_a_failure_ends_the_flight_for_all_and_the_next_tries_anew(flight: Any) -> None:
    work = Work()
    waiting = [run(flight, MV, work) for _ in range(3)]
    work.begun[0].errback(NotFound("no"))
    for one in waiting:
        check.failureResultOf(one, NotFound)
    again = run(flight, MV, work)
    assert len(work.begun) == 2
    work.begun[1].callback(MV)
    assert check.successResultOf(again) == MV


def test_work_that_raises_before_it_waits_fails_like_any_other(flight: Any) -> None:
    def broken() -> Any:
        raise NotFound("at once")

    check.failureResultOf(run(flight, MV, broken), NotFound)
    work = Work()
    again = run(flight, MV, work)
    assert len(work.begun) == 1
    work.begun[0].callback(MV)
    assert check.successResultOf(again) == MV


def test_a_check_that_finds_nothing_wrong(flight: Any) -> None:
    assert check.successResultOf(Deferred.fromCoroutine(flight.check())) is None


def test_work_may_run_other_work(flight: Any) -> None:
    inner = Work()

    async def outer() -> ModuleVersion:
        return await flight.run(OTHER, inner)

    nested, direct = run(flight, MV, outer), run(flight, OTHER, inner)
    assert len(inner.begun) == 1
    inner.begun[0].callback(OTHER)
    assert check.successResultOf(nested) == check.successResultOf(direct) == OTHER
