"""Locks in Azure Blob Storage: the blob and its lease as Athens has them, old blobs, and trouble on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobLeaseClient
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from athens_tx.backends import LOCKS, STORAGES
from athens_tx.config import Config
from athens_tx.config.backends import AzureBlob, Storage
from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.singleflight import azureblob, objects
from athens_tx.singleflight.azureblob import AzureBlobLocks
from tests.support import servers
from tests.support.faults import FaultProxy

reactor: Any = _reactor

NAME = "github.com/Acme/lib@feature/x"
BLOB = f"lease/{NAME}"


class Bench:
    """A container, and a proxy that makes trouble."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.bucket = server.bucket()
        self.proxy = FaultProxy(reactor, server.port)
        self.all: list[AzureBlobLocks] = []

    def config(self, **more: str) -> Config:
        settings = {
            "account_name": self.server.account,
            "account_key": self.server.key,
            "container_name": self.bucket.name,
            "endpoint": f"{self.proxy.endpoint}/{self.server.account}",
        }
        return Config(storage_type="azureblob", storage=Storage(azure_blob=AzureBlob(**settings | more)))

    def made(self, **more: str) -> AzureBlobLocks:
        locks: AzureBlobLocks = LOCKS["azureblob"](reactor, self.config(**more), {})
        self.all.append(locks)
        return locks

    async def locks(self) -> AzureBlobLocks:
        locks = self.made()
        await locks.connect()
        return locks

    def blob(self) -> Any:
        return self.bucket.client.get_blob_client(BLOB)

    def state(self) -> tuple[str, str]:
        """@return: what Azure says of the lease."""
        lease = self.blob().get_blob_properties().lease
        return lease.state, lease.duration

    def break_lease(self) -> None:
        BlobLeaseClient(self.blob()).break_lease(0)

    async def stop(self) -> None:
        for locks in self.all:
            await locks.close()
        await self.proxy.stop()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(servers.azure())
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_the_blob_and_its_lease_are_those_of_athens(bench: Bench) -> None:
    locks = await bench.locks()
    assert bench.bucket.names() == [], "the start leaves nothing"
    lock = locks.lock(NAME)
    assert lock.lease == 15
    assert await lock.take()
    assert bench.bucket.keys() == {BLOB: b"\x01"}
    assert bench.blob().get_blob_properties().blob_type == "BlockBlob"
    assert bench.state() == ("leased", "fixed")
    with pytest.raises(HttpResponseError) as caught:
        bench.blob().upload_blob(b"\x01", overwrite=True)
    assert caught.value.status_code == 412
    storage = STORAGES["azureblob"](reactor, bench.config(), {})
    storage.startService()
    await storage.ready
    assert await storage.catalog("", 100) == ([], "")
    assert list(await storage.incomplete()) == []
    await storage.stopService()
    await lock.release()
    assert bench.state()[0] == "available"
    await locks.check()


@pytest_twisted.ensureDeferred
async def test_who_waits_leaves_the_blob_alone_until_it_is_free(bench: Bench) -> None:
    lock = (await bench.locks()).lock(NAME)
    bench.bucket.put(BLOB, b"\x01")
    token = BlobLeaseClient(bench.blob(), str(uuid4()))
    token.acquire(15)
    before = bench.proxy.count("PUT")
    for _ in range(3):
        assert not await lock.take()
        await lock.changed(0.01)
    assert bench.proxy.count("PUT") == before + 4, "written once, and asked for thrice"
    token.release()
    assert await lock.take()
    await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_lease_that_was_broken_and_taken_is_lost(bench: Bench) -> None:
    mine, yours = [(await bench.locks()).lock(NAME) for _ in range(2)]
    assert await mine.take()
    bench.break_lease()
    assert await yours.take()
    assert not await mine.renew()
    with pytest.raises(LockLost):
        await mine.release()
    assert await yours.renew()
    await yours.release()


@pytest_twisted.ensureDeferred
async def test_lost_answers_do_no_harm(bench: Bench) -> None:
    lock = (await bench.locks()).lock(NAME)
    for _ in range(2):  # the write, and the lease
        bench.proxy.lose_answer(match="PUT")
        assert await lock.take()
    bench.proxy.lose_answer(match="PUT")
    assert await lock.renew()
    await lock.release()
    assert bench.state()[0] == "available"


