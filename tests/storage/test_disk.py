"""Versions in a directory: the tree and what may lie in it, besides the contract."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from athens_tx.errors import InvalidModule, NotFound, StorageUnavailable
from athens_tx.interfaces import IFindsIncomplete
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from tests.contract.zips import HandZip, whole
from tests.storage.disks import files, is_whole, leftovers, put, save, turns

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")
DIRECTORY = "github.com/Azure/x/v1.0.0"


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


@pytest.mark.parametrize("name", ["v1.0.0.info", "go.mod"])
@pytest_twisted.ensureDeferred
async def test_an_empty_small_file_is_a_torn_one(storage: DiskStorage, tmp_path: Path, name: str) -> None:
    await save(storage, MV)
    put(tmp_path, f"{DIRECTORY}/{name}", "")
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


@pytest.mark.parametrize("name", ["v1.0.0.info", "go.mod", "source.zip"])
@pytest_twisted.ensureDeferred
async def test_a_link_in_place_of_a_file_is_not_followed(storage: DiskStorage, tmp_path: Path, name: str) -> None:
    await save(storage, MV)
    body = await storage.zip(MV)
    os.rename(tmp_path / DIRECTORY / name, tmp_path / "secret")
    os.symlink(tmp_path / "secret", tmp_path / DIRECTORY / name)
    for ask in (storage.info, storage.mod, storage.zip, storage.exists):
        with pytest.raises(StorageUnavailable, match="link"):
            await ask(MV)
    if name == "source.zip":
        with pytest.raises(StorageUnavailable, match="symbolic"):  # nor if it became one after it was looked at
            await whole(body)
    await storage.delete(MV)
    assert (tmp_path / "secret").exists()
    await save(storage, MV)
    assert await is_whole(storage, MV)


@pytest_twisted.ensureDeferred
async def test_a_small_file_that_becomes_a_link_is_not_followed(
    storage: DiskStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(storage, MV)
    os.rename(tmp_path / DIRECTORY / "go.mod", tmp_path / "secret")
    real = os.open

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("go.mod"):
            os.unlink(path)
            os.symlink(tmp_path / "secret", path)
        return real(path, *args, **kwargs)

    put(tmp_path, f"{DIRECTORY}/go.mod", "module x")
    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(StorageUnavailable, match="symbolic"):
        await storage.mod(MV)


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


@pytest_twisted.ensureDeferred
async def test_what_is_incomplete_is_told_and_nothing_else(storage: DiskStorage, tmp_path: Path) -> None:
    assert verifyObject(IFindsIncomplete, storage)
    await save(storage, ModuleVersion("a.b/whole", "v1.0.0"))
    await save(storage, ModuleVersion("a.b/whole/v2", "v2.0.0"))
    put(tmp_path, "a.b/no-zip/v1.0.0/v1.0.0.info")
    put(tmp_path, "a.b/no-zip/v1.0.0/go.mod")
    put(tmp_path, "a.b/torn/v1.0.0/v1.0.0.info", "")
    put(tmp_path, "a.b/torn/v1.0.0/go.mod")
    put(tmp_path, "a.b/torn/v1.0.0/source.zip")
    put(tmp_path, "a.b/branch/main/go.mod")
    (tmp_path / "a.b/empty/v1.0.0").mkdir(parents=True)
    (tmp_path / "a.b/odd/v1.0.0/source.zip").mkdir(parents=True)
    (tmp_path / "a.b/just-a-folder").mkdir()
    put(tmp_path, "a.b/v1.0.0/inner/notes.txt")
    put(tmp_path, ".hidden/m/v1.0.0/go.mod")
    put(tmp_path, "a.b/.hidden/v1.0.0/go.mod")
    put(tmp_path, "go.mod")
    assert [str(mv) for mv in await storage.incomplete()] == [
        "a.b/branch@main",
        "a.b/empty@v1.0.0",
        "a.b/no-zip@v1.0.0",
        "a.b/odd@v1.0.0",
        "a.b/torn@v1.0.0",
    ]


@pytest_twisted.ensureDeferred
async def test_a_tree_that_can_not_be_read_is_not_called_whole(storage: DiskStorage, tmp_path: Path) -> None:
    root, gone = tmp_path, tmp_path.with_name("gone")
    root.rename(gone)
    try:
        with pytest.raises(StorageUnavailable):
            await storage.incomplete()
    finally:
        gone.rename(root)


@pytest.mark.parametrize("name", ["go.mod", "source.zip", "v1.0.0.info"])
@pytest_twisted.ensureDeferred
async def test_a_link_in_place_of_a_file_spoils_its_own_version_only(
    storage: DiskStorage, tmp_path: Path, name: str
) -> None:
    good = ModuleVersion(MV.path, "v1.0.1")
    await save(storage, MV)
    await save(storage, good)
    os.rename(tmp_path / DIRECTORY / name, tmp_path / "aside")
    os.symlink(tmp_path / "aside", tmp_path / DIRECTORY / name)
    with pytest.raises(StorageUnavailable):
        await storage.zip(MV)
    assert await storage.list(MV.path) == ["v1.0.1"]
    assert await storage.catalog("", 5) == ([good], "")
