"""What the tests of the disk storage share: content that tells its own version, and looks at the tree itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from athens_tx.errors import NotFound
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from tests.contract.zips import whole


def content(mv: ModuleVersion, salt: int = 0) -> tuple[bytes, bytes, bytes]:
    """@return: info, mod and zip that belong to each other; C{salt} is told by the info, and gives the zip its size."""
    chance = random.Random(f"{mv} {salt}")
    return f"{salt} {mv}".encode(), f"mod {salt} {mv}".encode(), chance.randbytes(chance.randint(0, 300_000))


async def save(storage: Any, mv: ModuleVersion, salt: int = 0) -> None:
    info, mod, zipped = content(mv, salt)
    await storage.save(mv, info, mod, BytesZip(zipped))


async def is_whole(storage: Any, mv: ModuleVersion) -> bool:
    """@return: whether the version is there; if it is, then all its files are of one save."""
    try:
        info = await storage.info(mv)
    except NotFound:
        assert not await storage.exists(mv)
        return False
    assert await storage.exists(mv)
    files = (info, await storage.mod(mv), await whole(await storage.zip(mv)))
    assert files == content(mv, int(info.split()[0]))
    return True


async def started(on: Any, root: Path, **limits: float) -> DiskStorage:
    storage = DiskStorage(on, root, **limits)
    storage.startService()
    await storage.ready
    return storage


def leftovers(root: Path) -> list[str]:
    """@return: what lies in the staging, without locks and the empty directories of storages that run."""
    return sorted(
        str(path.relative_to(root))
        for path in (root / STAGING).rglob("*")
        if path.name != "lock" and not (path.parent == root / STAGING and (path / "lock").exists())
    )


def tree(root: Path) -> dict[str, str]:
    """@return: files and their text, below the root and beside the staging."""
    files = (path for path in root.rglob("*") if path.is_file() and STAGING not in path.parts)
    return {str(path.relative_to(root)): path.read_text("latin-1") for path in files}


async def turns(count: int = 20) -> None:
    """Let the reactor turn."""
    for _ in range(count):
        await deferLater(reactor, 0, lambda: None)


def put(root: Path, name: str, data: str = "x") -> None:
    """Lay a file there, as somebody else would."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(data)


def files(root: Path, suffix: str) -> list[str]:
    """@return: the paths of all files with the suffix."""
    return [str(path) for path in root.rglob(f"*{suffix}")]
