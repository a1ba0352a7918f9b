"""Saves over S3 that are given up, outages, and how a storage begins and ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from athens_tx.errors import BadUpstream, ConfigError, StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.s3 import PART
from tests.contract.zips import HandZip, Mouthful
from tests.storage.s3_world import (
    INFO,
    LARGE,
    MOD,
    ONE,
    PIECE,
    SMALL,
    World,
    a_world,
    assert_whole,
    error,
    failing,
    save,
    told,
)
from tests.support import servers

world = pytest_twisted.async_yield_fixture(a_world)


# --- who gives up, and what is left then


@pytest.mark.parametrize("given", [0, PART - 1, PART, PART + 1, 2 * PART + 5])
@pytest.mark.parametrize("how", ["cancelled", "broken", "short"])
@pytest_twisted.ensureDeferred
async def test_a_save_given_up_anywhere_leaves_no_unfinished_upload(world: World, given: int, how: str) -> None:
    storage = await world.storage()
    body = HandZip(3 * PART)
    saving = Deferred.fromCoroutine(storage.save(ONE, INFO, MOD, body))
    await body.started
    for start in range(0, given, 1 << 20):
        body.give(bytes(min(1 << 20, given - start)))
    await world.quiet()
    if how == "cancelled":
        saving.cancel()
    elif how == "broken":
        body.break_off(ZeroDivisionError("of the source"))
    else:
        body.end()
    with pytest.raises({"cancelled": CancelledError, "broken": ZeroDivisionError, "short": BadUpstream}[how]):
        await saving
    await world.quiet()
    assert world.bucket.unfinished() == []
    assert world.bucket.names() == []


@pytest_twisted.ensureDeferred
async def test_what_can_not_be_given_up_now_is_found_at_the_next_start(
    world: World, logged: list[dict[str, Any]]
) -> None:
    storage = await world.storage()
    world.proxy.answer(403, match=PIECE, body=error("AccessDenied"))
    world.proxy.answer(503, times=None, match="DELETE .*uploadId")
    await failing(storage, LARGE)
    await storage.stopService()
    assert told(logged, "an upload is left behind") == 1
    assert len(world.bucket.unfinished()) == 1
    world.proxy.heal()
    foreign = world.bucket.client.create_multipart_upload(Bucket=world.bucket.name, Key="somebody/else")
    await world.storage()
    assert len(world.bucket.unfinished()) == 2  # it may be in use
    world.proxy.requests.clear()
    later = await world.storage()
    await later._objects.sweep(0.0)
    assert world.bucket.unfinished() == ["somebody/else"]
    client = world.bucket.client
    client.abort_multipart_upload(Bucket=world.bucket.name, Key="somebody/else", UploadId=foreign["UploadId"])


@pytest_twisted.ensureDeferred
async def test_the_sweep_goes_through_all_pages_and_gives_up_what_is_old(world: World) -> None:
    upload = "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}-01-01T12:00:00Z</Initiated></Upload>"
    first = (
        upload.format("a/@v/v1.0.0.zip", "old", 2020)
        + upload.format("a/@v/v1.0.0.zip", "new", 2200)
        + upload.format("a/else", "foreign", 2020)
    )
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>"
    document = "<ListMultipartUploadsResult>{}</ListMultipartUploadsResult>"
    world.proxy.answer(200, match=r"GET .*uploads", body=document.format(first + more).encode())
    second = document.format(upload.format("b/@v/v1.0.0.zip", "older", 2019)).encode()
    world.proxy.answer(200, match="upload-id-marker=1", body=second)
    storage = world.made()
    storage.startService()
    await storage.ready
    for _ in range(500):
        if world.proxy.count("DELETE") == 2:
            break
        await deferLater(reactor, 0.01, lambda: None)
    deleted = [request.target for request in world.proxy.requests if request.method == "DELETE"]
    assert sorted(target.partition("uploadId=")[2] for target in deleted) == ["old", "older"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error("AccessDenied")),
        (501, error("NotImplemented")),
        (200, b"<html>"),
        (
            200,
            b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
            b"</ListMultipartUploadsResult>",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_sweep_that_can_not_be_made_is_no_outage(
    world: World, status: int, body: bytes, logged: list[dict[str, Any]]
) -> None:
    world.proxy.answer(status, times=None, match=r"GET .*uploads", body=body)
    storage = await world.storage()
    assert told(logged, "leftovers of uploads stay") == 1
    assert told(logged, "is in trouble") == 0
    await save(storage)


# --- the network


@pytest_twisted.ensureDeferred
async def test_a_black_hole_gives_an_error_within_the_limit(world: World) -> None:
    storage = await world.storage(timeout=1.5)
    await save(storage)
    world.proxy.frozen = True
    asks: tuple[Callable[[], Any], ...] = (
        lambda: storage.info(ONE),
        lambda: storage.zip(ONE),
        lambda: storage.exists(ONE),
        lambda: save(storage),
        storage.check,
    )
    begun = time.monotonic()
    waiting = [Deferred.fromCoroutine(ask()) for ask in asks]
    for each in waiting:
        with pytest.raises(StorageUnavailable, match=r"^s3 storage: .*: no "):
            await each
    assert time.monotonic() - begun < 2.5
    world.proxy.heal()
    await assert_whole(storage)


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_up_between_requests_is_asked_again(world: World) -> None:
    storage = await world.storage()
    await save(storage)
    for trouble in (world.proxy.half_close, world.proxy.cut):
        trouble()
        await assert_whole(storage)


@pytest_twisted.ensureDeferred
async def test_an_outage_and_its_end_without_a_restart(logged: list[dict[str, Any]], tmp_path: Any) -> None:
    server = servers.own("s3", tmp_path / "s3")
    world = World(server)
    try:
        storage = await world.storage(timeout=1.5)
        await save(storage)
        server.kill()
        for ask in (lambda: storage.info(ONE), lambda: storage.exists(ONE), storage.check, lambda: storage.zip(ONE)):
            begun = time.monotonic()
            with pytest.raises(StorageUnavailable) as raised:
                await ask()
            assert raised.value.retry_after == 10
            assert time.monotonic() - begun < 4
            for word in ("127.0.0.1", "://", server.secret_key):
                assert word not in str(raised.value)
        with pytest.raises(StorageUnavailable):
            await save(storage, SMALL, MV("a/b", "v1.0.0"))
        assert told(logged, "is in trouble") == 1
        server.start()
        await storage.check()
        await assert_whole(storage)
        await save(storage, LARGE, MV("a/b", "v1.0.0"))
        assert told(logged, "works again") == 1
    finally:
        await world.stop()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_saves_whose_connections_break_at_random_are_seen_whole_or_not_at_all(world: World) -> None:
    storage = await world.storage(timeout=5.0)
    chance = random.Random(5)
    for number in range(12):
        mv = MV("x/y", f"v1.0.{number}")
        zipped = LARGE if number % 2 else SMALL
        world.proxy.cut_after(up=chance.randrange(2 * len(zipped)), outage=number % 3 == 0)
        try:
            await save(storage, zipped, mv)
        except StorageUnavailable:
            world.proxy.heal()
            assert not await storage.exists(mv)
        world.proxy.heal()
        await save(storage, zipped, mv)
        await assert_whole(storage, zipped, mv)
    await world.quiet()
    assert world.bucket.unfinished() == []
    assert len(await storage.list("x/y")) == 12
    objects: Any = storage._objects
    assert objects._budget._used == 0


@pytest_twisted.ensureDeferred
async def test_a_slow_connection_is_not_a_broken_one(world: World) -> None:
    storage = await world.storage()
    world.proxy.rate = 1_000_000
    await save(storage)
    await assert_whole(storage)


@pytest_twisted.ensureDeferred
async def test_reads_that_are_given_up_leave_no_connection(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    for number in range(20):
        body = await storage.zip(ONE)
        mouth = Mouthful(body)
        if number % 2:
            done = body.startProducing(mouth)
            if number % 4 == 3:
                await mouth.full
            done.addErrback(lambda _: None)
        body.stopProducing()
    await world.quiet()
    assert world.proxy.open <= 1
    await assert_whole(storage, LARGE)


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_storage_waits_for_no_server(
    world: World, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    storage = await world.storage()
    body = HandZip(3 * PART)
    saving = Deferred.fromCoroutine(storage.save(ONE, INFO, MOD, body))
    await body.started
    saving.addErrback(lambda _: None)
    monkeypatch.setattr("athens_tx.storage.background.CLOSING", 0.3)
    world.proxy.frozen = True
    reading = Deferred.fromCoroutine(storage.info(ONE))
    saving.cancel()
    begun = time.monotonic()
    await storage.stopService()
    assert time.monotonic() - begun < 2
    assert reading.called  # nothing is asked again
    with pytest.raises(StorageUnavailable):
        await reading
    assert told(logged, "is in trouble") == 0
    assert not storage._objects._aborting  # type: ignore[attr-defined]


# --- the start


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"bucket": "nowhere"}, "Storage.S3.Bucket: there is no such bucket; make it, or name another"),
        ({"key": "nobody"}, "Storage.S3: the server answers 404 XAdminUserNotFound: look at Key, Secret and Token"),
        (
            {"secret": "sesame"},
            "Storage.S3: the server answers 403 SignatureDoesNotMatch: look at Key, Secret and Token",
        ),
        ({"region": "eu-central-1"}, "Storage.S3.Region: the bucket is in us-east-1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_start_that_can_not_be_says_on_one_line_what_to_look_at(
    world: World, settings: dict[str, str], line: str, logged: list[dict[str, Any]]
) -> None:
    storage = world.made(**settings)
    storage.startService()
    with pytest.raises(ConfigError) as raised:
        await storage.ready
    assert str(raised.value) == line
    assert "sesame" not in str(logged)


@pytest.mark.parametrize(
    ("status", "headers", "code", "line"),
    [
        (
            301,
            {"x-amz-bucket-region": "eu-west-1"},
            "PermanentRedirect",
            "Storage.S3.Region: the bucket is in eu-west-1",
        ),
        (
            403,
            {},
            "InvalidAccessKeyId",
            "Storage.S3: the server answers 403 InvalidAccessKeyId: look at Key, Secret and Token",
        ),
        (404, {}, "", "Storage.S3.Bucket: there is no such bucket; make it, or name another"),
        (400, {}, "ExpiredToken", "Storage.S3: the server answers 400 ExpiredToken: look at Key, Secret and Token"),
        (
            403,
            {"x-amz-bucket-region": "us-east-1"},
            "AccessDenied",
            "Storage.S3: the server answers 403 AccessDenied: the credentials must be allowed to list, read, write and "
            "delete in Bucket",
        ),
        (
            400,
            {},
            "InvalidRequest",
            "Storage.S3: the server answers 400 InvalidRequest: a reason: look at Endpoint, Region and Bucket",
        ),
        (
            405,
            {},
            "",
            "Storage.S3: the server answers 405 without a reason: look at Endpoint, Region and Bucket",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_other_servers_say_at_the_start(
    world: World, status: int, headers: dict[str, str], code: str, line: str
) -> None:
    world.proxy.answer(status, times=None, headers=headers, body=error(code) if code else b"<html>")
    storage = world.made()
    storage.startService()
    with pytest.raises(ConfigError) as raised:
        await storage.ready
    assert str(raised.value) == line


@pytest_twisted.ensureDeferred
async def test_a_start_where_nobody_listens(world: World) -> None:
    world.proxy.refuse()
    storage = world.made(timeout=10.0)
    storage.startService()
    with pytest.raises(ConfigError) as raised:
        await storage.ready
    assert str(raised.value).startswith("Storage.S3: s3 storage: list: the server can't be connected: ")
    assert str(raised.value).endswith(": look at Endpoint, Region and the credentials")
    assert "\n" not in str(raised.value)
    assert world.server.secret_key not in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_a_start_into_a_black_hole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("athens_tx.starting.START_LIMIT", 0.5)
    world.proxy.frozen = True
    storage = world.made(timeout=300.0)
    storage.startService()
    with pytest.raises(ConfigError, match=r"^Storage.S3: no answer within 0.5 s: look at Endpoint$"):
        await storage.ready


@pytest_twisted.ensureDeferred
async def test_a_start_at_something_that_is_no_s3_server(world: World) -> None:
    world.proxy.answer(200, times=None, body=b"<html>hello</html>")
    storage = world.made()
    storage.startService()
    with pytest.raises(ConfigError, match=r"^Storage.S3: s3 storage: list: not the answer of an S3 server: "):
        await storage.ready


@pytest_twisted.ensureDeferred
async def test_a_start_is_patient_with_a_server_that_wants_it(world: World) -> None:
    world.proxy.answer(503, times=2)
    world.proxy.answer(429, times=1)
    await world.storage()
