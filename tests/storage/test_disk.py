"""Versions in a directory: what only this storage has, besides the contract."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel

from athens_tx.errors import ConfigError, InvalidModule, NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage import staging
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from tests.contract.zips import HandZip, whole
from tests.storage.disks import content, is_whole, leftovers, save, started, tree

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")
DIRECTORY = "github.com/Azure/x/v1.0.0"


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


@pytest_twisted.async_yield_fixture
async def storage(tmp_path: Path) -> Any:
    storage = await started(reactor, tmp_path)
    yield storage
    await storage.stopService()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await deferLater(reactor, 0, lambda: None)


def files(root: Path, suffix: str) -> list[str]:
    return [str(path) for path in root.rglob(f"*{suffix}")]


def put(root: Path, name: str, data: str = "x") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(data)


# --- Start and stop ---


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


# --- The tree ---


@pytest.mark.parametrize(("umask", "directory", "file"), [(0o022, 0o755, 0o644), (0o002, 0o775, 0o664)])
@pytest_twisted.ensureDeferred
async def test_modes_are_left_to_the_umask(
    storage: DiskStorage, tmp_path: Path, umask: int, directory: int, file: int
) -> None:
    before = os.umask(umask)
    try:
        await save(storage, MV)
    finally:
        os.umask(before)
    for path in ("github.com", "github.com/Azure", "github.com/Azure/x", DIRECTORY):
        assert stat.S_IMODE(os.stat(tmp_path / path).st_mode) == directory
    for name in ("v1.0.0.info", "go.mod", "source.zip"):
        assert stat.S_IMODE(os.stat(tmp_path / DIRECTORY / name).st_mode) == file
    assert len(os.listdir(tmp_path / DIRECTORY)) == 3  # Athens counts them


@pytest_twisted.ensureDeferred
async def test_a_fourth_file_does_no_harm(storage: DiskStorage, tmp_path: Path) -> None:
    await save(storage, MV)
    put(tmp_path, f"{DIRECTORY}/go.mod~")
    assert await is_whole(storage, MV)
    assert await storage.list(MV.path) == ["v1.0.0"]
    await storage.delete(MV)
    assert os.listdir(tmp_path / MV.path) == []
    for name in ("one", "two", "three"):
        put(tmp_path, f"{DIRECTORY}/{name}")  # three, but not the right ones
    assert not await is_whole(storage, MV)
    with pytest.raises(NotFound):
        await storage.delete(MV)
    await save(storage, MV)
    assert len(os.listdir(tmp_path / DIRECTORY)) == 3


@pytest_twisted.ensureDeferred
async def test_an_empty_info_is_a_torn_one(storage: DiskStorage, tmp_path: Path) -> None:
    await save(storage, MV)
    put(tmp_path, f"{DIRECTORY}/v1.0.0.info", "")
    assert not await is_whole(storage, MV)
    assert await storage.list(MV.path) == []
    assert await storage.catalog("", 5) == ([], "")
    await save(storage, MV)
    assert await is_whole(storage, MV)


@pytest_twisted.ensureDeferred
async def test_an_empty_directory_is_no_version_and_in_nobodys_way(storage: DiskStorage, tmp_path: Path) -> None:
    os.makedirs(tmp_path / DIRECTORY)
    assert await storage.list(MV.path) == []
    with pytest.raises(NotFound):
        await storage.delete(MV)
    await save(storage, MV)
    assert await is_whole(storage, MV)


@pytest_twisted.ensureDeferred
async def test_a_file_in_place_of_a_directory_is_in_the_way(storage: DiskStorage, tmp_path: Path) -> None:
    put(tmp_path, "github.com/Azure")
    assert await storage.list("github.com/Azure") == ()
    assert await storage.list(MV.path) == ()
    assert not await storage.exists(MV)
    with pytest.raises(StorageUnavailable) as caught:
        await save(storage, MV)
    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path) in caught.value.detail
    with pytest.raises(NotFound):
        await storage.delete(MV)
    os.unlink(tmp_path / "github.com/Azure")
    put(tmp_path, DIRECTORY)
    with pytest.raises(StorageUnavailable):
        await save(storage, MV)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["v1.0.0.info", "go.mod", "source.zip"])
@pytest_twisted.ensureDeferred
async def test_a_directory_in_place_of_a_file_is_trouble_but_spoils_no_list(
    storage: DiskStorage, tmp_path: Path, name: str, logged: list[dict[str, Any]]
) -> None:
    good = ModuleVersion(MV.path, "v1.0.1")
    await save(storage, MV)
    await save(storage, good)
    os.unlink(tmp_path / DIRECTORY / name)
    os.mkdir(tmp_path / DIRECTORY / name)
    for ask in (storage.info, storage.mod, storage.zip, storage.exists):
        with pytest.raises(StorageUnavailable):
            await ask(MV)
    with pytest.raises(StorageUnavailable):
        await save(storage, MV)
    assert await storage.list(MV.path) == ["v1.0.1"]
    assert await storage.catalog("", 5) == ([good], "")
    assert [event["mv"] for event in logged if event["log_level"] is LogLevel.warn][:1] == [MV]
    await storage.delete(MV)
    await save(storage, MV)
    assert await is_whole(storage, MV)


@pytest.mark.parametrize("where", ["github.com", "github.com/Azure/x", DIRECTORY])
@pytest_twisted.ensureDeferred
async def test_a_directory_that_can_not_be_read_is_not_absent(storage: DiskStorage, tmp_path: Path, where: str) -> None:
    await save(storage, MV)
    os.rename(tmp_path / where, tmp_path / "aside")
    os.symlink(tmp_path / where, tmp_path / where)  # ELOOP, which root meets too
    for ask in (storage.info, storage.mod, storage.zip, storage.exists, storage.delete):
        with pytest.raises(StorageUnavailable) as caught:
            await ask(MV)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(StorageUnavailable):
        await storage.list(MV.path)


@pytest_twisted.ensureDeferred
async def test_a_directory_that_can_not_be_read_fails_the_catalog(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, MV)
    real = os.scandir

    os.makedirs(tmp_path / ".snapshot/v1.0.0")
    locked = ".snapshot"

    def scandir(path: Any) -> Any:
        if str(path).endswith(locked):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert await storage.catalog("", 5) == ([MV], "")  # what is hidden is not looked into
    locked = "Azure"
    with pytest.raises(StorageUnavailable, match="Permission denied"):
        await storage.catalog("", 5)


@pytest_twisted.ensureDeferred
async def test_links_that_an_administrator_has_made(storage: DiskStorage, tmp_path: Path) -> None:
    await save(storage, MV)
    os.rename(tmp_path / DIRECTORY, tmp_path / "aside")
    os.symlink(tmp_path / "aside", tmp_path / DIRECTORY)
    os.symlink(tmp_path, tmp_path / "github.com/round")
    assert await is_whole(storage, MV)
    assert await storage.list(MV.path) == ["v1.0.0"]
    assert await storage.catalog("", 5) == ([], "")  # as Athens, it follows none there: there may be circles
    await storage.delete(MV)
    assert not await storage.exists(MV)
    assert leftovers(tmp_path) == []
    assert len(os.listdir(tmp_path / "aside")) == 3


@pytest_twisted.ensureDeferred
async def test_the_catalog_leaves_out_what_is_no_module(storage: DiskStorage, tmp_path: Path) -> None:
    await save(storage, MV)
    for directory in (".git/v1.0.0", "lost+found/v1.0.0", "a/.hidden/v1.0.0", "back\\slash/v1.0.0", "v1.0.0"):
        for name in ("v1.0.0.info", "go.mod", "source.zip"):
            put(tmp_path, f"{directory}/{name}")
    raw = os.fsencode(tmp_path) + b"/not-utf-8-\xff/v1.0.0"
    os.makedirs(raw)
    for name in (b"v1.0.0.info", b"go.mod", b"source.zip"):
        os.link(os.fsencode(tmp_path / DIRECTORY / "go.mod"), raw + b"/" + name)
    assert await storage.catalog("", 100) == ([MV], "")


@pytest_twisted.ensureDeferred
async def test_a_very_deep_tree_has_a_catalog(storage: DiskStorage, tmp_path: Path) -> None:
    mv = ModuleVersion("/".join("d" for _ in range(1500)), "v1.0.0")
    try:
        await save(storage, mv)
        assert await storage.catalog("", 5) == ([mv], "")
        assert await storage.catalog("c|v1.0.0", 5) == ([mv], "")
        assert await storage.catalog(f"{mv.path}|v1.0.0", 5) == ([], "")
    finally:
        shutil.rmtree(tmp_path / mv.path / mv.version, ignore_errors=True)
        os.removedirs(tmp_path / mv.path)  # pytest would recur through it


@pytest_twisted.ensureDeferred
async def test_a_path_too_long_for_the_disk_is_an_invalid_one(storage: DiskStorage, tmp_path: Path) -> None:
    mv = ModuleVersion("/".join("x" * 250 for _ in range(17)), "v1.0.0")
    for ask in (storage.info, storage.mod, storage.zip, storage.exists):
        with pytest.raises(InvalidModule):
            await ask(mv)
    with pytest.raises(InvalidModule):
        await save(storage, mv)
    assert await storage.catalog("", 5) == ([], "")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("name", "limit"), [("v1.0.0.info", 1 << 20), ("go.mod", 16 << 20)])
@pytest_twisted.ensureDeferred
async def test_a_small_file_that_is_huge_is_not_read(
    storage: DiskStorage, tmp_path: Path, name: str, limit: int
) -> None:
    await save(storage, MV)
    ask = storage.mod if name == "go.mod" else storage.info
    os.truncate(tmp_path / DIRECTORY / name, limit)
    assert len(await ask(MV)) == limit
    os.truncate(tmp_path / DIRECTORY / name, 1 << 40)
    with pytest.raises(StorageUnavailable, match="bytes"):
        await ask(MV)


@pytest_twisted.ensureDeferred
async def test_athens_catalog_sees_nothing_of_a_save_under_way(storage: DiskStorage, tmp_path: Path) -> None:
    body = HandZip(3)
    saving = Deferred.fromCoroutine(storage.save(MV, b"i", b"m", body))
    await body.started
    body.give(b"abc")
    await turns()
    assert files(tmp_path, ".info") == []
    assert sorted(os.listdir(tmp_path)) == [STAGING]
    body.end()
    await saving
    assert files(tmp_path, ".info") == [f"{tmp_path}/{DIRECTORY}/v1.0.0.info"]


# --- A root that goes away ---


@pytest_twisted.ensureDeferred
async def test_a_root_that_is_gone_is_not_an_empty_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    os.mkdir(root)
    storage = await started(reactor, root)
    await save(storage, MV)
    os.rename(root, tmp_path / "aside")

    async def assert_unavailable() -> None:
        for ask in (storage.info, storage.mod, storage.zip, storage.exists, storage.delete):
            with pytest.raises(StorageUnavailable):
                await ask(MV)
        with pytest.raises(StorageUnavailable):
            await storage.list(MV.path)
        with pytest.raises(StorageUnavailable):
            await storage.catalog("", 5)
        with pytest.raises(StorageUnavailable):
            await storage.check()
        with pytest.raises(StorageUnavailable):
            await save(storage, MV)

    await assert_unavailable()
    os.mkdir(root)  # the mount point that lies below what was mounted
    await assert_unavailable()
    os.rmdir(root)
    os.rename(tmp_path / "aside", root)
    assert await is_whole(storage, MV)
    await storage.check()
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_staging_that_somebody_removed_is_made_again(storage: DiskStorage, tmp_path: Path) -> None:
    await save(storage, MV)
    shutil.rmtree(tmp_path / STAGING)
    assert not await storage.exists(ModuleVersion("a", "v1.0.0"))
    shutil.rmtree(tmp_path / STAGING)
    await storage.check()
    shutil.rmtree(tmp_path / STAGING)
    await save(storage, ModuleVersion("a", "v1.0.0"))
    shutil.rmtree(tmp_path / STAGING)
    await storage.delete(MV)
    assert await storage.catalog("", 5) == ([ModuleVersion("a", "v1.0.0")], "")
    other = await started(reactor, tmp_path)  # does not sweep the new one
    assert storage._staging.path.is_dir()
    await other.stopService()


# --- Others at work in the same tree ---


@pytest_twisted.ensureDeferred
async def test_directories_that_vanish_while_a_save_makes_them(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = os.rename, []

    def rename(source: Any, target: Any) -> None:
        if str(target) == str(tmp_path / DIRECTORY) and len(removed) < 3:
            removed.append(target)
            os.rmdir(tmp_path / "github.com/Azure/x")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    await save(storage, MV)
    assert len(removed) == 3
    assert await is_whole(storage, MV)


@pytest_twisted.ensureDeferred
async def test_a_save_gives_up_where_others_never_let_it(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        if str(target) == str(tmp_path / DIRECTORY):
            put(tmp_path, f"{DIRECTORY}/go.mod")  # as an Athens that always begins anew
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StorageUnavailable, match="others write there"):
        await save(storage, MV)
    assert not await is_whole(storage, MV)
    assert leftovers(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_athens_may_complete_what_it_began_before_we_take_it_away(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, f"{DIRECTORY}/go.mod", content(MV, 7)[1].decode())
    real = staging.Staging.exclusive

    def exclusive(self: staging.Staging) -> Any:
        info, _, zipped = content(MV, 7)
        (tmp_path / DIRECTORY / "source.zip").write_bytes(zipped)
        (tmp_path / DIRECTORY / "v1.0.0.info").write_bytes(info)
        return real(self)

    monkeypatch.setattr(staging.Staging, "exclusive", exclusive)
    await save(storage, MV)
    assert (await storage.info(MV)).startswith(b"7 ")
    assert await is_whole(storage, MV)
    assert leftovers(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_another_process_that_keeps_the_lock_is_waited_for_but_not_for_ever(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, MV)
    lock = os.open(tmp_path / STAGING / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    monkeypatch.setattr(staging, "PATIENCE", 0.05)
    with pytest.raises(StorageUnavailable, match="does not give up its lock"):
        await storage.delete(MV)
    monkeypatch.undo()
    deleted = Deferred.fromCoroutine(storage.delete(MV))
    await turns()
    assert not deleted.called
    os.close(lock)
    await deleted


@pytest_twisted.ensureDeferred
async def test_a_version_deleted_between_two_looks_is_not_found(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, MV)
    real = os.open

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".info"):
            os.unlink(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(NotFound):
        await storage.info(MV)


@pytest_twisted.ensureDeferred
async def test_a_directory_replaced_between_two_looks_is_read_as_one(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partial version is healed after any of the looks at its files: never its torn files, or those of the save."""
    names = ("v1.0.0.info", "go.mod", "source.zip")
    whole_, torn = tmp_path / "whole", tmp_path / "torn"
    for kept in names:
        for wanted, ask in zip(names, (storage.info, storage.mod, storage.zip), strict=True):
            for swap in range(3):
                for directory in (whole_, torn, tmp_path / DIRECTORY):
                    shutil.rmtree(directory, ignore_errors=True)
                for name in names:
                    put(whole_, name, f"whole {name}")
                    if name != kept:
                        put(tmp_path / DIRECTORY, name, "torn")
                looks = []
                real = os.stat

                def look(
                    path: Any, *args: Any, _looks: Any = looks, _real: Any = real, _swap: int = swap, **kwargs: Any
                ) -> Any:
                    if DIRECTORY in str(path):
                        if len(_looks) == _swap:
                            os.rename(tmp_path / DIRECTORY, torn)
                            os.rename(whole_, tmp_path / DIRECTORY)
                        _looks.append(path)
                    return _real(path, *args, **kwargs)

                monkeypatch.setattr(os, "stat", look)
                try:
                    result = await ask(MV)
                    data = await whole(result) if wanted == "source.zip" else result
                    assert data == f"whole {wanted}".encode()
                except NotFound:
                    pass
                finally:
                    monkeypatch.setattr(os, "stat", real)


# --- Limits in time ---


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_is_unavailable_after_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldReactor()
    assert IReactorTime.providedBy(held)
    storage = await started(held, tmp_path, time_limit=30.0)
    await save(storage, MV)
    hang = Hang(monkeypatch, "stat", tmp_path)
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
    hang = Hang(monkeypatch, "stat", tmp_path)
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
    assert {"open", "stat", "mkdir", "rename", "scandir", "fsync"} <= set(threads)
    assert [name for name in threads if threading.main_thread() in threads[name]] == []
