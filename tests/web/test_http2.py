"""HTTP/2, as TLS agrees on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import pytest
import pytest_twisted
import trustme
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    ClientContextFactory,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import LoopingCall
from twisted.internet.utils import getProcessOutput
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from athens_tx.errors import StorageUnavailable
from athens_tx.interfaces import IndexLine
from athens_tx.storage.body import BytesZip
from athens_tx.web.request import LINGER, MAX_BODY

reactor: Any = _reactor
ZIP = "/github.com/acme/lib/@v/v1.0.0.zip"
LIST = "/github.com/acme/lib/@v/list"
WRONG = b"\0\0\1\0\0\0\0\0\0x"  # data for stream 0
LONG = b"\xff" * 40_000  # the first part of a frame of 16 MiB


@attrs.define
class Stream:
    headers: dict[str, str] = attrs.Factory(dict)
    body: bytes = b""
    ended: bool = False
    reset: bool = False


class Client(Protocol):
    """Just enough of a client."""

    def __init__(self, greedy: bool) -> None:
        self.greedy = greedy
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.streams: dict[int, Stream] = {}
        self.closed = False
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def connectionMade(self) -> None:
        self.conn.initiate_connection()
        self.flush()

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(self.conn.data_to_send())

    def ask(self, path: str, method: str = "GET", *headers: tuple[str, str], end: bool = True) -> Stream:
        number = self.conn.get_next_available_stream_id()
        lines = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "proxy.test")]
        self.conn.send_headers(number, [*lines, *headers], end_stream=end)
        self.flush()
        return self.streams.setdefault(number, Stream())

    def dataReceived(self, data: bytes) -> None:
        for event in self.conn.receive_data(data):
            stream = self.streams.get(getattr(event, "stream_id", 0) or 0, Stream())
            if isinstance(event, h2.events.ResponseReceived):
                stream.headers = dict(event.headers)  # type: ignore[arg-type]
            elif isinstance(event, h2.events.DataReceived):
                stream.body += event.data
                if self.greedy:
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream.ended = True
            elif isinstance(event, h2.events.StreamReset):
                stream.reset = True
        self.flush()
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
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

    def ping(self) -> None:
        self.conn.ping(b"12345678")
        self.flush()

    async def get(self, path: str, method: str = "GET", *headers: tuple[str, str]) -> Stream:
        stream = self.ask(path, method, *headers)
        await self.until(lambda: stream.ended or stream.reset)
        return stream


@pytest.fixture
def secure(serve: Any) -> Any:
    """A function that starts a site behind TLS, and gives it and a function that connects to it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()

    async def start(**settings: Any) -> tuple[Any, Any]:
        server = serve(**settings)
        await server.port.stopListening()
        certificate: CertificateOptions = PrivateCertificate.loadPEM(pem).options()
        server.port = reactor.listenSSL(0, server.site, certificate, interface="127.0.0.1")

        async def connect(greedy: bool = True) -> Client:
            root = Certificate(load_certificate(FILETYPE_PEM, authority.cert_pem.bytes()))
            trust = trustRootFromCertificates([root])
            options = optionsForClientTLS("localhost", trust, acceptableProtocols=[b"h2"])
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", server.port.getHost().port)
            client: Client = await connectProtocol(wrapClientTLS(options, endpoint), Client(greedy))
            server.wires.append(Dropped(client))
            return client

        return server, connect

    return start


