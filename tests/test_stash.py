"""One fetch for all who want a version; the small files early; all or nothing into storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import BadUpstream, Elsewhere, FetchFailed, FetchTimeout, NotFound, Refused, StorageUnavailable
from athens_tx.index.memory import MemoryIndex
from athens_tx.interfaces import FetchedVersion, VersionFiles
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.locked import LockedSingleFlight
from athens_tx.singleflight.memory import MemorySingleFlight
from athens_tx.stash import Stash, Stashed
from athens_tx.storage.body import BytesZip
from athens_tx.storage.memory import MemoryStorage
from tests.support.lock_service import LockService

MV = ModuleVersion("example.com/a", "v1.0.0")
BRANCH = ModuleVersion("example.com/a", "main")
INFO, MOD, ZIP = b'{"Version":"v1.0.0"}', b"module example.com/a\n", b"PK"

check = SynchronousTestCase()


class HeldFetcher:
    """Fetches when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[ModuleVersion, Callable[[VersionFiles], None], Deferred[FetchedVersion]]] = []
        self.discarded = 0

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        self.asked.append((mv, known, Deferred()))
        return await self.asked[-1][2]

    def know(self) -> None:
        self.asked[-1][1](VersionFiles(MV, INFO, MOD))

    def succeed(self, which: int = -1) -> None:
        async def discard() -> None:
            self.discarded += 1

        self.asked[which][2].callback(FetchedVersion(MV, INFO, MOD, Path("source.zip"), "go", discard))

    def fail(self, error: Exception) -> None:
        self.asked[-1][2].errback(error)


class World:
    """A stash over memory storage."""

    def __init__(self, storage: Any = None, single_flight: Any = None) -> None:
        self.clock, self.fetcher, self.index = Clock(), HeldFetcher(), MemoryIndex()
        self.storage = storage or MemoryStorage(1 << 20)
        self.metrics: list[tuple[str, str]] = []
        self.queued: set[str] = set()
        self.admitted: list[str | None] = []
        self.refusal: Exception | None = None
        self.stash = Stash(
            fetcher=self.fetcher,
            storage=self.storage,
            single_flight=single_flight or MemorySingleFlight(),
            index=self.index,
            clock=self.clock,
            admit=self.admit,
            zip_body=lambda fetched: BytesZip(ZIP),
            limit=5.0,
            is_queued=lambda subject: subject in self.queued,
            fetched=lambda kind, result, seconds: self.metrics.append((kind, result)),
        )

    async def admit(self, path: str, version: str | None) -> None:
        self.admitted.append(version)
        if self.refusal is not None:
            raise self.refusal

    def files(self, mv: ModuleVersion = MV) -> Deferred[Stashed]:
        return Deferred.fromCoroutine(self.stash.files(mv))

    def whole(self, mv: ModuleVersion = MV) -> Deferred[Stashed]:
        return Deferred.fromCoroutine(self.stash.whole(mv))

    def stored(self, mv: ModuleVersion = MV) -> bool:
        return check.successResultOf(Deferred.fromCoroutine(self.storage.exists(mv)))

    def indexed(self) -> list[str]:
        async def read() -> list[str]:
            return [line.version async for page in self.index.lines(None, 9) for line in page]

        return check.successResultOf(Deferred.fromCoroutine(read()))


@pytest.fixture
def world() -> World:
    return World()


def test_two_hundred_at_once_are_one_fetch(world: World) -> None:
    waiting = [world.whole() if number % 2 else world.files() for number in range(200)]
    assert len(world.fetcher.asked) == 1
    world.fetcher.succeed()
    assert {check.successResultOf(one).files.info for one in waiting} == {INFO}
    assert world.stored()
    assert (world.indexed(), world.fetcher.discarded, world.stash.under_way) == (["v1.0.0"], 1, 0)
    assert world.metrics == [("go", "success")]


def test_the_small_files_are_given_before_the_zip_is_there(world: World) -> None:
    files, whole = world.files(), world.whole()
    world.fetcher.know()
    assert check.successResultOf(files).files.mod == MOD
    assert check.successResultOf(world.files()).files.info == INFO
    check.assertNoResult(whole)
    assert not world.stored()
    world.fetcher.succeed()
    assert check.successResultOf(whole).source == "upstream"


