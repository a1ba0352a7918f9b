"""The objects of Google Cloud Storage: over fake-gcs-server, and over a stub where that is not as the real one."""

from __future__ import annotations

import base64
import json
import random
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from google.auth import environment_vars
from google.auth.compute_engine import _metadata
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from athens_tx.backends import Backends
from athens_tx.config.backends import Gcp as Table
from athens_tx.errors import BadUpstream, ConfigError, InvalidRequest, NotFound, StorageUnavailable
from athens_tx.interfaces import ILinks
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage import background, calls
from athens_tx.storage.body import BytesZip
from athens_tx.storage.gcp import PART, GcpLayout
from athens_tx.storage.gcp_start import gcp_storage
from athens_tx.storage.gcp_upload import rest
from tests.contract.bucket_backend import PATIENCE
from tests.contract.gcp_backend import Gcp
from tests.contract.zips import HandZip, whole
from tests.storage.google_cloud import BUCKET, GoogleCloud, failure
from tests.support import servers
from tests.support.faults import FaultProxy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:google")

TOML = MV("github.com/BurntSushi/toml", "v1.4.0")
INFO, MOD, ZIP = b'{"Version":"v1.4.0"}', b"module github.com/BurntSushi/toml\n", b"PK\x03\x04" + bytes(100_000)
KEYS = tuple(f"github.com/BurntSushi/toml/@v/v1.4.0.{ending}" for ending in ("info", "mod", "zip"))
BIG = random.Random(1).randbytes(2 * PART + 300_000)
UPLOAD = f"/upload/storage/v1/b/{BUCKET}/o"


@attrs.frozen
class World:
    """A stub, a way to it on which there may be faults, and a storage at its end."""

    cloud: GoogleCloud
    proxy: FaultProxy
    storage: Any

    @property
    def objects(self) -> Any:
        return self.storage._objects

    async def upload(self, data: bytes = BIG, replacing: str = "") -> bool:
        there: bool = await self.objects.upload("a/@v/v1.zip", BytesZip(data), "application/zip", replacing)
        return there

    def parts(self) -> list[str]:
        """@return: what was said of each part."""
        return [head.headers["content-range"] for head in self.proxy.requests if "content-range" in head.headers]


@asynccontextmanager
async def started(url: str, *, limit: float = 20.0, environ: Any = None, **table: Any) -> Any:
    made = Table(bucket=BUCKET, **table) if "bucket" not in table else Table(**table)
    storage = gcp_storage(
        reactor,
        made,
        {"STORAGE_EMULATOR_HOST": url} if environ is None else environ,
        timeout=limit,
        patience=PATIENCE,
    )
    storage.startService()
    try:
        await storage.ready
        yield storage
    finally:
        await storage.stopService()


def key_of(cloud: GoogleCloud) -> str:
    return base64.b64encode(json.dumps(cloud.service_account()).encode()).decode()


@pytest_twisted.async_yield_fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    cloud = GoogleCloud(reactor)
    yield cloud
    await cloud.server.stop()
    await deferLater(reactor, 0, lambda: None)


@pytest_twisted.async_yield_fixture
async def world(cloud: GoogleCloud) -> Any:
    proxy = FaultProxy(reactor, cloud.server.port)
    async with started(proxy.endpoint, json_key=key_of(cloud)) as storage:
        proxy.requests.clear()
        yield World(cloud, proxy, storage)
    await proxy.stop()


# --- What Athens has ---


@pytest_twisted.ensureDeferred
async def test_keys_and_content_types_are_those_of_athens(tmp_path: Path) -> None:
    backend = Gcp(reactor, tmp_path)
    async with started(backend.server.endpoint, bucket=backend.bucket.name) as storage:
        await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
        large = MV("example.com/large", "v3.0.0+incompatible")
        await storage.save(large, INFO, MOD, BytesZip(BIG))
        assert backend.keys() == {
            **dict(zip(KEYS, (INFO, MOD, ZIP), strict=True)),
            "example.com/large/@v/v3.0.0+incompatible.info": INFO,
            "example.com/large/@v/v3.0.0+incompatible.mod": MOD,
            "example.com/large/@v/v3.0.0+incompatible.zip": BIG,
        }
        types = {key.rpartition(".")[2]: backend.bucket.headers(key)["content-type"] for key in KEYS}
        assert types == {
            "info": "text/plain; charset=utf-8",
            "mod": "text/plain; charset=utf-8",
            "zip": "application/zip",
        }
        assert (
            backend.bucket.headers("example.com/large/@v/v3.0.0+incompatible.zip")["content-type"] == "application/zip"
        )
    assert GcpLayout().files(TOML) == KEYS


