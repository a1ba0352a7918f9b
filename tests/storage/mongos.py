"""What the tests of the MongoDB storage share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings

MV = ModuleVersion("github.com/BurntSushi/toml", "v1.4.0")
INFO, MOD = b'{"Version":"v1.4.0"}', b"module github.com/BurntSushi/toml\n"
ZIP = b"PK\x03\x04" + random.Random(1).randbytes(700_000)
NAME = "github.com_BurntSushi_toml_v1.4.0.zip"


@asynccontextmanager
async def opened(url: str, database: str, **settings: Any) -> AsyncIterator[MongoStorage]:
    """A storage that is stopped in the end."""
    storage = MongoStorage(reactor, Settings(url, database=database, **settings))
    storage.startService()
    try:
        await storage.ready
        yield storage
    finally:
        await storage.stopService()


async def save(storage: Any, mv: ModuleVersion = MV, zipped: bytes = ZIP) -> None:
    await storage.save(mv, INFO, MOD, BytesZip(zipped))


async def turns(seconds: float = 0.0, count: int = 1) -> None:
    for _ in range(count):
        await deferLater(reactor, seconds, lambda: None)  # type: ignore[arg-type]


async def until(condition: Any, limit: float = 10.0) -> None:
    """Let the reactor turn until it is so."""
    end = reactor.seconds() + limit  # type: ignore[attr-defined]
    while not condition():
        assert reactor.seconds() < end, "it did not come to that"  # type: ignore[attr-defined]
        await turns(0.01)


def running(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def events(logged: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """@return: those whose format has C{part}."""
    return [event for event in logged if part in (event.get("log_format") or "")]
