"""A disk that is full, for real: a small file system of its own."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import LogLevel

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip, FileSink
from tests.storage.disks import is_whole, leftovers, save, started, tree

pytestmark = pytest.mark.root

MV = ModuleVersion("example.com/x", "v1.0.0")
LARGE = random.Random(0).randbytes(3 << 20)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=200", "none", str(root)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"THE FULL DISK IS NOT TESTED: no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield root
    still_open = subprocess.run(["umount", str(root)], capture_output=True, text=True).stderr
    if still_open:
        subprocess.run(["umount", "-l", str(root)], check=True)
    assert not still_open


def fill(root: Path, spare: int = 0) -> None:
    """Leave so many bytes, and no more."""
    with (root / "ballast").open("wb", buffering=0) as ballast:
        piece = bytes(4096)
        try:
            while True:
                ballast.write(piece)
        except OSError:
            pass
        ballast.truncate(ballast.tell() - spare)


@pytest_twisted.ensureDeferred
async def test_a_version_larger_than_the_disk_leaves_nothing(small: Path) -> None:
    storage = await started(reactor, small)
    other = ModuleVersion("example.com/other", "v1.0.0")
    await save(storage, other)
    before = tree(small)
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="No space left on device"):
            await storage.save(MV, b"{}", b"module x", BytesZip(LARGE))
        assert not await storage.exists(MV)
        assert (tree(small), leftovers(small)) == (before, [])
    await save(storage, MV)
    assert await is_whole(storage, MV)
    assert await is_whole(storage, other)
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_wherever_the_disk_gets_full_the_version_is_absent(small: Path) -> None:
    storage = await started(reactor, small)
    failed = 0
    files = (b"i" * 10_000, b"m" * 10_000, BytesZip(LARGE[:10_000]))
    for spare in range(0, 80_000, 4096):
        fill(small, spare)
        try:
            await storage.save(MV, files[0], files[1], BytesZip(LARGE[:10_000]))
        except StorageUnavailable:
            failed += 1
            assert not await storage.exists(MV)
            assert leftovers(small) == []
        else:
            assert await storage.info(MV) == files[0]
            await storage.delete(MV)  # which a full disk must allow
        os.unlink(small / "ballast")
    assert 5 < failed < 15
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_directories_need_room_too(small: Path) -> None:
    storage = await started(reactor, small)
    for left in range(12):
        names = [small / f"ballast{number}" for number in range(400)]
        made = []
        try:
            for name in names:
                os.mkdir(name)
                made.append(name)
        except OSError:
            pass
        for name in made[:left]:
            os.rmdir(name)
        try:
            await save(storage, ModuleVersion(f"example.com/a/b/c{left}", "v1.0.0"))
        except StorageUnavailable:
            assert left < 11
        else:
            assert left > 4
        assert leftovers(small) == []
        for name in made[left:]:
            os.rmdir(name)
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_full_disk_still_serves_and_starts(small: Path, logged: list[dict[str, Any]]) -> None:
    storage = await started(reactor, small)
    await save(storage, MV)
    await storage.stopService()
    names = [small / f"ballast{number}" for number in range(400)]
    try:
        for name in names:
            os.mkdir(name)
    except OSError:
        pass
    again = await started(reactor, small)
    assert [event["log_format"] for event in logged if event["log_level"] is LogLevel.warn]
    assert await is_whole(again, MV)
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        await again.check()
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        await save(again, ModuleVersion("example.com/y", "v1.0.0"))
    for name in names[:20]:
        os.rmdir(name)
    await again.check()  # without a restart
    await save(again, ModuleVersion("example.com/y", "v1.0.0"))
    await again.stopService()


@pytest_twisted.ensureDeferred
async def test_a_disk_without_a_free_block_is_not_ready(small: Path) -> None:
    storage = await started(reactor, small)
    fill(small)
    (small / "directories still can be made").mkdir()
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="No space left on device"):
            await storage.check()
    assert leftovers(small) == []
    os.unlink(small / "ballast")
    await storage.check()
    assert leftovers(small) == []
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_download_to_a_full_disk_fails_and_is_removed(small: Path) -> None:
    sink = FileSink(reactor, small / "download")
    for start in range(0, len(LARGE), 50_000):
        sink.write(LARGE[start : start + 50_000])
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        await sink.finish()
    await sink.abort()
    assert os.listdir(small) == []