@pytest_twisted.ensureDeferred
async def test_each_question_is_one_request(world: World) -> None:
    await world.storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    assert [request.method for request in world.proxy.requests] == ["GET", "POST", "POST", "POST"]
    for ask in (world.storage.info, world.storage.mod, world.storage.zip, world.storage.exists):
        world.proxy.requests.clear()
        answer = await ask(TOML)
        if ask == world.storage.zip:
            assert await whole(answer) == ZIP
        assert len(world.proxy.requests) == 1
        assert "github.com%2FBurntSushi%2Ftoml%2F%40v%2Fv1.4.0." in str(world.proxy.requests[0])
    world.proxy.requests.clear()
    await world.storage.check()
    assert len(world.proxy.requests) == 1


@pytest_twisted.ensureDeferred
async def test_the_token_of_a_page_is_the_services_own(world: World) -> None:
    for number in range(5):
        for ending in ("info", "mod", "zip"):
            world.cloud.keep(f"a/@v/v1.0.{number}.{ending}", b"x")
    found, token = await world.storage.catalog("", 2)
    assert (found, token) == ([MV("a", "v1.0.0"), MV("a", "v1.0.1")], "page:a/@v/v1.0.1.zip")
    assert "maxResults=6&" in world.cloud.requests[-1]
    found, token = await world.storage.catalog("page:a/@v/v1.0.2.zip", 2)
    assert (found, token) == ([MV("a", "v1.0.3"), MV("a", "v1.0.4")], "")
    for bad in ("nonsense", "a/@v/v1.0.0.info", "\u00e9|"):
        with pytest.raises(InvalidRequest):
            await world.storage.catalog(bad, 2)


# --- Uploads in parts ---


@pytest_twisted.ensureDeferred
async def test_a_large_zip_goes_in_parts(world: World) -> None:
    assert await world.upload()
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG
    assert world.cloud.objects["a/@v/v1.zip"].content_type == "application/zip"
    total = len(BIG)
    assert world.parts() == [
        f"bytes 0-{PART - 1}/{total}",
        f"bytes {PART}-{2 * PART - 1}/{total}",
        f"bytes {2 * PART}-{total - 1}/{total}",
    ]
    assert "ifGenerationMatch=0" in str(world.proxy.requests[0])
    assert {request.headers["authorization"] for request in world.proxy.requests} == {"Bearer token-0"}


@pytest.mark.parametrize("length", [PART, PART + 1, 2 * PART])
@pytest_twisted.ensureDeferred
async def test_parts_that_just_fit(world: World, length: int) -> None:
    assert await world.upload(BIG[:length])
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG[:length]
    assert len(world.parts()) == (0 if length == PART else 2)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest_twisted.ensureDeferred
async def test_after_a_lost_answer_the_store_is_asked_what_it_has(world: World, number: int) -> None:
    total = len(BIG)
    start = f"bytes {(number - 1) * PART}-"
    lost = Lost(world, start)
    assert await world.upload()
    assert lost.happened
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG
    asked = world.parts()
    assert asked[number] == f"bytes */{total}"
    assert len(asked) == 4


class Lost:
    """The answer to one part gets lost."""

    def __init__(self, world: World, start: str) -> None:
        self.happened = False
        answer = world.cloud._resume

        def resume(request: Any, name: str, body: bytes) -> Any:
            said = answer(request, name, body)
            if not self.happened and (request.getHeader("Content-Range") or "").startswith(start):
                self.happened = True
                world.proxy.cut()
            return said

        world.cloud._resume = resume  # type: ignore[method-assign]


@pytest_twisted.ensureDeferred
async def test_a_cut_part_is_sent_again_from_where_the_store_is(world: World) -> None:
    world.proxy.cut_request(3 << 20, match=f"PUT {UPLOAD}")
    assert await world.upload()
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG
    assert world.parts()[:3] == [
        f"bytes 0-{PART - 1}/{len(BIG)}",
        f"bytes */{len(BIG)}",
        f"bytes 0-{PART - 1}/{len(BIG)}",
    ]


