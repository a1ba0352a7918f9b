"""Locks in Google Cloud Storage: the object, who may take it over, and trouble on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from athens_tx.backends import LOCKS, STORAGES
from athens_tx.config import Config
from athens_tx.config.backends import Gcp, Storage
from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight import gcp, objects
from athens_tx.singleflight.gcp import GcpLocks
from tests.support import servers
from tests.support.faults import FaultProxy

reactor: Any = _reactor

NAME = "github.com/Acme/lib@feature/x.info"
KEY = f".athens-tx/locks/{NAME}.lock"


class Bench:
    """A bucket of the session's server, and a proxy that makes trouble."""

    def __init__(self) -> None:
        self.bucket = servers.gcs().bucket()
        self.proxy = FaultProxy(reactor, servers.gcs().port)
        self.all: list[GcpLocks] = []

    def made(self, bucket: str = "") -> GcpLocks:
        config = Config(storage_type="gcp", storage=Storage(gcp=Gcp(bucket=bucket or self.bucket.name)))
        locks: GcpLocks = LOCKS["gcp"](reactor, config, {"STORAGE_EMULATOR_HOST": self.proxy.endpoint})
        self.all.append(locks)
        return locks

    async def locks(self, lease: float = 30.0) -> GcpLocks:
        locks = self.made()
        locks.lease = lease
        await locks.connect()
        return locks

    async def stop(self) -> None:
        for locks in self.all:
            await locks.close()
        await self.proxy.stop()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_the_object_of_a_lock_is_nobodys_version(bench: Bench) -> None:
    locks = await bench.locks()
    assert bench.bucket.names() == [], "the start leaves nothing"
    lock = locks.lock(NAME)
    assert await lock.take()
    assert bench.bucket.names() == [KEY]
    assert len(bench.bucket.get(KEY)) == 32
    config = Config(storage_type="gcp", storage=Storage(gcp=Gcp(bucket=bench.bucket.name)))
    storage = STORAGES["gcp"](reactor, config, {"STORAGE_EMULATOR_HOST": bench.proxy.endpoint})
    storage.startService()
    await storage.ready
    assert await storage.catalog("", 100) == ([], "")
    assert list(await storage.incomplete()) == []
    assert list(await storage.list("github.com/Acme/lib")) == []
    assert not await storage.exists(ModuleVersion("github.com/Acme/lib", "v1.0.0"))
    await storage.stopService()
    await lock.release()
    assert bench.bucket.names() == []
    await locks.check()


@pytest_twisted.ensureDeferred
async def test_a_holder_that_does_not_renew_is_followed_by_the_clock_of_the_store(
    bench: Bench, logged: list[dict[str, Any]]
) -> None:
    mine, yours = (await bench.locks(2)).lock(NAME), (await bench.locks(2)).lock(NAME)
    assert await mine.take()
    begun = reactor.seconds()
    while not await yours.take():
        assert reactor.seconds() - begun < 5
        await yours.changed(1.0)
    assert reactor.seconds() - begun > 1.9
    assert [event for event in logged if event["log_format"].startswith("took over a lock")]
    assert not await mine.renew()
    with pytest.raises(LockLost):
        await mine.release()
    assert bench.bucket.names() == [KEY], "it is the other's"
    assert await yours.renew()
    await yours.release()
    assert bench.bucket.names() == []


@pytest_twisted.ensureDeferred
async def test_a_holder_that_renews_is_not_followed(bench: Bench) -> None:
    mine, yours = (await bench.locks(2)).lock(NAME), (await bench.locks(2)).lock(NAME)
    assert await mine.take()
    for _ in range(8):
        await deferLater(reactor, 0.5)
        assert await mine.renew()
        assert not await yours.take()
    before = bench.proxy.count("POST")
    assert not await yours.take()
    assert bench.proxy.count("POST") == before, "who waits only looks"
    await mine.release()
    assert await yours.take()
    await yours.release()


@pytest_twisted.ensureDeferred
async def test_of_two_who_follow_one_is_first(bench: Bench) -> None:
    gone, first, second = [(await bench.locks(0.5)).lock(NAME) for _ in range(3)]
    assert await gone.take()
    assert not await first.take()
    await deferLater(reactor, 2.0)
    write = second._write

    async def late(generation: str) -> bool:
        if generation != "0":
            assert await first.take()
        return await write(generation)

    second._write = late  # type: ignore[method-assign]
    assert not await second.take()
    await second.release()
    await first.release()
    assert bench.bucket.names() == []


@pytest_twisted.ensureDeferred
async def test_lost_answers_are_found_out(bench: Bench) -> None:
    lock = (await bench.locks()).lock(NAME)
    bench.proxy.lose_answer(match="POST /upload")
    assert await lock.take()
    bench.proxy.lose_answer(match="POST /upload")
    assert await lock.renew()
    assert await lock.renew()
    await lock.release()
    assert bench.bucket.names() == []