def test_a_zip_that_turns_out_bad_stores_nothing_though_the_small_files_were_given(world: World) -> None:
    files, whole = world.files(), world.whole()
    world.fetcher.know()
    world.fetcher.fail(BadUpstream("cut"))
    check.successResultOf(files)
    check.failureResultOf(whole, BadUpstream)
    assert not world.stored()
    assert world.metrics == [("unknown", "BadUpstream")]


def test_a_failed_fetch_counts_for_the_one_who_was_asked(world: World) -> None:
    asked, error = world.files(), NotFound("gone")
    error.origin = "go"
    world.fetcher.fail(error)
    check.failureResultOf(asked, NotFound)
    assert world.metrics == [("go", "NotFound")]


def test_a_branch_is_stored_under_its_canonical_version_only(world: World) -> None:
    whole = world.whole(BRANCH)
    world.fetcher.succeed()
    assert check.successResultOf(whole).files.mv == MV
    assert world.stored()
    assert not world.stored(BRANCH)


@pytest.mark.parametrize("refusal", [Refused("the filter excludes it"), Elsewhere("https://up", 303)])
def test_what_a_branch_means_is_stored_only_if_it_is_admitted(world: World, refusal: Exception) -> None:
    world.refusal = refusal
    whole = world.whole(BRANCH)
    world.fetcher.succeed()
    check.failureResultOf(whole, type(refusal))
    assert (world.stored(), world.indexed(), world.fetcher.discarded) == (False, [], 1)
    assert world.admitted == ["v1.0.0"]
    as_requested = world.whole()
    world.fetcher.succeed()
    check.successResultOf(as_requested)  # whoever asked for the version itself was admitted before
    assert world.admitted == ["v1.0.0"]


def test_who_learns_what_a_branch_means_does_not_fetch_that_version_again(world: World) -> None:
    branch = world.files(BRANCH)
    world.fetcher.know()
    version = world.whole(check.successResultOf(branch).files.mv)
    assert (len(world.fetcher.asked), world.stash.under_way) == (1, 1)
    world.fetcher.succeed()
    assert check.successResultOf(version).files.info == INFO
    assert (world.stored(), world.stash.under_way) == (True, 0)


def test_a_branch_and_its_version_at_once_are_saved_once(world: World) -> None:
    branch, version = world.whole(BRANCH), world.whole()
    world.fetcher.succeed(0)
    check.assertNoResult(branch)  # it waits for the one who is at work on the version itself
    world.fetcher.succeed(1)
    check.successResultOf(branch)
    check.successResultOf(version)
    assert (world.indexed(), world.fetcher.discarded) == (["v1.0.0"], 2)


def test_what_another_process_stored_meanwhile_is_not_fetched(world: World) -> None:
    check.successResultOf(Deferred.fromCoroutine(world.storage.save(MV, INFO, MOD, BytesZip(ZIP))))
    assert check.successResultOf(world.whole()).source == "storage"
    assert world.fetcher.asked == []


def test_a_branch_whose_version_is_stored_saves_nothing(world: World) -> None:
    check.successResultOf(Deferred.fromCoroutine(world.storage.save(MV, INFO, MOD, BytesZip(ZIP))))
    whole = world.whole(BRANCH)
    world.fetcher.succeed()
    assert check.successResultOf(whole).files.mv == MV
    assert world.indexed() == []


def test_who_leaves_lets_the_fetch_go_on(world: World) -> None:
    leaver = world.whole()
    leaver.cancel()
    check.failureResultOf(leaver, CancelledError)
    world.fetcher.succeed()
    assert world.stored()


def test_a_passing_failure_is_tried_once_more_by_those_who_only_waited(world: World) -> None:
    first, second = world.whole(), world.whole()
    world.fetcher.fail(FetchTimeout("slow"))
    check.failureResultOf(first, FetchTimeout)
    assert len(world.fetcher.asked) == 2
    world.fetcher.fail(FetchTimeout("slow"))
    check.failureResultOf(second, FetchTimeout)
    assert len(world.fetcher.asked) == 2


def test_not_found_is_everybodys_answer(world: World) -> None:
    waiting = [world.whole(), world.files()]
    world.fetcher.fail(NotFound("no"))
    for one in waiting:
        check.failureResultOf(one, NotFound)
    assert len(world.fetcher.asked) == 1


