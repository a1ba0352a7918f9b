"""The storage as a service: the routes of external storage, as an Athens or another athens-tx asks them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import deferLater

from athens_tx.errors import AlreadyStored, NotSupported, StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip, MemorySink, pour
from athens_tx.storage.memory import MemoryStorage
from athens_tx.web import external
from athens_tx.web.request import MAX_BODY
from tests.support.external import PATH, ExternalServer
from tests.web.conftest import Response, Wire

reactor: Any = _reactor
FOO = MV("github.com/Foo/bar", "v1.0.0-RC1")
AT = f"{PATH}/github.com/!foo/bar/@v"
FILES = {
    "mod.info": b'{"Version":"v1.0.0-RC1"}',
    "mod.mod": b"module github.com/Foo/bar\n",
    "mod.zip": b"PK\r\n--x\r\n" * 9,
}
TYPE = "multipart/form-data; boundary=b0"


def form(files: dict[str, bytes], *, by: str = "name") -> bytes:
    parts = []
    for name, data in files.items():
        said = f'name="{name}"; filename="{name}"' if by == "name" else f'name="file"; filename="{name}"'
        head = f"--b0\r\nContent-Disposition: form-data; {said}\r\nContent-Type: application/octet-stream\r\n\r\n"
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--b0--\r\n"


def head(path: str, *more: str, method: str = "POST") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {TYPE}", *more)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Client:
    """Connections to one server."""

    def __init__(self, server: ExternalServer) -> None:
        self.server = server
        self.wires: list[Wire] = []

    async def connect(self) -> Wire:
        connected: Deferred[Wire] = Deferred()

        class Made(Wire):
            def connectionMade(self) -> None:
                connected.callback(self)

        factory = ClientFactory.forProtocol(Made)
        factory.noisy = False
        reactor.connectTCP("127.0.0.1", self.server.number, factory)
        self.wires.append(await connected)
        return self.wires[-1]

    async def raw(self, data: bytes) -> Response:
        wire = await self.connect()
        wire.send(data)
        return Response.parse((await wire.end()).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))

    async def ask(self, path: str, method: str = "GET", *more: str) -> Response:
        return await self.raw(head(path, "Connection: close", *more, method=method))

    async def save(self, body: bytes, version: str = FOO.version, *more: str) -> Response:
        path = f"{AT}/{version}.save"
        return await self.raw(head(path, "Connection: close", f"Content-Length: {len(body)}", *more) + body)

    async def close(self) -> None:
        for wire in self.wires:
            if not wire.closed:
                wire.drop()
                await wire.end()


@pytest_twisted.async_yield_fixture
async def serve(tmp_path: Path) -> Any:
    """A function that starts a server with the given settings, and gives a client of it."""
    clients: list[Client] = []
    (tmp_path / "root").mkdir()
    (tmp_path / "staging").mkdir()

    async def start(**settings: Any) -> Client:
        server = ExternalServer(reactor, tmp_path / "root", tmp_path / "staging", **settings)
        clients.append(Client(await server.start()))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()
        await client.server.stop()
    await until(lambda: not os.listdir(tmp_path / "staging"))


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it did not come to that")


async def stored(storage: Any, mv: MV = FOO) -> dict[str, bytes]:
    zipped = await storage.zip(mv)
    sink = MemorySink(1 << 30)
    await pour(zipped, sink)
    return {"mod.info": await storage.info(mv), "mod.mod": await storage.mod(mv), "mod.zip": sink.value()}


# --- Reading ---


@pytest_twisted.ensureDeferred
async def test_the_files_of_a_version_are_read(serve: Any) -> None:
    client = await serve()
    await client.server.storage.save(FOO, FILES["mod.info"], FILES["mod.mod"], BytesZip(FILES["mod.zip"]))
    for version in ("v1.0.0-RC1", "v1.0.0-!r!c1", "v1.0.0-%52C1"):
        for kind in ("info", "mod", "zip"):
            answer = await client.ask(f"{AT}/{version}.{kind}")
            assert (answer.status, answer.body) == (200, FILES[f"mod.{kind}"])
            assert answer.headers["content-length"] == str(len(answer.body))
    answer = await client.ask(f"{AT}/v1.0.0-RC1.zip", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(FILES["mod.zip"])))
    answer = await client.ask(f"{AT}/v1.0.0-RC1.zip", "GET", "Range: bytes=2-5")
    assert (answer.status, answer.body) == (206, FILES["mod.zip"][2:6])
    assert answer.headers["content-range"] == f"bytes 2-5/{len(FILES['mod.zip'])}"


@pytest_twisted.ensureDeferred
async def test_a_list_is_of_the_module_as_it_is_written_and_has_no_last_newline(serve: Any) -> None:
    client = await serve()
    assert (await client.ask(f"{AT}/list")).body == b""
    for version in ("v1.0.0", "v1.0.0-RC1"):
        await client.server.storage.save(MV(FOO.path, version), b"{}", b"module x\n", BytesZip(b""))
    answer = await client.ask(f"{AT}/list")
    assert (answer.status, sorted(answer.body.split(b"\n"))) == (200, [b"v1.0.0", b"v1.0.0-RC1"])


@pytest_twisted.ensureDeferred
async def test_what_is_not_there_is_404_and_what_can_not_be_is_400(serve: Any) -> None:
    client = await serve()
    for kind in ("info", "mod", "zip"):
        answer = await client.ask(f"{AT}/v1.0.0.{kind}")
        assert (answer.status, answer.body) == (404, b"github.com/Foo/bar@v1.0.0 is not stored\n")
    assert (await client.ask(f"{AT}/v1.0.0.delete", "DELETE")).status == 404
    for path in ("github.com/Foo/bar", "a/.b"):
        assert (await client.ask(f"{PATH}/{path}/@v/list")).status == 400
        assert (await client.ask(f"{PATH}/{path}/@v/v1.0.0.info")).status == 400
    assert (await client.ask(f"{AT}/v1.0.0-!.info")).status == 400
    assert (await client.ask(f"{PATH}/")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_catalog_is_paged_through(serve: Any) -> None:
    client = await serve()
    for number in range(3):
        await client.server.storage.save(MV(FOO.path, f"v1.{number}.0"), b"{}", b"module x\n", BytesZip(b""))
    first = json.loads((await client.ask(f"{PATH}/catalog?pagesize=2")).body)
    second = json.loads((await client.ask(f"{PATH}/catalog?pagesize=2&token={first['next']}")).body)
    assert [entry["version"] for entry in first["modules"] + second["modules"]] == ["v1.0.0", "v1.1.0", "v1.2.0"]
    assert "next" not in second
    assert (await client.ask(f"{PATH}/catalog?pagesize=0")).status == 400


# --- Saving ---


@pytest.mark.parametrize("order", [("mod.info", "mod.mod", "mod.zip"), ("mod.zip", "mod.mod", "mod.info")])
@pytest.mark.parametrize("by", ["name", "filename"])
@pytest_twisted.ensureDeferred
async def test_a_version_is_saved_in_any_order(serve: Any, order: tuple[str, ...], by: str) -> None:
    client = await serve()
    answer = await client.save(form({name: FILES[name] for name in order}, by=by))
    assert (answer.status, answer.body) == (200, b"")
    assert await stored(client.server.storage) == FILES
    assert (await client.save(form({**FILES, "mod.zip": b"other"}))).status == 200  # again: harmless
    assert await stored(client.server.storage) == FILES
    assert (await client.ask(f"{AT}/v1.0.0-!r!c1.delete", "DELETE")).status == 200
    assert not await client.server.storage.exists(FOO)


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
@pytest_twisted.ensureDeferred
async def test_a_chunked_save_of_more_than_a_mebibyte_on_a_connection_that_stays(serve: Any, size: int) -> None:
    client = await serve()
    files = {**FILES, "mod.zip": os.urandom((3 << 20) if size > 1000 else 5000)}
    body = form(files)
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0-RC1.save", "Transfer-Encoding: chunked"))
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    wire.send(b"0\r\n\r\n" + head("/healthz", "Connection: close", method="GET"))
    assert (await wire.end()).count(b"HTTP/1.1 200 OK") == 2
    assert await stored(client.server.storage) == files


@pytest_twisted.ensureDeferred
async def test_one_who_asks_first_is_told_to_go_on_or_what_is_wrong(serve: Any) -> None:
    client = await serve(basic_auth_user="u", basic_auth_pass="p")
    body = form(FILES)
    ask = (f"Content-Length: {len(body)}", "Expect: 100-continue")
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.save", *ask))
    got = await wire.end()
    assert got.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in got
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.save", *ask, "Authorization: Basic dTpw"))
    await wire.until(lambda: b"\r\n\r\n" in wire.got)
    assert wire.got == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(body)
    await wire.until(lambda: b"200 OK" in wire.got)
    wire.drop()


@pytest.mark.parametrize("version", ["v1.0.0", "v1.0.0.x"])
@pytest_twisted.ensureDeferred
async def test_a_large_body_without_credentials_is_not_read(serve: Any, version: str) -> None:
    client = await serve(basic_auth_user="u", basic_auth_pass="p")
    wire = await client.connect()
    wire.send(head(f"{AT}/{version}.save", "Content-Length: 400000000") + bytes(3 << 20))
    await wire.until(lambda: wire.got.endswith(b"\n") and b"\r\n\r\n" in wire.got)
    assert wire.got.startswith(b"HTTP/1.1 401 ")
    await wire.end()
    assert not client.server.site.in_flight


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, b"no body"),
        (b"nonsense" * 10, 400, b"form"),
        (form(FILES)[:-8], 400, b"cut short"),
        (form({name: data for name, data in FILES.items() if name != "mod.mod"}), 400, b"lacks mod.mod"),
        (form(FILES)[:-6] + form(FILES), 400, b"twice"),
        (form({**FILES, "mod.info": b""}), 400, b"0 bytes of .info"),
        (form({**FILES, "mod.info": b"x" * ((1 << 20) + 1)}), 413, b"mod.info"),
        (form({**FILES, "mod.zip": bytes(100_001)}), 413, b"MaxZipSize"),
        (form({"x" * 9000: b""}), 413, b"form"),
        (form({f"x{number}": b"" for number in range(20)}), 413, b"form"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_version_is_refused_in_words(serve: Any, body: bytes, status: int, said: bytes) -> None:
    client = await serve(max_zip_size=100_000)
    answer = await client.save(body)
    assert answer.status == status
    assert said in answer.body
    assert answer.body.endswith(b"\n")
    assert not await client.server.storage.exists(FOO)
    assert (await client.save(form(FILES))).status == 200


@pytest_twisted.ensureDeferred
async def test_other_parts_are_passed_over(serve: Any) -> None:
    client = await serve()
    assert (await client.save(form({"more": bytes(100), **FILES, "other": b"x"}))).status == 200
    assert await stored(client.server.storage) == FILES


@pytest.mark.parametrize("announced", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_body_beyond_all_limits_is_refused(serve: Any, announced: bool) -> None:
    client = await serve(max_zip_size=1)
    body = form({**FILES, "other": bytes(20 << 20)})
    wire = await client.connect()
    if announced:
        wire.send(head(f"{AT}/v1.0.0.save", f"Content-Length: {len(body)}"))
    else:
        wire.send(head(f"{AT}/v1.0.0.save", "Transfer-Encoding: chunked") + b"%x\r\n%s" % (len(body), body))
    await wire.until(lambda: wire.got.endswith(b"\n") and b"\r\n\r\n" in wire.got)
    assert wire.got.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "b" * 300]
)
@pytest_twisted.ensureDeferred
async def test_a_body_of_another_kind_is_refused(serve: Any, kind: str) -> None:
    client = await serve()
    lines = head(f"{AT}/v1.0.0.save", "Connection: close", "Content-Length: 3").replace(TYPE.encode(), kind.encode())
    assert (await client.raw(lines + b"abc")).status == 400


@pytest_twisted.ensureDeferred
async def test_other_methods_and_other_bodies_have_the_rules_of_everywhere(serve: Any) -> None:
    client = await serve()
    answer = await client.ask(f"{AT}/v1.0.0.save")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = await client.ask(f"{AT}/v1.0.0.info", "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    body = bytes(MAX_BODY + 1)
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.info", f"Content-Length: {len(body)}") + body)
    assert (await wire.end()).startswith(b"HTTP/1.1 413 ")
    assert (await client.raw(head(f"{PATH}/a/../b/@v/v1.0.0.save", "Content-Length: 9"))).status == 301


@pytest_twisted.ensureDeferred
async def test_a_prefix_and_tls_hold_here_too(serve: Any) -> None:
    client = await serve(path_prefix="/go", force_ssl=True)
    assert (await client.save(form(FILES))).status == 404
    body = form(FILES)
    lines = (f"Content-Length: {len(body)}", "Connection: close")
    assert (await client.raw(head(f"/go{AT}/v1.0.0.save", *lines) + body)).status == 301
    answer = await client.raw(head(f"/go{AT}/v1.0.0.save", *lines, "X-Forwarded-Proto: https") + body)
    assert answer.status == 200


# --- Many at once ---


@pytest_twisted.ensureDeferred
async def test_no_more_than_some_are_saved_at_once_and_few_wait(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "SAVES", 2)
    monkeypatch.setattr(external, "WAITING", 1)
    client = await serve()
    body = form(FILES)

    async def begin(version: str) -> Wire:
        wire = await client.connect()
        ask = (f"Content-Length: {len(body)}", "Expect: 100-continue", "Connection: close")
        wire.send(head(f"{AT}/{version}.save", *ask))
        return wire

    running = [await begin(f"v1.{number}.0") for number in range(2)]
    for wire in running:
        await until(lambda wire=wire: b"100 Continue" in wire.got)
    waiting = await begin("v1.2.0")
    await until(lambda: len(client.server.site.in_flight) == 3)
    refused = Response.parse(await (await begin("v1.3.0")).end())
    assert (refused.status, refused.body) == (503, b"too much is being saved already\n")
    assert int(refused.headers["retry-after"]) > 0
    assert waiting.got == b""  # its body is not wanted yet
    assert len(os.listdir(client.server.staging)) <= 2
    running[0].send(body)
    assert b"200 OK" in await running[0].end()
    await until(lambda: b"100 Continue" in waiting.got)
    running[1].drop()
    waiting.send(body)
    assert b"200 OK" in await waiting.end()
    assert (await client.save(body, "v1.3.0")).status == 200  # who left gave his turn back


@pytest_twisted.ensureDeferred
async def test_one_waits_for_its_turn_only_so_long(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "SAVES", 1)
    monkeypatch.setattr(external, "TURN_LIMIT", 0.2)
    client = await serve()
    first = await client.connect()
    first.send(head(f"{AT}/v1.0.0.save", "Content-Length: 5000") + form(FILES)[:50])
    await until(lambda: os.listdir(client.server.staging) or client.server.site.in_flight)
    answer = await client.save(form(FILES), "v1.1.0")
    assert (answer.status, answer.body) == (503, b"too much is being saved: no turn within 0.2 s\n")
    assert int(answer.headers["retry-after"]) > 0


# --- Clients that leave, and stores that do not work ---


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_leaves_nothing(serve: Any, share: float) -> None:
    client = await serve()
    body = form({**FILES, "mod.zip": os.urandom(2 << 20)})
    for chunked in (True, False):
        wire = await client.connect()
        start = head(f"{AT}/v1.0.0.save", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
        wire.send(start + (b"%x\r\n" % len(body) if chunked else b"") + body[: int(len(body) * share)])
        await until(lambda: client.server.site.in_flight)
        wire.drop()
        await until(lambda: not client.server.site.in_flight)
        await until(lambda: not os.listdir(client.server.staging))
    assert not await client.server.storage.exists(MV(FOO.path, "v1.0.0"))


@pytest_twisted.ensureDeferred
async def test_a_client_that_says_nothing_any_more_is_given_up(serve: Any) -> None:
    client = await serve(idle_timeout=0.2)
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.save", "Content-Length: 5000") + form(FILES)[:100])
    assert (await wire.end()).startswith(b"HTTP/1.1 400 ")


@pytest_twisted.ensureDeferred
async def test_a_save_has_a_limit_however_it_drips(serve: Any) -> None:
    client = await serve(save_limit=0.3)
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.save", "Content-Length: 5000") + form(FILES)[:100])
    for _ in range(10):
        await deferLater(reactor, 0.05, lambda: None)
        wire.send(b"x")
    assert (await wire.end()).startswith(b"HTTP/1.1 503 ")


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_slows_the_client_down(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await serve(idle_timeout=0.3)
    held: Deferred[None] = Deferred()
    from athens_tx.storage.sink import FileSink

    original = FileSink._drain
    waiting: list[Any] = []

    def drain(sink: Any) -> None:
        original(sink) if held.called else waiting.append(sink)

    monkeypatch.setattr(FileSink, "_drain", drain)
    body = form({**FILES, "mod.zip": os.urandom(30 << 20)})
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0-RC1.save", f"Content-Length: {len(body)}", "Connection: close") + body)
    await until(lambda: waiting and waiting[-1]._paused)
    await deferLater(reactor, 0.5, lambda: None)  # longer than a client may be idle: it is not the one who waits
    assert waiting[0]._waiting < 2 << 20
    held.callback(None)
    original(waiting[0])
    assert (await wire.end()).startswith(b"HTTP/1.1 200 ")


class Broken:
    """A storage that does not work."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.ready: Any = None

    def __getattr__(self, name: str) -> Any:
        async def fail(*arguments: Any, **named: Any) -> None:
            raise self.error.afresh()

        return fail

    def startService(self) -> None:
        """Nothing."""

        async def ready() -> None:
            """Nothing."""

        self.ready = Deferred.fromCoroutine(ready())

    async def stopService(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("error", "status"),
    [(StorageUnavailable("no"), 503), (NotSupported("no"), 501), (AlreadyStored("no"), 409)],
)
@pytest_twisted.ensureDeferred
async def test_trouble_has_its_status(serve: Any, error: Exception, status: int) -> None:
    client = await serve(storage=Broken(error))
    for path, method in (("list", "GET"), ("v1.0.0.info", "GET"), ("v1.0.0.zip", "GET"), ("v1.0.0.delete", "DELETE")):
        answer = await client.ask(f"{AT}/{path}", method)
        assert (answer.status, answer.body) == (status, b"no\n")
    assert (await client.ask(f"{PATH}/catalog")).status == status
    assert (await client.save(form(FILES))).status == status


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_said_while_the_body_comes(serve: Any, tmp_path: Path) -> None:
    client = await serve()
    client.server.staging.rmdir()
    try:
        assert (await client.save(form(FILES))).status == 503
    finally:
        client.server.staging.mkdir()