@pytest_twisted.ensureDeferred
async def test_a_store_that_keeps_less_gets_the_rest(world: World) -> None:
    world.cloud.keeps = lambda size: max(size // 2 // (256 << 10) * (256 << 10), min(size, 256 << 10))
    assert await world.upload()
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG
    assert world.parts()[1] == f"bytes {PART // 2}-{PART - 1}/{len(BIG)}"


@pytest_twisted.ensureDeferred
async def test_trouble_with_a_part_is_waited_for(world: World) -> None:
    world.proxy.answer(503, 2, f"PUT {UPLOAD}", headers={"Retry-After": "0"})
    assert await world.upload()
    assert world.parts()[1:3] == [f"bytes */{len(BIG)}"] * 2
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG


@pytest_twisted.ensureDeferred
async def test_the_name_of_an_upload_is_kept_secret(world: World, logged: list[Any]) -> None:
    world.proxy.hang(None, f"PUT {UPLOAD}")
    world.storage._objects._calls._limit = 0.2
    with pytest.raises(StorageUnavailable) as raised:
        await world.upload()
    assert "upload_id=***" in raised.value.detail
    assert next(iter(world.cloud.sessions)) not in f"{raised.value} {raised.value.detail} {logged}"
    await given_up(world)


@pytest_twisted.ensureDeferred
async def test_a_store_that_keeps_nothing_is_given_up(world: World) -> None:
    world.cloud.keeps = lambda size: 0
    with pytest.raises(StorageUnavailable, match=r"gcp storage: upload part of a/@v/v1.zip: the store does not keep"):
        await world.upload()
    await given_up(world)


@pytest_twisted.ensureDeferred
async def test_a_store_that_forgets_what_it_said_it_had_is_given_up(world: World) -> None:
    answer = world.cloud._resume

    def resume(request: Any, name: str, body: bytes) -> Any:
        said = answer(request, name, body)
        return (308, {}, b"") if len(world.parts()) == 2 else said

    world.cloud._resume = resume  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="the store does not keep"):
        await world.upload()
    await given_up(world)


@pytest.mark.parametrize("status", [404, 410])
@pytest_twisted.ensureDeferred
async def test_an_upload_that_the_store_forgets_fails(world: World, status: int) -> None:
    world.cloud.answers[f"PUT {UPLOAD}"] = failure(status, "gone")
    with pytest.raises(StorageUnavailable, match=f"upload part of a/@v/v1.zip: status {status}") as raised:
        await world.upload()
    assert (raised.value.detail, raised.value.retry_after) == ("gone", 5)
    assert world.cloud.objects == {}


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_forgotten_when_it_is_done_is_done(world: World) -> None:
    answer = world.cloud._resume

    def resume(request: Any, name: str, body: bytes) -> Any:
        said = answer(request, name, body)
        return failure(404, "gone") if said[0] == 200 else said

    world.cloud._resume = resume  # type: ignore[method-assign]
    assert await world.upload()


@pytest.mark.parametrize("how", ["breaks", "is short", "is long", "is cancelled"])
@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_not_ended_is_given_up(world: World, how: str) -> None:
    body = HandZip(len(BIG))
    uploading = Deferred.fromCoroutine(world.objects.upload("a/@v/v1.zip", body, "application/zip", ""))
    await body.started
    body.give(BIG[: PART + 1000])
    while not world.cloud.sessions or not next(iter(world.cloud.sessions.values())).data:
        await deferLater(reactor, 0, lambda: None)
    expected: type[BaseException] = BadUpstream
    if how == "breaks":
        expected = StorageUnavailable
        body.break_off(StorageUnavailable("the other store is gone"))
    elif how == "is short":
        body.end()
    elif how == "is long":
        body.give(BIG)
    else:
        expected = CancelledError
        uploading.cancel()
    with pytest.raises(expected):
        await uploading
    await given_up(world)


async def given_up(world: World) -> None:
    while world.cloud.sessions:
        await deferLater(reactor, 0, lambda: None)
    assert world.cloud.count(f"DELETE {UPLOAD}") == 1
    assert world.cloud.objects == {}


