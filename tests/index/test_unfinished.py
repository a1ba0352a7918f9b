"""A save of which no line came, because its process is gone or the storage was late: it gets one, if it is stored."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from athens_tx.errors import StorageUnavailable
from athens_tx.index import unfinished
from athens_tx.index.intents import Intents, read
from athens_tx.index.journal import Journal
from athens_tx.index.journaled import JournaledIndex
from athens_tx.module.version import ModuleVersion as MV
from tests.index.conftest import until
from tests.index.test_keeper import FakeTable

reactor: Any = _reactor
MVS = [MV("example.com/a", f"v1.{number}.0") for number in range(20)]


class World:
    """An index over a folder, and a storage that knows some versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = FakeTable()
        self.stored: set[MV] = set()
        self.failure: Exception | None = None
        self.asked: list[MV] = []
        self.indexes: list[JournaledIndex] = []

    async def exists(self, mv: MV) -> bool:
        self.asked.append(mv)
        if self.failure is not None:
            raise self.failure
        return mv in self.stored

    async def start(self, limit: float = 0.0) -> JournaledIndex:
        table: Any = self.table
        index = JournaledIndex(reactor, table, Journal(self.folder))
        self.indexes.append(index)
        index.startService()
        await index.ready
        index.watch(self.exists, limit)
        return index

    def leave(self, *versions: MV, stored: bool = True) -> None:
        """Do as a process that is killed in the middle of saves."""
        journal = Journal(self.folder)
        journal.open()
        journal.begin(dict.fromkeys(versions, 0.0))
        journal.close()
        if stored:
            self.stored.update(versions)

    def open(self) -> int:
        return sum(len(read(path)) for path in self.folder.rglob("intents"))


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(unfinished, "EVERY", 0.05)
    monkeypatch.setattr(unfinished, "GRACE", 0.0)
    made = World(tmp_path)
    yield made
    for index in made.indexes:
        await index.stopService()


@pytest_twisted.ensureDeferred
async def test_what_a_dead_process_had_stored_gets_its_line(world: World) -> None:
    world.leave(*MVS[:5])
    await world.start()
    await until(lambda: sorted(world.table.written) == [mv.version for mv in MVS[:5]])
    assert world.open() == 0


@pytest_twisted.ensureDeferred
async def test_what_is_not_stored_is_forgotten_after_a_second_look(world: World) -> None:
    world.leave(MVS[0], stored=False)
    await world.start()
    await until(lambda: not world.open())
    assert world.asked == MVS[:1] * 2
    assert world.table.written == []


@pytest_twisted.ensureDeferred
async def test_a_save_that_ends_after_its_process_has_gone_gets_its_line(world: World) -> None:
    world.leave(MVS[0], stored=False)
    await world.start(0.2)
    await until(lambda: world.asked)
    world.stored.add(MVS[0])
    await until(lambda: world.table.written == [MVS[0].version])


@pytest_twisted.ensureDeferred
async def test_a_save_that_was_given_up_and_ended_later_gets_its_line(world: World) -> None:
    index = await world.start(0.1)
    await index.begin(MVS[0])
    await index.begin(MVS[1])
    world.stored.add(MVS[0])
    await until(lambda: not world.open())
    assert world.table.written == [MVS[0].version]
    assert sorted(world.asked, key=str) == MVS[:2]


@pytest_twisted.ensureDeferred
async def test_a_save_is_not_looked_for_while_it_may_be_under_way(world: World) -> None:
    index = await world.start(1000.0)
    await index.begin(MVS[0])
    await index.begin(MVS[1])
    await index.add(MVS[1])
    await until(lambda: world.table.written == [MVS[1].version])
    assert [mv for mv, _ in await index._keeper.begun(reactor.seconds())] == [MVS[0]]
    assert world.asked == []


@pytest_twisted.ensureDeferred
async def test_a_storage_that_is_away_is_asked_again(world: World) -> None:
    world.leave(MVS[0])
    world.failure = StorageUnavailable("s3: away")
    await world.start()
    await until(lambda: len(world.asked) > 2)
    assert world.open() == 1
    world.failure = None
    await until(lambda: world.table.written == [MVS[0].version])


@pytest_twisted.ensureDeferred
async def test_an_error_that_nobody_foresaw_ends_nothing(world: World, logged: list[dict[str, Any]]) -> None:
    world.leave(MVS[0])
    world.failure = ZeroDivisionError()
    await world.start()
    await until(lambda: len(world.asked) > 1)
    world.failure = None
    await until(lambda: world.table.written == [MVS[0].version])
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_the_end_does_not_wait_for_a_storage_that_says_nothing(world: World) -> None:
    world.leave(MVS[0])
    asked: list[MV] = []

    async def silent(mv: MV) -> bool:
        asked.append(mv)
        return await Deferred()

    world.exists = silent  # type: ignore[method-assign]
    index = await world.start()
    await until(lambda: asked)
    await index.stopService()
    assert index._tasks[-1].called
    assert world.open() == 1  # the next one asks again


@pytest_twisted.ensureDeferred
async def test_a_process_that_dies_later_is_seen_to(world: World) -> None:
    index = await world.start()
    world.leave(MVS[0])
    await index._keeper.adopt()
    await until(lambda: world.table.written == [MVS[0].version])


def test_a_full_disk_costs_no_intent_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "intents"
    intents = Intents(path)
    intents.begin({MVS[0]: 1.0})
    write = os.pwrite
    room = [30]

    def full(file: int, data: bytes, place: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[: room[0]], place)
        room[0] -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            intents.begin({MVS[1]: 2.0})
        intents.settle([MVS[0]])
        with pytest.raises(OSError, match="No space"):
            Intents(path)
    intents.begin({MVS[2]: 3.0})
    assert list(intents.open_since) == MVS[1:3]  # this process knows
    assert read(path) == [MVS[0], MVS[2]]  # the next looks at the first once more
    intents.close()


def test_intents_outlive_the_process_and_do_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("athens_tx.index.intents._SLACK", 2000)
    path = tmp_path / "intents"
    intents = Intents(path)
    intents.begin({MVS[0]: 1.0})
    for number in range(1000):
        mv = MV("example.com/b", f"v1.{number}.0")
        intents.begin({mv: 2.0})
        intents.settle([mv, MVS[1]])
        assert path.stat().st_size < 2100
        assert intents.there()
    assert read(path) == MVS[:1]
    intents.settle(MVS[:1])
    assert path.stat().st_size == 0
    intents.begin(dict.fromkeys(MVS, 3.0))
    intents.settle(MVS[5:])
    with path.open("ab") as file:
        file.write(b'\0\0\0["+",1,2]\n[\n["-"]\n{}\n["+","exa')
    assert read(path) == MVS[:5]
    intents.close()
    again = Intents(path)
    assert list(again.open_since) == MVS[:5]
    assert min(again.open_since.values()) < 0
    again.close()