@pytest_twisted.ensureDeferred
async def test_a_site_that_drains_takes_a_body_to_its_end(serve: Any) -> None:
    client = await serve()
    body = form(FILES)
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0-RC1.save", f"Content-Length: {len(body)}") + body[:50])
    await until(lambda: client.server.site.in_flight)
    client.server.site.drain()
    wire.send(body[50:])
    got = await wire.end()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in got


@pytest_twisted.ensureDeferred
async def test_half_a_body_from_a_half_closed_connection_is_the_end_of_it(serve: Any) -> None:
    client = await serve()
    wire = await client.connect()
    wire.send(head(f"{AT}/v1.0.0.save", "Content-Length: 500") + form(FILES)[:50])
    await until(lambda: client.server.site.in_flight)
    wire.transport.loseWriteConnection()
    assert await wire.end() == b""


@pytest_twisted.ensureDeferred
async def test_a_zip_stored_anew_has_another_tag(serve: Any) -> None:
    client = await serve()
    zips, tags = (b"one zip", b"two zip"), []
    for data in zips:
        await client.server.storage.save(FOO, b"{}", b"module m", BytesZip(data))
        answers = [await client.ask(f"{AT}/{FOO.version}.zip") for _ in range(2)]
        assert [answer.body for answer in answers] == [data] * 2
        tags += [answer.headers["etag"] for answer in answers]
        await client.server.storage.delete(FOO)
    assert tags[0] == tags[1] != tags[2] == tags[3]
    assert all(tag.startswith('"') for tag in tags)


@pytest_twisted.ensureDeferred
async def test_a_storage_that_can_not_tell_its_zips_apart_gives_a_weak_tag(serve: Any) -> None:
    client = await serve(storage=MemoryStorage(1 << 20))
    await client.server.storage.save(FOO, b"{}", b"module m", BytesZip(b"a zip"))
    tag = (await client.ask(f"{AT}/{FOO.version}.zip")).headers["etag"]
    assert tag.startswith('W/"')
    answer = await client.ask(f"{AT}/{FOO.version}.zip", "GET", "Range: bytes=2-3", f"If-Range: {tag}")
    assert (answer.status, answer.body) == (200, b"a zip")
