"""Where lines go when the disk of the journal is in trouble too."""

from __future__ import annotations

import errno
import gc
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from athens_tx.errors import IndexUnavailable
from athens_tx.index import journaled, keeper
from athens_tx.index.journal import Batch, JournalFull
from athens_tx.index.journaled import JournaledIndex
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion as MV
from tests.index.conftest import until

reactor: Any = _reactor


class FakeTable:
    """A database that takes everything, or nothing."""

    name = "fake"

    def __init__(self) -> None:
        self.written: list[str] = []
        self.away = False
        self.closed = False

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    async def write(self, lines: Sequence[IndexLine]) -> Sequence[IndexLine]:
        if self.away:
            raise IndexUnavailable("fake: away")
        self.written += [line.version for line in lines]
        return []


class FakeJournal:
    """A journal on a disk that does what it is told."""

    def __init__(self) -> None:
        self.lines: list[IndexLine] = []
        self.failure: Exception | None = None
        self.hold: threading.Event | None = None
        self.appends = 0
        self.adopted = 0

    @property
    def waiting(self) -> int:
        return len(self.lines)

    @property
    def oldest(self) -> datetime | None:
        return self.lines[0].time if self.lines else None

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def adopt(self) -> None:
        self.adopted += 1

    def try_disk(self) -> None:
        if self.hold is not None:
            self.hold.wait(20)
        if self.failure is not None:
            raise self.failure

    def begin(self, versions: Mapping[MV, float]) -> None:
        if self.hold is not None:
            self.hold.wait(20)
        if self.failure is not None:
            raise self.failure

    def append(self, lines: Sequence[IndexLine]) -> None:
        if self.hold is not None:
            self.hold.wait(20)
        self.appends += 1
        if self.failure is not None:
            raise self.failure
        self.lines += lines

    def read(self, limit: int) -> Batch:
        return Batch(list(self.lines[:limit]), 0, len(self.lines[:limit]))

    def advance(self, batch: Batch) -> None:
        del self.lines[: batch.count]


class World:
    def __init__(self) -> None:
        self.table, self.journal = FakeTable(), FakeJournal()
        table: Any = self.table
        journal: Any = self.journal
        self.index = JournaledIndex(reactor, table, journal, now=lambda: datetime.now(UTC), chance=lambda: 0.0)

    async def start(self) -> None:
        self.index.startService()
        await self.index.ready

    async def add(self, *numbers: int) -> None:
        for number in numbers:
            await self.index.add(MV("example.com/a", f"v{number}"))


