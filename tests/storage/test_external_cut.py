"""External storage between two athens-tx: large zips both ways, and saves that are cut off in any way."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from zope.interface import implementer

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip, FileZip
from athens_tx.storage.external import ExternalStorage
from tests.contract.zips import whole
from tests.support.external import PATH, ExternalServer
from tests.support.faults import FaultProxy

reactor: Any = _reactor
FOO = MV("github.com/Foo/bar", "v1.0.0-RC1")
INFO, MOD = b'{"Version":"v1.0.0-RC1"}', b"module github.com/Foo/bar\n"
CUTS = int(os.environ.get("ATHENS_TX_CUTS", "100"))


@attrs.define
class Pair:
    """A server, what stands before it, and a client."""

    server: ExternalServer
    proxy: FaultProxy
    storage: ExternalStorage


@pytest_twisted.async_yield_fixture
async def pair(tmp_path: Path) -> Any:
    (tmp_path / "root").mkdir()
    (tmp_path / "staging").mkdir()
    server = await ExternalServer(reactor, tmp_path / "root", tmp_path / "staging").start()
    proxy = FaultProxy(reactor, server.number)
    storage = ExternalStorage(reactor, f"http://127.0.0.1:{proxy.port}{PATH}", {}, 20.0)
    storage.startService()
    await storage.ready
    yield Pair(server, proxy, storage)
    await storage.stopService()
    await proxy.stop()
    await server.stop()


@implementer(IConsumer)
class Digest:
    """Knows what came by its hash."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.sha256.update(data)


@pytest_twisted.ensureDeferred
async def test_fifty_mebibytes_with_capitals_everywhere_go_both_ways(pair: Pair, tmp_path: Path) -> None:
    path, size = tmp_path / "zip", 50 << 20
    path.write_bytes(random.Random(2).randbytes(size))
    await pair.storage.save(FOO, INFO, MOD, FileZip(reactor, path, size))
    zipped = await pair.storage.zip(FOO)
    digest = Digest()
    await zipped.startProducing(digest)
    assert zipped.length == size
    assert digest.sha256.digest() == hashlib.sha256(path.read_bytes()).digest()
    assert list(await pair.storage.list(FOO.path)) == [FOO.version]
    assert await pair.storage.info(FOO) == INFO
    assert pair.proxy.count("!r!c1") == 0  # an athens-tx takes versions as they are


async def settled(pair: Pair) -> None:
    """The server has heard that the connection is gone, and cleaned up."""
    for _ in range(1000):
        if not (pair.server.site.in_flight or os.listdir(pair.server.staging)):
            return
        await deferLater(reactor, 0.005, lambda: None)
    raise AssertionError("something is left behind")


async def interrupt(pair: Pair, mv: MV, data: bytes, chance: random.Random, number: int) -> None:
    """One save that is cut somewhere; it may be over before."""
    saving = Deferred.fromCoroutine(pair.storage.save(mv, INFO, MOD, BytesZip(data)))
    at = chance.randrange(len(data) + 2000)
    if number % 4 == 0:
        pair.proxy.cut_request(at, match="POST")
    elif number % 4 == 1:
        pair.proxy.cut_after(up=at)
    elif number % 4 == 2:
        pair.proxy.lose_answer(match="POST")
    else:
        for _ in range(chance.randrange(60)):
            await deferLater(reactor, 0, lambda: None)
        saving.cancel()
    with suppress(StorageUnavailable, CancelledError):
        await saving
    pair.proxy.heal()


@pytest_twisted.ensureDeferred
async def test_interrupted_saves_leave_nothing_half_and_are_complete_on_retry(pair: Pair, capsys: Any) -> None:
    chance = random.Random(3)
    data = chance.randbytes(700_000)
    whole_ones = 0
    for number in range(CUTS):
        mv = MV(FOO.path, f"v1.0.{number}")
        await interrupt(pair, mv, data, chance, number)
        await settled(pair)
        there = await pair.storage.exists(mv)
        whole_ones += there
        assert (mv.version in await pair.storage.list(mv.path)) == there
        if there:
            assert await whole(await pair.storage.zip(mv)) == data
        else:
            for ask in (pair.storage.info, pair.storage.mod, pair.storage.zip, pair.storage.delete):
                with pytest.raises(NotFound):
                    await ask(mv)
        await pair.storage.save(mv, INFO, MOD, BytesZip(data))
        assert await whole(await pair.storage.zip(mv)) == data
    assert len(await pair.storage.list(FOO.path)) == CUTS
    with capsys.disabled():
        print(f" [{CUTS} saves interrupted, {CUTS - whole_ones} of them before their end]", end="")
    assert whole_ones < CUTS


@pytest_twisted.ensureDeferred
async def test_a_slow_way_is_no_broken_one(pair: Pair) -> None:
    pair.proxy.rate = 2_000_000
    data = random.Random(4).randbytes(1_000_000)
    await gatherResults(
        [
            Deferred.fromCoroutine(pair.storage.save(MV(FOO.path, f"v1.{n}.0"), INFO, MOD, BytesZip(data)))
            for n in range(3)
        ]
    )
    pair.proxy.heal()
    for n in range(3):
        assert await whole(await pair.storage.zip(MV(FOO.path, f"v1.{n}.0"))) == data


@pytest_twisted.ensureDeferred
async def test_a_walk_through_the_catalog_of_another(pair: Pair) -> None:
    versions = [MV(FOO.path, f"v1.{number}.0") for number in range(25)]
    for mv in versions:
        await pair.server.storage.save(mv, INFO, MOD, BytesZip(b""))
    found, token = [], ""
    while True:
        page, token = await pair.storage.catalog(token, 10)
        found += page
        if not token:
            break
    assert sorted(found, key=str) == sorted(versions, key=str)
    assert pair.proxy.count("catalog") == 3
