"""The HTTP client against real servers on loopback."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from athens_tx.errors import AthensError, BadUpstream, ConfigError, FetchFailed, FetchTimeout, UpstreamUnreachable
from athens_tx.http_body import Body, Kept
from athens_tx.http_client import AnswerCut, BodyTooLong, ClientClosed, HttpClient, masked


class Pages(Resource):
    """Answers by a function; keeps what was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Request] = []
        self.answer: Callable[[Request], Any] = lambda request: b"hello"
        self.peers: set[int] = set()

    def render(self, request: Request) -> Any:
        self.seen.append(request)
        self.peers.add(request.getClientAddress().port)
        return self.answer(request)


class Bench:
    """What a test listens with, and its clients; all closed at its end."""

    def __init__(self) -> None:
        self.ports: list[Any] = []
        self.clients: list[HttpClient] = []

    def serve(self, factory: Any, tls: Any = None) -> int:
        if tls is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        self.ports.append(port)
        return port.getHost().port

    def site(self, pages: Pages, tls: Any = None) -> int:
        site = Site(pages)
        site.timeOut = None
        return self.serve(site, tls)

    def client(self, environ: dict[str, str] | None = None, **limits: Any) -> HttpClient:
        client = HttpClient(reactor, environ or {}, **limits)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for port in self.ports:
            await port.stopListening()
        await deferLater(reactor, 0.02, lambda: None)  # the servers' ends of the connections close


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    pytest_twisted.blockon(Deferred.fromCoroutine(bench.close()))


@pytest.fixture
def pages() -> Pages:
    return Pages()


async def refused(awaitable: Any, kind: type[AthensError]) -> AthensError:
    with pytest.raises(kind) as caught:
        await awaitable
    assert type(caught.value) is kind
    return caught.value


class Raw(Protocol):
    """Answers the first bytes that come with bytes of its own, and hangs up if told so."""

    def __init__(self, answer: bytes, hang_up: bool = True) -> None:
        self.answer = answer
        self.hang_up = hang_up

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.answer)
        if self.hang_up:
            self.transport.loseConnection()


def raw(answer: bytes, hang_up: bool = True) -> Factory:
    return Factory.forProtocol(lambda: Raw(answer, hang_up))


@pytest_twisted.ensureDeferred
async def test_a_body_is_read_whole_and_the_connection_is_used_again(bench: Bench, pages: Pages) -> None:
    port, client = bench.site(pages), bench.client()
    for path in ("/a/@v/v1.0.0+x.info", "/!burnt!sushi/%21x?q=1%20"):
        got = await client.get_bytes(f"http://127.0.0.1:{port}{path}", limit=100, timeout=5)
        assert (got.status, got.body, got.header("content-type")) == (200, b"hello", "text/html")
        assert pages.seen[-1].uri == path.encode()
        assert got.header("x-none") is None
    assert len(pages.peers) == 1
    assert pages.seen[0].getHeader("accept-encoding") == "identity"
    assert pages.seen[0].getHeader("user-agent") == "athens-tx"