@pytest_twisted.async_yield_fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(journaled, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(journaled, "LONGEST_PAUSE", 0.05)
    made = World()
    await made.start()
    yield made
    if made.index.running:
        await made.index.stopService()
    assert made.table.closed


def errors(logged: list[dict[str, Any]]) -> list[str]:
    return [event["log_format"] for event in logged if event["log_level"].name == "error"]


@pytest_twisted.ensureDeferred
async def test_a_disk_that_takes_nothing_loses_nothing(world: World, logged: list[dict[str, Any]]) -> None:
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.add(1, 2)
    await until(lambda: world.table.written == ["v1", "v2"])
    with pytest.raises(IndexUnavailable, match="No space left"):
        await world.index.check()
    world.journal.failure = None
    await world.add(3)
    await world.index.check()
    await until(lambda: world.table.written == ["v1", "v2", "v3"])
    assert len(errors(logged)) == 1


@pytest_twisted.ensureDeferred
async def test_lines_in_memory_come_before_the_others_and_have_a_bound(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MOST_IN_MEMORY", 2)
    world.table.away = True
    world.journal.failure = OSError(errno.EIO, "Input/output error")
    await world.add(1, 2)
    with pytest.raises(IndexUnavailable, match="line is lost: Input/output"):
        await world.add(3)
    assert (world.index.lost, world.index.lag_lines()) == (1, 2)
    assert world.index.lag_seconds() > 0
    world.table.away = False
    await until(lambda: world.table.written == ["v1", "v2"])


@pytest_twisted.ensureDeferred
async def test_a_full_journal_is_a_loud_error(world: World, logged: list[dict[str, Any]]) -> None:
    world.journal.failure = JournalFull("77 lines wait")
    with pytest.raises(IndexUnavailable, match="the journal is full") as caught:
        await world.add(1)
    assert "athens-tx index rebuild" in caught.value.detail
    with pytest.raises(IndexUnavailable, match="77 lines wait"):
        await world.index.check()
    assert world.index.lost == 1
    assert len(errors(logged)) == 1


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_holds_nobody_up_for_long(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "DISK_LIMIT", 0.1)
    world.journal.hold = threading.Event()
    before = reactor.seconds()
    await world.add(1, 2)
    assert reactor.seconds() - before < 2
    with pytest.raises(IndexUnavailable, match="did not answer"):
        await world.index.check()
    world.journal.hold.set()
    await until(lambda: world.table.written == ["v1", "v2"])
    await world.index.check()


@pytest_twisted.ensureDeferred
async def test_those_that_arrive_together_share_one_look_at_the_disk(world: World) -> None:
    adds = [Deferred.fromCoroutine(world.index.add(MV("example.com/a", f"v{number}"))) for number in range(500)]
    await DeferredList(adds)
    assert world.journal.appends <= 3
    await until(lambda: len(world.table.written) == 500)


@pytest_twisted.ensureDeferred
async def test_what_only_memory_has_is_told_when_it_is_lost(world: World, logged: list[dict[str, Any]]) -> None:
    world.table.away = True
    world.journal.failure = OSError(errno.EIO, "Input/output error")
    await world.add(1)
    await until(lambda: world.index.trouble)
    await world.index.stopService()
    assert "{count} lines of the index are lost: {reason}" in errors(logged)
    with pytest.raises(IndexUnavailable, match="closed"):
        await world.add(2)


@pytest_twisted.ensureDeferred
async def test_what_memory_has_goes_to_the_disk_with_the_next_line(world: World, logged: list[dict[str, Any]]) -> None:
    world.table.away = True
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.add(1, 2)
    world.journal.failure = None
    await world.add(3)
    assert [line.version for line in world.journal.lines] == ["v1", "v2", "v3"]
    await world.index.check()
    assert world.index.lag_lines() == 3


@pytest_twisted.ensureDeferred
async def test_what_memory_has_goes_to_the_disk_once(world: World, logged: list[dict[str, Any]]) -> None:
    world.table.away = True
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.add(1, 2)
    world.journal.failure = None
    kept = world.index._keeper
    await gatherResults([Deferred.fromCoroutine(one) for one in (kept.look(), world.add(3), kept.look())])
    assert sorted(line.version for line in world.journal.lines) == ["v1", "v2", "v3"]


@pytest_twisted.ensureDeferred
async def test_what_memory_has_goes_to_the_disk_without_another_line(
    world: World, logged: list[dict[str, Any]]
) -> None:
    world.table.away = True
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.add(1, 2)
    world.journal.failure = None
    await until(lambda: len(world.journal.lines) == 2)
    await until(lambda: not world.index._keeper.problem)
    await world.index.check()


@pytest_twisted.ensureDeferred
async def test_what_memory_has_goes_to_the_disk_at_the_end(world: World, logged: list[dict[str, Any]]) -> None:
    world.table.away = True
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.add(1, 2)
    world.journal.failure = None
    stopped = world.index.stopService()
    await stopped
    assert [line.version for line in world.journal.lines] == ["v1", "v2"]
    assert world.index.lost == 0


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_what_is_being_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.table.away = True
    world.journal.hold = threading.Event()
    adding = [Deferred.fromCoroutine(world.index.add(MV("example.com/a", f"v{number}"))) for number in range(3)]
    monkeypatch.setattr(journaled, "END_LIMIT", 0.05)
    stopping = world.index.stopService()
    reactor.callLater(0.2, world.journal.hold.set)
    await stopping
    await DeferredList(adding)
    assert [line.version for line in world.journal.lines] == ["v0", "v1", "v2"]
    assert world.index.lost == 0


@pytest_twisted.ensureDeferred
async def test_a_disk_that_recovers_is_noticed_without_a_line(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not ready gets no requests, and so no lines."""
    monkeypatch.setattr(journaled, "LOOK_EVERY", 0.05)
    world.journal.failure = OSError(errno.EIO, "Input/output error")
    await world.add(1)
    await until(lambda: world.table.written == ["v1"])
    with pytest.raises(IndexUnavailable):
        await world.index.check()
    world.journal.failure = None
    await until(lambda: not world.index._keeper.problem)
    await world.index.check()


@pytest_twisted.ensureDeferred
async def test_a_full_journal_that_fails_late_is_no_unhandled_error(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "DISK_LIMIT", 0.05)
    world.journal.hold = threading.Event()
    world.journal.failure = JournalFull("77 lines wait")
    await world.add(1)
    world.journal.hold.set()
    await until(lambda: world.index.lost == 1)
    gc.collect()
    assert [event for event in logged if event["log_level"].name == "critical"] == []


@pytest_twisted.ensureDeferred
async def test_a_save_begins_although_the_disk_is_in_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    world.journal.failure = OSError(errno.ENOSPC, "No space left on device")
    await world.index.begin(MV("example.com/a", "v1"))
    monkeypatch.setattr(keeper, "DISK_LIMIT", 0.05)
    world.journal.hold = threading.Event()
    await world.index.begin(MV("example.com/a", "v2"))
    world.journal.hold.set()
    assert errors(logged) == []


@pytest_twisted.ensureDeferred
async def test_an_error_that_nobody_foresaw_does_not_end_the_writing(
    world: World, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = world.table.write

    async def broken(lines: Sequence[IndexLine]) -> Sequence[IndexLine]:
        monkeypatch.setattr(world.table, "write", write)
        raise ZeroDivisionError

    monkeypatch.setattr(world.table, "write", broken)
    world.journal.failure = ZeroDivisionError()
    await world.add(1)
    world.journal.failure = None
    await until(lambda: world.table.written == ["v1"])
    assert len([event for event in logged if event["log_level"].name == "critical"]) == 2
    logged.clear()