@pytest_twisted.ensureDeferred
async def test_an_upload_that_cannot_be_given_up_is_left_behind(world: World, logged: list[Any]) -> None:
    world.cloud.keeps = lambda size: 0
    world.cloud.answers[f"DELETE {UPLOAD}"] = failure(403, "no")
    with pytest.raises(StorageUnavailable):
        await world.upload()
    while not any("left behind" in event.get("log_format", "") for event in logged):
        await deferLater(reactor, 0, lambda: None)


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_no_store_that_says_nothing(cloud: GoogleCloud, monkeypatch: Any) -> None:
    monkeypatch.setattr(background, "CLOSING", 0.3)
    proxy = FaultProxy(reactor, cloud.server.port)
    async with started(proxy.endpoint, json_key=key_of(cloud)) as storage:
        body = HandZip(len(BIG))
        uploading = Deferred.fromCoroutine(storage._objects.upload("a/@v/v1.zip", body, "application/zip", ""))
        await body.started
        body.give(BIG[: PART + 1000])
        while not cloud.sessions:
            await deferLater(reactor, 0, lambda: None)
        proxy.frozen = True
        uploading.cancel()
        with pytest.raises(CancelledError):
            await uploading
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    await proxy.stop()


@pytest_twisted.ensureDeferred
async def test_an_upload_without_a_place_is_no_answer_of_the_service(world: World) -> None:
    world.cloud.answers[f"POST {UPLOAD}"] = (200, {}, b"{}")
    with pytest.raises(StorageUnavailable, match="not the answer of Google Cloud Storage"):
        await world.upload()


@pytest_twisted.ensureDeferred
async def test_on_the_emulator_a_cut_upload_leaves_nothing_and_the_next_save_heals(tmp_path: Path) -> None:
    backend = Gcp(reactor, tmp_path)  # asked what it has, it ends the upload with that
    proxy = FaultProxy(reactor, backend.server.port)
    async with started(proxy.endpoint, bucket=backend.bucket.name) as storage:
        proxy.cut_request(1 << 20, match="PUT .*upload_id=")
        with pytest.raises(StorageUnavailable, match=r"end upload of .*: damaged on the way"):
            await storage.save(TOML, INFO, MOD, BytesZip(BIG))
        assert backend.keys() == {}
        await storage.save(TOML, INFO, MOD, BytesZip(BIG))
        assert await whole(await storage.zip(TOML)) == BIG
    await proxy.stop()


def test_the_rest_of_pieces() -> None:
    pieces = (b"abc", memoryview(b"def"), b"")
    assert [b"".join(map(bytes, rest(pieces, start))) for start in (0, 2, 3, 4, 6)] == [
        b"abcdef", b"cdef", b"def", b"ef", b"",
    ]  # fmt: skip


# --- Conditions ---


@pytest.mark.parametrize("data", [ZIP, BIG], ids=["whole", "parts"])
@pytest_twisted.ensureDeferred
async def test_the_first_one_wins_and_the_same_bytes_are_as_good(world: World, data: bytes) -> None:
    world.cloud.keep("a/@v/v1.zip", b"of somebody else")
    assert not await world.upload(data)
    assert world.cloud.objects["a/@v/v1.zip"].data == b"of somebody else"
    world.cloud.keep("a/@v/v1.zip", data)
    assert await world.upload(data)
    del world.cloud.objects["a/@v/v1.zip"]  # deleted meanwhile: there is nothing to replace
    assert not await world.upload(data, "1")
    old = world.cloud.keep("a/@v/v1.zip", b"torn")
    assert await world.upload(data, old)
    assert world.cloud.objects["a/@v/v1.zip"].data == data
    assert not await world.upload(data[:-1] + b"!", old)


@pytest_twisted.ensureDeferred
async def test_a_condition_may_be_refused_before_anything_is_sent(world: World) -> None:
    world.cloud.answers[f"POST {UPLOAD}"] = failure(412, "conditionNotMet")
    body = HandZip(len(BIG))
    assert not await world.objects.upload("a/@v/v1.zip", body, "application/zip", "")
    assert (body.started.called, body.stopped) == (False, True)


@pytest_twisted.ensureDeferred
async def test_a_lost_answer_to_a_whole_zip_is_no_conflict(world: World) -> None:
    world.proxy.lose_answer(1, f"POST {UPLOAD}")
    assert await world.upload(ZIP)
    assert world.cloud.objects["a/@v/v1.zip"].data == ZIP


