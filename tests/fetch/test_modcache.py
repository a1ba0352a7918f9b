"""The shared module cache and how it is pruned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from athens_tx.fetch import modcache
from athens_tx.fetch.modcache import ModCache, prune, tree_size


def fill(path: Path, clones: int = 3) -> None:
    for folder in ("github.com/a/b@v1", "cache/download/x/@v", "cache/lock.d"):
        (path / folder).mkdir(parents=True)
        (path / folder / "file").write_bytes(b"x" * 100_000)
        (path / folder).chmod(0o555)
    for number in range(clones):
        clone = path / "cache" / "vcs" / f"{number}"
        clone.mkdir(parents=True)
        (clone / "pack").write_bytes(b"x" * 100_000)
        for suffix in (".info", ".lock"):
            clone.with_name(clone.name + suffix).touch()
        for name in (clone, clone.with_name(clone.name + ".info")):
            os.utime(name, (1000 + number, 1000 + number))


def clones(path: Path) -> list[str]:
    return sorted(entry.name for entry in (path / "cache" / "vcs").iterdir())


def test_trees_and_zips_go_first_then_the_clones_used_longest_ago(tmp_path: Path) -> None:
    fill(tmp_path)
    os.utime(tmp_path / "cache" / "vcs" / "0.info", (5000, 1000))  # it was looked at last
    size = prune(tmp_path, 350_000)
    assert not (tmp_path / "github.com").exists()
    assert not list((tmp_path / "cache" / "download").iterdir())
    assert clones(tmp_path) == ["0", "0.info", "0.lock", "2", "2.info", "2.lock"]
    assert size == tree_size(tmp_path)
    assert prune(tmp_path, 0) < 200_000
    assert clones(tmp_path) == []
    assert prune(tmp_path / "none", 0) == 0


@pytest_twisted.ensureDeferred
async def test_pruned_when_nobody_uses_it_and_nobody_enters_meanwhile(tmp_path: Path) -> None:
    fill(tmp_path)
    cache = ModCache(reactor, tmp_path, 450_000)
    leave: Deferred[None] = Deferred()
    entered: list[int] = []

    async def use(until: Deferred[None] | None = None) -> None:
        async with cache.use():
            entered.append(cache.size)
            if until is not None:
                await until

    held = Deferred.fromCoroutine(use(leave))
    await use()  # looks at the size at its end
    await cache.settle()
    assert cache.size > 450_000
    assert len(clones(tmp_path)) == 9  # somebody is still there
    leave.callback(None)
    await held
    late = Deferred.fromCoroutine(use())
    assert len(entered) == 2
    await late
    assert entered[2] <= 360_000
    assert (tmp_path / "cache" / "vcs" / "2").exists()
    await cache.settle()


@pytest_twisted.ensureDeferred
async def test_far_above_its_limit_nobody_enters_until_it_is_pruned(tmp_path: Path) -> None:
    fill(tmp_path)
    cache = ModCache(reactor, tmp_path, 100_000)
    leave: Deferred[None] = Deferred()
    entered: list[int] = []

    async def use(number: int, until: Deferred[None] | None = None) -> None:
        async with cache.use():
            entered.append(number)
            if until is not None:
                await until

    held = Deferred.fromCoroutine(use(0, leave))
    await use(1)
    await cache.settle()
    waiting = [Deferred.fromCoroutine(use(number)) for number in (2, 3)]
    waiting[1].cancel()
    try:
        await waiting[1]
    except CancelledError:
        entered.append(-3)
    assert entered == [0, 1, -3]
    leave.callback(None)
    await held
    await waiting[0]
    await cache.settle()
    assert entered == [0, 1, -3, 2]
    assert cache.size < 200_000


@pytest_twisted.ensureDeferred
async def test_a_failure_to_prune_is_logged_and_keeps_nobody_out(
    tmp_path: Path, monkeypatch: Any, logged: list[dict[str, Any]]
) -> None:
    def broken(path: Path) -> int:
        raise OSError("no disk")

    monkeypatch.setattr(modcache, "tree_size", broken)
    cache = ModCache(reactor, tmp_path, 1)
    for _ in range(2):
        async with cache.use():
            pass
        await cache.settle()
    assert [event["log_format"] for event in logged if event.get("log_failure")] == ["can't prune the module cache"]
    logged.clear()
