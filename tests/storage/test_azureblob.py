"""The azureblob storage: what it writes, what it asks, and what it makes of trouble. The contract is elsewhere."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from azure.core.exceptions import HttpResponseError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.resource import Resource

from athens_tx.backends import STORAGES
from athens_tx.config import Config
from athens_tx.config.backends import AzureBlob, Storage
from athens_tx.errors import BadUpstream, ConfigError, InvalidModule, InvalidRequest, NotFound, StorageUnavailable
from athens_tx.http_client import HttpClient
from athens_tx.interfaces import ILinks, IObjects
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage import azureblob, azureblob_start, calls
from athens_tx.storage.azure_xml import delegation_key, listing
from athens_tx.storage.body import BytesZip
from athens_tx.storage.xml_documents import BadDocument
from tests.contract.zips import HandZip, whole
from tests.storage.azure import storage_at
from tests.support import servers
from tests.support.faults import FaultProxy
from tests.support.loopback import LoopbackServer

X = MV("github.com/Azure/x", "v3.0.0+incompatible")
STEM = "github.com/Azure/x/@v/v3.0.0+incompatible"
INFO, MOD = b'{"Version":"v3.0.0+incompatible"}', b"module github.com/Azure/x\n"
ZIP = b"PK\x03\x04" + random.Random(7).randbytes(300_000)


class Bench:
    """A storage, a proxy that makes trouble, and a container behind it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.container = server.bucket()
        self.proxy = FaultProxy(reactor, server.port)
        self.storages: list[Any] = []

    async def storage(self, **more: Any) -> Any:
        endpoint = f"{self.proxy.endpoint}/{self.server.account}"
        storage = storage_at(reactor, endpoint, self.container.name, **more)
        self.storages.append(storage)
        storage.startService()
        await storage.ready
        self.proxy.requests.clear()
        return storage

    async def stop(self) -> None:
        for storage in self.storages:
            await storage.stopService()
        await self.proxy.stop()


@pytest_twisted.async_yield_fixture
async def bench() -> Any:
    bench = Bench(servers.azure())
    yield bench
    await bench.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not long between attempts."""
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(calls, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip of some hundred KiB is uploaded in blocks."""
    monkeypatch.setattr(azureblob, "PART", 64 * 1024)


async def save(storage: Any, data: bytes = ZIP, mv: MV = X) -> None:
    await storage.save(mv, INFO, MOD, BytesZip(data))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it did not come to that")


def objects_of(storage: Any) -> Any:
    return storage._objects


# --- What it writes ---


@pytest.mark.parametrize("part", [64 * 1024, 8 << 20])
@pytest_twisted.ensureDeferred
async def test_keys_and_content_types_are_those_of_athens(bench: Bench, monkeypatch: Any, part: int) -> None:
    monkeypatch.setattr(azureblob, "PART", part)
    await save(await bench.storage())
    assert bench.container.keys() == {f"{STEM}.info": INFO, f"{STEM}.mod": MOD, f"{STEM}.zip": ZIP}
    types = [bench.container.headers(f"{STEM}.{end}")["content-type"] for end in ("info", "mod", "zip")]
    assert types == ["application/json", "text/plain", "application/octet-stream"]
    known = bench.container.client.get_blob_client(f"{STEM}.zip").get_blob_properties()
    assert bytes(known.content_settings.content_md5) == hashlib.md5(ZIP).digest()
    assert (known.blob_type, known.content_settings.content_encoding, known.metadata) == ("BlockBlob", None, {})