def test_an_error_of_the_program_is_logged_and_is_no_answer(world: World, logged: list[dict[str, Any]]) -> None:
    whole = world.whole()
    world.fetcher.fail(ZeroDivisionError("secret detail"))
    assert "secret" not in str(check.failureResultOf(whole, FetchFailed).value)
    assert logged.pop()["log_failure"].check(ZeroDivisionError)
    logged.clear()
    world.whole()
    assert len(world.fetcher.asked) == 2


def test_a_flight_that_breaks_leaves_nobody_waiting(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.stash, "_report", None)
    files, whole = world.files(), world.whole()
    world.fetcher.fail(NotFound("no such version"))
    for waiter in (files, whole):
        assert "internal error" in str(check.failureResultOf(waiter, FetchFailed).value)
    assert any("broke" in event["log_format"] for event in logged)
    logged.clear()


def test_in_the_background_a_failure_is_only_logged(world: World, logged: list[dict[str, Any]]) -> None:
    world.stash.start(MV)
    world.fetcher.fail(FetchFailed("broken", detail="why"))
    assert any(event.get("detail") == "why" for event in logged)


class HangingStorage(MemoryStorage):
    """Never finishes a save."""

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: Any) -> None:
        await Deferred()


def test_a_save_that_hangs_is_given_up(logged: list[dict[str, Any]]) -> None:
    world = World(HangingStorage(1 << 20))
    whole = world.whole()
    world.fetcher.succeed()
    world.clock.advance(5.0)
    assert check.failureResultOf(whole, StorageUnavailable).value.retry_after == 30
    assert world.fetcher.discarded == 1


class NotingIndex(MemoryIndex):
    def __init__(self, storage: Any) -> None:
        super().__init__()
        self.storage, self.noted = storage, []

    async def begin(self, mv: ModuleVersion) -> None:
        self.noted.append(("begin", mv, await self.storage.exists(mv)))

    async def add(self, mv: ModuleVersion) -> None:
        self.noted.append(("add", mv, await self.storage.exists(mv)))


def test_the_index_knows_of_a_save_before_it_begins(world: World) -> None:
    """Or a process that is killed in between would leave a version without its line."""
    index = world.stash._index = NotingIndex(world.storage)
    whole = world.whole()
    world.fetcher.succeed()
    check.successResultOf(whole)
    assert index.noted == [("begin", MV, False), ("add", MV, True)]


class BrokenIndex(MemoryIndex):
    async def add(self, mv: ModuleVersion) -> None:
        raise StorageUnavailable("the index is down")


def test_an_index_that_is_down_fails_nobody(world: World, logged: list[dict[str, Any]]) -> None:
    world.stash._index = BrokenIndex()
    whole = world.whole()
    world.fetcher.succeed()
    check.successResultOf(whole)
    assert any("the index is down" in str(event.get("reason")) for event in logged)


def test_draining_waits_and_cancelling_ends_the_fetch(world: World) -> None:
    whole = world.whole()
    draining = Deferred.fromCoroutine(world.stash.drain())
    check.assertNoResult(draining)
    world.stash.cancel()
    check.successResultOf(draining)
    assert "given up" in str(check.failureResultOf(whole, FetchFailed).value)
    assert world.stash.under_way == 0


def test_a_fetch_that_nobody_waits_for_any_more_leaves_the_queue(world: World) -> None:
    world.queued.add(str(MV))
    first, second = world.whole(), world.files()
    first.cancel()
    check.failureResultOf(first, CancelledError)
    assert world.stash.under_way == 1
    second.cancel()
    check.failureResultOf(second, CancelledError)
    assert world.stash.under_way == 0
    again = world.whole()
    world.fetcher.succeed()
    check.successResultOf(again)
    assert len(world.fetcher.asked) == 2


def test_what_is_fetched_in_the_background_keeps_its_place_in_the_queue(world: World) -> None:
    world.queued.add(str(MV))
    world.stash.start(MV)
    waiter = world.whole()
    waiter.cancel()
    check.failureResultOf(waiter, CancelledError)
    assert world.stash.under_way == 1
    world.fetcher.succeed()
    assert world.stored()


