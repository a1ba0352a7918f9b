"""The client of external storage, against a server as Athens ships it and against trouble."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from athens_tx.errors import BadUpstream, ConfigError, InvalidModule, NotFound, NotSupported, StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage import calls, external
from athens_tx.storage.body import BytesZip, MemorySink
from athens_tx.storage.external import SETTING, ExternalStorage
from tests.contract.zips import HandZip, whole
from tests.storage.athens_external import LIMIT, AthensServer
from tests.support.external import ExternalServer
from tests.support.faults import FaultProxy
from tests.support.loopback import LoopbackServer

reactor: Any = _reactor
FOO = MV("github.com/Foo/bar", "v1.0.0-RC1")
LOW = MV("example.com/low", "v1.0.0")
INFO, MOD, ZIP = (
    b'{"Version":"v1.0.0-RC1"}',
    b"module github.com/Foo/bar\n",
    b"PK" + random.Random(1).randbytes(300_000),
)


@attrs.define
class World:
    """A server, what stands before it, and a client."""

    server: AthensServer
    proxy: FaultProxy
    storage: ExternalStorage

    def client(self, userinfo: str = "", timeout: float = 20.0, **options: Any) -> ExternalStorage:
        url = f"http://{userinfo}127.0.0.1:{self.proxy.port}/"
        self.made.append(ExternalStorage(reactor, url, {}, timeout, **options))
        return self.made[-1]

    made: list[ExternalStorage] = attrs.Factory(list)


@pytest_twisted.async_yield_fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(calls, "FIRST_PAUSE", 0.01)
    server = AthensServer()
    loopback = LoopbackServer(reactor, server)
    proxy = FaultProxy(reactor, loopback.port)
    world = World(server, proxy, None)  # type: ignore[arg-type]
    world.storage = world.client()
    yield world
    for storage in world.made:
        await storage.stopService()
    await proxy.stop()
    await loopback.stop()


async def save(storage: ExternalStorage, mv: MV = FOO, zipped: bytes = ZIP) -> None:
    await storage.save(mv, INFO, MOD, BytesZip(zipped))


async def started(storage: ExternalStorage) -> ExternalStorage:
    storage.startService()
    await storage.ready
    return storage


# --- As Athens does it ---


@pytest_twisted.ensureDeferred
async def test_a_save_is_sent_as_athens_sends_it(world: World) -> None:
    await save(world.storage, LOW)
    kind, body = world.server.bodies[0]
    start, _, boundary = kind.partition("boundary=")
    assert start == "multipart/form-data; "
    expected = b""
    for name, data in (("mod.info", INFO), ("mod.mod", MOD), ("mod.zip", ZIP)):
        expected += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'.encode()
        expected += b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
    assert body == expected + f"--{boundary}--\r\n".encode()
    request = next(
        headers for line, headers in zip(world.server.asked, world.server.headers, strict=True) if "POST" in line
    )
    assert request.getRawHeaders("Transfer-Encoding") == ["chunked"]
    assert world.server.versions == {(LOW.path, LOW.version): (INFO, MOD, ZIP)}
    assert world.server.asked == [
        "GET /example.com/low/@v/v1.0.0.info",
        "POST /example.com/low/@v/v1.0.0.save",
    ]


@pytest_twisted.ensureDeferred
async def test_capitals_of_a_version_are_escaped_only_where_the_server_wants_it(world: World) -> None:
    await save(world.storage)
    assert await world.storage.info(FOO) == INFO
    assert await world.storage.mod(FOO) == MOD
    assert await whole(await world.storage.zip(FOO)) == ZIP
    assert await world.storage.exists(FOO)
    await world.storage.delete(FOO)
    start, escaped = "/github.com/!foo/bar/@v/v1.0.0-", "!r!c1"
    assert world.server.asked == [
        f"GET {start}RC1.info",
        *(f"GET {start}{escaped}.info", f"POST {start}{escaped}.save"),
        *(f"GET {start}{escaped}.{kind}" for kind in ("info", "mod", "zip", "info")),
        f"DELETE {start}{escaped}.delete",
    ]
    assert world.server.versions == {}


@pytest_twisted.ensureDeferred
async def test_a_server_that_wants_them_plain_is_asked_plain_again(world: World) -> None:
    await save(world.storage)  # and learn to escape
    world.server.answers["GET /github.com/!foo/bar/@v/v1.0.0-!r!c1"] = (400, b"no", {})
    world.server.answers["DELETE /github.com/!foo/bar/@v/v1.0.0-!r!c1"] = (400, b"no", {})
    world.server.answers["GET /github.com/!foo/bar/@v/v1.0.0-RC1.zip"] = (200, ZIP, {})
    assert await whole(await world.storage.zip(FOO)) == ZIP
    for ask in (world.storage.info, world.storage.exists, world.storage.delete):
        with pytest.raises(InvalidModule):
            await ask(FOO)
    world.server.answers["GET /github.com/!foo/bar/@v/v1.0.0-RC1.zip"] = (400, b"no", {})
    with pytest.raises(InvalidModule):
        await world.storage.zip(FOO)


@pytest_twisted.ensureDeferred
async def test_what_athens_lists(world: World) -> None:
    for version in ("v1.0.0", "v1.0.0+incompatible", "master", "v1.1.0-RC1"):
        world.server.versions[LOW.path, version] = (b"{}", b"m", b"z")
    assert list(await world.storage.list(LOW.path)) == ["v1.0.0", "v1.0.0+incompatible", "v1.1.0-RC1"]
    world.server.versions[FOO.path, FOO.version] = (b"{}", b"m", b"z")
    assert list(await world.storage.list(FOO.path)) == []  # its own fault
    assert await world.storage.exists(FOO)
    world.server.answers["GET /example.com/none"] = (404, b"", {})
    assert list(await world.storage.list("example.com/none")) == []


@pytest_twisted.ensureDeferred
async def test_a_version_that_athens_takes_for_too_large_is_told_of(world: World) -> None:
    with pytest.raises(StorageUnavailable, match=r"save github.com/Foo/bar@v1.0.0-RC1: status 400") as raised:
        await save(world.storage, zipped=bytes(LIMIT))
    assert "1 MiB" in raised.value.detail
    assert not await world.storage.exists(FOO)
    await save(world.storage)


@pytest_twisted.ensureDeferred
async def test_a_body_refused_early_is_an_answer_too_and_what_is_left_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    server = await ExternalServer(reactor, tmp_path / "root", tmp_path, max_zip_size=1000).start()
    storage = ExternalStorage(reactor, server.url, {}, 5.0)
    body = HandZip(100 << 20)
    saving = Deferred.fromCoroutine(storage.save(FOO, INFO, MOD, body))
    await body.started
    try:
        body.give(bytes(1 << 20))
        with pytest.raises(StorageUnavailable, match="status 413") as raised:
            await saving
        assert "MaxZipSize" in raised.value.detail
        assert body.cancelled
    finally:
        await storage.stopService()
        await server.stop()


@pytest.mark.parametrize("status", [400, 409])
@pytest_twisted.ensureDeferred
async def test_one_who_was_slower_is_done(world: World, status: int) -> None:
    body = HandZip(len(ZIP))
    saving = Deferred.fromCoroutine(world.storage.save(FOO, INFO, MOD, body))
    await body.started
    world.server.versions[FOO.path, FOO.version] = (b"{}", b"m", b"z")
    if status == 409:
        world.server.answers["POST"] = (409, b"there already\n", {})
    body.give(ZIP)
    body.end()
    await saving


@pytest_twisted.ensureDeferred
async def test_a_foreign_server_has_no_catalog(world: World) -> None:
    for status in (404, 405, 501):
        world.server.answers["GET /catalog"] = (status, b"no\n", {})
        with pytest.raises(NotSupported):
            await world.storage.catalog("", 10)


ODD_PAGES = [
    b"[" * 100_000,
    b'{"modules":[{"module":5,"version":{}}]}',
    b'{"modules":[],"next":5}',
    b'{"modules":[],"next":"\\ud800"}',
]


@pytest_twisted.ensureDeferred
async def test_a_catalog_is_given_without_names_that_can_not_be_stored(world: World) -> None:
    odd = ["../../x", "/etc", "ex.com/\\ud800", "ex.com/\\u001b[2J", "a\\nb", "ex.com/\\u202e"]
    entries = ",".join(f'{{"module":"{name}","version":"v1.0.0"}}' for name in [*odd, LOW.path])
    world.server.answers["GET /catalog"] = (200, f'{{"modules":[{entries}]}}'.encode(), {})
    assert await world.storage.catalog("", 10) == ([LOW], "")


@pytest.mark.parametrize(
    "page", [b"no JSON", b"[]", b'{"modules":[{"module":"x"}]}', b'{"modules":7}', b'"x"', *ODD_PAGES]
)
@pytest_twisted.ensureDeferred
async def test_a_catalog_that_is_none_is_told_of(world: World, page: bytes) -> None:
    world.server.answers["GET /catalog"] = (200, page, {})
    with pytest.raises(StorageUnavailable, match="catalog"):
        await world.storage.catalog("", 10)


@pytest_twisted.ensureDeferred
async def test_a_catalog_may_be_empty_and_its_pages_are_no_larger_than_asked(world: World) -> None:
    world.server.answers["GET /catalog"] = (200, b'{"modules":null}', {})
    assert await world.storage.catalog("a|b c", 100_000) == ([], "")
    assert world.server.asked == ["GET /catalog?token=a%7Cb+c&pagesize=1000"]


@pytest_twisted.ensureDeferred
async def test_a_catalog_that_goes_on_where_it_was_is_refused(world: World) -> None:
    world.server.answers["GET /catalog"] = (200, b'{"modules":[],"next":"again"}', {})
    assert await world.storage.catalog("", 10) == ([], "again")
    with pytest.raises(StorageUnavailable, match="goes round in circles"):
        await world.storage.catalog("again", 10)


# --- Zips ---


@pytest.mark.parametrize("sizes", [True, False])
@pytest_twisted.ensureDeferred
async def test_parts_of_a_zip_from_a_server_that_gives_none(world: World, sizes: bool) -> None:
    await save(world.storage)
    world.server.sizes = sizes
    for start, length in ((0, 1), (0, len(ZIP)), (1000, 200_000), (len(ZIP) - 1, 1), (5, 0)):
        zipped = await world.storage.zip(FOO)
        assert zipped.length == len(ZIP)
        assert await whole(zipped.part(start, length)) == ZIP[start : start + length]
    assert await whole(await world.storage.zip(FOO)) == ZIP


@pytest.mark.parametrize("answer", [405, 501, 404, 403, "no length", "gzip"])
@pytest_twisted.ensureDeferred
async def test_where_head_tells_nothing_get_does(world: World, answer: Any) -> None:
    await save(world.storage, LOW)
    await whole(await world.storage.zip(LOW))
    world.server.heads = True
    if isinstance(answer, int):
        world.server.answers["HEAD"] = (answer, b"", {})
    elif answer == "gzip":
        world.server.answers["HEAD"] = (200, b"", {"Content-Length": "20", "Content-Encoding": "gzip"})
    else:
        world.server.answers["HEAD"] = (200, b"", {"Content-Length": "many"})
    for asked in (["HEAD", "GET"], ["GET"] if answer in (405, 501) else ["HEAD", "GET"]):
        world.server.asked.clear()
        body = await world.storage.zip(LOW, whole=False)
        assert body.length == len(ZIP)
        body.stopProducing()
        assert [line.partition(" ")[0] for line in world.server.asked] == asked


@pytest_twisted.ensureDeferred
async def test_head_learns_how_capitals_are_written_too(world: World) -> None:
    await save(world.storage)
    world.server.heads = True
    world.storage._escapes = False
    assert (await world.storage.zip(FOO, whole=False)).length == len(ZIP)
    world.server.asked.clear()
    body = await world.storage.zip(FOO, whole=False)
    assert await whole(body.part(3, 5)) == ZIP[3:8]
    assert [line.partition(" ")[0] for line in world.server.asked] == ["HEAD", "GET"]
    assert all("!r!c1" in line for line in world.server.asked)


@pytest_twisted.ensureDeferred
async def test_a_part_of_what_is_another_zip_since_head_is_refused(world: World) -> None:
    await save(world.storage, LOW)
    world.server.heads, world.server.ranges, world.server.tag = True, True, '"one"'
    body = await world.storage.zip(LOW, whole=False)
    world.server.tag = '"two"'
    with pytest.raises(StorageUnavailable, match="another one than before"):
        await whole(body.part(3, 5))


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_cut_goes_on(world: World) -> None:
    await save(world.storage)
    world.server.tag = '"one"'
    world.proxy.truncate(100_000, times=2, match=r"\.zip")
    assert await whole(await world.storage.zip(FOO)) == ZIP
    assert world.proxy.count(r"\.zip") == 3
    assert world.server.headers[-1].getRawHeaders("If-Range") == ['"one"']


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_cut_stays_so_where_another_may_be_there(world: World, tag: str) -> None:
    await save(world.storage)
    world.server.tag = tag
    world.proxy.truncate(100_000, times=1, match=r"\.zip")
    with pytest.raises(StorageUnavailable, match="can't be read"):
        await whole(await world.storage.zip(FOO))
    assert world.proxy.count(r"\.zip") == 1


@pytest.mark.parametrize("then", ['"two"', ""])
@pytest_twisted.ensureDeferred
async def test_a_zip_does_not_go_on_as_another_one(world: World, then: str) -> None:
    await save(world.storage)
    world.server.tag = '"one"'
    world.proxy.truncate(100_000, times=1, match=r"\.zip")
    zipped = await world.storage.zip(FOO)
    world.server.tag = then
    with pytest.raises(StorageUnavailable, match="another one"):
        await whole(zipped)


@pytest_twisted.ensureDeferred
async def test_a_zip_that_can_not_be_counted_is_trouble_and_not_absent(world: World) -> None:
    def cut(request: Any) -> int:
        request.write(b"PK")
        request.transport.loseConnection()
        return 1  # NOT_DONE_YET

    world.server.render = cut  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="the connection broke"):
        await world.storage.zip(FOO)


@pytest_twisted.ensureDeferred
async def test_a_zip_that_has_no_end_is_not_counted_for_ever(world: World) -> None:
    def endless(request: Any) -> int:
        request.write(b"PK")
        return 1  # NOT_DONE_YET

    world.server.render = endless  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="no end within"):
        await world.client(save_limit=0.2).zip(FOO)


@pytest_twisted.ensureDeferred
async def test_what_a_torn_save_left_is_absent(world: World) -> None:
    world.server.versions[LOW.path, LOW.version] = (b"", b"", b"z")
    assert not await world.storage.exists(LOW)
    for ask in (world.storage.info, world.storage.mod):
        with pytest.raises(NotFound):
            await ask(LOW)


@pytest.mark.parametrize("page", [b"<html>\nv9.9.9\n", b"\xef\xbb\xbf \n<!DOCTYPE html>"])
@pytest_twisted.ensureDeferred
async def test_a_page_for_people_is_no_file_of_a_version(world: World, page: bytes) -> None:
    world.server.answers["GET"] = (200, page, {"Content-Type": "text/html"})
    for asking in (
        world.storage.list(LOW.path),
        world.storage.info(LOW),
        world.storage.mod(LOW),
        world.storage.exists(LOW),
        world.storage.check(),
    ):
        with pytest.raises(StorageUnavailable, match="the answer is"):
            await asking


@pytest.mark.parametrize("by", [-7, 7])
@pytest_twisted.ensureDeferred
async def test_a_zip_of_another_length_than_said_is_no_zip(world: World, by: int) -> None:
    await save(world.storage)
    world.proxy.wrong_length(by, times=None, match=r"GET .*\.zip")
    zipped = await world.storage.zip(FOO)
    if by > 0:
        with pytest.raises(StorageUnavailable):
            await whole(zipped)
    else:
        assert zipped.length == len(ZIP) - 7  # nobody can know better


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_deleted_meanwhile_is_not_found(world: World) -> None:
    await save(world.storage)
    zipped = (await world.storage.zip(FOO)).part(1, 2)
    await world.storage.delete(FOO)
    with pytest.raises(NotFound):
        await whole(zipped)


# --- Redirects and credentials ---


@pytest_twisted.ensureDeferred
async def test_redirects_are_followed_and_credentials_stay_at_home(world: World) -> None:
    other = AthensServer()
    elsewhere = LoopbackServer(reactor, other)
    storage = world.client("user:p%40ss@")
    try:
        await save(storage, LOW)
        other.versions[LOW.path, LOW.version] = (b"{}", b"m", b"elsewhere")
        away = f"http://127.0.0.1:{elsewhere.port}/example.com/low/@v/v1.0.0.zip"
        world.server.answers["GET /example.com/low/@v/v1.0.0.zip"] = (302, b"", {"Location": away})
        world.server.answers["GET /example.com/low/@v/list"] = (301, b"", {"Location": "/moved/@v/list"})
        assert await whole(await storage.zip(LOW)) == b"elsewhere"
        assert list(await storage.list(LOW.path)) == []
        sent = [headers.getRawHeaders("Authorization") for headers in world.server.headers]
        assert sent == [["Basic dXNlcjpwQHNz"]] * len(sent)
        assert [headers.getRawHeaders("Authorization") for headers in other.headers] == [None]
        assert world.server.asked[-1] == "GET /moved/@v/list"
    finally:
        await storage.stopService()
        await elsewhere.stop()


@pytest.mark.parametrize(
    "location", ["/example.com/low/@v/list", "", "ftp://x/", "http://[::1", "http://x:99999/", "http://x:0/"]
)
@pytest_twisted.ensureDeferred
async def test_redirects_that_lead_nowhere_are_told_of(world: World, location: str) -> None:
    world.server.answers["GET /"] = (302, b"", {"Location": location} if location else {})
    with pytest.raises(StorageUnavailable):
        await world.storage.list(LOW.path)
    assert len(world.server.asked) <= 10


# --- The start ---


@pytest_twisted.ensureDeferred
async def test_a_server_that_works_is_ready(world: World) -> None:
    await started(world.storage)
    await world.storage.check()
    assert world.server.asked == ["GET /github.com/gomods/athens/@v/list"] * 2


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "USER:PASSWORD"), (403, "credentials"), (404, "ExternalStoragePath"), (500, "status 500")],
)
@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_stops_the_start_with_one_line(world: World, status: int, said: str) -> None:
    world.server.answers["GET"] = (status, b"no\n\x07secrets", {})
    storage = world.client("user:hidden@")
    with pytest.raises(ConfigError) as raised:
        await started(storage)
    (line,) = raised.value.problems
    assert line.startswith(f"{SETTING}: ")
    assert said in line
    assert "hidden" not in line
    assert line.isprintable()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_stops_the_start(world: World) -> None:
    world.proxy.refuse()
    with pytest.raises(ConfigError, match="can't be connected") as raised:
        await started(world.client("user:hidden@"))
    assert "hidden" not in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_stops_the_start_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "PROBE_LIMIT", 0.3)
    world.proxy.frozen = True
    begun = reactor.seconds()
    with pytest.raises(ConfigError):
        await started(world.client())
    assert reactor.seconds() - begun < 1.3


# --- Trouble ---


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest_twisted.ensureDeferred
async def test_small_calls_are_tried_again(world: World, status: int) -> None:
    await save(world.storage)
    for ask in ("info", "mod", "exists", "zip", "delete"):
        world.proxy.answer(status, times=2)
        answer = await getattr(world.storage, ask)(FOO)
        if ask == "zip":
            answer.stopProducing()
    world.proxy.answer(status, times=2)
    assert list(await world.storage.list(LOW.path)) == []


@pytest_twisted.ensureDeferred
async def test_an_outage_is_told_once_and_so_is_its_end(world: World, logged: list[dict[str, Any]]) -> None:
    await save(world.storage, LOW)
    world.proxy.refuse()
    world.proxy.cut()
    for ask in (world.storage.info, world.storage.zip):
        with pytest.raises(StorageUnavailable, match="external storage"):
            await ask(LOW)
    body = HandZip(3)
    with pytest.raises(StorageUnavailable):
        await world.storage.save(FOO, INFO, MOD, body)
    assert body.stopped
    world.proxy.accept()
    assert await world.storage.info(LOW) == INFO
    await save(world.storage)
    told = [event["log_format"] for event in logged if event["log_namespace"].endswith("health.Health")]
    said = ["storage is in trouble: {reason}", "{name} storage works again"]
    assert [line for line in told if "trying again" not in line] == said


@pytest_twisted.ensureDeferred
async def test_every_call_has_its_limit(world: World) -> None:
    storage = world.client(timeout=0.3)
    await save(storage, LOW)
    world.proxy.frozen = True
    for ask in (storage.info, storage.mod, storage.zip, storage.exists, storage.delete):
        begun = reactor.seconds()
        with pytest.raises(StorageUnavailable):
            await ask(LOW)
        assert reactor.seconds() - begun < 1.3
    for coroutine in (storage.list(LOW.path), storage.catalog("", 5), storage.check(), save(storage)):
        begun = reactor.seconds()
        with pytest.raises(StorageUnavailable):
            await coroutine
        assert reactor.seconds() - begun < 1.3


@pytest_twisted.ensureDeferred
async def test_a_save_that_nobody_answers_has_its_limit(world: World) -> None:
    storage = world.client(timeout=0.3)
    world.proxy.hang(match="POST")
    begun = reactor.seconds()
    with pytest.raises(StorageUnavailable, match="no answer"):
        await save(storage)
    assert reactor.seconds() - begun < 1.3


@pytest_twisted.ensureDeferred
async def test_a_save_that_nobody_takes_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "IDLE_LIMIT", 0.3)
    body = HandZip(1000 << 20)
    saving = Deferred.fromCoroutine(world.storage.save(FOO, INFO, MOD, body))
    await body.started
    world.proxy.frozen = True
    while not body.paused:
        body.give(bytes(1 << 20))
        await deferLater(reactor, 0, lambda: None)
    with pytest.raises(StorageUnavailable, match="could be sent"):
        await saving
    assert body.cancelled


@pytest_twisted.ensureDeferred
async def test_a_save_as_a_whole_has_a_limit(world: World) -> None:
    storage = world.client(save_limit=0.4)
    body = HandZip(1000)
    saving = Deferred.fromCoroutine(storage.save(FOO, INFO, MOD, body))
    await body.started
    for _ in range(8):
        body.give(b"x")
        await deferLater(reactor, 0.1, lambda: None)
    with pytest.raises(StorageUnavailable):
        await saving
    assert body.cancelled


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost_is_trouble_and_the_next_save_finds_the_version(world: World) -> None:
    world.proxy.lose_answer(match="POST")
    with pytest.raises(StorageUnavailable):
        await save(world.storage)
    body = HandZip(3)
    await world.storage.save(FOO, INFO, MOD, body)
    assert body.stopped


@pytest_twisted.ensureDeferred
async def test_a_source_of_another_length_is_never_ended(world: World) -> None:
    for given in (b"12345", b"12"):
        body = HandZip(4)
        saving = Deferred.fromCoroutine(world.storage.save(FOO, INFO, MOD, body))
        await body.started
        body.give(given)
        if len(given) < 4:
            body.end()
        with pytest.raises(BadUpstream):
            await saving
    assert world.server.bodies == []


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_to_be_info_is_trouble(world: World) -> None:
    world.server.versions[LOW.path, LOW.version] = (bytes((1 << 20) + 1), b"m", b"z")
    with pytest.raises(StorageUnavailable, match="larger than expected"):
        await world.storage.info(LOW)


@pytest_twisted.ensureDeferred
async def test_who_stops_waiting_stops_the_save(world: World) -> None:
    body = HandZip(1000)
    saving = Deferred.fromCoroutine(world.storage.save(FOO, INFO, MOD, body))
    await body.started
    saving.cancel()
    with pytest.raises(CancelledError):
        await saving
    assert body.cancelled
    assert MemorySink(1).length == 0
