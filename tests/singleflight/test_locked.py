"""Singleflight across daemons, on a lock service in memory and a clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import ConfigError, LockUnavailable, NotFound, Overloaded, StorageUnavailable
from athens_tx.fetch.pool import Pool
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight import locked, turns
from athens_tx.singleflight.locked import LockedSingleFlight
from athens_tx.singleflight.turns import Slots
from tests.support.lock_service import LockService, ServiceLock

MV = ModuleVersion("example.com/a", "v1.0.0")
OTHER = ModuleVersion("example.com/a", "v1.1.0")
BRANCH = ModuleVersion("example.com/a", "main")

check = SynchronousTestCase()


class Fleet:
    """Daemons that share a lock service and a storage."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.service = LockService(self.clock)
        self.stored: set[ModuleVersion] = set()
        self.looks = 0
        self.begun: list[Deferred[ModuleVersion]] = []
        self.waits: list[tuple[str, float]] = []
        self.lost = 0
        self.broken: Exception | None = None

    def daemon(self, limit: float = 600.0, slots: Slots | None = None) -> LockedSingleFlight:
        daemon = LockedSingleFlight(
            self.clock,
            self.service.daemon(),
            exists=self.exists,
            limit=limit,
            slots=slots,
            waited=lambda turn, seconds: self.waits.append((turn, seconds)),
            lost=self._lost,
        )
        daemon.startService()
        return daemon

    def _lost(self) -> None:
        self.lost += 1

    async def exists(self, mv: ModuleVersion) -> bool:
        self.looks += 1
        if self.broken is not None:
            raise self.broken
        return mv in self.stored

    async def work(self) -> ModuleVersion:
        self.begun.append(Deferred())
        return await self.begun[-1]

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def done(self, number: int = -1, mv: ModuleVersion = MV) -> None:
        self.stored.add(mv)
        self.begun[number].callback(mv)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for module in (locked, turns):
        monkeypatch.setattr(module, "jittered", lambda seconds: seconds)
    return Fleet()


def warnings(logged: list[dict[str, Any]]) -> list[str]:
    return [event["log_format"] for event in logged if event["log_level"].name == "warn"]


def test_only_one_daemon_works_and_the_others_find_it_stored(fleet: Fleet) -> None:
    waiting = [fleet.daemon().run(MV, fleet.work) for _ in range(3)]
    assert len(fleet.begun) == 1
    fleet.pass_time(20)
    fleet.done()
    assert [check.successResultOf(one) for one in waiting] == [MV] * 3
    assert len(fleet.begun) == 1
    assert not fleet.service.holders
    assert sorted(turn for turn, _ in fleet.waits) == ["held", "stored", "stored"]


def test_a_release_is_heard_at_once(fleet: Fleet) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.pass_time(0.5)
    fleet.begun[0].errback(NotFound("gone"))
    check.failureResultOf(first, NotFound)
    assert len(fleet.begun) == 2, "without any time that passes"
    fleet.done()
    check.successResultOf(second)


def test_what_appears_in_the_storage_is_waited_for_no_longer(fleet: Fleet) -> None:
    fleet.service.tells = False
    fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.stored.add(MV)
    fleet.pass_time(0.9)
    check.assertNoResult(second)
    fleet.pass_time(0.2)
    assert check.successResultOf(second) == MV
    assert len(fleet.begun) == 1
    fleet.done()


def test_who_waits_looks_once_a_second_at_a_service_that_tells_nothing(fleet: Fleet) -> None:
    fleet.service.tells = False
    fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.pass_time(10.5)
    assert fleet.service.takes in (11, 12)
    assert fleet.looks in (9, 10)
    fleet.done()
    fleet.pass_time(1)
    check.successResultOf(second)


def test_a_branch_is_not_looked_for_in_the_storage(fleet: Fleet) -> None:
    fleet.daemon().run(BRANCH, fleet.work)
    second = fleet.daemon().run(BRANCH, fleet.work)
    fleet.pass_time(5)
    fleet.done()
    fleet.pass_time(1)
    assert fleet.looks == 0
    assert len(fleet.begun) == 2, "nobody knows what the branch means now"
    fleet.done()
    assert check.successResultOf(second) == MV


def test_who_has_the_lock_does_not_ask_the_storage_for_what_the_work_asks_it(fleet: Fleet) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    fleet.done()
    check.successResultOf(first)
    assert fleet.looks == 0


