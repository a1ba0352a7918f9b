"""Zips in GridFS, against the reference: what pymongo wrote is read by us, and the other way round."""

from __future__ import annotations

import random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import CHUNK, BytesZip
from athens_tx.storage.gridfs import CHUNK_SIZE, filename, read_file
from tests.contract.zips import HandZip, Mouthful, whole
from tests.storage.mongos import INFO, MOD, MV, NAME, ZIP, opened, running, save, turns, until
from tests.support import servers
from tests.support.mongo_front import MongoFront

SIZES = (0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 4 * CHUNK_SIZE, 4 * CHUNK_SIZE + 1, 2_500_000)


@pytest.fixture
def bucket() -> Any:
    bucket = servers.mongo().bucket()
    yield bucket
    bucket.drop()


@pytest_twisted.async_yield_fixture
async def storage(bucket: Any) -> Any:
    async with opened(bucket.server.endpoint, bucket.name, limit=20.0) as storage:
        yield storage


def data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_the_name_of_a_file_is_that_of_athens() -> None:
    assert filename(MV) == NAME
    assert filename(ModuleVersion("a/b_c", "v1.0.0+incompatible")) == "a_b_c_v1.0.0+incompatible.zip"


@pytest.mark.parametrize("size", SIZES)
@pytest_twisted.ensureDeferred
async def test_pymongo_reads_what_we_write(bucket: Any, storage: Any, size: int) -> None:
    await save(storage, MV, data(size))
    (found,) = bucket.files().find({"filename": NAME})
    assert (found.length, found.chunk_size, found.read()) == (size, CHUNK_SIZE, data(size))
    assert bucket.database.fs.chunks.count_documents({}) == -(-size // CHUNK_SIZE)


@pytest.mark.parametrize("chunk", [CHUNK_SIZE, 1000, 1 << 20, 3 << 20])
@pytest.mark.parametrize("size", SIZES)
@pytest_twisted.ensureDeferred
async def test_we_read_what_pymongo_writes(bucket: Any, storage: Any, size: int, chunk: int) -> None:
    if chunk == 1000:
        size //= 100
    bucket.files().put(data(size), filename=NAME, chunk_size=chunk)
    bucket.database.modules.insert_one({"module": MV.path, "version": MV.version, "mod": MOD, "info": INFO})
    body = await storage.zip(MV)
    assert (body.length, await whole(body)) == (size, data(size))
    chance = random.Random(size)
    for _ in range(6):
        start = chance.randint(0, size)
        length = chance.randint(0, size - start)
        part = (await storage.zip(MV)).part(start, length)
        assert await whole(part) == data(size)[start : start + length]


@pytest_twisted.ensureDeferred
async def test_a_large_chunk_comes_in_pieces_of_the_usual_size(bucket: Any, storage: Any) -> None:
    bucket.files().put(data(2_000_000), filename=NAME, chunk_size=2_000_000)
    bucket.database.modules.insert_one({"module": MV.path, "version": MV.version, "mod": MOD, "info": INFO})
    body = await storage.zip(MV)
    sink = Mouthful(body)
    produced = body.startProducing(sink)
    await sink.full
    assert len(sink.data) == CHUNK
    while not produced.called:
        body.resumeProducing()
        await turns()
    assert sink.data == data(2_000_000)


@pytest_twisted.ensureDeferred
async def test_a_zip_begins_and_ends_in_the_right_chunk(bucket: Any, storage: Any) -> None:
    await save(storage)
    bucket.database.fs.chunks.delete_many({"n": {"$ne": 1}})
    body = (await storage.zip(MV)).part(CHUNK_SIZE + 5, CHUNK_SIZE - 10)
    assert await whole(body) == ZIP[CHUNK_SIZE + 5 : 2 * CHUNK_SIZE - 5]


def _missing(chunks: Any) -> None:
    chunks.delete_one({"n": 1})


def _short(chunks: Any) -> None:
    chunks.update_one({"n": 1}, {"$set": {"data": b"short"}})


def _long(chunks: Any) -> None:
    chunks.update_one({"n": 2}, {"$set": {"data": bytes(CHUNK_SIZE)}})


def _wrong(chunks: Any) -> None:
    chunks.update_one({"n": 0}, {"$set": {"data": "text"}})


@pytest.mark.parametrize("spoil", [_missing, _short, _long, _wrong])
@pytest_twisted.ensureDeferred
async def test_a_chunk_that_is_not_right_is_a_failure_and_never_a_short_zip(
    bucket: Any, storage: Any, spoil: Any
) -> None:
    await save(storage)
    spoil(bucket.database.fs.chunks)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="missing or has a wrong length"):
            await whole(storage._grid.open(read_file(bucket.database.fs.files.find_one())))