@pytest_twisted.ensureDeferred
async def test_who_does_not_know_whether_he_has_it_releases_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (await bench.locks()).lock(NAME)
    bench.proxy.lose_answer(times=None, match="POST /upload")
    with pytest.raises(LockUnavailable, match="gcp lock: put "):
        await lock.take()
    assert bench.bucket.names() == [KEY]
    bench.proxy.heal()
    await lock.release()
    assert bench.bucket.names() == []
    again = (await bench.locks()).lock(NAME)
    assert await again.take()
    bench.proxy.lose_answer(times=None, match="POST /upload")
    with pytest.raises(LockUnavailable):
        await again.renew()
    bench.proxy.heal()
    await again.release()
    assert bench.bucket.names() == []


@pytest_twisted.ensureDeferred
async def test_an_object_that_somebody_removed_is_lost(bench: Bench) -> None:
    lock = (await bench.locks()).lock(NAME)
    assert await lock.take()
    bench.bucket.drop(KEY)
    assert not await lock.renew()
    with pytest.raises(LockLost):
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_left_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp, "LIMIT", 0.5)
    locks = await bench.locks()
    lock = locks.lock(NAME)
    assert await lock.take()
    bench.proxy.frozen = True
    for call in (lock.take, lock.renew, locks.check, locks.lock("other@v1").take):
        begun = reactor.seconds()
        with pytest.raises(LockUnavailable) as caught:
            await call()
        assert reactor.seconds() - begun < 1.5
        assert str(bench.proxy.port) not in str(caught.value)
        assert caught.value.retry_after == 10
    bench.proxy.heal()
    assert await lock.renew()
    await lock.release()


@pytest_twisted.ensureDeferred
async def test_the_start_fails_and_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^Storage\.GCP\.Bucket: there is no such bucket"):
        await bench.made("none-of-this-name").connect()
    bench.proxy.answer(403, match="POST", body=b'{"error": {"message": "no objects.create"}}')
    with pytest.raises(
        ConfigError, match=r"^SingleFlightType gcp: .*status 403: no objects\.create.* allowed to"
    ) as caught:
        await bench.made().connect()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(objects, "START_LIMIT", 0.3)
    bench.proxy.frozen = True
    with pytest.raises(ConfigError, match=r"^SingleFlightType gcp: no answer within 0\.3 s"):
        await bench.made().connect()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"no JSON"),
        (200, b'{"generation": "1"}'),
        (200, b'{"generation": "1", "updated": "yesterday"}'),
        (404, b'{"error": {"message": "The specified bucket does not exist."}}'),
        (403, b""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers_that_are_none(bench: Bench, status: int, body: bytes) -> None:
    locks = await bench.locks()
    bench.proxy.answer(status, match="GET", body=body)
    with pytest.raises(LockUnavailable, match=r"^gcp lock: "):
        await locks.check()
    bench.proxy.answer(404, match="POST", body=b'{"error": {"message": "The specified bucket does not exist."}}')
    with pytest.raises(LockUnavailable, match="status 404"):
        await locks.lock(NAME).take()
    bench.proxy.answer(200, match="POST", body=b"{}")
    with pytest.raises(LockUnavailable, match="not the answer of Google Cloud Storage"):
        await locks.lock(NAME).take()


@pytest_twisted.ensureDeferred
async def test_old_objects_are_removed_and_no_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = await bench.locks()
    bench.bucket.put(KEY, b"left")
    bench.bucket.put("github.com/a/b/@v/v1.0.0.mod", b"module github.com/a/b\n")
    await locks._sweeper.sweep()
    assert len(bench.bucket.names()) == 2, "it is young"
    monkeypatch.setattr(objects, "ABANDONED", -1.0)
    await locks._sweeper.sweep()
    assert bench.bucket.names() == ["github.com/a/b/@v/v1.0.0.mod"]


@pytest_twisted.ensureDeferred
async def test_old_objects_are_looked_for_now_and_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(objects, "FIRST_SWEEP", 0.05)
    monkeypatch.setattr(objects, "SWEEP", 0.05)
    monkeypatch.setattr(objects, "ABANDONED", -1.0)
    bench.proxy.answer(403, match=r"GET .*prefix=")
    await bench.locks()
    for _ in range(2):
        bench.bucket.put(KEY, b"left")
        begun = reactor.seconds()
        while bench.bucket.names():
            assert reactor.seconds() - begun < 5
            await deferLater(reactor, 0.02)
    assert [event for event in logged if event["log_format"].startswith("old locks stay")]


def test_pauses_grow_to_a_second() -> None:
    pauses = objects.Pauses(lambda: 0.5)
    waits = [pauses.next() for _ in range(12)]
    assert (waits[0], waits[-1]) == (0.2, 1.0)
    assert waits == sorted(waits)
    assert objects.Pauses(lambda: 0.0).next() == pytest.approx(0.15)
    assert objects.Pauses(lambda: 1.0).next() == pytest.approx(0.25)