@pytest_twisted.ensureDeferred
async def test_an_object_is_removed_only_while_it_is_the_one(world: World) -> None:
    old = world.cloud.keep("key", b"1")
    new = world.cloud.keep("key", b"2")
    assert not await world.objects.remove("key", old)
    assert world.cloud.objects["key"].data == b"2"
    assert await world.objects.remove("key", new)
    assert await world.objects.remove("key")
    assert not await world.objects.remove("key", new)
    assert world.cloud.objects == {}


# --- What arrives is what was sent ---


@pytest_twisted.ensureDeferred
async def test_a_damaged_upload_is_taken_away(world: World) -> None:
    world.cloud.damages = lambda data: data[:-1] + b"?"
    with pytest.raises(StorageUnavailable, match=r"end upload of a/@v/v1.zip: damaged on the way"):
        await world.upload()
    assert world.cloud.objects == {}
    assert "generation=" in world.cloud.requests[-1]
    with pytest.raises(StorageUnavailable, match=r"put a/@v/v1.zip: status 400") as raised:
        await world.upload(ZIP)
    assert "MD5" in raised.value.detail
    assert world.cloud.objects == {}


@pytest_twisted.ensureDeferred
async def test_a_zip_that_breaks_off_goes_on(world: World) -> None:
    await world.storage.save(TOML, INFO, MOD, BytesZip(BIG))
    world.proxy.truncate(3 << 20, match=r"GET .*\.zip\?alt=media$")
    assert await whole(await world.storage.zip(TOML)) == BIG
    assert world.proxy.requests[-1].headers["range"] == f"bytes {3 << 20}-{len(BIG) - 1}".replace(" ", "=")
    assert "&generation=" in str(world.proxy.requests[-1])


@pytest_twisted.ensureDeferred
async def test_a_zip_that_was_replaced_or_deleted_meanwhile_is_not_found(world: World) -> None:
    world.cloud.keep(KEYS[2], BIG)
    body = (await world.storage.zip(TOML)).part(5, 10)
    world.cloud.keep(KEYS[2], b"another one")
    with pytest.raises(NotFound):
        await whole(body)


@pytest.mark.parametrize("by", [-1000, 1000])
@pytest_twisted.ensureDeferred
async def test_a_wrong_length_is_noticed(world: World, by: int) -> None:
    await world.storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    world.proxy.wrong_length(by, None, r"GET .*\.zip")
    try:
        data = await whole(await world.storage.zip(TOML))
    except StorageUnavailable:
        return
    assert data != ZIP


# --- Trouble ---


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest_twisted.ensureDeferred
async def test_what_passes_is_tried_again(world: World, status: int) -> None:
    for match in ("GET", "POST", "DELETE"):
        world.proxy.answer(status, 2, match, headers={"Retry-After": "0"})
    await world.storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    assert await world.storage.info(TOML) == INFO
    await world.storage.delete(TOML)
    assert world.cloud.objects == {}


@pytest_twisted.ensureDeferred
async def test_trouble_is_told_without_hosts_and_is_never_absence(world: World) -> None:
    world.proxy.answer(503, None, body=failure(503, "We are\n sorry")[2])
    body = HandZip(3)
    asked = {
        "list github.com/BurntSushi/toml/@v/v": world.storage.list(TOML.path),
        f"get {KEYS[0]}": world.storage.info(TOML),
        f"get {KEYS[1]}": world.storage.mod(TOML),
        f"get {KEYS[2]}": world.storage.zip(TOML),
        "list github.com/BurntSushi/toml/@v/v1.4.0.": world.storage.save(TOML, INFO, MOD, body),
        "list": world.storage.check(),
    }
    for what, asking in asked.items():
        with pytest.raises(StorageUnavailable) as raised:
            await asking
        assert str(raised.value) == f"gcp storage: {what}: status 503"
        assert (raised.value.detail, raised.value.retry_after) == ("We are sorry", 10)
    assert body.stopped