class Shared(World):
    """A stash whose locks another daemon may hold."""

    def __init__(self) -> None:
        clock = Clock()
        self.service = LockService(clock)
        self.other = self.service.daemon().lock(str(MV))
        self.flight = LockedSingleFlight(clock, self.service.daemon(), exists=self.exists, limit=600.0)
        self.looks = 0
        super().__init__(single_flight=self.flight)

    async def exists(self, mv: ModuleVersion) -> bool:
        self.looks += 1
        return await self.storage.exists(mv)

    def held_elsewhere(self) -> None:
        assert check.successResultOf(Deferred.fromCoroutine(self.other.take()))

    def free(self) -> None:
        check.successResultOf(Deferred.fromCoroutine(self.other.release()))


def test_a_lock_is_waited_for_only_as_long_as_somebody_waits_for_the_version() -> None:
    world = Shared()
    world.held_elsewhere()
    waiting = [world.whole(), world.files()]
    for left, waiter in enumerate(waiting):
        assert world.flight.waiting == 1
        waiter.cancel()
        check.failureResultOf(waiter, CancelledError)
        assert world.stash.under_way == 1 - left
    assert world.flight.waiting == 0
    check.successResultOf(Deferred.fromCoroutine(world.stash.drain()))
    assert not world.clock.getDelayedCalls()
    assert world.fetcher.asked == []


def test_what_is_fetched_in_the_background_goes_on_waiting_for_its_lock() -> None:
    world = Shared()
    world.held_elsewhere()
    world.stash.start(MV)
    waiter = world.whole()
    waiter.cancel()
    check.failureResultOf(waiter, CancelledError)
    assert world.stash.under_way == 1
    world.free()
    world.fetcher.succeed()
    assert world.stored()


def test_cancelling_ends_the_wait_for_a_lock() -> None:
    world = Shared()
    world.held_elsewhere()
    whole = world.whole()
    world.stash.cancel()
    assert "given up" in str(check.failureResultOf(whole, FetchFailed).value)
    assert (world.stash.under_way, world.flight.waiting) == (0, 0)


def test_what_was_stored_just_before_the_lock_was_had_is_not_fetched() -> None:
    world = Shared()
    world.held_elsewhere()
    whole = world.whole()
    check.successResultOf(Deferred.fromCoroutine(world.storage.save(MV, INFO, MOD, BytesZip(ZIP))))
    world.free()
    world.clock.pump([0.1] * 20)
    assert check.successResultOf(whole).source == "storage"
    assert world.fetcher.asked == []


class CountingStorage(MemoryStorage):
    """Counts how often it is asked whether it has a version."""

    looks = 0

    async def exists(self, mv: ModuleVersion) -> bool:
        self.looks += 1
        return await super().exists(mv)


def test_the_storage_is_asked_once_for_a_version_that_is_fetched() -> None:
    world = Shared()
    world.storage = world.stash._storage = CountingStorage(1 << 20)
    whole = world.whole()
    world.fetcher.succeed()
    check.successResultOf(whole)
    assert world.storage.looks == 1


@pytest.mark.parametrize("make", [World, Shared])
def test_a_branch_is_saved_though_the_flight_of_its_version_is_given_up(make: Any) -> None:
    world = make()
    world.queued.add(str(MV))
    version, branch = world.whole(), world.whole(BRANCH)
    world.fetcher.succeed(1)
    check.assertNoResult(branch)
    version.cancel()
    check.failureResultOf(version, CancelledError)
    assert check.successResultOf(branch).files.mv == MV
    assert world.stored()
    assert world.indexed() == ["v1.0.0"]
    assert world.stash.under_way == 0


def test_a_branch_is_saved_though_its_version_could_not_be_fetched(world: World) -> None:
    version, branch = world.whole(), world.whole(BRANCH)
    world.fetcher.succeed(1)
    world.fetcher.asked[0][2].errback(BadUpstream("cut"))
    check.failureResultOf(version, BadUpstream)
    check.successResultOf(branch)
    assert world.stored()


class RefusingStorage(MemoryStorage):
    """Takes nothing."""

    saves = 0

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: Any) -> None:
        self.saves += 1
        raise StorageUnavailable("full")


def test_a_branch_that_can_not_be_saved_is_not_saved_again() -> None:
    world = World(RefusingStorage(1 << 20))
    branch = world.whole(BRANCH)
    world.fetcher.succeed()
    check.failureResultOf(branch, StorageUnavailable)
    assert world.storage.saves == 1