@pytest.mark.usefixtures("small_parts")
@pytest_twisted.ensureDeferred
async def test_the_ids_of_blocks_are_as_long_as_those_of_athens(bench: Bench) -> None:
    blob = bench.container.client.get_blob_client(f"{STEM}.zip")
    blob.stage_block("\0" * 64, b"of an upload of Athens that did not end")
    storage = await bench.storage()
    await save(storage)
    assert await whole(await storage.zip(X)) == ZIP
    committed, _ = blob.get_block_list("all")
    assert len(committed) == -(-len(ZIP) // (64 * 1024))
    assert len({b64decode(block.id)[:16] for block in committed}) == 1


@pytest_twisted.ensureDeferred
async def test_leases_are_neither_shown_nor_touched(bench: Bench) -> None:
    for version in ("v3.0.0+incompatible", "v1.0.0", "master"):
        bench.container.put(f"lease/github.com/Azure/x@{version}", b"1")
    storage = await bench.storage()
    await save(storage)
    assert list(await storage.list(X.path)) == [X.version]
    for size in (1, 2, 10):
        found, token = await storage.catalog("", size)
        while token:
            more, token = await storage.catalog(token, size)
            found = [*found, *more]
        assert list(found) == [X]
    assert await storage.incomplete() == []
    await storage.delete(X)
    assert len(bench.container.names()) == 3


# --- What it asks ---


@pytest_twisted.ensureDeferred
async def test_a_question_is_one_request(bench: Bench) -> None:
    storage = await bench.storage()
    await save(storage)
    assert bench.proxy.methods() == {"GET": 1, "PUT": 3}
    absent = MV("example.com/absent", "v1.0.0")
    for ask in (storage.info, storage.mod, lambda mv: _read(storage, mv), storage.exists):
        for mv in (X, absent):
            bench.proxy.requests.clear()
            try:
                await ask(mv)
            except NotFound:
                assert mv is absent
            assert len(bench.proxy.requests) == 1
    bench.proxy.requests.clear()
    await storage.check()
    assert len(bench.proxy.requests) == 1


async def _read(storage: Any, mv: MV) -> bytes:
    return await whole(await storage.zip(mv))


@pytest_twisted.ensureDeferred
async def test_a_part_of_a_zip(bench: Bench) -> None:
    storage = await bench.storage()
    await save(storage)
    assert await whole((await storage.zip(X)).part(100, 1000)) == ZIP[100:1100]


@pytest_twisted.ensureDeferred
async def test_a_link_is_good_for_the_zip_alone(bench: Bench) -> None:
    storage = await bench.storage(presigned_redirect=True)
    assert ILinks.providedBy(storage)
    assert not ILinks.providedBy(await bench.storage())
    await save(storage)
    link = await storage.link(X)
    assert bench.proxy.count("restype=container") == 2  # before the save, and now
    http = HttpClient(reactor, {})
    answer = await http.get_bytes(link, limit=1 << 20, timeout=10)
    assert (answer.status, answer.body) == (200, ZIP)
    for bad in (link.replace(".zip?", ".mod?"), link.replace("sp=r", "sp=rw"), link.partition("?")[0]):
        assert (await http.get_bytes(bad, limit=1 << 20, timeout=10)).status in (403, 404)
    await http.close()
    with pytest.raises(NotFound):
        await storage.link(MV("example.com/absent", "v1.0.0"))


@pytest_twisted.ensureDeferred
async def test_a_name_that_azure_does_not_take(bench: Bench) -> None:
    storage = await bench.storage()
    long = MV("/".join(["x" * 100] * 11), "v1.0.0")
    for ask in (storage.info, storage.exists, storage.zip, storage.delete):
        with pytest.raises(InvalidModule):
            await ask(long)
    assert not bench.proxy.requests


# --- Two at once ---


@pytest.mark.parametrize("large", [True, False])
@pytest_twisted.ensureDeferred
async def test_who_is_second_is_told(bench: Bench, monkeypatch: Any, large: bool) -> None:
    if large:
        monkeypatch.setattr(azureblob, "PART", 64 * 1024)
    objects = objects_of(await bench.storage())
    assert await objects.upload("k", BytesZip(ZIP), "a/b", "")
    assert await objects.upload("k", BytesZip(ZIP), "a/b", "")  # the same bytes
    assert not await objects.upload("k", BytesZip(ZIP[::-1]), "a/b", "")
    tag = (await objects.page("k", "", 1)).objects[0].tag
    assert await objects.upload("k", BytesZip(ZIP[::-1]), "a/b", tag)
    assert not await objects.upload("k", BytesZip(ZIP), "a/b", tag)
    assert bench.container.get("k") == ZIP[::-1]
    assert not await objects.remove("k", tag)
    assert await objects.remove("k")
    assert await objects.remove("k")
    assert not await objects.upload("k", BytesZip(ZIP), "a/b", tag)


@pytest.mark.parametrize(
    ("status", "code", "faster"),
    [
        (409, "BlobAlreadyExists", True),
        (412, "ConditionNotMet", True),
        (400, "InvalidBlockList", True),
        (404, "BlobNotFound", True),
        (404, "ContainerNotFound", False),
        (409, "BlobImmutableDueToPolicy", False),
        (412, "LeaseIdMissing", False),
        (400, "InvalidHeaderValue", False),
    ],
)
@pytest.mark.parametrize("stored", ["none", "same", "other"])
@pytest_twisted.ensureDeferred
async def test_what_a_refused_write_means(bench: Bench, status: int, code: str, faster: bool, stored: str) -> None:
    objects = objects_of(await bench.storage())
    if stored != "none":
        await objects.put("k", ZIP if stored == "same" else b"other", "a/b")
    bench.proxy.answer(status, match="^PUT", headers={"x-ms-error-code": code})
    if faster:
        assert await objects.upload("k", BytesZip(ZIP), "a/b", "") == (stored == "same")
    else:
        with pytest.raises(StorageUnavailable, match=rf"azureblob storage: put k: status {status} {code}"):
            await objects.upload("k", BytesZip(ZIP), "a/b", "")


@pytest.mark.usefixtures("quick", "small_parts")
@pytest_twisted.ensureDeferred
async def test_a_write_whose_answer_is_lost_is_done(bench: Bench) -> None:
    storage = await bench.storage()
    bench.proxy.lose_answer(match="comp=blocklist")
    bench.proxy.lose_answer(match="^PUT .*info")
    await save(storage)
    assert (await storage.info(X), await whole(await storage.zip(X))) == (INFO, ZIP)
    assert bench.proxy.methods()["HEAD"] == 2  # of the zip, and of the info


@pytest.mark.usefixtures("small_parts")
@pytest_twisted.ensureDeferred
async def test_two_large_uploads_do_not_mix(bench: Bench) -> None:
    one, two = objects_of(await bench.storage()), objects_of(await bench.storage())
    for round_ in range(5):
        key = f"k{round_}"
        bodies = [bytes([number]) * 500_000 for number in range(4)]
        uploads = [
            Deferred.fromCoroutine((one, two)[number % 2].upload(key, BytesZip(body), "a/b", ""))
            for number, body in enumerate(bodies)
        ]
        done = await gatherResults(uploads, consumeErrors=True)
        assert done.count(True) == 1
        assert bench.container.get(key) == bodies[done.index(True)]


# --- Interrupted ---


@pytest.mark.usefixtures("small_parts")
@pytest_twisted.ensureDeferred
async def test_an_upload_that_ends_early_leaves_nothing_to_see(bench: Bench) -> None:
    storage = await bench.storage()
    body = HandZip(200_000)
    saving = Deferred.fromCoroutine(storage.save(X, INFO, MOD, body))
    await body.started
    body.give(b"x" * 100_000)
    await until(lambda: bool(bench.proxy.count("comp=block&")))
    body.break_off(BadUpstream("cut"))
    with pytest.raises(BadUpstream):
        await saving
    assert bench.container.names() == []
    assert not (await storage.exists(X))
    await save(storage)
    assert await whole(await storage.zip(X)) == ZIP


@pytest_twisted.ensureDeferred
async def test_who_gives_up_while_the_store_writes_does_not_disturb_the_next(bench: Bench) -> None:
    storage = await bench.storage()
    bench.proxy.delay = 0.05
    saving = Deferred.fromCoroutine(save(storage, b"first"))
    await until(lambda: bool(bench.proxy.count("^PUT")))
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    await save(storage)
    assert await whole(await storage.zip(X)) == ZIP
    assert await storage.exists(X)


@pytest_twisted.ensureDeferred
async def test_a_save_waits_for_the_end_of_one_that_was_given_up_too_late(bench: Bench, monkeypatch: Any) -> None:
    storage = await bench.storage()
    objects, gate = objects_of(storage), Deferred[None]()
    upload = objects.upload

    begun: list[str] = []

    async def write(*arguments: Any) -> bool:
        begun.append("first")
        await gate
        return bool(await upload(*arguments))

    monkeypatch.setattr(objects, "upload", lambda *arguments: calls.to_the_end(write(*arguments)))
    saving = Deferred.fromCoroutine(save(storage, b"first"))
    await until(lambda: begun == ["first"])
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    monkeypatch.undo()
    again = Deferred.fromCoroutine(save(storage))
    await deferLater(reactor, 0.1, lambda: None)
    assert len(bench.proxy.requests) == 1
    gate.callback(None)
    await again
    assert await whole(await storage.zip(X)) == ZIP


# --- Trouble ---


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [429, 500, 503, 504])
@pytest_twisted.ensureDeferred
async def test_what_passes_is_tried_again(bench: Bench, status: int) -> None:
    storage = await bench.storage()
    bench.proxy.answer(status, times=2, headers={"Retry-After": "0", "x-ms-error-code": "ServerBusy"})
    await save(storage)
    bench.proxy.answer(status, times=2)
    assert await storage.info(X) == INFO
    bench.proxy.cut_request(0, times=2)
    assert await whole(await storage.zip(X)) == ZIP