@pytest_twisted.ensureDeferred
async def test_what_is_forbidden_says_what_to_look_at(world: World) -> None:
    world.cloud.answers["GET /storage"] = failure(403, "athens does not have storage.objects.get access")
    with pytest.raises(StorageUnavailable) as raised:
        await world.storage.info(TOML)
    assert str(raised.value) == f"gcp storage: get {KEYS[0]}: status 403"
    assert raised.value.detail.endswith("access: look at Storage.GCP.JSONKey and at what it may do in the bucket")
    assert world.cloud.count("GET /storage") == 2  # one at the start


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_gone_is_not_an_absent_version(world: World) -> None:
    gone = failure(404, "The specified bucket does not exist.")
    for method in ("GET", "POST", "DELETE"):
        world.cloud.answers[f"{method} "] = gone
    world.cloud.answers["POST /token"] = (200, {}, b"")
    for asking in (
        world.storage.list(TOML.path),
        world.storage.info(TOML),
        world.storage.zip(TOML),
        world.upload(ZIP),
        world.upload(BIG),
        world.objects.put("key", b"", "text/plain"),
        world.objects.remove("key"),
    ):
        with pytest.raises(StorageUnavailable):
            await asking


@pytest.mark.parametrize("body", [b"{}", b'{"size": "many", "generation": "1"}', b'{"size": "1"}', b"<html>"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_description_of_a_zip_is_no_zip(world: World, body: bytes) -> None:
    world.cloud.answers["GET /storage"] = (200, {}, body)
    with pytest.raises(StorageUnavailable, match=r"look at .*: not the answer of Google"):
        await world.storage.zip(TOML, whole=False)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"items": [{}]}', b'{"items": 3}', b"[" * 100_000])
@pytest_twisted.ensureDeferred
async def test_what_is_no_listing_is_not_an_empty_one(world: World, body: bytes) -> None:
    world.cloud.answers["GET /storage"] = (200, {}, body)
    with pytest.raises(StorageUnavailable, match="not the answer of Google Cloud Storage"):
        await world.storage.list(TOML.path)


@pytest_twisted.ensureDeferred
async def test_a_token_of_the_stores_own_that_it_does_not_take_is_trouble(cloud: GoogleCloud) -> None:
    known = cloud._list

    def listing(query: dict[str, str]) -> Any:
        return known(query) if "pageToken" in query else (200, {}, b'{"nextPageToken": "no token"}')

    cloud._list = listing  # type: ignore[method-assign]
    async with started(cloud.url, json_key=key_of(cloud)) as storage:
        for ask in (storage.list(TOML.path), storage.exists(TOML), storage.incomplete(), storage.catalog("", 10)):
            with pytest.raises(StorageUnavailable, match="does not go on with its own listing"):
                await ask
        with pytest.raises(InvalidRequest):
            await storage.catalog("nonsense", 10)


@pytest_twisted.ensureDeferred
async def test_a_zip_without_a_length_is_not_given(world: World) -> None:
    world.proxy.answer(200, 1, "GET", headers={"Transfer-Encoding": "chunked"}, body=b"0\r\n\r\n")
    with pytest.raises(StorageUnavailable):
        await world.storage.zip(TOML)


@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_renewed_and_the_request_made_again(world: World) -> None:
    await world.storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    world.cloud.accepts = lambda token: token == "token-1"
    assert await world.storage.info(TOML) == INFO
    assert await whole(await world.storage.zip(TOML)) == ZIP
    assert world.cloud.count("POST /token") == 2
    world.cloud.accepts = lambda token: False
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="status 401"):
            await world.storage.info(TOML)
    assert world.cloud.count("POST /token") == 2


@pytest_twisted.ensureDeferred
async def test_a_token_may_be_refused_amid_an_upload(world: World) -> None:
    answer = world.cloud._resume

    def resume(request: Any, name: str, body: bytes) -> Any:
        world.cloud.accepts = lambda token: token == "token-1"
        return answer(request, name, body)

    world.cloud._resume = resume  # type: ignore[method-assign]
    assert await world.upload()
    assert world.cloud.objects["a/@v/v1.zip"].data == BIG


