"""Versions in a directory that does not answer: limits in time, and threads."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.disk import DiskStorage
from tests.contract.zips import HandZip
from tests.storage.disks import is_whole, leftovers, save, started, turns

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")


class HeldReactor(Clock):
    """The threads of the reactor, and a clock that stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.getThreadPool = reactor.getThreadPool  # type: ignore[attr-defined]
        self.callFromThread = reactor.callFromThread  # type: ignore[attr-defined]


class Hang:
    """A file system that does not answer C{os.<name>} for what lies below a root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, root: Path) -> None:
        self.calls = 0
        self.hung, self.answers = threading.Event(), threading.Event()
        real = getattr(os, name)

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if str(path).startswith(str(root)):
                self.calls += 1
                self.hung.set()
                self.answers.wait(20)
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, name, call)

    async def until_hung(self) -> None:
        while not self.hung.is_set():
            await deferLater(reactor, 0, lambda: None)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_is_unavailable_after_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldReactor()
    assert IReactorTime.providedBy(held)
    storage = await started(held, tmp_path, time_limit=30.0)
    await save(storage, MV)
    hang = Hang(monkeypatch, "lstat", tmp_path)
    body = HandZip(3)
    asked = [
        Deferred.fromCoroutine(coroutine)
        for coroutine in (
            storage.info(MV),
            storage.exists(MV),
            storage.list(MV.path),
            storage.save(MV, b"i", b"m", body),
        )
    ]
    await hang.until_hung()
    held.advance(29.9)
    assert not [one for one in asked if one.called]
    held.advance(0.1)
    for one in asked[:3]:
        with pytest.raises(StorageUnavailable, match="within 30 s"):
            await one
    assert not asked[3].called  # tries to tidy up
    held.advance(30.0)
    with pytest.raises(StorageUnavailable, match="within 30 s"):
        await asked[3]
    assert body.stopped
    hang.answers.set()
    assert await is_whole(storage, MV)
    await turns()
    assert leftovers(tmp_path) == []
    await storage.stopService()
    assert not held.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_one_who_leaves_is_not_told_of_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldReactor()
    storage = await started(held, tmp_path)
    hang = Hang(monkeypatch, "lstat", tmp_path)
    asked = Deferred.fromCoroutine(storage.info(MV))
    await hang.until_hung()
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    assert not held.getDelayedCalls()
    hang.answers.set()
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_is_not_ready_and_is_not_asked_again_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldReactor()
    storage = await started(held, tmp_path, check_limit=5.0)
    hang = Hang(monkeypatch, "mkdir", tmp_path)
    for _ in range(3):
        checks = [Deferred.fromCoroutine(storage.check()) for _ in range(2)]
        await hang.until_hung()
        held.advance(4.9)
        assert not [check for check in checks if check.called]
        held.advance(0.1)
        for check in checks:
            with pytest.raises(StorageUnavailable, match="within 5 s"):
                await check
    assert hang.calls == 1
    last = [Deferred.fromCoroutine(storage.check()) for _ in range(3)]
    last[0].addBoth(lambda _: last[1].cancel())
    hang.answers.set()
    await last[0]
    with pytest.raises(CancelledError):
        await last[1]
    await last[2]
    await storage.check()
    assert hang.calls == 2
    await storage.stopService()
    assert not held.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_takes_no_writes_is_not_ready(storage: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Any, *_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(StorageUnavailable, match="Read-only file system"):
        await storage.check()
    monkeypatch.undo()
    await storage.check()


@pytest_twisted.ensureDeferred
async def test_what_can_not_be_tidied_up_is_told_and_hides_no_failure(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    body = HandZip(3)
    saving = Deferred.fromCoroutine(storage.save(MV, b"i", b"m", body))
    await body.started

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(storage._staging, "discard", broken)
    body.break_off(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await saving
    told = [event for event in logged if event["log_level"] is LogLevel.warn]
    assert len(told) == 1


@pytest_twisted.ensureDeferred
async def test_everything_that_touches_the_disk_does_so_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[Any]] = {}
    for name in ("open", "stat", "mkdir", "rename", "scandir", "listdir", "fsync", "unlink", "rmdir", "lstat"):
        real = getattr(os, name)

        def noted(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            if not args or str(args[0]).startswith(str(tmp_path)) or isinstance(args[0], int):
                threads.setdefault(_name, set()).add(threading.current_thread())
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, noted)
    storage = await started(reactor, tmp_path)
    await save(storage, MV)
    await is_whole(storage, MV)
    await storage.list(MV.path)
    await storage.catalog("", 5)
    await storage.check()
    await storage.delete(MV)
    await storage.stopService()
    monkeypatch.undo()
    assert {"open", "lstat", "mkdir", "rename", "scandir", "fsync"} <= set(threads)
    assert [name for name in threads if threading.main_thread() in threads[name]] == []
