"""Versions in memory: how much of it, and who makes room."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel

from athens_tx.errors import FetchFailed, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.memory import OVERHEAD, MemoryStorage
from tests.contract.zips import HandZip, whole

SIZE = OVERHEAD + 100


def version(number: int) -> ModuleVersion:
    return ModuleVersion("example.com/x", f"v1.0.{number}")


async def save(storage: MemoryStorage, number: int, length: int = 80) -> None:
    await storage.save(version(number), b"i" * 10, b"m" * 10, BytesZip(b"z" * length))


async def stored(storage: MemoryStorage) -> list[int]:
    return sorted(int(version.rpartition(".")[2]) for version in await storage.list("example.com/x"))


@pytest_twisted.ensureDeferred
async def test_the_version_not_read_for_the_longest_time_makes_room(logged: list[dict[str, Any]]) -> None:
    storage = MemoryStorage(3 * SIZE)
    for number in range(3):
        await save(storage, number)
    await storage.info(version(0))
    await storage.exists(version(1))  # is not to read it
    assert await stored(storage) == [0, 1, 2]
    await save(storage, 3)
    assert await stored(storage) == [0, 2, 3]
    await storage.mod(version(2))
    await whole(await storage.zip(version(0)))
    await save(storage, 4)
    assert await stored(storage) == [0, 2, 4]
    warnings = [event for event in logged if event["log_level"] is LogLevel.warn]
    assert len(warnings) == 1  # said once, not for each
    assert "MemoryStorageLimit" in warnings[0]["log_format"]


@pytest_twisted.ensureDeferred
async def test_a_large_version_takes_the_room_of_several() -> None:
    storage = MemoryStorage(3 * SIZE)
    for number in range(3):
        await save(storage, number)
    await save(storage, 3, 2 * SIZE - OVERHEAD - 20)
    assert await stored(storage) == [2, 3]


@pytest_twisted.ensureDeferred
async def test_a_version_larger_than_the_limit_is_refused_and_costs_nobody_his_place() -> None:
    storage = MemoryStorage(3 * SIZE)
    await save(storage, 0)
    body = HandZip(3 * SIZE)
    with pytest.raises(StorageUnavailable, match="MemoryStorageLimit = "):
        await storage.save(version(1), b"i", b"m", body)
    assert body.stopped
    assert await stored(storage) == [0]


@pytest_twisted.ensureDeferred
async def test_what_is_being_saved_has_its_room_and_the_next_waits_for_it() -> None:
    storage = MemoryStorage(2 * SIZE)
    bodies = [HandZip(80) for _ in range(4)]
    saves = [
        Deferred.fromCoroutine(storage.save(version(number), b"i" * 10, b"m" * 10, body))
        for number, body in enumerate(bodies)
    ]
    await bodies[1].started
    assert [body.started.called for body in bodies] == [True, True, False, False]
    saves[3].cancel()
    with pytest.raises(CancelledError):
        await saves[3]
    assert bodies[3].stopped
    bodies[0].break_off(FetchFailed("broken"))
    with pytest.raises(FetchFailed):
        await saves[0]
    await bodies[2].started  # what failed made room
    for body, saving in ((bodies[1], saves[1]), (bodies[2], saves[2])):
        body.give(b"z" * 80)
        body.end()
        await saving
    assert await stored(storage) == [1, 2]
    await save(storage, 5)
    assert await stored(storage) == [2, 5]


@pytest_twisted.ensureDeferred
async def test_one_who_waits_for_room_may_find_the_version_saved() -> None:
    storage = MemoryStorage(SIZE)
    first, second = HandZip(80), HandZip(80)
    saves = [Deferred.fromCoroutine(storage.save(version(0), b"i" * 10, b"m" * 10, body)) for body in (first, second)]
    await first.started
    first.give(b"z" * 80)
    first.end()
    for saving in saves:
        await saving
    assert (second.started.called, second.stopped) == (False, True)


@pytest_twisted.ensureDeferred
async def test_the_faster_of_two_saves_is_kept() -> None:
    storage = MemoryStorage(10 * SIZE)
    slow = HandZip(4)
    saving = Deferred.fromCoroutine(storage.save(version(0), b"slow", b"m", slow))
    await slow.started
    await save(storage, 0)
    slow.give(b"slow")
    slow.end()
    await saving
    assert await storage.info(version(0)) == b"i" * 10
    for number in range(1, 10):
        await save(storage, number)
    assert len(await stored(storage)) == 10  # nothing is counted twice


@pytest_twisted.ensureDeferred
async def test_to_delete_gives_room_back() -> None:
    storage = MemoryStorage(2 * SIZE)
    for number in range(50):
        await save(storage, 0)
        await save(storage, number + 1)
        await storage.delete(version(number + 1))
        assert await stored(storage) == [0]