@pytest.mark.usefixtures("quick")
@pytest_twisted.ensureDeferred
async def test_trouble_is_told_in_one_line_and_its_end_too(bench: Bench, logged: list[Any]) -> None:
    storage = await bench.storage()
    await save(storage)
    body = b"<?xml version='1.0'?><Error><Code>ServerBusy</Code><Message>Too much.\nRequestId:1</Message></Error>"
    bench.proxy.answer(503, times=None, body=body)
    for _ in range(2):
        with pytest.raises(StorageUnavailable) as caught:
            await storage.info(X)
        assert str(caught.value) == f"azureblob storage: get {STEM}.info: status 503"
        assert caught.value.detail == "ServerBusy: Too much."
        assert caught.value.retry_after is not None
    bench.proxy.heal()
    await storage.info(X)
    told = [event["log_format"] for event in logged if "storage" in event["log_format"]]
    assert told == ["storage is in trouble: {reason}", "{name} storage works again"]


@pytest.mark.usefixtures("quick")
@pytest_twisted.ensureDeferred
async def test_a_wrong_length_and_a_cut_are_asked_for_again(bench: Bench) -> None:
    storage = await bench.storage()
    await save(storage)
    bench.proxy.wrong_length(7, match="info")
    assert await storage.info(X) == INFO
    bench.proxy.wrong_length(7, match="zip")
    with pytest.raises((StorageUnavailable, NotFound)):
        await whole(await storage.zip(X))
    bench.proxy.truncate(100_000, match="zip", times=2)
    assert await whole(await storage.zip(X)) == ZIP
    bench.proxy.truncate(5, match="mod")
    assert await storage.mod(X) == MOD


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_another_by_now_is_not_mixed(bench: Bench) -> None:
    storage = await bench.storage()
    await save(storage)
    bench.proxy.truncate(100_000, match="zip")
    body = await storage.zip(X)
    bench.container.put(f"{STEM}.zip", ZIP[::-1])
    with pytest.raises(NotFound):
        await whole(body)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_given_up_in_time(bench: Bench) -> None:
    storage = await bench.storage(timeout=0.3)
    bench.proxy.frozen = True
    for ask in (storage.info, storage.zip, storage.exists, storage.delete):
        begun = reactor.seconds()  # type: ignore[attr-defined]
        with pytest.raises(StorageUnavailable):
            await ask(X)
        assert reactor.seconds() - begun < 1.3  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quick")