class Dropped:
    """A client as the fixture of all servers cleans it away."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def closed(self) -> bool:
        return self._client.closed

    def drop(self) -> None:
        self._client.transport.abortConnection()  # type: ignore[union-attr]

    async def end(self) -> None:
        await self._client.until(lambda: False)


async def turns(condition: Callable[[], bool]) -> None:
    while not condition():
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn


@pytest_twisted.ensureDeferred
async def test_the_routes_answer(secure: Any) -> None:
    server, connect = await secure(force_ssl=True)
    client = await connect()
    data = bytes(range(256)) * 2000
    server.protocol.zip_body = BytesZip(data)
    got = await client.get(ZIP)
    assert (got.headers[":status"], got.body) == ("200", data)
    assert got.headers["content-length"] == str(len(data))
    assert (await client.get(ZIP, "HEAD")).body == b""
    assert (await client.get(LIST)).body == b"v1.0.0\nv1.1.0"
    assert (await client.get("/nope")).headers[":status"] == "404"
    assert (await client.get("/%zz")).headers[":status"] == "400"
    assert (await client.get("/a b")).headers[":status"] == "400"
    assert (await client.get(LIST, "POST")).headers[":status"] == "405"
    assert b"GOPROXY=https://proxy.test,direct" in (await client.get("/")).body


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest_twisted.ensureDeferred
async def test_curl_agrees_on_http_2(secure: Any) -> None:
    server, _ = await secure()
    url = f"https://localhost:{server.port.getHost().port}{LIST}"
    arguments = ["-sk", "--http2", "--noproxy", "*", "-w", " %{http_version} %{http_code}", url]
    said = await getProcessOutput(shutil.which("curl"), arguments, env={})
    assert said in (b"v1.0.0\nv1.1.0 2 200", b"v1.0.0\nv1.1.0 1.1 200")


class Breaking(BytesZip):
    def startProducing(self, consumer: Any) -> Deferred[None]:
        def fail(_: object) -> None:
            raise StorageUnavailable("disk")

        return super().startProducing(consumer).addCallback(fail)


@pytest_twisted.ensureDeferred
async def test_a_failure_after_the_first_byte_resets_the_stream(secure: Any) -> None:
    server, connect = await secure()
    client = await connect()
    server.protocol.zip_body = Breaking(b"12345")
    got = await client.get(ZIP)
    assert got.reset
    assert not got.ended
    assert (await client.get("/healthz")).headers[":status"] == "200"
    assert [seen[1:3] for seen in server.metrics.seen] == [("zip", 200), ("healthz", 200)]


@pytest_twisted.ensureDeferred
async def test_a_stream_that_the_client_resets_stops_its_work(secure: Any, logged: list[dict[str, Any]]) -> None:
    server, connect = await secure()
    client = await connect(greedy=False)
    said: list[str] = []

    class Told(BytesZip):
        def startProducing(self, consumer: Any) -> Deferred[None]:
            super().startProducing(consumer)
            return Deferred()  # cancelling it tells the zip nothing

        def stopProducing(self) -> None:
            said.append("stop")
            super().stopProducing()

    server.protocol.zip_body = Told(bytes(8 << 20))
    line = IndexLine("example.com/" + "x" * 100, "v1", datetime(2026, 1, 2, tzinfo=UTC))
    server.index.written = [line] * 50_000
    for path in (ZIP, "/index?limit=50000"):
        number = client.conn.get_next_available_stream_id()
        stream = client.ask(path)
        await client.until(lambda stream=stream: len(stream.body) > 1000)
        client.conn.reset_stream(number)
        client.flush()
        await turns(lambda: not server.site.in_flight)
    assert "stop" in said
    assert (await client.get("/healthz")).headers[":status"] == "200"
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_large_or_never_ends_is_reset(secure: Any) -> None:
    _, connect = await secure(idle_timeout=0.5)
    client = await connect()
    number = client.conn.get_next_available_stream_id()
    stream = client.ask("/healthz", "POST", end=False)
    sent = 0
    while sent <= MAX_BODY + 100_000 and not stream.reset:
        room = min(client.conn.local_flow_control_window(number), client.conn.max_outbound_frame_size)
        if room > 0:
            client.conn.send_data(number, bytes(room))
            sent += room
            client.flush()
        await turns(iter([False, True]).__next__)
    await client.until(lambda: stream.reset)
    assert stream.reset
    late = client.ask("/healthz", "POST", end=False)
    pinging = LoopingCall(client.ping)  # so that it is not the connection that is idle
    pinging.start(0.1)
    await client.until(lambda: late.reset)
    pinging.stop()
    assert late.reset
    small = client.ask("/healthz", "POST", end=False)
    client.conn.send_data(client.conn.highest_outbound_stream_id, b"abc", end_stream=True)
    client.flush()
    await client.until(lambda: small.ended)
    assert small.headers[":status"] == "405"


def reset_at_once(client: Client, path: str, *headers: tuple[str, str], end: bool = True) -> None:
    """Ask and take it back, in what is not flushed yet."""
    number = client.conn.get_next_available_stream_id()
    lines = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "proxy.test")]
    client.conn.send_headers(number, [*lines, *headers], end_stream=end)
    client.conn.reset_stream(number)


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_reset_in_its_own_segment_is_never_begun(
    secure: Any, logged: list[dict[str, Any]]
) -> None:
    server, connect = await secure()
    client = await connect()
    for path in ("/healthz", LIST, ZIP, "/nope") * 10:
        reset_at_once(client, path)
        reset_at_once(client, path, ("expect", "100-continue"), end=False)
    client.flush()
    assert (await client.get("/healthz")).headers[":status"] == "200"
    assert not client.closed
    assert server.protocol.asked == []
    assert [seen[1] for seen in server.metrics.seen] == ["healthz"]
    assert not [event for event in logged if event["log_level"].name in ("warn", "error", "critical")]


@pytest_twisted.ensureDeferred
async def test_room_and_a_reset_in_one_segment(secure: Any, logged: list[dict[str, Any]]) -> None:
    server, connect = await secure()
    client = await connect(greedy=False)
    server.protocol.zip_body = BytesZip(bytes(8 << 20))
    number = client.conn.get_next_available_stream_id()
    stream = client.ask(ZIP)
    await client.until(lambda: len(stream.body) >= 65535)
    client.conn.increment_flow_control_window(100_000)
    client.conn.increment_flow_control_window(100_000, number)
    client.conn.reset_stream(number)
    client.flush()
    assert (await client.get("/healthz")).headers[":status"] == "200"
    assert not server.site.in_flight
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_too_many_resets_in_one_segment_end_the_connection(secure: Any, logged: list[dict[str, Any]]) -> None:
    server, connect = await secure()
    client = await connect()
    server.protocol.wait = Deferred()
    number = client.conn.get_next_available_stream_id()
    client.ask(LIST)
    await turns(lambda: bool(server.site.in_flight))
    for _ in range(1500):
        reset_at_once(client, "/healthz")
    client.conn.reset_stream(number)
    client.flush()
    await client.until(lambda: False)
    assert client.closed
    await turns(lambda: not server.site.in_flight)
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("end", [WRONG, LONG, None], ids=["wrong frame", "long frame", "goaway"])
@pytest_twisted.ensureDeferred
async def test_the_end_of_the_protocol_is_the_end_of_the_connection(
    secure: Any, logged: list[dict[str, Any]], end: bytes | None, busy: bool
) -> None:
    server, connect = await secure()
    client = await connect()
    await client.get("/healthz")
    if busy:
        server.protocol.wait = Deferred()
        client.ask(LIST)
        await turns(lambda: bool(server.site.in_flight))
    if end is None:
        client.conn.close_connection()
        client.flush()
    else:
        client.transport.write(end)
    await client.until(lambda: False)  # long before anything is idle for too long
    assert client.closed
    await turns(lambda: not server.site.in_flight)
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_after_an_error_is_told_once_and_cut(secure: Any) -> None:
    _, connect = await secure()
    client = await connect()
    await client.get("/healthz")
    heard = bytearray()
    client.transport.dataReceived = heard.extend  # TLS of Twisted would answer the close by itself
    going_on = LoopingCall(lambda: client.closed or client.transport.write(WRONG))
    going_on.start(0.1)
    started = reactor.seconds()
    await client.until(lambda: False)
    going_on.stop()
    assert 0 < len(heard) < 200  # a GOAWAY and the close of TLS
    assert LINGER / 2 < reactor.seconds() - started < LINGER * 4


@pytest_twisted.ensureDeferred
async def test_connect_is_reset(secure: Any, logged: list[dict[str, Any]]) -> None:
    _, connect = await secure()
    client = await connect()
    for end in (True, False):
        number = client.conn.get_next_available_stream_id()
        client.conn.send_headers(number, [(":method", "CONNECT"), (":authority", "x:443")], end_stream=end)
        client.flush()
        stream = client.streams.setdefault(number, Stream())
        await client.until(lambda stream=stream: stream.reset)
        assert stream.reset
    assert (await client.get("/healthz")).headers[":status"] == "200"
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_an_answer_that_takes_long_is_waited_for_and_a_stuck_one_is_not(secure: Any) -> None:
    server, connect = await secure(idle_timeout=0.2)
    client = await connect(greedy=False)
    server.protocol.wait = Deferred()
    stream = client.ask(LIST)
    later: Deferred[None] = Deferred()
    reactor.callLater(0.5, later.callback, None)
    await later
    server.protocol.wait.callback(None)
    server.protocol.wait = None
    await client.until(lambda: stream.ended)
    assert stream.body == b"v1.0.0\nv1.1.0"
    server.protocol.zip_body = BytesZip(bytes(1 << 20))
    stuck = client.ask(ZIP)
    await client.until(lambda: False)
    assert client.closed
    assert not stuck.ended
    assert len(stuck.body) < 1 << 20


@pytest_twisted.ensureDeferred
async def test_a_site_that_drains_closes_when_all_streams_are_done(secure: Any) -> None:
    server, connect = await secure()
    resting, asking = await connect(), await connect()
    await resting.get("/healthz")
    server.protocol.wait = Deferred()
    stream = asking.ask(LIST)
    await turns(lambda: bool(server.site.in_flight))
    drained = server.site.drain()
    await resting.until(lambda: False)
    assert not asking.closed
    server.protocol.wait.callback(None)
    await asking.until(lambda: False)
    assert stream.body == b"v1.0.0\nv1.1.0"
    await drained


@pytest_twisted.ensureDeferred
async def test_http_1_1_behind_tls(secure: Any) -> None:
    server, _ = await secure(header_timeout=0.3)

    class Plain(Protocol):
        def __init__(self) -> None:
            self.got = b""
            self.over: Deferred[bytes] = Deferred()

        def dataReceived(self, data: bytes) -> None:
            self.got += data

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            self.over.callback(self.got)

    for sent, status in (
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"nonsense\r\n\r\n", b"400"),
    ):
        plain = Plain()
        factory: Any = Factory.forProtocol(lambda plain=plain: plain)
        factory.noisy = False
        made = HostnameEndpoint(reactor, "127.0.0.1", server.port.getHost().port)
        wrapped = TLSMemoryBIOFactory(ClientContextFactory(), True, factory)
        await made.connect(wrapped)
        plain.transport.write(sent)  # type: ignore[union-attr]
        assert (await plain.over).split(b" ")[1] == status