def test_a_lock_that_nobody_waits_for_any_more_is_not_waited_for(fleet: Fleet) -> None:
    first, daemon = fleet.daemon().run(MV, fleet.work), fleet.daemon()
    waiting = [daemon.run(MV, fleet.work) for _ in range(2)]
    waiting[0].cancel()
    check.failureResultOf(waiting[0], CancelledError)
    assert daemon.waiting == 1, "one is left"
    waiting[1].cancel()
    check.failureResultOf(waiting[1], CancelledError)
    assert (daemon.waiting, fleet.service.waiting) == (0, [])
    assert [turn for turn, _ in fleet.waits] == ["held", "left"]
    again = daemon.run(MV, fleet.work)
    fleet.done()
    check.successResultOf(first)
    assert check.successResultOf(again) == MV
    assert len(fleet.begun) == 1


def test_an_own_failure_is_no_failure_of_the_others(fleet: Fleet) -> None:
    first, second = (fleet.daemon().run(MV, fleet.work) for _ in range(2))
    fleet.begun[0].errback(NotFound("gone"))
    check.failureResultOf(first, NotFound)
    fleet.done()
    assert check.successResultOf(second) == MV


def test_within_a_daemon_one_flight_is_enough(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    waiting = [daemon.run(MV, fleet.work) for _ in range(20)]
    assert fleet.service.takes == 1
    waiting[0].cancel()
    check.failureResultOf(waiting[0], CancelledError)
    fleet.done()
    assert {check.successResultOf(one) for one in waiting[1:]} == {MV}


def test_a_holder_that_lives_renews(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    first, second = daemon.run(MV, fleet.work), fleet.daemon().run(MV, fleet.work)
    fleet.pass_time(300)
    assert len(fleet.begun) == 1
    assert fleet.service.renewals in (29, 30)
    assert (daemon.held, daemon.waiting) == (1, 0)
    fleet.done()
    check.successResultOf(first)
    check.successResultOf(second)
    assert daemon.held == 0


def test_a_holder_that_died_is_outlived_by_its_lease_only(fleet: Fleet) -> None:
    fleet.service.holders[str(MV)] = ("a daemon that is no more", 30.0)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.pass_time(29)
    assert not fleet.begun
    fleet.pass_time(2.1)
    assert len(fleet.begun) == 1
    fleet.done()
    check.successResultOf(second)


def test_after_the_limit_it_is_503_and_a_time_to_come_again(fleet: Fleet) -> None:
    fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon(limit=60.0).run(MV, fleet.work)
    fleet.pass_time(59.5)
    check.assertNoResult(second)
    fleet.pass_time(1)
    error = check.failureResultOf(second, LockUnavailable).value
    assert error.retry_after == turns.RETRY_AFTER
    assert str(MV) in str(error)
    assert fleet.waits[-1] == ("gave_up", pytest.approx(60.0, abs=0.2))
    fleet.done()


def test_a_lock_that_is_lost_does_not_end_the_work(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    fleet.service.holders[str(MV)] = ("somebody else", 1000.0)
    fleet.pass_time(30)
    assert fleet.lost == 1
    fleet.done()
    assert check.successResultOf(first) == MV
    assert [text.partition(" is lost")[0] for text in warnings(logged)] == ["the lock of {mv}"]
    assert str(MV) in fleet.service.holders, "it is not ours to release"


def test_a_lock_that_was_lost_unnoticed_is_a_warning(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    del fleet.service.holders[str(MV)]
    fleet.done()
    assert check.successResultOf(first) == MV
    assert [text for text in warnings(logged) if "was lost before" in text]
    assert fleet.lost == 1


def test_a_release_that_fails_is_a_warning(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    fleet.service.away = True
    fleet.done()
    assert check.successResultOf(first) == MV
    assert [text for text in warnings(logged) if text.startswith("could not release")]
    assert fleet.lost == 0


def test_renewals_that_are_not_answered_are_tried_again(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    first = fleet.daemon().run(MV, fleet.work)
    fleet.service.away = True
    fleet.pass_time(15)
    assert fleet.service.renewals >= 5
    assert len(warnings(logged)) == 1, "once, not each time"
    fleet.service.away = False
    fleet.pass_time(60)
    assert fleet.lost == 0
    assert fleet.service.holder(str(MV)) is not None
    fleet.done()
    check.successResultOf(first)


def test_a_service_that_comes_back_soon_is_waited_for(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.service.away = True
    first = daemon.run(MV, fleet.work)
    fleet.pass_time(10)
    assert not fleet.begun
    fleet.service.away = False
    fleet.pass_time(1.1)
    assert fleet.service.holder(str(MV)) is not None
    fleet.done()
    check.successResultOf(first)
    assert fleet.waits[0][0] == "held"


def test_without_the_service_the_work_is_done_without_the_lock(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    daemon = fleet.daemon()
    fleet.service.away = True
    first = daemon.run(MV, fleet.work)
    fleet.pass_time(turns.PATIENCE + 1.5)
    assert len(fleet.begun) == 1
    assert [text for text in warnings(logged) if text.startswith("no lock for")]
    assert daemon.held == 0
    fleet.done()
    assert check.successResultOf(first) == MV
    assert fleet.waits[0][0] == "unlocked"
    assert len(warnings(logged)) == 1, "none about a release"


def test_a_service_that_goes_away_under_a_waiter(fleet: Fleet) -> None:
    fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.service.away = True
    fleet.pass_time(5)
    fleet.service.away = False
    fleet.pass_time(60)
    assert len(fleet.begun) == 1, "the patience begins anew"
    fleet.service.away = True
    fleet.pass_time(3)
    fleet.stored.add(MV)
    fleet.pass_time(1.1)
    assert check.successResultOf(second) == MV, "the storage is looked at all the time"
    fleet.begun[0].callback(MV)


def test_a_storage_in_trouble_does_not_end_the_wait(fleet: Fleet) -> None:
    fleet.daemon().run(MV, fleet.work)
    second = fleet.daemon().run(MV, fleet.work)
    fleet.broken = StorageUnavailable("no")
    fleet.pass_time(5)
    check.assertNoResult(second)
    fleet.broken = None
    fleet.done()
    assert check.successResultOf(second) == MV


def test_a_look_into_the_storage_that_hangs_does_not_keep_a_release_from_being_heard(fleet: Fleet) -> None:
    first, daemon = fleet.daemon().run(MV, fleet.work), fleet.daemon()
    second = daemon.run(MV, fleet.work)
    never: Deferred[bool] = Deferred()
    daemon._turns._exists = lambda mv: never
    fleet.pass_time(1.5)
    fleet.begun[0].errback(NotFound("gone"))
    check.failureResultOf(first, NotFound)
    assert len(fleet.begun) == 1
    fleet.pass_time(turns.LOOK_LIMIT)
    fleet.done()
    assert check.successResultOf(second) == MV


def test_a_service_that_is_known_to_be_away_is_not_waited_for_again(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    daemon = fleet.daemon()
    fleet.service.away = True
    running = [daemon.run(MV, fleet.work)]
    fleet.pass_time(turns.PATIENCE + 1.5)
    assert daemon.away
    running.append(daemon.run(OTHER, fleet.work))
    assert len(fleet.begun) == 2, "at once"
    fleet.service.away = False
    running.append(daemon.run(BRANCH, fleet.work))
    assert fleet.service.holder(str(BRANCH)) is not None, "it is tried all the same"
    assert not daemon.away
    fleet.service.away = True
    running.append(daemon.run(ModuleVersion("example.com/b", "v1.0.0"), fleet.work))
    assert len(fleet.begun) == 3, "the patience begins anew"
    fleet.service.away = False
    check.successResultOf(daemon.stopService())
    for one in running:
        check.failureResultOf(one, CancelledError)


def test_a_failure_of_long_ago_is_no_reason_to_go_on_without(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    fleet.service.away = True
    check.failureResultOf(Deferred.fromCoroutine(daemon.check()), LockUnavailable)
    fleet.pass_time(turns.FORGET + 1)
    waiting = daemon.run(MV, fleet.work)
    fleet.pass_time(turns.PATIENCE - 2)
    assert not fleet.begun
    check.successResultOf(daemon.stopService())
    check.failureResultOf(waiting, CancelledError)


def test_a_service_that_is_away_and_says_nothing_is_tried_for_some_seconds(
    fleet: Fleet, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = fleet.daemon()
    daemon._turns.asked(0.0, answered=False)
    fleet.pass_time(turns.PATIENCE + 0.1)
    monkeypatch.setattr("tests.support.lock_service.ServiceLock.take", lambda self: Deferred())
    first = daemon.run(MV, fleet.work)
    fleet.pass_time(turns.TRY_LIMIT + 0.1)
    fleet.done()
    assert check.successResultOf(first) == MV
    assert fleet.waits == [("unlocked", pytest.approx(turns.TRY_LIMIT, abs=0.2))]


# -- slots


def slots_of(pool: Pool) -> Slots:
    return Slots(pool.slot, lambda: pool.in_flight >= pool.limit)


def test_a_daemon_that_is_busy_leaves_the_locks_to_others(fleet: Fleet) -> None:
    busy, idle = fleet.daemon(slots=slots_of(Pool(1, 100))), fleet.daemon()
    first = busy.run(MV, fleet.work)
    waiting = busy.run(OTHER, fleet.work)
    assert (fleet.service.holder(str(OTHER)), len(fleet.begun)) == (None, 1)
    other = idle.run(OTHER, fleet.work)
    assert len(fleet.begun) == 2
    fleet.done(1, OTHER)
    assert check.successResultOf(other) == OTHER
    fleet.pass_time(1.1)
    assert check.successResultOf(waiting) == OTHER, "it looks into the storage meanwhile"
    third = busy.run(OTHER, fleet.work)
    fleet.done(0)
    check.successResultOf(first)
    assert len(fleet.begun) == 3, "its turn has come"
    fleet.done(2, OTHER)
    check.successResultOf(third)


def test_who_waits_for_others_needs_no_slot(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    release = ServiceLock.release

    async def leave(lock: ServiceLock) -> None:
        left.append(lock._name)
        await release(lock)

    pool = Pool(1, 100)
    daemon, other = fleet.daemon(slots=slots_of(pool)), fleet.daemon()
    first = other.run(MV, fleet.work)
    second = daemon.run(MV, fleet.work)
    assert (pool.in_flight, pool.queued) == (0, 0)
    third = daemon.run(OTHER, fleet.work)
    assert (pool.in_flight, len(fleet.begun)) == (1, 2)
    monkeypatch.setattr(ServiceLock, "release", leave)
    fleet.begun[0].errback(NotFound("gone"))
    check.failureResultOf(first, NotFound)
    assert fleet.service.holder(str(MV)) is None, "it is too busy for it"
    assert left == [str(MV)] * 2, "the holder, and who waited: his place in the queue is worth nothing to him"
    fleet.done(1, OTHER)
    assert check.successResultOf(third) == OTHER
    assert fleet.service.holder(str(MV)) is not None
    fleet.done(2)
    assert check.successResultOf(second) == MV
    assert pool.in_flight == 0


@pytest.mark.parametrize("joins", [True, False])
def test_work_within_work_needs_no_slot_of_its_own(fleet: Fleet, joins: bool) -> None:
    pool = Pool(1, 100)
    daemon = fleet.daemon(slots=slots_of(pool))
    ready: Deferred[None] = Deferred()

    async def branch() -> ModuleVersion:
        await ready
        return await daemon.run(MV, fleet.work, nested=True)

    outer = daemon.run(BRANCH, branch)
    inner = daemon.run(MV, fleet.work) if joins else outer
    assert len(fleet.begun) == 0
    ready.callback(None)
    assert len(fleet.begun) == 1
    fleet.done()
    assert check.successResultOf(outer) == MV
    if joins:
        assert check.successResultOf(inner) == MV
    assert (pool.in_flight, pool.queued) == (0, 0)
    assert not fleet.service.holders


def test_too_many_for_the_slots_are_sent_away(fleet: Fleet) -> None:
    daemon = fleet.daemon(slots=slots_of(Pool(1, 0)))
    other = fleet.daemon().run(BRANCH, fleet.work)
    waited = daemon.run(BRANCH, fleet.work)
    first = daemon.run(MV, fleet.work)
    check.failureResultOf(daemon.run(OTHER, fleet.work), Overloaded)
    fleet.done(0, BRANCH)
    check.successResultOf(other)
    fleet.pass_time(3)
    check.assertNoResult(waited)  # it was here before
    fleet.done(1)
    check.successResultOf(first)
    fleet.pass_time(2.1)
    fleet.done(2, BRANCH)
    assert check.successResultOf(waited) == BRANCH


def test_the_wait_for_a_slot_ends_with_its_client_or_its_limit(fleet: Fleet) -> None:
    pool = Pool(1, 100)
    daemon = fleet.daemon(limit=30.0, slots=slots_of(pool))
    first = daemon.run(MV, fleet.work)
    leaver, stayer = daemon.run(OTHER, fleet.work), daemon.run(BRANCH, fleet.work)
    assert pool.queued == 2
    leaver.cancel()
    check.failureResultOf(leaver, CancelledError)
    assert pool.queued == 1
    fleet.pass_time(30.5)
    check.failureResultOf(stayer, Overloaded)
    assert pool.queued == 0
    fleet.done(0)
    check.successResultOf(first)
    assert pool.in_flight == 0


def test_a_stop_gives_up_who_waits_and_releases_what_is_held(fleet: Fleet) -> None:
    holder, waiter = fleet.daemon(), fleet.daemon()
    first, second = holder.run(MV, fleet.work), waiter.run(MV, fleet.work)
    check.successResultOf(waiter.stopService())
    check.failureResultOf(second, CancelledError)
    assert fleet.service.holder(str(MV)) is not None
    check.successResultOf(holder.stopService())
    check.failureResultOf(first, CancelledError)
    assert not fleet.service.holders
    assert not fleet.clock.getDelayedCalls()


def test_a_stop_does_not_wait_long_for_a_release(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = fleet.daemon()
    first = daemon.run(MV, fleet.work)
    never: Deferred[None] = Deferred()

    async def release(self: Any) -> None:
        await never

    monkeypatch.setattr("tests.support.lock_service.ServiceLock.release", release)
    stopped = daemon.stopService()
    check.failureResultOf(first, CancelledError)
    fleet.pass_time(locked.FAREWELL - 0.5)
    check.assertNoResult(stopped)
    fleet.pass_time(1)
    check.successResultOf(stopped)
    never.callback(None)


def test_a_service_that_is_away_at_the_start_is_an_error_of_the_settings(fleet: Fleet) -> None:
    fleet.service.away = True
    check.failureResultOf(fleet.daemon().ready, ConfigError)


def test_readiness_asks_the_service(fleet: Fleet) -> None:
    daemon = fleet.daemon()
    check.successResultOf(Deferred.fromCoroutine(daemon.check()))
    fleet.service.away = True
    check.successResultOf(Deferred.fromCoroutine(daemon.check()))  # one answer for all who ask within some seconds
    fleet.pass_time(locked.LOOKED_FOR)
    check.failureResultOf(Deferred.fromCoroutine(daemon.check()), LockUnavailable)
    check.failureResultOf(Deferred.fromCoroutine(daemon.check()), LockUnavailable)
    assert daemon.away


def test_many_who_ask_whether_it_works_are_one_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, looks, answer = fleet.daemon(), [], Deferred[None]()

    async def look(self: Any) -> None:
        looks.append(1)
        await answer

    monkeypatch.setattr("tests.support.lock_service.ServiceLocks.check", look)
    asking = [Deferred.fromCoroutine(daemon.check()) for _ in range(50)]
    asking[0].cancel()
    check.failureResultOf(asking[0], CancelledError)
    answer.callback(None)
    for one in asking[1:]:
        check.successResultOf(one)
    assert len(looks) == 1


def test_a_broken_lock_fails_its_flight_and_is_logged(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    daemon = fleet.daemon()
    first = daemon.run(MV, fleet.work)

    def broken(self: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    lock: Any = fleet.service.holder(str(MV))
    lock.renew = broken.__get__(lock)
    fleet.pass_time(11)
    lock.release = broken.__get__(lock)
    fleet.done()
    assert check.successResultOf(first) == MV
    critical = [event["log_format"] for event in logged if event["log_level"].name == "critical"]
    assert critical == ["the lock of {mv} is not renewed any more", "a flight broke"]
    logged.clear()


def test_hundreds_wait_while_the_service_goes_away(fleet: Fleet) -> None:
    """Each that fails at once gives its slot to the next, which fails at once."""
    pool = Pool(1, 2000)
    daemon = fleet.daemon(slots=slots_of(pool))
    versions = [ModuleVersion("example.com/a", f"v1.{number}.0") for number in range(300)]
    first = daemon.run(MV, fleet.work)
    wanted = [daemon.run(mv, stored(mv)) for mv in versions[1:]]
    fleet.service.away = True
    fleet.done()
    assert check.successResultOf(first) == MV
    fleet.pass_time(40)
    assert [check.successResultOf(each) for each in wanted] == versions[1:]
    assert (pool.in_flight, daemon.waiting) == (0, 0)


def stored(mv: ModuleVersion) -> Callable[[], Awaitable[ModuleVersion]]:
    async def work() -> ModuleVersion:
        return mv

    return work
