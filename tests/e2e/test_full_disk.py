"""The disk fills up in the middle of a save: a clear error, nothing half visible, and all is well with new room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.support.daemon import MakeDaemon, through
from tests.support.repositories import noise
from tests.support.synthetic import add_version
from tests.support.upstream import Upstream


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight MiB."""
    if os.geteuid() != 0:
        pytest.skip("wants to be root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"can't mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def used(folder: Path) -> int:
    """@return: bytes of the files below C{folder}."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.root
@pytest_twisted.ensureDeferred
async def test_a_full_disk(small_disk: Path, tmp_path: Path, make_daemon: MakeDaemon) -> None:
    tree = tmp_path / "tree"
    small = add_version(tree, "example.test/small", "v1.0.0", noise(1))
    big = add_version(tree, "example.test/big", "v1.0.0", noise(6))
    upstream = Upstream(reactor, tree)
    try:
        settings = through(upstream, ATHENS_DISK_STORAGE_ROOT=str(small_disk), ATHENS_NOT_FOUND_TTL="0")
        daemon = await make_daemon(env=settings).start()
        assert (await daemon.get("/example.test/small/@v/v1.0.0.zip")).body == small
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(3 * 1024 * 1024))
        for kind in ("zip", "zip"):
            reply = await daemon.get(f"/example.test/big/@v/v1.0.0.{kind}")
            assert reply.status in (500, 503, 507), reply.status
            assert "storage" in reply.text.lower() or "space" in reply.text.lower()
            assert str(small_disk) not in reply.text
        for kind in ("info", "mod", "zip"):
            reply = await daemon.get(f"/example.test/big/@v/v1.0.0.{kind}", headers={"Disable-Module-Fetch": "true"})
            assert reply.status == 404
        assert (await daemon.get("/catalog")).text.count('"version"') == 1
        assert (await daemon.get("/example.test/small/@v/v1.0.0.zip")).body == small
        assert used(small_disk) < 5 * 1024 * 1024, "left-overs"
        ballast.unlink()
        assert (await daemon.get("/example.test/big/@v/v1.0.0.zip")).body == big
        verified = await daemon.cli("verify")
        assert verified.status == 0, verified
    finally:
        await upstream.stop()