@pytest_twisted.ensureDeferred
async def test_a_zip_that_was_found_to_lack_a_chunk_is_absent_and_gets_healed(bucket: Any, storage: Any) -> None:
    await save(storage)
    _missing(bucket.database.fs.chunks)
    with pytest.raises(StorageUnavailable):
        await whole(await storage.zip(MV))
    assert not await storage.exists(MV)
    await save(storage)
    assert await whole(await storage.zip(MV)) == ZIP
    assert bucket.database.fs.files.count_documents({}) == 1
    assert bucket.database.fs.chunks.count_documents({}) == 3


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_deleted_while_it_is_read_is_not_found(bucket: Any, storage: Any) -> None:
    await save(storage, MV, data(2_500_000))
    body = await storage.zip(MV)
    sink = Mouthful(body)
    produced = body.startProducing(sink)
    await sink.full
    await storage.delete(MV)
    while not produced.called:
        body.resumeProducing()
        await turns()
    with pytest.raises(NotFound):
        await produced


@pytest_twisted.ensureDeferred
async def test_a_paused_zip_asks_for_nothing_and_what_is_held_is_counted(storage: Any) -> None:
    await save(storage, MV, data(2_500_000))
    bodies = [await storage.zip(MV) for _ in range(10)]
    sinks = [Mouthful(body) for body in bodies]
    produced = [body.startProducing(sink) for body, sink in zip(bodies, sinks, strict=True)]
    for sink in sinks:
        await sink.full
    assert storage._grid._ahead == 10 * 3 * CHUNK_SIZE
    storage._grid.hold(32 << 20)  # as if others had read all that may be
    assert storage._grid.ahead(9, CHUNK_SIZE) == 1
    storage._grid.hold(-(32 << 20))
    for body, one in zip(bodies[:5], produced[:5], strict=True):
        body.stopProducing()
        one.cancel()
        with pytest.raises(CancelledError):
            await one
    assert storage._grid._ahead == 5 * 3 * CHUNK_SIZE
    for body, one, sink in zip(bodies[5:], produced[5:], sinks[5:], strict=True):
        while not one.called:
            body.resumeProducing()
            await turns()
        assert sink.data == data(2_500_000)
    assert storage._grid._ahead == 0


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_paused_at_the_end_of_what_it_has_asks_for_no_more(bucket: Any) -> None:
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            await save(storage, MV, data(2_500_000))
            body = await storage.zip(MV)
            sink = Mouthful(body)
            front.seen.clear()
            produced = body.startProducing(sink)
            await sink.full
            for _ in range(3):
                await turns()
                body.resumeProducing()
            for _ in range(10):
                await turns(0.01)
            assert front.names() == ["find"]
            assert len(sink.data) == 4 * CHUNK_SIZE
            produced.cancel()
            with pytest.raises(CancelledError):
                await produced
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_fails_ends_the_zip(storage: Any) -> None:
    class Broken:
        def write(self, piece: bytes) -> None:
            raise ValueError("no more")

    await save(storage)
    body = await storage.zip(MV)
    with pytest.raises(ValueError, match="no more"):
        await body.startProducing(Broken())
    assert storage._grid._ahead == 0


@pytest_twisted.ensureDeferred
async def test_a_save_sends_as_it_comes_and_pauses_what_is_too_fast(bucket: Any, storage: Any) -> None:
    body = HandZip(12 * CHUNK_SIZE)
    saving = running(storage.save(MV, INFO, MOD, body))
    await body.started
    body.give(data(4 * CHUNK_SIZE))
    assert body.paused
    await until(lambda: not body.paused)
    assert bucket.database.fs.chunks.count_documents({}) == 4
    assert bucket.database.fs.files.count_documents({}) == 0
    body.give(data(8 * CHUNK_SIZE))
    body.end()
    await saving
    assert await whole(await storage.zip(MV)) == data(4 * CHUNK_SIZE) + data(8 * CHUNK_SIZE)


@pytest_twisted.ensureDeferred
async def test_one_of_many_saves_sends_less_at_once(bucket: Any, storage: Any) -> None:
    bodies = [HandZip(20 * CHUNK_SIZE) for _ in range(9)]
    saves = []
    for number, body in enumerate(bodies):
        saves.append(running(storage.save(ModuleVersion("example.com/x", f"v1.0.{number}"), INFO, MOD, body)))
        await body.started
    bodies[8].give(bytes(CHUNK_SIZE))
    await until(lambda: bucket.database.fs.chunks.count_documents({}) == 1)
    for one in saves:
        one.cancel()
        with pytest.raises(CancelledError):
            await one
    await storage.save(MV, INFO, MOD, BytesZip(ZIP))
    assert bucket.database.fs.chunks.count_documents({}) == 3