@pytest_twisted.ensureDeferred
async def test_a_store_that_says_nothing_is_given_up_in_time(cloud: GoogleCloud) -> None:
    proxy = FaultProxy(reactor, cloud.server.port)
    async with started(proxy.endpoint, json_key=key_of(cloud), limit=0.5) as storage:
        proxy.frozen = True
        begun = reactor.seconds()  # type: ignore[attr-defined]
        with pytest.raises(StorageUnavailable):
            await storage.info(TOML)
        with pytest.raises(StorageUnavailable):
            await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
        assert reactor.seconds() - begun < 2 * 0.5 + 1  # type: ignore[attr-defined]
        proxy.cut()
        proxy.heal()
        await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    await proxy.stop()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_back_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    server = servers.own("gcs", tmp_path / "gcs")
    bucket = server.bucket()
    async with started(server.endpoint, bucket=bucket.name) as storage:
        await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
        server.stop()
        for asking in (storage.check(), storage.info(TOML), storage.exists(TOML), storage.list(TOML.path)):
            with pytest.raises(StorageUnavailable, match=r"the server can't be connected|broke"):
                await asking
        server.start()  # all is forgotten
        again = {"name": bucket.name}
        server.ask("POST", "/storage/v1/b?project=test", json.dumps(again).encode(), "application/json")
        await storage.check()
        assert not await storage.exists(TOML)
        await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
        assert await storage.info(TOML) == INFO
    server.stop()


# --- Links ---


@pytest_twisted.ensureDeferred
async def test_a_link_opens_for_anybody(cloud: GoogleCloud) -> None:
    async with started("", environ={}, endpoint=cloud.url, json_key=key_of(cloud), presigned_redirect=True) as storage:
        assert ILinks.providedBy(storage)
        mv = MV("example.com/~a b+c/[x]", "v3.0.0+incompatible")
        for key, data in zip(GcpLayout().files(mv), (INFO, MOD, ZIP), strict=True):
            cloud.keep(key, data)
        url = await storage.link(mv)
        assert url.startswith(f"{cloud.url}/{BUCKET}/example.com/~a%20b%2Bc/%5Bx%5D/%40v/v3.0.0%2Bincompatible.zip?")
        http = storage._objects._calls.http
        response = await http.request("GET", url)
        assert (response.status, response.body) == (200, ZIP)
        response = await http.request("GET", url.replace("X-Goog-Expires=900", "X-Goog-Expires=901"))
        assert response.status == 403
        with pytest.raises(NotFound):
            await storage.link(TOML)


@pytest_twisted.ensureDeferred
async def test_without_the_setting_there_are_no_links(world: World) -> None:
    assert not ILinks.providedBy(world.storage)


# --- The start ---


async def refused(url: str, **table: Any) -> str:
    """@return: the line with which a start fails."""
    with pytest.raises(ConfigError) as raised:
        async with started(url, **table):
            raise AssertionError("it starts")
    (line,) = raised.value.problems
    assert "\n" not in line
    return line


@pytest_twisted.ensureDeferred
async def test_a_bucket_that_is_not_there_is_not_made() -> None:
    server = servers.gcs()
    line = await refused(server.endpoint, bucket="no-such-bucket")
    assert line == "Storage.GCP.Bucket: there is no such bucket; create it, or name another"
    with pytest.raises(OSError, match="404"):
        server.ask("GET", "/storage/v1/b/no-such-bucket")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "Storage.GCP.Bucket: the server answers 400: Why"),
        (401, "Storage.GCP.JSONKey: the server answers 401: Why: it must be allowed to list, read, write and delete"),
        (403, "Storage.GCP.JSONKey: the server answers 403: Why: it must be allowed to list, read, write and delete"),
        (501, "Storage.GCP: gcp storage: list: status 501: Why: look at Endpoint"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_start_that_is_refused_names_the_setting(cloud: GoogleCloud, status: int, said: str) -> None:
    cloud.answers["GET /storage"] = failure(status, "Why")
    assert (await refused(cloud.url, json_key=key_of(cloud))).startswith(said)


@pytest_twisted.ensureDeferred
async def test_nobody_is_told_that_there_are_no_credentials(cloud: GoogleCloud) -> None:
    cloud.answers["GET /storage"] = failure(401, "Anonymous caller")
    line = await refused(cloud.url)
    assert line.startswith("Storage.GCP.JSONKey: the server answers 401: Anonymous caller: no credentials are set")


@pytest_twisted.ensureDeferred
async def test_a_key_that_google_does_not_know_is_named(cloud: GoogleCloud) -> None:
    cloud.answers["POST /token"] = (
        400,
        {},
        b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}',
    )
    line = await refused(cloud.url, json_key=key_of(cloud))
    assert line.startswith("Storage.GCP.JSONKey: there are no credentials")
    assert line.endswith("JSONKey: invalid_grant: Invalid JWT Signature.")


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_none_is_named() -> None:
    assert (await refused("", json_key="e30=")).startswith("Storage.GCP.JSONKey: not a credential that can be used: ")


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_not_there_is_named(cloud: GoogleCloud) -> None:
    await cloud.server.stop()
    line = await refused(cloud.url)
    assert line.startswith("Storage.GCP: gcp storage: list: the server can't be connected")
    assert line.endswith("look at Endpoint, and at the way to it")


