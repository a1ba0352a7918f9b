"""A bucket of a real S3 server, and storages that reach it through a proxy that makes trouble."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from athens_tx.config.backends import S3 as S3Table
from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip
from athens_tx.storage.objects import ObjectStorage
from athens_tx.storage.s3 import PART
from athens_tx.storage.s3_start import s3_storage
from tests.contract.zips import whole
from tests.support import servers
from tests.support.faults import FaultProxy

ONE = MV("github.com/BurntSushi/toml", "v1.4.0")
INFO, MOD = b'{"Version":"v1.4.0"}', b"module github.com/BurntSushi/toml\n"
SMALL = random.Random(1).randbytes(100_000)
#: Of two parts and a bit.
LARGE = random.Random(2).randbytes(2 * PART + 12345)

ERROR = "<Error><Code>{}</Code><Message>{}</Message></Error>"
#: The requests of a save: what comes is looked for in "METHOD target".
ZIP, MOD_PUT, INFO_PUT = r"PUT .*\.zip", r"PUT .*\.mod", r"PUT .*\.info"
BEGIN, PIECE, END = r"POST .*\?uploads", r"PUT .*partNumber", r"POST .*uploadId"


class World:
    """
    The trouble is made for storages only; the bucket itself is asked directly.

    @ivar server: see L{tests.support.servers}.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.bucket = server.bucket()
        self.proxy = FaultProxy(reactor, server.port)
        self._storages: list[ObjectStorage] = []

    def table(self, **settings: Any) -> S3Table:
        """@return: the settings, but for what is said otherwise."""
        table = S3Table(
            region=self.server.region,
            key=self.server.access_key,
            secret=self.server.secret_key,
            bucket=self.bucket.name,
            endpoint=self.proxy.endpoint,
            force_path_style=True,
        )
        return table.model_copy(update=settings)

    def made(self, *, timeout: float = 20.0, patience: float = 0.2, **settings: Any) -> ObjectStorage:
        """@return: a storage, not started."""
        storage = s3_storage(reactor, self.table(**settings), {}, timeout=timeout, patience=patience)
        self._storages.append(storage)
        return storage

    async def storage(self, **settings: Any) -> ObjectStorage:
        """@return: one that runs, and has done its sweep."""
        storage = self.made(**settings)
        storage.startService()
        await storage.ready
        await self.quiet()
        return storage

    async def quiet(self) -> None:
        """Wait until what was begun in the background is over, and forget what was asked."""
        seen = -1
        while seen != len(self.proxy.requests):
            seen = len(self.proxy.requests)
            await deferLater(reactor, 0.1, lambda: None)
        self.proxy.requests.clear()

    async def stop(self) -> None:
        for storage in self._storages:
            await storage.stopService()
        await self.proxy.stop()

    def files(self, mv: MV = ONE) -> tuple[str, str, str]:
        start = f"{mv.path}/@v/{mv.version}"
        return f"{start}.info", f"{start}.mod", f"{start}.zip"


async def a_world() -> AsyncIterator[World]:
    """A fixture: over versitygw."""
    world = World(servers.s3())
    yield world
    await world.stop()


async def save(storage: ObjectStorage, zip: bytes = SMALL, mv: MV = ONE) -> None:
    await storage.save(mv, INFO, MOD, BytesZip(zip))


async def assert_whole(storage: ObjectStorage, zip: bytes = SMALL, mv: MV = ONE) -> None:
    assert await storage.exists(mv)
    assert (await storage.info(mv), await storage.mod(mv)) == (INFO, MOD)
    assert await whole(await storage.zip(mv)) == zip


def error(code: str, message: str = "a reason") -> bytes:
    """@return: what an S3 server says of an error."""
    return ERROR.format(code, message).encode()


async def failing(storage: ObjectStorage, zip: bytes = SMALL) -> StorageUnavailable:
    """@return: how a save fails, after which nothing of the version is seen."""
    with pytest.raises(StorageUnavailable) as raised:
        await save(storage, zip)
    assert not await storage.exists(ONE)
    return raised.value


def told(events: list[dict[str, Any]], words: str) -> int:
    """@return: how many of the logged events say this."""
    return sum(words in event.get("log_format", "") for event in events)
