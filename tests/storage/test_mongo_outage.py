"""The MongoDB storage while the server, or the way to it, is in trouble; and that it finds back by itself."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings
from tests.contract.zips import HandZip, Mouthful, whole
from tests.storage.mongos import INFO, MOD, MV, ZIP, events, opened, running, save, turns, until
from tests.support import servers
from tests.support.faults import FaultProxy
from tests.support.mongo_front import MongoFront

LARGE = random.Random(2).randbytes(3_000_000)


@pytest.fixture
def bucket() -> Any:
    bucket = servers.mongo().bucket()
    yield bucket
    bucket.drop()


@pytest_twisted.async_yield_fixture
async def proxy(bucket: Any) -> Any:
    proxy = FaultProxy(reactor, bucket.server.port, http=False)
    yield proxy
    await proxy.stop()


@pytest_twisted.async_yield_fixture
async def front(bucket: Any) -> Any:
    front = MongoFront(reactor, bucket.server.port)
    yield front
    await front.stop()


def url(way: Any, options: str = "") -> str:
    return f"mongodb://127.0.0.1:{way.port}/?{options}"


def counts(bucket: Any) -> list[int]:
    return [bucket.database[name].count_documents({}) for name in ("modules", "fs.files", "fs.chunks")]


async def fails(work: Any, limit: float) -> StorageUnavailable:
    """@return: what C{work} fails with, within the limit and a second."""
    begun = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        await work
    assert time.monotonic() - begun < limit + 1
    assert "127.0.0.1" not in str(caught.value)
    assert str(caught.value).startswith("mongo storage: ")
    return caught.value


# --- Connections that break ---


@pytest_twisted.ensureDeferred
async def test_connections_that_were_cut_are_made_anew(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy), bucket.name) as storage:
        for _ in range(3):
            await save(storage)
            proxy.cut()
            assert await storage.exists(MV)
            proxy.cut()
            await turns(0.02)
            await storage.delete(MV)


@pytest_twisted.ensureDeferred
async def test_a_zip_is_read_on_after_a_cut(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy), bucket.name) as storage:
        await save(storage, MV, LARGE)
        for down in (100_000, 500_000, 1_500_000, 2_900_000):
            proxy.cut_after(down=down)
            assert await whole(await storage.zip(MV)) == LARGE


@pytest.mark.parametrize("up", [10, 700, 100_000, 1_000_000, 2_000_000, 3_000_400, 3_000_900, 3_001_300])
@pytest_twisted.ensureDeferred
async def test_a_save_goes_on_after_a_cut(bucket: Any, proxy: FaultProxy, up: int) -> None:
    async with opened(url(proxy), bucket.name) as storage:
        proxy.cut_after(up=up)
        await save(storage, MV, LARGE)
        assert await whole(await storage.zip(MV)) == LARGE
        assert counts(bucket) == [1, 1, 12]


@pytest.mark.parametrize("command", ["insert", "find", "delete"])
@pytest.mark.parametrize("number", range(4))
@pytest_twisted.ensureDeferred
async def test_what_was_done_though_nobody_heard_of_it_is_done_once(
    bucket: Any, front: MongoFront, command: str, number: int
) -> None:
    """The answer to one of the commands gets lost."""
    async with opened(url(front), bucket.name) as storage:
        await storage.save(ModuleVersion(MV.path, "v1.0.0"), INFO, MOD, BytesZip(b"zip"))
        left = number

        def watch(body: Any) -> None:
            nonlocal left
            if next(iter(body)) == command:
                left -= 1
                if left == -1:
                    front.lose.append(command)

        front.watch = watch
        await save(storage)
        assert await whole(await storage.zip(MV)) == ZIP
        assert counts(bucket) == [2, 2, 4]
        await storage.delete(ModuleVersion(MV.path, "v1.0.0"))
        assert counts(bucket) == [1, 1, 3]


@pytest.mark.parametrize("code", [10107, 11600, 189])
@pytest.mark.parametrize("name", ["find", "insert"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_steps_down_is_left_for_the_next(
    bucket: Any, front: MongoFront, name: str, code: int
) -> None:
    async with opened(url(front), bucket.name) as storage:
        front.answers.append((name, {"ok": 0.0, "code": code, "errmsg": "not primary"}))
        answer = {"ok": 1.0, "n": 1, "writeConcernError": {"code": 11602, "errmsg": "stepping down"}}
        front.answers.append((name, answer))
        await save(storage)
        assert await whole(await storage.zip(MV)) == ZIP


@pytest_twisted.ensureDeferred
async def test_what_the_server_refuses_is_told(bucket: Any, front: MongoFront, logged: Any) -> None:
    async with opened(url(front), bucket.name) as storage:
        full = {"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 14031, "errmsg": "disk is full"}]}
        front.answers.append(("insert", full))
        error = await fails(save(storage), 1)
        assert (str(error), error.detail) == (f"mongo storage: saving {MV}: error 14031", "disk is full")
        front.answers.append(("insert", {"ok": 1.0, "writeConcernError": {"code": 64, "errmsg": "waiting timed out"}}))
        assert "error 64" in str(await fails(save(storage), 1))
        await save(storage)
        front.answers.append(("delete", full))
        assert "error 14031" in str(await fails(storage.delete(MV), 1))
        front.answers.append(("find", {"ok": 0.0, "code": 13, "errmsg": "not allowed"}))
        assert "not allowed" in str(await fails(storage.list(MV.path), 1))
        front.answers.append(("find", {"ok": 1.0, "cursor": {"id": 7, "firstBatch": []}}))
        front.answers.append(("getMore", {"ok": 0.0, "code": 43, "errmsg": "cursor not found"}))
        assert "error 43" in str(await fails(storage.list(MV.path), 1))


@pytest_twisted.ensureDeferred
async def test_files_that_an_old_save_has_left_do_not_fail_the_new_one(
    bucket: Any, front: MongoFront, logged: Any
) -> None:
    metadata = {"module": MV.path, "version": MV.version}
    bucket.files().put(b"old", filename="github.com_BurntSushi_toml_v1.4.0.zip", metadata=metadata)
    async with opened(url(front), bucket.name) as storage:
        front.answers.append(("delete", {"ok": 0.0, "code": 8000, "errmsg": "no"}))
        await save(storage)
        assert await whole(await storage.zip(MV)) == ZIP
        assert events(logged, "old files are left")


# --- Outages ---


@pytest_twisted.ensureDeferred
async def test_an_outage_is_told_once_and_is_over_by_itself(bucket: Any, proxy: FaultProxy, logged: Any) -> None:
    async with opened(url(proxy, "serverSelectionTimeoutMS=100"), bucket.name) as storage:
        await save(storage)
        await proxy.stop()
        for _ in range(3):
            for ask in (storage.exists, storage.info, storage.zip, storage.delete):
                error = await fails(ask(MV), 0.5)
                assert error.retry_after
            await fails(storage.list(MV.path), 0.5)
            await fails(storage.catalog("", 5), 0.5)
            await fails(storage.check(), 0.5)
            body = HandZip(3)
            await fails(storage.save(MV, INFO, MOD, body), 0.5)
            assert (body.started.called, body.stopped) == (False, True)
        (event,) = events(logged, "storage is in trouble")
        assert "no server can be reached" in event["reason"]
        assert str(proxy.port) in event["detail"]
        proxy.heal()
        await storage.check()
        assert await whole(await storage.zip(MV)) == ZIP
        assert len(events(logged, "works again")) == 1
        assert len(events(logged, "storage is in trouble")) == 1


@pytest_twisted.ensureDeferred
async def test_a_short_outage_is_waited_for_and_a_long_one_is_not(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy, "serverSelectionTimeoutMS=1500"), bucket.name) as storage:
        await save(storage)
        await proxy.stop()
        reactor.callLater(0.5, proxy.heal)  # type: ignore[attr-defined]
        assert await storage.exists(MV)
        await proxy.stop()
        await fails(storage.exists(MV), 1.5)
        await turns(1.6)
        begun = time.monotonic()
        await fails(storage.exists(MV), 1.5)
        assert time.monotonic() - begun < 0.5


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_left_at_the_limit(bucket: Any, proxy: FaultProxy, logged: Any) -> None:
    async with opened(url(proxy), bucket.name, limit=0.5) as storage:
        await save(storage)
        body = await storage.zip(MV)
        proxy.frozen = True
        asked = [storage.exists(MV), storage.list(MV.path), storage.catalog("", 3), storage.check(), whole(body)]
        other = ModuleVersion(MV.path, "v1.0.0")
        asked += [storage.delete(other), storage.save(other, INFO, MOD, BytesZip(ZIP))]
        await gatherResults([running(fails(one, 0.5)) for one in asked])
        await fails(storage.exists(MV), 0.5)  # with nothing connected
        proxy.frozen = False
        proxy.cut()
        await until(lambda: proxy.open == 0)
        assert await whole(await storage.zip(MV)) == ZIP
        assert len(events(logged, "storage is in trouble")) == 1
        assert len(events(logged, "works again")) == 1


@pytest_twisted.ensureDeferred
async def test_no_connection_is_trusted_after_a_silence(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy), bucket.name, limit=0.5) as storage:
        await gatherResults([running(storage.exists(MV)) for _ in range(5)])
        assert len(storage._opened.pool._idle) > 3
        proxy.frozen = True
        await fails(storage.check(), 0.5)
        assert storage._opened.pool._open == 0


@pytest_twisted.ensureDeferred
async def test_a_save_into_a_black_hole_fails_at_the_limit_and_is_cleaned_up_later(
    bucket: Any, proxy: FaultProxy, logged: Any
) -> None:
    async with opened(url(proxy), bucket.name, limit=0.5) as storage:
        body = HandZip(len(LARGE))
        saving = running(storage.save(MV, INFO, MOD, body))
        await body.started
        body.give(LARGE[:1_200_000])
        await until(lambda: counts(bucket)[2] == 4)
        proxy.frozen = True
        body.give(LARGE[1_200_000:])
        body.end()
        await fails(saving, 0.5)
        proxy.frozen = False
        await until(lambda: counts(bucket)[2] == 0 or events(logged, "is removed later"))
        with pytest.raises(NotFound):
            await storage.info(MV)
        await save(storage, MV, LARGE)
        assert await whole(await storage.zip(MV)) == LARGE


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_killed_and_started_again(tmp_path: Path, logged: Any) -> None:
    server = servers.own("mongo", tmp_path / "mongo")
    try:
        async with opened(server.endpoint + "/?serverSelectionTimeoutMS=200", "x", limit=3.0) as storage:
            await save(storage)
            server.kill()
            await fails(storage.exists(MV), 3)
            await fails(storage.check(), 3)
            server.start()
            await storage.check()
            assert not await storage.exists(MV)  # its data was in memory
            await save(storage)
            assert await whole(await storage.zip(MV)) == ZIP
            server.pause()
            await fails(storage.exists(MV), 3)
            server.resume()
            assert await whole(await storage.zip(MV)) == ZIP
    finally:
        server.stop()


# --- Connections are few, and none is lost ---


@pytest_twisted.ensureDeferred
async def test_no_more_connections_than_the_settings_allow(bucket: Any, front: MongoFront) -> None:
    async with opened(url(front, "maxPoolSize=2"), bucket.name) as storage:
        await save(storage)
        assert await gatherResults([running(storage.exists(MV)) for _ in range(60)]) == [True] * 60
        assert front.connections == 2
        waiting = [running(storage.exists(MV)) for _ in range(20)]
        for one in waiting[::2]:
            one.cancel()
            with pytest.raises(CancelledError):
                await one
        assert await gatherResults(waiting[1::2]) == [True] * 10
        assert len(front.open) <= 4


@pytest_twisted.ensureDeferred
async def test_who_waits_for_a_connection_makes_one_when_another_fails(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy, "maxPoolSize=1"), bucket.name) as storage:
        await save(storage)
        asked = [running(storage.info(MV)) for _ in range(10)]
        await turns()
        proxy.cut()
        assert await gatherResults(asked) == [INFO] * 10
        assert storage._opened.pool._open == 1


@pytest_twisted.ensureDeferred
async def test_a_thousand_readers_who_leave_take_nothing_along(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy), bucket.name) as storage:
        await save(storage, MV, LARGE)
        for number in range(1000):
            body = await storage.zip(MV)
            sink = Mouthful(body)
            produced = body.startProducing(sink)
            if number % 20 == 0:
                await sink.full
            elif number % 20 == 1:
                await turns()
            produced.cancel()
            with pytest.raises(CancelledError):
                await produced
        pool = storage._opened.pool
        await until(lambda: proxy.open == pool._open == len(pool._idle))
        assert pool._open < 5
        assert storage._grid._ahead == 0


@pytest_twisted.ensureDeferred
async def test_to_stop_ends_what_is_under_way(bucket: Any, proxy: FaultProxy) -> None:
    async with opened(url(proxy, "maxPoolSize=1"), bucket.name) as storage:
        await save(storage)
        proxy.frozen = True
        asked = [running(storage.info(MV)) for _ in range(3)]
        await turns()
    for one in asked:
        with pytest.raises(StorageUnavailable):
            await one
    with pytest.raises(StorageUnavailable):
        await storage.info(MV)


@pytest_twisted.ensureDeferred
async def test_a_storage_that_is_stopped_while_it_starts(bucket: Any, proxy: FaultProxy) -> None:
    proxy.frozen = True
    storage = MongoStorage(reactor, Settings(url(proxy), database=bucket.name))
    with pytest.raises(StorageUnavailable, match="not connected yet"):
        await storage.exists(MV)
    storage.startService()
    await turns(0.05)
    await storage.stopService()