@pytest_twisted.ensureDeferred
async def test_who_does_not_know_whether_he_has_it_releases_it(bench: Bench) -> None:
    lock = (await bench.locks()).lock(NAME)
    bench.proxy.lose_answer(times=None, match="comp=lease")
    with pytest.raises(LockUnavailable, match=f"^azureblob lock: acquire lease/{NAME}: "):
        await lock.take()
    assert bench.state()[0] == "leased"
    bench.proxy.heal()
    await lock.release()
    assert bench.state()[0] == "available"


@pytest_twisted.ensureDeferred
async def test_a_blob_that_is_gone_is_made_again(bench: Bench) -> None:
    locks = await bench.locks()
    holder, lock = locks.lock(NAME), locks.lock(NAME)
    assert await holder.take()
    assert not await lock.take()
    bench.break_lease()
    bench.bucket.drop(BLOB)
    assert not await holder.renew()
    assert await lock.take()
    await lock.release()
    bench.proxy.answer(404, times=2, match="comp=lease", headers={"x-ms-error-code": "ContainerNotFound"})
    with pytest.raises(LockUnavailable, match=r"take .*: status 404 ContainerNotFound") as caught:
        await locks.lock(NAME).take()
    assert "Storage.AzureBlob.ContainerName" in caught.value.detail


@pytest_twisted.ensureDeferred
async def test_a_server_that_was_away(tmp_path: Path) -> None:
    server = servers.own("azure", tmp_path / "azure")
    bench = Bench(server)
    try:
        locks = await bench.locks()
        lock = locks.lock(NAME)
        assert await lock.take()
        bench.proxy.refuse()
        bench.proxy.cut()
        with pytest.raises(LockUnavailable):
            await lock.renew()
        bench.proxy.accept()
        assert await lock.renew()
        await lock.release()
    finally:
        await bench.stop()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_left_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azureblob, "LIMIT", 0.5)
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
    with pytest.raises(ConfigError, match=r"^Storage\.AzureBlob\.ContainerName: there is no such container"):
        await bench.made(container_name="none-of-this-name").connect()
    with pytest.raises(ConfigError, match=r"^Storage\.AzureBlob: the server answers 403") as caught:
        await bench.made(account_key="aHVzaA==").connect()
    assert "aHVzaA" not in str(caught.value)
    bench.proxy.answer(403, match="PUT", headers={"x-ms-error-code": "AuthorizationPermissionMismatch"})
    text = r"^SingleFlightType azureblob: azureblob lock: put .*AuthorizationPermissionMismatch.* allowed to"
    with pytest.raises(ConfigError, match=text) as caught:
        await bench.made().connect()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(objects, "START_LIMIT", 0.3)
    bench.proxy.frozen = True
    with pytest.raises(ConfigError, match=r"^SingleFlightType azureblob: no answer within 0\.3 s"):
        await bench.made().connect()


@pytest_twisted.ensureDeferred
async def test_old_blobs_are_removed_unless_they_are_leased(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = await bench.locks()
    lock = locks.lock(NAME)
    assert await lock.take()
    bench.bucket.put("lease/github.com/a/b@v1.0.0", b"\x01")
    bench.bucket.put("github.com/a/b/@v/v1.0.0.mod", b"module github.com/a/b\n")
    await locks.sweep()
    assert len(bench.bucket.names()) == 3, "they are young"
    monkeypatch.setattr(objects, "ABANDONED", -2.0)
    await locks.sweep()
    assert bench.bucket.names() == ["github.com/a/b/@v/v1.0.0.mod", BLOB]
    assert await lock.renew()
    await lock.release()
    await locks.sweep()
    assert bench.bucket.names() == ["github.com/a/b/@v/v1.0.0.mod"]


@pytest_twisted.ensureDeferred
async def test_an_old_blob_that_somebody_wants_meanwhile_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = await bench.locks()
    bench.bucket.put(BLOB, b"\x01")
    monkeypatch.setattr(objects, "ABANDONED", -2.0)
    remove = locks._sweeper._remove

    async def late(stored: Any) -> None:
        await deferLater(reactor, 0)
        bench.bucket.put(BLOB, b"\x01")  # as Athens does before it asks for the lease
        await remove(stored)

    monkeypatch.setattr(locks._sweeper, "_remove", late)
    await locks.sweep()
    assert bench.bucket.names() == [BLOB]


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_lease_that_nobody_renews_is_free_after_15_s(bench: Bench) -> None:
    mine, yours = [(await bench.locks()).lock(NAME) for _ in range(2)]
    assert await mine.take()
    begun = reactor.seconds()
    while not await yours.take():
        assert reactor.seconds() - begun < 18
        await yours.changed(1.0)
    assert reactor.seconds() - begun > 10
    assert not await mine.renew()
    await yours.release()
