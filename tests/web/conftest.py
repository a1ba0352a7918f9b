"""A real site on a loopback port, a client that speaks bytes, and fakes for the rooms behind the web."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from athens_tx.errors import InvalidRequest, NotFound
from athens_tx.interfaces import Answer, IndexLine, ZipAnswer, ZipLink
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.web.app import make_site
from athens_tx.web.settings import WebSettings

reactor: Any = _reactor
LIB = "github.com/acme/lib"


class ToldZip(BytesZip):
    """Remembers what it was told."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.said: list[str] = []
        self.parts: list[tuple[int, int]] = []

    def part(self, start: int, length: int) -> BytesZip:
        self.parts.append((start, length))
        return super().part(start, length)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.said.append("start")
        return super().startProducing(consumer)

    def stopProducing(self) -> None:
        self.said.append("stop")
        super().stopProducing()


class FakeProtocol:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, bytes] = {
            "list": b"v1.0.0\nv1.1.0",
            "latest": b'{"Version":"v1.1.0"}\n',
            "info": b'{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z"}',
            "mod": b"module github.com/acme/lib\n",
        }
        self.zip_body: Any = None
        self.zip_link = ""
        self.wholes: list[bool] = []
        self.failure: Exception | None = None
        self.wait: Deferred[None] | None = None

    async def _answer(self, kind: str, asked: object, fetch: bool) -> Answer:
        self.asked.append((kind, asked, fetch))
        if self.wait is not None:
            await self.wait
        if self.failure is not None:
            raise self.failure
        return Answer(self.answers[kind], "storage")

    async def list(self, path: str, *, fetch: bool = True) -> Answer:
        return await self._answer("list", path, fetch)

    async def latest(self, path: str, *, fetch: bool = True) -> Answer:
        return await self._answer("latest", path, fetch)

    async def info(self, mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        return await self._answer("info", str(mv), fetch)

    async def mod(self, mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        return await self._answer("mod", str(mv), fetch)

    async def zip(
        self, mv: ModuleVersion, *, fetch: bool = True, link: bool = False, whole: bool = True
    ) -> ZipAnswer | ZipLink:
        if self.zip_body is None:
            self.zip_body = ToldZip(b"PK" + bytes(range(98)))
        self.answers["zip"] = b""
        self.wholes.append(whole)
        answer = await self._answer("zip", str(mv), fetch)
        if link and self.zip_link:
            return ZipLink(self.zip_link, answer.source)
        return ZipAnswer(self.zip_body, answer.source)


class FakeGate:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.failure: Exception | None = None

    def listed(self, path: str, version: str) -> bool:
        return True

    async def admit(self, path: str, version: str | None) -> None:
        self.asked.append((path, version))
        if self.failure is not None:
            raise self.failure


class FakeStore:
    """Storage and index in one, as far as the web asks them."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.wait: Deferred[None] | None = None
        self.versions = [ModuleVersion(f"example.com/{name}", "v1.0.0") for name in "abcde"]
        self.written: Any = []
        self.asked: list[Any] = []

    async def check(self) -> None:
        if self.wait is not None:
            await self.wait
        if self.failure is not None:
            raise self.failure

    async def catalog(self, token: str, limit: int) -> tuple[list[ModuleVersion], str]:
        self.asked.append((token, limit))
        if self.failure is not None:
            raise self.failure
        if token and not token.isdigit():
            raise InvalidRequest("that is no token")
        start = int(token or 0)
        end = start + limit
        return self.versions[start:end], str(end) if end < len(self.versions) else ""

    async def lines(self, since: Any, limit: int) -> AsyncIterator[list[IndexLine]]:
        self.asked.append((since, limit))
        if self.failure is not None:
            raise self.failure
        written = iter(self.written)
        while page := list(islice(written, 1000)):
            yield page


@attrs.define
class FakeSumDBAnswer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class FakeSumDB:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.status = 200

    async def answer(self, host: str, rest: str, query: str, headers: Any) -> FakeSumDBAnswer:
        self.asked.append((host, rest, query))
        if host != "sum.golang.org":
            raise NotFound("no such database")
        said = {"Content-Type": "text/plain", "Cache-Control": "public, max-age=9", "Connection": "x", "Server": "s"}
        return FakeSumDBAnswer(self.status, tuple(said.items()), b"record")


class FakeMetrics:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int]] = []

    def request(self, method: str, route: str, status: int, seconds: float, bytes: int) -> None:
        self.seen.append((method, route, status, bytes))

    def render(self) -> tuple[str, bytes]:
        return "text/plain; version=0.0.4", b"athens 1\n"


@attrs.define
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Response:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            body = _unchunked(body)
        return cls(int(first.split(" ")[1]), headers, body, raw)


def _unchunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        out += rest[:length]
        body = rest[length + 2 :]
        if length == 0:
            break
    return out


class Wire(Protocol):
    """A connection of a client: what it got, and how to wait for more."""

    def __init__(self) -> None:
        self.got = b""
        self.closed = False
        self.reason: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed, self.reason = True, reason
        self._look()

    def _look(self) -> None:
        for entry in [entry for entry in self._waiting if self.closed or entry[0]()]:
            self._waiting.remove(entry)
            entry[1].callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        if not self.closed and not condition():
            waiter: Deferred[None] = Deferred()
            self._waiting.append((condition, waiter))
            await waiter

    async def end(self) -> bytes:
        """Everything up to the end of the connection."""
        await self.until(lambda: False)
        return self.got

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def drop(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


@attrs.define
class Server:
    """A site that runs, and what is behind it."""

    site: Any
    port: Any
    protocol: FakeProtocol
    gate: FakeGate
    storage: FakeStore
    index: FakeStore
    sumdb: FakeSumDB
    metrics: FakeMetrics
    wires: list[Wire] = attrs.Factory(list)

    async def connect(self) -> Wire:
        connected: Deferred[Wire] = Deferred()

        class Made(Wire):
            def connectionMade(self) -> None:
                connected.callback(self)

        factory = ClientFactory.forProtocol(Made)
        factory.noisy = False
        reactor.connectTCP("127.0.0.1", self.port.getHost().port, factory)
        wire = await connected
        self.wires.append(wire)
        return wire

    async def raw(self, data: bytes) -> Response:
        """Send bytes, read to the end of the connection."""
        wire = await self.connect()
        wire.send(data)
        return Response.parse(await wire.end())

    async def ask(self, path: str | bytes, method: str = "GET", body: bytes = b"", **headers: str) -> Response:
        """One request on a connection of its own; C{_} in a header's name is a hyphen."""
        path = path.encode() if isinstance(path, str) else path
        lines = {"Host": "proxy.test:3000", "Connection": "close"}
        lines.update({name.replace("_", "-"): value for name, value in headers.items()})
        if body:
            lines["Content-Length"] = str(len(body))
        head = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        return await self.raw(method.encode() + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + body)


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Callable[..., Server]]:
    """A function that starts a site with the given settings."""
    servers: list[Server] = []

    def start(
        *, metrics: Any = ..., clock: Any = reactor, index: Any = None, lock: Any = None, **settings: Any
    ) -> Server:
        parts: dict[str, Any] = {
            "protocol": FakeProtocol(),
            "gate": FakeGate(),
            "storage": FakeStore(),
            "index": index or FakeStore(),
            "sumdb": FakeSumDB(),
            "metrics": FakeMetrics(),
        }
        if metrics is not ...:
            parts["metrics"] = metrics
        site = make_site(reactor=clock, settings=WebSettings(**settings), lock=lock, **parts)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        servers.append(Server(site, port, **parts))
        return servers[-1]

    yield start
    for server in servers:
        await server.port.stopListening()
        for wire in server.wires:
            if not wire.closed:
                wire.drop()
                await wire.end()
        server.site.abort()
        await server.site.drain()
    turn: Deferred[None] = Deferred()  # an abort that found the connection gone is done a turn later
    reactor.callLater(0, turn.callback, None)
    await turn


@pytest.fixture
def lib() -> str:
    return LIB
