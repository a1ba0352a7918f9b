"""What is copied, what is tried again, what is told, and when it is enough."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.copying import copier as copier_module
from athens_tx.copying.copier import ROW, Copier, Stopped, Tally
from athens_tx.errors import (
    AlreadyStored,
    AthensError,
    BadUpstream,
    InvalidRequest,
    NotFound,
    NotSupported,
    StorageUnavailable,
)
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import each
from athens_tx.storage.body import BytesZip
from tests.copying.stores import Troubled, files, fill, versions

reactor: Any = _reactor
check = SynchronousTestCase()


class World:
    """Two stores and a copier between them, on a clock."""

    def __init__(self, count: int = 0, **wishes: Any) -> None:
        self.clock, self.source, self.target = Clock(), Troubled(), Troubled()
        self.wanted = versions(count)
        check.successResultOf(Deferred.fromCoroutine(fill(self.source, self.wanted)))
        self.source.calls.clear()
        self.told: list[tuple[ModuleVersion, AthensError]] = []
        self.copier = Copier(
            wishes.pop("reactor", self.clock),
            self.source,
            self.target,
            failed=lambda mv, error: self.told.append((mv, error)),
            **wishes,
        )

    def run(self, parallel: int = 3) -> Deferred[None]:
        copier = self.copier
        return Deferred.fromCoroutine(
            each(copier.versions(), copier.copy, "copying", quiet=True, parallel=parallel, stopping=copier.stop)
        )

    def patiently(self, running: Deferred[None]) -> Deferred[None]:
        """Let the time go by until it ends."""
        for _ in range(200):
            if running.called:
                break
            self.clock.advance(5)
        return running

    def there(self) -> list[ModuleVersion]:
        page, _ = check.successResultOf(Deferred.fromCoroutine(super(Troubled, self.target).catalog("", 10_000)))
        return list(page)


def size(*wanted: ModuleVersion) -> int:
    return sum(len(part) for mv in wanted for part in files(mv))


def test_all_is_copied_and_counted() -> None:
    world = World(10)
    check.successResultOf(world.run())
    assert world.there() == world.wanted
    assert world.copier.tally == Tally(copied=10, there=0, failed=0, bytes=size(*world.wanted))
    for read in ("info", "mod", "zip"):
        for mv in world.wanted:
            found, expected = (
                check.successResultOf(Deferred.fromCoroutine(getattr(store, read)(mv)))
                for store in (world.target, world.source)
            )
            assert getattr(found, "_data", found) == getattr(expected, "_data", expected)


def test_what_is_there_is_not_read_again() -> None:
    world = World(5)
    check.successResultOf(Deferred.fromCoroutine(fill(world.target, world.wanted[:3])))
    check.successResultOf(world.run())
    assert (world.copier.tally.there, world.copier.tally.copied) == (3, 2)
    assert world.source.calls.count("zip") == 2


def test_a_walk_goes_from_page_to_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier_module, "PAGE", 2)
    world = World(5)
    check.successResultOf(world.run())
    assert world.there() == world.wanted
    assert world.source.calls.count("catalog") == 3


def test_a_dry_run_only_looks() -> None:
    world = World(5, dry_run=True)
    check.successResultOf(Deferred.fromCoroutine(fill(world.target, world.wanted[:3])))
    world.target.calls.clear()
    check.successResultOf(world.run())
    assert world.copier.tally == Tally(copied=2, there=3)
    assert set(world.source.calls) == {"catalog"}
    assert set(world.target.calls) == {"exists"}


DOWN = StorageUnavailable("disk is on fire", detail="sda")


@pytest.mark.parametrize("operation", ["exists", "info", "mod", "zip", "body", "save", "catalog"])
def test_a_store_in_trouble_is_asked_again(operation: str) -> None:
    world = World(2)
    side = world.target if operation in ("exists", "save") else world.source
    side.troubles[operation] = [DOWN, DOWN, DOWN]
    running = world.run(1)
    for wait in (0.7, 0.6, 2.2, 2.0):  # pauses of a second, then three, give or take a quarter
        assert not running.called
        world.clock.advance(wait)
    assert not running.called
    check.successResultOf(world.patiently(running))
    assert world.there() == world.wanted
    assert world.told == []


def test_a_store_that_says_how_long_to_wait_is_not_asked_earlier() -> None:
    world = World(1)
    world.target.troubles["exists"] = [StorageUnavailable("slow down", retry_after=30)]
    running = world.run()
    world.clock.advance(29.9)
    assert not running.called
    world.clock.advance(0.1)
    check.successResultOf(running)
    world = World(1)
    world.target.troubles["exists"] = [StorageUnavailable("come back tomorrow", retry_after=86400)]
    running = world.run()
    world.clock.advance(60)
    check.successResultOf(running)


@pytest.mark.parametrize(
    ("operation", "error", "says"),
    [
        ("info", NotFound("gone"), "FROM: gone"),
        ("zip", NotFound("gone"), "FROM: gone"),
        ("body", NotFound("deleted meanwhile"), "FROM: deleted meanwhile"),
        ("body", BadUpstream("short"), "FROM: short"),
        ("exists", BadUpstream("nonsense"), "TO: nonsense"),
        ("save", BadUpstream("refused"), "TO: refused"),
        ("save", DOWN, "TO: disk is on fire"),
        ("body", DOWN, "FROM: disk is on fire"),
    ],
)
def test_one_that_fails_is_told_and_the_rest_goes_on(operation: str, error: AthensError, says: str) -> None:
    world = World(4)
    side = world.target if operation in ("exists", "save") else world.source
    tries = 4 if isinstance(error, StorageUnavailable) else 1
    side.troubles[operation] = [None, *[error] * tries]
    check.successResultOf(world.patiently(world.run(1)))
    [(mv, told)] = world.told
    assert (mv, str(told), told.detail, type(told)) == (world.wanted[1], says, error.detail, type(error))
    assert world.there() == [world.wanted[0], *world.wanted[2:]]
    assert (world.copier.tally.copied, world.copier.tally.failed) == (3, 1)


def test_what_somebody_else_has_just_stored_is_there() -> None:
    world = World(1)
    world.target.troubles["save"] = [AlreadyStored("no")]
    check.successResultOf(world.run())
    assert world.copier.tally == Tally(there=1)


def test_after_so_many_failures_in_a_row_it_is_enough() -> None:
    world = World(100)
    world.target.always["save"] = DOWN
    stopped = check.failureResultOf(world.patiently(world.run(8)), Stopped).value
    assert f"{ROW} versions failed" in str(stopped)
    assert "TO: disk is on fire" in str(stopped)
    assert len(world.told) == world.copier.tally.failed == ROW
    assert not world.clock.getDelayedCalls()


def test_one_success_begins_the_row_anew_and_broken_versions_are_no_row() -> None:
    world = World(2 * ROW)
    world.target.troubles["save"] = [*[DOWN] * (4 * (ROW - 1)), None, *[DOWN] * (4 * (ROW - 1))]
    check.successResultOf(world.patiently(world.run(1)))
    assert (world.copier.tally.failed, world.copier.tally.copied) == (2 * ROW - 2, 2)
    world = World(2 * ROW)
    world.source.always["zip"] = NotFound("gone")
    check.successResultOf(world.run())
    assert world.copier.tally.failed == 2 * ROW


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NotSupported("external storage has no catalog"), "FROM: external storage has no catalog: what is in it"),
        (InvalidRequest("bad token"), "FROM: bad token"),
        (DOWN, "FROM: disk is on fire"),
    ],
)
def test_a_walk_that_can_not_go_on_stops_it(error: AthensError, says: str) -> None:
    world = World(3)
    world.source.always["catalog"] = error
    stopped = check.failureResultOf(world.patiently(world.run()), Stopped).value
    assert str(stopped).startswith(says)
    assert stopped.detail == error.detail or isinstance(error, NotSupported)


def test_a_walk_in_circles_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(3)

    async def catalog(token: str, limit: int) -> Any:
        return [], "a" if token != "a" else "b"

    monkeypatch.setattr(world.source, "catalog", catalog)
    stopped = check.failureResultOf(world.patiently(world.run()), Stopped).value
    assert str(stopped) == "FROM: the catalog goes round in circles: a token came twice"


@pytest.mark.parametrize("held", ["catalog", "exists", "save"])
def test_who_cancels_it_waits_for_all_and_leaves_nothing(held: str) -> None:
    world = World(5)
    for side in (world.source, world.target):
        side.held[held] = Deferred
    running = world.run()
    running.cancel()
    check.failureResultOf(running, CancelledError)
    assert world.there() == []
    assert world.told == []


def test_a_store_that_takes_the_cancelling_for_trouble_is_not_asked_again() -> None:
    world = World(5)

    class Translating(Deferred[None]):
        def cancel(self) -> None:
            self.errback(DOWN)

    world.target.held["exists"] = Translating
    running = world.run(1)
    running.cancel()
    check.failureResultOf(running, CancelledError)
    assert not world.clock.getDelayedCalls()
    assert world.told == []


# -- with --verify


async def verified(world: World) -> None:
    await world.run()


@pytest_twisted.ensureDeferred
async def test_with_verify_all_is_read_back_and_what_was_there_too() -> None:
    world = World(4, reactor=reactor, verify=True)
    await fill(world.target, world.wanted[:2])
    await verified(world)
    assert world.told == []
    assert world.there() == world.wanted
    assert world.copier.tally == Tally(copied=2, there=2, bytes=size(*world.wanted[2:]))
    assert (world.source.calls.count("zip"), world.target.calls.count("zip")) == (4, 4)


@pytest_twisted.ensureDeferred
async def test_with_verify_what_is_broken_is_not_copied() -> None:
    world = World(2, reactor=reactor, verify=True)
    broken = ModuleVersion("example.com/broken", "v1.0.0")
    await world.source.save(broken, b'{"Version":"v1.0.0"}', b"module example.com/broken\n", BytesZip(b"PK nonsense"))
    await verified(world)
    [(mv, error)] = world.told
    assert (mv, str(error).startswith("FROM: ")) == (broken, True)
    assert world.there() == world.wanted


@pytest_twisted.ensureDeferred
async def test_with_verify_another_zip_there_is_told() -> None:
    world = World(2, reactor=reactor, verify=True)
    await fill(world.target, world.wanted[:1], b"// another one\n")
    await verified(world)
    [(mv, error)] = world.told
    assert (mv, str(error).startswith("TO: the zip there has h1:")) == (world.wanted[0], True)
    assert world.copier.tally.copied == 1


@pytest_twisted.ensureDeferred
async def test_with_verify_a_store_that_garbles_is_found_out() -> None:
    class Garbling(Troubled):
        async def info(self, mv: ModuleVersion) -> bytes:
            return b" " + await super().info(mv)

    world = World(1, reactor=reactor, verify=True)
    world.target.__class__ = Garbling
    await verified(world)
    [(_, error)] = world.told
    assert str(error) == "TO: the .info or the go.mod there is not the one of FROM"
    assert world.copier.tally == Tally(failed=1)
