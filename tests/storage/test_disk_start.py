"""Versions in a directory: how the storage starts and stops, and what it sweeps."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from athens_tx.errors import ConfigError, NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage import staging
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from tests.contract.zips import HandZip
from tests.storage.disks import is_whole, put, save, started, tree

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")
DIRECTORY = "github.com/Azure/x/v1.0.0"


@pytest.mark.parametrize("kind", ["missing", "file", "unwritable", "read-only"])
@pytest_twisted.ensureDeferred
async def test_a_root_that_is_no_good_is_told_with_its_setting(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a root"
    words = {"missing": "mkdir -p", "file": "not a directory", "unwritable": "chown", "read-only": "Read-only"}
    if kind == "file":
        put(tmp_path, "a root")
    elif kind != "missing":  # permissions do not keep root out

        def refuse(*_: object) -> None:
            raise OSError(*((errno.EACCES, "denied") if kind == "unwritable" else (errno.EROFS, "Read-only")))

        monkeypatch.setattr(staging.Staging, "open", refuse)
        os.mkdir(root)
    storage = DiskStorage(reactor, root)
    storage.startService()
    with pytest.raises(ConfigError) as caught:
        await storage.ready
    (problem,) = caught.value.problems
    assert problem.startswith(f"Storage.Disk.RootPath (ATHENS_DISK_STORAGE_ROOT): '{root}'") or kind == "missing"
    assert words[kind] in problem
    assert ("chown" in problem) == (kind == "unwritable")
    assert f"'{root}'" in problem  # quoted for the shell
    await storage.stopService()
    assert kind != "missing" or os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_relative_root_is_one_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("var")
    storage = await started(reactor, Path("var"))
    monkeypatch.chdir("/")
    await save(storage, MV)
    assert set(tree(tmp_path / "var")) == {f"{DIRECTORY}/{name}" for name in ("v1.0.0.info", "go.mod", "source.zip")}
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_storage_that_does_not_run_saves_nothing(tmp_path: Path) -> None:
    storage = DiskStorage(reactor, tmp_path)
    body = HandZip(3)
    with pytest.raises(StorageUnavailable, match="not running"):
        await storage.save(MV, b"i", b"m", body)
    assert body.stopped
    with pytest.raises(NotFound):
        await storage.info(MV)
    storage.startService()
    await storage.ready
    await storage.stopService()
    with pytest.raises(StorageUnavailable, match="not running"):
        await save(storage, MV)
    with pytest.raises(StorageUnavailable, match="not running"):
        await storage.delete(MV)
    storage.startService()
    await storage.ready
    await save(storage, MV)
    await storage.stopService()
    assert os.listdir(tmp_path / STAGING) == ["lock"] or not os.listdir(tmp_path / STAGING)


@pytest_twisted.ensureDeferred
async def test_what_dead_processes_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    living = await started(reactor, tmp_path)
    body = HandZip(3)
    saving = Deferred.fromCoroutine(living.save(MV, b"0 " + str(MV).encode(), b"mod", body))
    await body.started
    put(tmp_path, f"{STAGING}/dead/lock")
    put(tmp_path, f"{STAGING}/dead/1234/go.mod")
    put(tmp_path, f"{STAGING}/dead/1234/v1.0.0.info")
    os.mkdir(tmp_path / STAGING / "unlocked")  # killed before it had a lock
    put(tmp_path, f"{STAGING}/old/go.mod")  # has no lock: nobody knows whose it is
    os.utime(tmp_path / STAGING / "old", (time.time() - 700,) * 2)
    put(tmp_path, f"{STAGING}/young/go.mod")
    os.symlink("/", tmp_path / STAGING / "link")
    other = await started(reactor, tmp_path, stash_limit=600.0)
    names = set(os.listdir(tmp_path / STAGING))
    assert {"young", "link", living._staging.path.name, other._staging.path.name} == names - {"lock"}
    body.give(b"abc")
    body.end()
    await saving
    assert await living.mod(MV) == b"mod"
    await living.stopService()
    await other.stopService()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_swept_is_told_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    put(tmp_path, f"{STAGING}/dead/lock")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    storage = await started(reactor, tmp_path)
    monkeypatch.undo()
    assert [event["reason"] for event in logged if event["log_level"] is LogLevel.warn] == ["Permission denied"]
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_file_system_without_locks_goes_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    for name in ("young", "old"):
        put(tmp_path, f"{STAGING}/{name}/lock")
    os.utime(tmp_path / STAGING / "old", (time.time() - 700,) * 2)
    storage = await started(reactor, tmp_path, stash_limit=600.0)
    assert set(os.listdir(tmp_path / STAGING)) == {"young", storage._staging.path.name}
    put(tmp_path, f"{DIRECTORY}/go.mod")
    await save(storage, MV)
    assert await is_whole(storage, MV)
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_lock_that_fails_otherwise_is_trouble(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await storage.delete(MV)


@pytest.mark.parametrize("step", ["mkdir", "lock"])
def test_a_sweeper_may_take_the_directory_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    mine, sweeper = (staging.Staging(tmp_path, 600.0) for _ in range(2))
    real_open, real_lock = os.open, fcntl.flock
    swept = []

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        if step == "mkdir" and str(path).startswith(str(mine.path)) and not swept:
            swept.append(step)
            sweeper.sweep()
        return real_open(path, *args, **kwargs)

    def flock(descriptor: int, operation: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if step == "lock" and name.startswith(str(mine.path)) and not swept:
            swept.append(step)
            sweeper.sweep()
        real_lock(descriptor, operation)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(fcntl, "flock", flock)
    mine.open()
    assert swept == [step]
    monkeypatch.undo()
    sweeper.sweep()
    mine.probe()
    mine.close()
    assert os.listdir(tmp_path / STAGING) == []
