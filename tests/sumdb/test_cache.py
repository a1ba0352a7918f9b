"""What is kept of checksum databases, in memory and on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.sumdb.cache import Store

NAME = "sum.example.test:8443/db"
FOLDER = "sum.example.test%3A8443%2Fdb"


def files(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


def test_in_memory_the_least_used_goes_first() -> None:
    store = Store(Clock(), memory_limit=2500)
    for number in range(3):
        store.put("n", f"p{number}", b"x" * 700)
        store.recall("n", "p0")
    assert [store.recall("n", f"p{number}") is not None for number in range(3)] == [True, False, True]
    store.forget("n", "p0")
    assert store.recall("n", "p0") is None


def test_without_a_directory_there_is_nothing_but_memory() -> None:
    store = Store(Clock())
    case = SynchronousTestCase()
    store.put("n", "p", b"x")
    assert case.successResultOf(Deferred.fromCoroutine(store.get("n", "p"))) == b"x"
    assert case.successResultOf(Deferred.fromCoroutine(store.get("n", "q"))) is None
    case.successResultOf(Deferred.fromCoroutine(store.settle()))


@pytest_twisted.ensureDeferred
async def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = Store(reactor, tmp_path / "made")
    store.put(NAME, "lookup/a.b/c@v1.0.0", b"record")
    store.put(NAME, "tile/8/0/000", b"tile")
    await store.settle()
    folder = tmp_path / "made" / FOLDER
    assert files(folder) == ["lookup/a.b/c@v1.0.0", "tile/8/0/000"]
    assert (folder / "tile/8/0/000").stat().st_mode & 0o777 == 0o644

    later = Store(reactor, tmp_path / "made")
    assert later.recall(NAME, "tile/8/0/000") is None
    assert await later.get(NAME, "tile/8/0/000") == b"tile"
    assert later.recall(NAME, "tile/8/0/000") == b"tile"
    assert await later.get(NAME, "tile/8/0/001") is None
    assert await later.get("other", "tile/8/0/000") is None


@pytest_twisted.ensureDeferred
async def test_what_is_forgotten_is_not_read_again_even_before_its_file_is_gone(tmp_path: Path) -> None:
    store = Store(reactor, tmp_path)
    store.put(NAME, "p", b"old")
    await store.settle()
    later = Store(reactor, tmp_path)
    coming = [later.get(NAME, "p")]
    later.forget(NAME, "p")
    later.forget(NAME, "absent")
    assert await later.get(NAME, "p") is None
    assert await coming[0] is None
    await later.settle()
    assert files(tmp_path) == []
    later.put(NAME, "p", b"new")
    await later.settle()
    assert await Store(reactor, tmp_path).get(NAME, "p") == b"new"


@pytest_twisted.ensureDeferred
async def test_what_is_put_while_the_old_is_read_stays(tmp_path: Path) -> None:
    store = Store(reactor, tmp_path)
    store.put(NAME, "p", b"old")
    await store.settle()
    later = Store(reactor, tmp_path)
    reading = Deferred.fromCoroutine(later.get(NAME, "p"))
    later.put(NAME, "p", b"newer")
    assert await reading == b"newer"
    assert later.recall(NAME, "p") == b"newer"
    await later.settle()


@pytest_twisted.ensureDeferred
async def test_the_directory_has_a_bound_and_it_is_said_once(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    store = Store(reactor, tmp_path, disk_limit=3 * 4096)
    for number in range(5):
        store.put("n", f"p{number}", b"x" * 100)
    await store.settle()
    assert files(tmp_path) == ["n/p0", "n/p1", "n/p2"]
    assert store.recall("n", "p4") is not None
    assert [formatEvent(event) for event in logged] == [
        "SumDBCacheDir: some answers are kept in memory only: 12288 bytes are used up"
    ]
    store.put("n", "p0", b"y" * 100)  # what is there already may change
    store.forget("n", "p1")
    store.put("n", "p3", b"x")
    await store.settle()
    assert files(tmp_path) == ["n/p0", "n/p2", "n/p3"]
    assert (tmp_path / "n/p0").read_bytes() == b"y" * 100


@pytest_twisted.ensureDeferred
async def test_what_is_there_at_the_start_counts_and_leftovers_are_swept(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n/p0").write_bytes(b"x" * 5000)
    (tmp_path / "n/.new-stale").write_bytes(b"x" * 50000)
    (tmp_path / "n/.new-fresh").write_bytes(b"x")
    (tmp_path / "n/.new-gone").symlink_to("nowhere")
    os.utime(tmp_path / "n/.new-stale", (1, 1))
    store = Store(reactor, tmp_path, disk_limit=4 * 4096)
    store.put("n", "p1", b"x")
    store.put("n", "p2", b"x")
    await store.settle()
    assert files(tmp_path) == ["n/.new-fresh", "n/p0", "n/p1"]


@pytest_twisted.ensureDeferred
async def test_a_name_too_long_for_a_file_stays_in_memory(tmp_path: Path) -> None:
    store = Store(reactor, tmp_path)
    path = "lookup/a.b/c@v1.0.0-" + "x" * 300
    store.put(NAME, path, b"x")
    await store.settle()
    assert await store.get(NAME, path) == b"x"
    assert files(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_write_that_fails_leaves_nothing_and_stops_nothing(
    tmp_path: Path, logged: list[dict[str, Any]]
) -> None:
    (tmp_path / "n" / "p").mkdir(parents=True)
    store = Store(reactor, tmp_path)
    store.put("n", "p", b"x")  # there is a directory of this name
    store.put("n", "q", b"x")
    await store.settle()
    assert files(tmp_path) == ["n/q"]
    assert len(logged) == 1


@pytest_twisted.ensureDeferred
async def test_an_empty_file_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n/p").touch()
    assert await Store(reactor, tmp_path).get("n", "p") is None


@pytest_twisted.ensureDeferred
async def test_not_too_many_wait_for_being_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("athens_tx.sumdb.cache.WAITING", 2)
    store = Store(reactor, tmp_path)
    for number in range(5):
        store.put("n", f"p{number}", b"x")
    await store.settle()
    assert files(tmp_path) == ["n/p0", "n/p1", "n/p2"]
    assert store.recall("n", "p4") == b"x"