@pytest_twisted.ensureDeferred
async def test_any_method_headers_and_body(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: request.method + request.content.read() + (request.getHeader("x-y") or "").encode()
    url = f"http://127.0.0.1:{bench.site(pages)}/"
    got = await bench.client().request("POST", url, data=b"{}", headers={"X-Y": "z"}, timeout=5)
    assert got.body == b"POST{}z"
    assert pages.seen[0].getHeader("content-length") == "2"


@pytest_twisted.ensureDeferred
async def test_a_status_is_an_answer_not_a_failure(bench: Bench, pages: Pages) -> None:
    def missing(request: Request) -> bytes:
        request.setResponseCode(404)
        return b"no such thing"

    pages.answer = missing
    kept, client = Kept(), bench.client()
    url = f"http://127.0.0.1:{bench.site(pages)}/"
    got = await client.stream(url, kept, timeout=5, limit=5)
    assert (got.status, got.body, kept.whole()) == (404, b"no such thing", b"")
    head = await client.request("HEAD", url, timeout=5)
    assert (head.status, head.body) == (404, b"")


@pytest_twisted.ensureDeferred
async def test_a_body_over_its_limit_is_refused(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: b"x" * 101
    url, client = f"http://127.0.0.1:{bench.site(pages)}/", bench.client()
    assert len((await client.get_bytes(url, limit=101, timeout=5)).body) == 101
    assert "more than 100 bytes" in str(await refused(client.get_bytes(url, limit=100, timeout=5), BodyTooLong))


@pytest_twisted.ensureDeferred
async def test_gzip_that_nobody_asked_for_is_undone_and_checked(bench: Bench, pages: Pages) -> None:
    body = gzip.compress(b"hello " * 100_000)

    def zipped(request: Request) -> bytes:
        request.setHeader("Content-Encoding", "gzip")
        return body

    pages.answer = zipped
    url, client = f"http://127.0.0.1:{bench.site(pages)}/", bench.client()
    assert (await client.get_bytes(url, limit=10**6, timeout=5)).body == b"hello " * 100_000
    await refused(client.get_bytes(url, limit=100_000, timeout=5), BodyTooLong)
    body = body[:-9]
    assert "cut short" in str(await refused(client.get_bytes(url, limit=10**6, timeout=5), BadUpstream))
    body = b"no gzip"
    assert "no gzip" in str(await refused(client.get_bytes(url, limit=10**6, timeout=5), BadUpstream))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nno length at all",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_cut_or_broken_answer_is_a_failure(bench: Bench, answer: bytes) -> None:
    port, client = bench.serve(raw(answer)), bench.client()
    error = await refused(client.get_bytes(f"http://user:secret@127.0.0.1:{port}/", limit=100, timeout=5), AnswerCut)
    assert "secret" not in f"{error} {error.detail} {error!r}"
    assert "***@" in error.detail


@pytest_twisted.ensureDeferred
async def test_trouble_on_the_way_is_unreachable(bench: Bench) -> None:
    client = bench.client()
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    number = port.getHost().port
    await port.stopListening()
    error = await refused(client.get_bytes(f"http://127.0.0.1:{number}/", limit=1, timeout=5), UpstreamUnreachable)
    assert str(error) == "the server can't be connected"
    error = await refused(client.get_bytes("http://nowhere.invalid/", limit=1, timeout=30), UpstreamUnreachable)
    assert str(error) == "the server's name is not known"


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "/x", "http://h:99999/", "http://h:0/"])
@pytest_twisted.ensureDeferred
async def test_only_http_urls(bench: Bench, url: str) -> None:
    assert "not an http" in str(await refused(bench.client().get_bytes(url, limit=1, timeout=5), FetchFailed))


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address_and_odd_characters_in_a_url(bench: Bench, pages: Pages) -> None:
    port = reactor.listenTCP(0, Site(pages), interface="::1")
    bench.ports.append(port)
    client = bench.client()
    assert (await client.get_bytes(f"http://[::1]:{port.getHost().port}/é x#frag", limit=9, timeout=5)).status == 200
    assert pages.seen[0].uri == b"/%C3%A9%20x"