@pytest_twisted.ensureDeferred
async def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    server = servers.own("azure", tmp_path / "azure")
    container = server.bucket()
    storage = storage_at(reactor, server.endpoint, container.name)
    storage.startService()
    await storage.ready
    await save(storage)
    os.kill(server.pid, signal.SIGTERM)  # killed, it would lose what it has not written yet
    await until(lambda: not server.running)
    for ask in (storage.info, storage.exists, lambda mv: storage.check()):
        with pytest.raises(StorageUnavailable):
            await ask(X)
    server.start()
    await storage.check()
    assert await whole(await storage.zip(X)) == ZIP
    await storage.stopService()
    server.stop()


@pytest_twisted.ensureDeferred
async def test_a_container_that_is_gone_is_no_absent_version(bench: Bench) -> None:
    storage = await bench.storage()
    await save(storage)
    bench.container.client.delete_container()
    for ask in (storage.info, storage.mod, storage.zip, storage.exists, storage.delete):
        with pytest.raises(StorageUnavailable) as caught:
            await ask(X)
        assert "ContainerName" in caught.value.detail
    with pytest.raises(StorageUnavailable):
        await objects_of(storage).remove("k")
    with pytest.raises(StorageUnavailable):
        await save(storage)


# --- The start ---


async def problem(storage: Any) -> str:
    storage.startService()
    with pytest.raises(ConfigError) as caught:
        await storage.ready
    await storage.stopService()
    (line,) = caught.value.problems
    assert "\n" not in line
    assert servers.azure().key not in line
    return str(line)


