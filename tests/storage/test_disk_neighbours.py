"""Versions in a directory that goes away, or where others are at work too."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage import staging
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from tests.contract.zips import whole
from tests.storage.disks import content, is_whole, leftovers, put, save, started, turns

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")
DIRECTORY = "github.com/Azure/x/v1.0.0"


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
                real = os.lstat

                def look(
                    path: Any, *args: Any, _looks: Any = looks, _real: Any = real, _swap: int = swap, **kwargs: Any
                ) -> Any:
                    if DIRECTORY in str(path):
                        if len(_looks) == _swap:
                            os.rename(tmp_path / DIRECTORY, torn)
                            os.rename(whole_, tmp_path / DIRECTORY)
                        _looks.append(path)
                    return _real(path, *args, **kwargs)

                monkeypatch.setattr(os, "lstat", look)
                try:
                    result = await ask(MV)
                    data = await whole(result) if wanted == "source.zip" else result
                    assert data == f"whole {wanted}".encode()
                except NotFound:
                    pass
                finally:
                    monkeypatch.setattr(os, "lstat", real)