@pytest_twisted.ensureDeferred
async def test_a_start_does_not_wait_for_ever(cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("athens_tx.starting.START_LIMIT", 0.2)
    proxy = FaultProxy(reactor, cloud.server.port)
    proxy.frozen = True
    assert (await refused(proxy.endpoint)).startswith("Storage.GCP: no answer within 0.2 s: look at Endpoint")
    await proxy.stop()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_no_google_is_named(cloud: GoogleCloud) -> None:
    cloud.answers["GET /storage"] = (200, {}, b"<html>")
    assert "Storage.GCP.Endpoint: gcp storage: list: not the answer of Google" in await refused(cloud.url)


@pytest_twisted.ensureDeferred
async def test_links_that_nobody_can_sign_are_refused() -> None:
    line = await refused(servers.gcs().endpoint, presigned_redirect=True)
    assert line.startswith("Storage.GCP.PresignedRedirect: the credentials can't sign")


@pytest_twisted.ensureDeferred
async def test_without_credentials_only_an_endpoint_of_ones_own_is_asked(
    cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv(environment_vars.CREDENTIALS, raising=False)
    line = await refused("", environ={})
    assert line == "Storage.GCP.JSONKey: it is empty, and no default credentials were found"
    cloud.open = True
    for endpoint in (cloud.url, f"{cloud.url}/storage/v1/"):
        async with started("", environ={}, endpoint=endpoint) as storage:
            await storage.check()
    async with started(cloud.url.removeprefix("http://")) as storage:  # as Google's programs have the variable
        await storage.check()
    key = tmp_path / "key.json"
    key.write_text(json.dumps(cloud.service_account()))
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(key))
    cloud.open = False
    async with started("", environ={}, endpoint=cloud.url) as storage:
        await storage.check()


@pytest_twisted.ensureDeferred
async def test_an_endpoint_may_have_a_path(cloud: GoogleCloud) -> None:
    cloud.open = True
    answer = cloud._answer
    cloud._answer = lambda request, path: answer(request, path.removeprefix("/gcs"))  # type: ignore[method-assign]
    async with started(f"{cloud.url}/gcs/") as storage:
        assert await storage._objects.upload("a/@v/v1.zip", BytesZip(BIG), "application/zip", "")
    assert cloud.objects["a/@v/v1.zip"].data == BIG
    assert all(request.split()[1].startswith("/gcs/") for request in cloud.requests)


@pytest_twisted.ensureDeferred
async def test_old_marks_of_athens_mean_nothing(tmp_path: Path) -> None:
    backend = Gcp(reactor, tmp_path)
    async with started(backend.server.endpoint, bucket=backend.bucket.name) as storage:
        await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
        path = backend.bucket._path(KEYS[1])
        backend.server.ask("PATCH", path, b'{"metadata": {"in_progress": "true"}}', "application/json")
        assert await storage.exists(TOML)
        assert await storage.mod(TOML) == MOD
        known = json.loads(backend.server.ask("GET", backend.bucket._path(KEYS[0])))
        assert "metadata" not in known


@pytest_twisted.ensureDeferred
async def test_it_is_in_the_table_of_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    from athens_tx.backends import STORAGES
    from athens_tx.config import Config

    server = servers.gcs()
    backends = Backends(reactor, {"STORAGE_EMULATOR_HOST": server.endpoint})
    config = Config()
    bucket = server.bucket()
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"gcp": Table(bucket=bucket.name)})})
    storage = await backends.open(STORAGES, "StorageType", "gcp", config)
    await storage.check()
    await backends.close()