@pytest.mark.usefixtures("quick")
@pytest_twisted.ensureDeferred
async def test_a_start_that_fails_names_the_setting(bench: Bench) -> None:
    endpoint = bench.server.endpoint
    assert (await problem(storage_at(reactor, endpoint, "absent"))).startswith("Storage.AzureBlob.ContainerName: there")
    line = await problem(storage_at(reactor, "http://127.0.0.1:1/a", "c"))
    assert "can't be connected" in line
    assert line.endswith("look at AccountName and Endpoint")
    line = await problem(storage_at(reactor, endpoint, "no name"))
    assert line.startswith("Storage.AzureBlob")
    bench.proxy.answer(200, body=b"<html/>")
    line = await problem(storage_at(reactor, bench.proxy.endpoint, "c"))
    assert line.startswith("Storage.AzureBlob.Endpoint: azureblob storage: list: not the answer of a blob service")


@pytest.mark.parametrize(("hours", "word"), [(2, "slow"), (-2, "fast")])
@pytest_twisted.ensureDeferred
async def test_a_wrong_clock_is_named(bench: Bench, hours: int, word: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    bench.proxy.answer(403, headers={"Date": date, "x-ms-error-code": "AuthenticationFailed"})
    line = await problem(storage_at(reactor, bench.proxy.endpoint, "c"))
    assert (
        line
        == f"Storage.AzureBlob: the server answers 403 AuthenticationFailed: this machine's clock is 120 min {word}"
    )


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
        ("KeyBasedAuthenticationNotPermitted", "use ManagedIdentityResourceID"),
        ("", "without a reason"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_refusal_says_what_must_be_allowed(bench: Bench, code: str, word: str) -> None:
    bench.proxy.answer(403, headers={"x-ms-error-code": code} if code else {})
    line = await problem(storage_at(reactor, bench.proxy.endpoint, "c"))
    assert word in line
    assert "listing must be allowed" in line


@pytest_twisted.ensureDeferred
async def test_a_black_hole_fails_the_start(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr("athens_tx.starting.START_LIMIT", 0.2)
    bench.proxy.frozen = True
    line = await problem(storage_at(reactor, bench.proxy.endpoint, "c"))
    assert line == "Storage.AzureBlob: no answer within 0.2 s: look at AccountName and Endpoint"


def test_the_settings_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(azureblob_start, "AzureObjects", lambda *given, **named: made.append(named))
    table = AzureBlob(account_name="acc", account_key="eA==", container_name="athens")
    STORAGES["azureblob"](reactor, Config(storage=Storage(azure_blob=table)), {})
    assert made[0]["service"] == "https://acc.blob.core.windows.net"
    assert (made[0]["container"], made[0]["links"]) == ("athens", False)


# --- What Azure answers and Azurite does not ---


class Canned(Resource):
    """Answers with what it is told to."""

    isLeaf = True

    def __init__(self, answer: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Any) -> bytes:
        return self._answer(request)


@pytest_twisted.async_yield_fixture
async def canned() -> Any:
    """Makes a storage, started, of a server that answers as it is told."""
    made: list[tuple[Any, LoopbackServer]] = []

    async def make(answer: Callable[[Any], Any]) -> Any:
        stub = LoopbackServer(reactor, Canned(answer))
        storage = storage_at(reactor, f"http://127.0.0.1:{stub.port}", "c")
        made.append((storage, stub))
        storage.startService()
        await storage.ready
        return storage

    yield make
    for storage, stub in made:
        await storage.stopService()
        await stub.stop()
    await deferLater(reactor, 0, lambda: None)  # the ends of the connections are told in the next turn


EMPTY = b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>"


@pytest.mark.parametrize("code", ["OutOfRangeInput", "InvalidQueryParameterValue"])
@pytest_twisted.ensureDeferred
async def test_a_marker_that_is_none_is_a_bad_request(canned: Any, code: str) -> None:
    def answer(request: Any) -> bytes:
        if b"marker" not in request.args:
            return EMPTY
        request.setResponseCode(400)
        return f"<Error><Code>{said}</Code><Message>m</Message></Error>".encode()

    said = code
    storage = await canned(answer)
    with pytest.raises(InvalidRequest):
        await storage.catalog("nonsense", 10)
    said = "InvalidUri"
    with pytest.raises(StorageUnavailable, match="list: status 400 InvalidUri"):
        await storage.catalog("nonsense", 10)


@pytest_twisted.ensureDeferred
async def test_a_marker_of_the_stores_own_that_it_does_not_take_is_trouble(canned: Any) -> None:
    def answer(request: Any) -> bytes:
        if b"marker" not in request.args:
            return EMPTY.replace(b"<NextMarker/>", b"<NextMarker>more</NextMarker>")
        request.setResponseCode(400)
        return b"<Error><Code>OutOfRangeInput</Code><Message>m</Message></Error>"

    storage = await canned(answer)
    for ask in (storage.list(X.path), storage.exists(X), storage.incomplete(), storage.catalog("", 10)):
        with pytest.raises(StorageUnavailable, match="does not go on with its own listing"):
            await ask
    with pytest.raises(InvalidRequest):
        await storage.catalog("nonsense", 10)


@pytest_twisted.ensureDeferred
async def test_pages_without_blobs_are_not_the_end_and_pages_are_bounded(canned: Any) -> None:
    entry = (
        "<Blob><Name>{key}</Name><Properties><Last-Modified>Sat, 03 Feb 2024 04:05:06 GMT</Last-Modified>"
        "<Etag>0x8D</Etag><Content-Length>9</Content-Length></Properties></Blob>"
    )
    keys = [f"{STEM}.{ending}" for ending in ("info", "mod", "zip")]
    blobs = "".join(entry.format(key=key) for key in keys)
    asked: list[bytes] = []

    def answer(request: Any) -> bytes:
        asked.append(request.args[b"maxresults"][0])
        page = int(request.args.get(b"marker", [b"0"])[0])
        inside, marker = (blobs, "") if page == 2 else ("", str(page + 1))
        text = f"<EnumerationResults><Blobs>{inside}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        return b"\xef\xbb\xbf" + text.encode()

    storage = await canned(answer)
    assert list(await storage.list(X.path)) == [X.version]
    assert await storage.exists(X)
    assert set(asked) == {b"1", b"1000"}  # walks keep nobody waiting for long
    for limit in (1, 10, 10_000):
        found, token = await storage.catalog("", limit)
        assert (list(found), token) == ([X], "")
    assert set(asked) == {b"1", b"3", b"30", b"1000", b"5000"}


@pytest_twisted.ensureDeferred
async def test_an_answer_without_a_length_is_trouble(canned: Any) -> None:
    def answer(request: Any) -> bytes:
        if request.args:
            return EMPTY
        request.setHeader(b"Transfer-Encoding", b"identity")
        request.responseHeaders.removeHeader(b"content-length")
        request.write(b"x")
        request.finish()
        from twisted.web.server import NOT_DONE_YET

        return NOT_DONE_YET  # type: ignore[return-value]

    storage = await canned(answer)
    with pytest.raises(StorageUnavailable, match="without a length"):
        await storage.zip(X)


def test_documents() -> None:
    name = '<Blob><Name Encoded="true">a%01b</Name><Properties><Last-Modified>{}</Last-Modified></Properties></Blob>'
    now = datetime(2024, 2, 3, 4, 5, 16, tzinfo=UTC)
    text = "<EnumerationResults><Blobs>{}</Blobs></EnumerationResults>"
    page = listing(text.format(name.format("Sat, 03 Feb 2024 04:05:06 GMT")).encode(), now)
    assert (page.objects[0].key, page.objects[0].age, page.objects[0].size) == ("a\x01b", 10.0, 0)
    with pytest.raises(BadDocument):
        listing(text.format("<Blob/>").encode(), now)
    with pytest.raises(BadDocument):
        delegation_key(b"<UserDelegationKey><Value>eA==</Value></UserDelegationKey>")


def test_it_keeps_to_the_interface() -> None:
    assert IObjects.implementedBy(azureblob.AzureObjects)
    assert HttpResponseError  # azure-storage-blob is a library of the tests alone
    source = Path(azureblob.__file__).parent
    assert not [file.name for file in source.glob("*.py") if "azure.storage" in file.read_text()]