@pytest_twisted.ensureDeferred
async def test_every_wait_has_its_limit(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: NOT_DONE_YET
    url = f"http://127.0.0.1:{bench.site(pages)}/"
    total = bench.client()
    assert "within 0.05 s" in str(await refused(total.get_bytes(url, limit=1, timeout=0.05), FetchTimeout))
    headers = bench.client(header_timeout=0.05)
    assert "no answer within" in str(await refused(headers.get_bytes(url, limit=1, timeout=5), FetchTimeout))
    dribble = bench.serve(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", hang_up=False))
    idle = await refused(
        total.stream(f"http://127.0.0.1:{dribble}/", Kept(), timeout=5, idle_timeout=0.05, limit=9), FetchTimeout
    )
    assert "no byte of the body" in str(idle)


@pytest_twisted.ensureDeferred
async def test_closing_ends_what_is_running(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: NOT_DONE_YET
    url, client = f"http://127.0.0.1:{bench.site(pages)}/", bench.client()
    running = Deferred.fromCoroutine(client.get_bytes(url, limit=1, timeout=5))
    await client.close()
    assert "stopping" in str(await refused(running, ClientClosed))
    assert "stopping" in str(await refused(client.get_bytes(url, limit=1, timeout=5), ClientClosed))


@pytest_twisted.ensureDeferred
async def test_one_who_leaves_is_told_so(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: NOT_DONE_YET
    url, client = f"http://127.0.0.1:{bench.site(pages)}/", bench.client()
    for _ in range(2):  # while it connects, then while it waits for an answer
        running = Deferred.fromCoroutine(client.get_bytes(url, limit=1, timeout=5))
        if _:
            while not pages.seen:
                await deferLater(reactor, 0.01, lambda: None)
        running.cancel()
        with pytest.raises(CancelledError):
            await running


@pytest_twisted.ensureDeferred
async def test_redirects_carry_credentials_nowhere_else(bench: Bench, pages: Pages) -> None:
    other = Pages()
    elsewhere = bench.site(other)
    targets = {b"/near": b"/there", b"/far": b"http://127.0.0.1:%d/x" % elsewhere, b"/loop": b"/loop"}

    def answer(request: Request) -> bytes:
        if request.uri in targets:
            request.setResponseCode(302)
            request.setHeader(b"Location", targets[request.uri])
        return b"there"

    pages.answer = answer
    base, client = f"http://user:p%40ss@127.0.0.1:{bench.site(pages)}", bench.client()
    got = await client.get_bytes(f"{base}/near", limit=9, timeout=5, headers={"Cookie": "a=b"})
    assert (got.body, got.url) == (b"there", base.replace("user:p%40ss@", "") + "/there")
    assert pages.seen[-1].getUser() == b"user"
    assert pages.seen[-1].getPassword() == b"p@ss"
    assert len(pages.peers) == 1
    assert (await client.get_bytes(f"{base}/far", limit=9, timeout=5, headers={"Cookie": "a=b"})).body == b"hello"
    assert other.seen[-1].getHeader("authorization") is None
    assert other.seen[-1].getHeader("cookie") is None
    error = await refused(client.get_bytes(f"{base}/loop", limit=9, timeout=5), BadUpstream)
    assert "too many" in str(error)
    assert "p%40ss" not in error.detail
    assert (await client.request("GET", f"{base}/near", timeout=5)).status == 302
    assert (await client.request("POST", f"{base}/near", timeout=5, follow_redirects=True)).status == 302


@pytest_twisted.ensureDeferred
async def test_a_redirect_with_an_endless_body_is_followed(bench: Bench, pages: Pages) -> None:
    target = f"http://127.0.0.1:{bench.site(pages)}/".encode()
    head = b"HTTP/1.1 301 Moved\r\nLocation: " + target + b"\r\nContent-Length: 900000\r\n\r\n"
    port = bench.serve(raw(head + b"x" * 900_000, hang_up=False))
    assert (await bench.client().get_bytes(f"http://127.0.0.1:{port}/", limit=9, timeout=5)).body == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_slow_receiver_holds_the_sender_back(bench: Bench, pages: Pages) -> None:
    size = 64 * 1024 * 1024
    sent = 0

    def answer(request: Request) -> Any:
        request.setHeader("Content-Length", str(size))

        class More:
            def resumeProducing(self) -> None:
                nonlocal sent
                request.write(b"x" * min(65536, size - sent))
                sent += 65536
                if sent >= size:
                    request.unregisterProducer()
                    request.finish()

            def stopProducing(self) -> None:
                pass

        request.registerProducer(More(), False)
        return NOT_DONE_YET

    pages.answer = answer
    url, client = f"http://127.0.0.1:{bench.site(pages)}/", bench.client()

    class Slow:
        received = 0

        def registerProducer(self, producer: Any, streaming: bool) -> None:
            self.producer = producer

        def unregisterProducer(self) -> None:
            pass

        def write(self, data: bytes) -> None:
            self.received += len(data)
            if self.received < 2**20:
                return
            self.producer.pauseProducing()

    sink = Slow()
    # While we hold it back, silence is our own: no idle timeout.
    running = Deferred.fromCoroutine(client.stream(url, sink, timeout=20, idle_timeout=0.2, limit=size))
    await deferLater(reactor, 0.5, lambda: None)
    assert sent < 32 * 1024 * 1024
    sink.write = lambda data: setattr(sink, "received", sink.received + len(data))  # type: ignore[method-assign]
    sink.producer.resumeProducing()
    assert (await running).status == 200
    assert sink.received == size


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_gives_up_ends_the_transfer(bench: Bench, pages: Pages) -> None:
    pages.answer = lambda request: b"x" * 100_000

    class Full(Kept):
        def registerProducer(self, producer: Any, streaming: bool) -> None:
            self.producer = producer

        def write(self, data: bytes) -> None:
            self.producer.stopProducing()
            self.producer.resumeProducing()
            self.producer.pauseProducing()

    url = f"http://127.0.0.1:{bench.site(pages)}/"
    error = await refused(bench.client().stream(url, Full(), timeout=5, limit=10**6), BadUpstream)
    assert "gave up" in str(error)


class ConnectProxy(Protocol):
    """A proxy that opens tunnels to one loopback port, whatever name it is asked for."""

    def connectionMade(self) -> None:
        self.head = b""
        self.other: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        self.factory.asked.append(self.head)  # type: ignore[union-attr]
        near = self

        class Far(Protocol):
            def connectionMade(self) -> None:
                near.other = self
                near.transport.write(b"HTTP/1.1 200 Fine\r\nX-Y: z\r\n\r\n")

            def dataReceived(self, data: bytes) -> None:
                near.transport.write(data)

            def connectionLost(self, reason: Any) -> None:
                near.transport.loseConnection()

        HostnameEndpoint(reactor, "127.0.0.1", self.factory.target).connect(Factory.forProtocol(Far))  # type: ignore

    def connectionLost(self, reason: Any) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


def connect_proxy(target: int) -> Any:
    factory: Any = Factory.forProtocol(ConnectProxy)
    factory.target, factory.asked = target, []
    return factory


@pytest.fixture
def authority(tmp_path: Any) -> tuple[trustme.CA, str]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def tls_for(ca: trustme.CA, *names: str) -> Any:
    return PrivateCertificate.loadPEM(ca.issue_cert(*names).private_key_and_cert_chain_pem.bytes()).options()


@pytest_twisted.ensureDeferred
async def test_tls_trusts_the_platform_and_ssl_cert_file(
    bench: Bench, pages: Pages, authority: tuple[trustme.CA, str]
) -> None:
    ca, file = authority
    port = bench.site(pages, tls_for(ca, "127.0.0.1", "localhost"))
    url = f"https://localhost:{port}/"
    assert (await bench.client({"SSL_CERT_FILE": file}).get_bytes(url, limit=9, timeout=5)).body == b"hello"
    error = await refused(bench.client().get_bytes(url, limit=9, timeout=5), UpstreamUnreachable)
    assert "TLS" in str(error)
    other = bench.site(Pages(), tls_for(ca, "other.test"))
    url = f"https://localhost:{other}/"
    error = await refused(bench.client({"SSL_CERT_FILE": file}).get_bytes(url, limit=9, timeout=5), UpstreamUnreachable)
    assert "TLS" in str(error)


def test_a_certificate_file_that_is_none_is_an_error_at_start(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        HttpClient(reactor, {"SSL_CERT_FILE": str(tmp_path / "none.pem")})


@pytest_twisted.ensureDeferred
async def test_no_redirect_from_https_to_http(bench: Bench, pages: Pages, authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority

    def away(request: Request) -> bytes:
        request.redirect(b"http://localhost/")
        return b""

    pages.answer = away
    port = bench.site(pages, tls_for(ca, "localhost"))
    client = bench.client({"SSL_CERT_FILE": file})
    error = await refused(client.get_bytes(f"https://localhost:{port}/", limit=9, timeout=5), BadUpstream)
    assert "https to http" in str(error)


@pytest_twisted.ensureDeferred
async def test_https_goes_through_a_tunnel_of_the_proxy(
    bench: Bench, pages: Pages, authority: tuple[trustme.CA, str]
) -> None:
    ca, file = authority
    proxy = connect_proxy(bench.site(pages, tls_for(ca, "upstream.test")))
    port = bench.serve(proxy)
    client = bench.client({"HTTPS_PROXY": f"http://me:s3@127.0.0.1:{port}", "SSL_CERT_FILE": file})
    for _ in range(2):
        assert (await client.get_bytes("https://upstream.test/x", limit=9, timeout=5)).body == b"hello"
    (asked,) = proxy.asked  # one tunnel, kept
    assert asked.startswith(b"CONNECT upstream.test:443 HTTP/1.1\r\nHost: upstream.test:443\r\n")
    assert b"Proxy-Authorization: Basic bWU6czM=\r\n" in asked
    assert pages.seen[0].getHeader("proxy-authorization") is None


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_speaks_tls_itself(bench: Bench, pages: Pages, authority: tuple[trustme.CA, str]) -> None:
    ca, file = authority
    proxy = connect_proxy(bench.site(pages, tls_for(ca, "upstream.test")))
    port = bench.serve(proxy, tls_for(ca, "localhost"))
    client = bench.client({"https_proxy": f"https://localhost:{port}", "SSL_CERT_FILE": file})
    assert (await client.get_bytes("https://upstream.test/x", limit=9, timeout=5)).body == b"hello"
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("answer", "hang_up", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", False, "407"),
        (b"HTTP/1.1 200", True, "closed the connection"),
        (b"SSH-2.0-x\r\n\r\n", False, "SSH"),
        (b"x" * 20_000, False, "endless"),
        (b"", False, "no answer in time"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_proxy_that_gives_no_tunnel(bench: Bench, answer: bytes, hang_up: bool, said: str) -> None:
    port = bench.serve(raw(answer, hang_up))
    client = bench.client({"HTTPS_PROXY": f"127.0.0.1:{port}"}, connect_timeout=0.2)
    error = await refused(client.get_bytes("https://upstream.test/", limit=9, timeout=5), UpstreamUnreachable)
    assert said in str(error)


@pytest_twisted.ensureDeferred
async def test_leaving_while_a_tunnel_is_being_opened(bench: Bench) -> None:
    port = bench.serve(raw(b"", False))
    client = bench.client({"HTTPS_PROXY": f"127.0.0.1:{port}"})
    await refused(client.get_bytes("https://upstream.test/", limit=9, timeout=0.1), FetchTimeout)


@pytest_twisted.ensureDeferred
async def test_http_through_a_proxy_names_the_whole_url(bench: Bench, pages: Pages) -> None:
    port = bench.site(pages)
    client = bench.client({"http_proxy": f"me:s3@127.0.0.1:{port}"})
    for _ in range(2):
        got = await client.get_bytes("http://user:pw@upstream.test/a!b", limit=9, timeout=5)
        assert got.body == b"hello"
    assert pages.seen[0].uri == b"http://upstream.test/a!b"
    assert pages.seen[0].getHeader("proxy-authorization") == "Basic bWU6czM="
    assert pages.seen[0].getUser() == b"user"
    assert len(pages.peers) == 1
    plain = bench.client({"http_proxy": f"127.0.0.1:{port}"})
    assert (await plain.get_bytes("http://upstream.test/", limit=9, timeout=5)).body == b"hello"


def test_masking() -> None:
    assert masked('get "https://u:p@ss@h/x@v1" and git+ssh://t@h') == 'get "https://***@h/x@v1" and git+ssh://***@h'
    assert masked("https://h/x@v1") == "https://h/x@v1"
    assert masked("x" * 10**6) == "x" * 10**6  # in no time


def test_a_body_that_was_never_connected_can_be_given_up() -> None:
    body = Body(reactor, Kept(), limit=1, idle=5, gzip=False)
    body.done.addErrback(lambda failure: failure.trap(CancelledError))
    body.pauseProducing()
    body.resumeProducing()
    body.done.cancel()


class Endless(Protocol):
    """Answers with what never comes to a body."""

    piece = b""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 103 Early Hints\r\n\r\n" if self.piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
        )
        self.sent = 0
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.sent += len(self.piece)
        self.transport.write(self.piece)
        if self.sent > 4 << 20:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        self.transport.unregisterProducer()


@pytest.mark.parametrize("piece", [b"X-A: b\r\n" * 1000, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000])
@pytest_twisted.ensureDeferred
async def test_headers_without_end_are_given_up(bench: Bench, piece: bytes) -> None:
    port = bench.serve(Factory.forProtocol(type("E", (Endless,), {"piece": piece})))
    with pytest.raises(BadUpstream, match="headers of the answer have more than"):
        await bench.client().get_bytes(f"http://127.0.0.1:{port}/", limit=10, timeout=30)


class AtOnce(Protocol):
    """Answers each request in one packet, headers and body, and keeps the connection."""

    answer = b""
    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received.startswith(b"GET") or self.received.endswith(b"saved"):
            self.received = b""
            self.transport.write(self.answer)


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_given_up_spoils_no_connection_for_the_next_request(
    bench: Bench, framing: bytes
) -> None:
    server = type("S", (AtOnce,), {"answer": b"HTTP/1.1 404 X\r\n" + framing})
    client, url = bench.client(), f"http://127.0.0.1:{bench.serve(Factory.forProtocol(server))}/"

    async def look_and_save() -> None:
        for _ in range(10):
            (await client.open("GET", url)).abort()
            # Nobody asks again for a POST whose connection is lost.
            assert (await client.request("POST", url, data=b"saved", timeout=5)).status == 404

    await gatherResults([Deferred.fromCoroutine(look_and_save()) for _ in range(10)], consumeErrors=True)
