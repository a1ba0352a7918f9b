"""The proxy makes the trouble that it is asked for, and none else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from zope.interface import implementer

from tests.support.faults import FaultProxy
from tests.support.loopback import LoopbackServer

BODY = b"0123456789" * 10
GET = b"GET /zip HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 3_000_000


class Echo(Resource):
    """Answers a GET with a body, a PUT with how much it got; C{got} is what it has heard."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[bytes, int]] = []

    def render(self, request: Any) -> bytes:
        data = request.content.read()
        self.got.append((request.method, len(data)))
        if request.uri == b"/big":
            return b"\0" * BIG
        return BODY if request.method in (b"GET", b"HEAD") else b"%d" % len(data)


class Client(Protocol):
    """A connection by hand; C{ended} says how it did."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: str | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self._look()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended = "done" if reason.check(ConnectionDone) else "lost"
        self._look()

    def _look(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)

    async def until(self, come: Callable[[], bool]) -> None:
        """Wait until something holds."""
        if not come():
            waiter: Deferred[None] = Deferred()
            self._waiting.append((come, waiter))
            await waiter

    async def ask(self, data: bytes, ending: bytes) -> bytes:
        """@return: the answer, up to how it ends."""
        self.got = b""
        self.transport.write(data)
        await self.until(lambda: self.got.endswith(ending) or self.ended is not None)
        return self.got


@implementer(IHalfCloseableProtocol)
class HalfClient(Client):
    """One that goes on sending when it has been told that no more comes."""

    def readConnectionLost(self) -> None:
        self.ended = "half"
        self._look()

    def writeConnectionLost(self) -> None:
        """Is not looked at."""


class World:
    """A server, a proxy before it, and clients."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.server = LoopbackServer(reactor, self.echo)
        self.proxy = FaultProxy(reactor, self.server.port)
        self.clients: list[Client] = []

    async def client(self, kind: type[Client] = Client) -> Client:
        """@return: a new connection to the proxy."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.proxy.port, timeout=5)
        made: Client = await endpoint.connect(Factory.forProtocol(kind))
        self.clients.append(made)
        return made

    async def stop(self) -> None:
        """End all."""
        await self.proxy.stop()
        assert self.proxy.open == 0
        await self.server.stop()
        for client in self.clients:
            client.transport.abortConnection()
            await client.until(lambda client=client: client.ended in ("done", "lost"))  # type: ignore[misc]


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.stop()


def put(size: int, target: str = "/zip") -> bytes:
    return b"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (target.encode(), size) + b"1" * size


@pytest_twisted.ensureDeferred
async def test_everything_goes_through_and_is_counted(world: World) -> None:
    one, other = await world.client(), await world.client()
    assert (await one.ask(GET, BODY)).startswith(b"HTTP/1.1 200")
    chunks = b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"
    assert (await one.ask(chunks, b"\r\n\r\n5")).endswith(b"\r\n\r\n5")
    assert (await other.ask(put(100_000), b"\r\n\r\n100000")).endswith(b"\r\n\r\n100000")
    proxy = world.proxy
    assert (proxy.connections, proxy.open, proxy.methods()) == (2, 2, {"GET": 1, "PUT": 2})
    assert (proxy.count(), proxy.count("^PUT .*zip$"), proxy.count("nothing")) == (3, 1, 0)
    assert (proxy.up, proxy.down > 100) == (len(GET) + len(chunks) + len(put(100_000)), True)
    one.transport.loseConnection()
    await one.until(lambda: one.ended == "done")


@pytest_twisted.ensureDeferred
async def test_large_bodies_go_through_whole(world: World) -> None:
    client = await world.client()
    assert len(await client.ask(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * BIG)) > BIG
    assert (await client.ask(put(BIG), b"\r\n\r\n%d" % BIG)).endswith(b"\r\n\r\n%d" % BIG)


@pytest_twisted.ensureDeferred
async def test_what_is_no_http_goes_through_too(world: World) -> None:
    await world.proxy.stop()
    world.proxy = FaultProxy(reactor, world.server.port, http=False)
    client = await world.client()
    assert b" 400 " in await client.ask(b"\0\1\2 \r\n\r\n", b"\r\n\r\n")
    assert (world.proxy.requests, world.proxy.up) == ([], 8)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there_is_a_reset(world: World) -> None:
    await world.server.stop()
    client = await world.client()
    await client.until(lambda: client.ended == "lost")


@pytest_twisted.ensureDeferred
async def test_an_answer_in_place_of_the_server_s(world: World) -> None:
    client = await world.client()
    world.proxy.answer(503, 2, "^PUT", headers={"Retry-After": "7"}, body=b"busy")
    assert (await client.ask(GET, BODY)).startswith(b"HTTP/1.1 200")
    for _ in range(2):
        answer = await client.ask(put(50_000), b"busy")
        assert answer == b"HTTP/1.1 503 Fault\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
    assert (await client.ask(put(5), b"\r\n\r\n5")).startswith(b"HTTP/1.1 200")
    assert (world.echo.got, world.proxy.count()) == ([(b"GET", 0), (b"PUT", 5)], 4)
    assert world.proxy.connections == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_until_it_is_healed(world: World) -> None:
    client = await world.client()
    world.proxy.answer(500, None)
    for _ in range(3):
        assert b" 500 " in await client.ask(GET, b"\r\n\r\n")
    head = GET.replace(b"GET", b"HEAD")
    world.proxy.heal()
    world.proxy.answer(404, body=b"not in a HEAD")
    assert (await client.ask(head, b"\r\n\r\n")).endswith(b"Content-Length: 13\r\n\r\n")
    assert b" 200 " in await client.ask(GET, BODY)


@pytest_twisted.ensureDeferred
async def test_who_waits_to_be_told_to_go_on_is_answered_at_once(world: World) -> None:
    client = await world.client()
    world.proxy.answer(429)
    head = put(5).partition(b"\r\n\r\n")[0] + b"\r\nExpect: 100-continue\r\n\r\n"
    assert b" 429 " in await client.ask(head, b"\r\n\r\n")
    await client.until(lambda: client.ended == "done")


@pytest.mark.parametrize("length", [3, 30])
@pytest_twisted.ensureDeferred
async def test_an_answer_of_a_wrong_length(world: World, length: int) -> None:
    client = await world.client()
    world.proxy.answer(200, body=b"0123456789", length=length)
    client.transport.write(GET)
    await client.until(lambda: client.ended == "done")
    assert client.got.endswith(b"Content-Length: %d\r\n\r\n0123456789" % length)


@pytest.mark.parametrize(("by", "keep", "stated", "come"), [(7, None, 107, 100), (-7, None, 93, 100), (0, 40, 100, 40)])
@pytest_twisted.ensureDeferred
async def test_the_server_s_answer_with_a_wrong_length(
    world: World, by: int, keep: int | None, stated: int, come: int
) -> None:
    client = await world.client()
    if keep is None:
        world.proxy.wrong_length(by)
    else:
        world.proxy.truncate(keep)
    client.transport.write(GET)
    await client.until(lambda: client.ended == "done")
    head, _, body = client.got.partition(b"\r\n\r\n")
    assert (b"\r\nContent-Length: %d\r\n" % stated in head + b"\r\n", body) == (True, BODY[:come])
    again = await world.client()
    assert b"Content-Length: 100" in await again.ask(GET, BODY)


@pytest_twisted.ensureDeferred
async def test_a_request_that_nobody_answers(world: World) -> None:
    client = await world.client()
    world.proxy.hang(match="^PUT")
    client.transport.write(put(1000))
    while not world.proxy.requests:
        await turn()
    for _ in range(20):
        await turn()
    assert (client.got, client.ended, world.echo.got) == (b"", None, [])


@pytest.mark.parametrize("after", [0, 1000, 60_000, 100_000, 200_000])
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cut(world: World, after: int) -> None:
    client = await world.client()
    world.proxy.cut_request(after, match="^PUT")
    client.transport.write(put(100_000))
    await client.until(lambda: client.ended is not None)
    assert client.got == b""
    while world.proxy.open:
        await turn()
    assert world.echo.got == ([] if after < 100_000 else [(b"PUT", 100_000)])


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost(world: World) -> None:
    client = await world.client()
    world.proxy.lose_answer(match="^PUT")
    client.transport.write(put(1000))
    await client.until(lambda: client.ended == "lost")
    assert (client.got, world.echo.got) == (b"", [(b"PUT", 1000)])


@pytest_twisted.ensureDeferred
async def test_all_connections_are_reset(world: World) -> None:
    one, other = await world.client(), await world.client()
    await one.ask(GET, BODY)
    world.proxy.cut()
    for client in (one, other):
        await client.until(lambda client=client: client.ended is not None)  # type: ignore[misc]
    assert one.ended == "lost"
    assert b" 200 " in await (await world.client()).ask(GET, BODY)


@pytest_twisted.ensureDeferred
async def test_a_half_closed_connection_still_takes_what_is_sent(world: World) -> None:
    client = await world.client(HalfClient)
    await client.ask(GET, BODY)
    world.proxy.half_close()
    await client.until(lambda: client.ended == "half")
    client.transport.write(put(10))
    while len(world.echo.got) < 2:
        await turn()
    assert world.echo.got[1] == (b"PUT", 10)


@pytest_twisted.ensureDeferred
async def test_the_connection_is_closed_after_so_many_bytes(world: World) -> None:
    one, other = await world.client(), await world.client()
    whole = len(await one.ask(GET, BODY))
    world.proxy.cut_after(down=whole + 10)
    await one.ask(GET, BODY)
    other.transport.write(GET)
    await other.until(lambda: other.ended == "done")
    assert (len(other.got), one.ended) == (10, None)
    world.proxy.cut_after(up=len(GET) - 1)
    one.got = b""
    one.transport.write(GET)
    await one.until(lambda: one.ended is not None)
    assert (one.got, len(world.echo.got)) == (b"", 3)
    assert len(await (await world.client()).ask(GET, BODY)) == whole


@pytest_twisted.ensureDeferred
async def test_an_outage_after_so_many_bytes(world: World) -> None:
    one, other = await world.client(), await world.client()
    await other.ask(GET, BODY)
    world.proxy.cut_after(up=500, outage=True)
    one.transport.write(put(100_000))
    await one.until(lambda: one.ended is not None)
    await other.until(lambda: other.ended == "lost")
    with pytest.raises(ConnectionRefusedError):
        await world.client()
    world.proxy.heal()
    assert b" 200 " in await (await world.client()).ask(GET, BODY)
    assert [size for method, size in world.echo.got if method == b"PUT"] == []


@pytest_twisted.ensureDeferred
async def test_every_connection_is_closed_after_so_many_bytes(world: World) -> None:
    world.proxy.cut_each(down=50)
    for _ in range(2):
        client = await world.client()
        client.transport.write(GET)
        await client.until(lambda client=client: client.ended == "done")  # type: ignore[misc]
        assert len(client.got) == 50


@pytest_twisted.ensureDeferred
async def test_connections_are_refused_and_accepted_again_on_the_same_port(world: World) -> None:
    port, kept = world.proxy.port, await world.client()
    world.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await world.client()
    assert b" 200 " in await kept.ask(GET, BODY)
    world.proxy.accept()
    assert (world.proxy.port, b" 200 " in await (await world.client()).ask(GET, BODY)) == (port, True)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_accepts_and_answers_nothing(world: World) -> None:
    kept = await world.client()
    await kept.ask(GET, BODY)
    world.proxy.frozen = True
    late = await world.client()
    for client in (kept, late):
        client.got = b""
        client.transport.write(GET)
    while len(world.proxy.requests) < 3:
        await turn()
    for _ in range(20):
        await turn()
    assert (kept.got, late.got, kept.ended, late.ended, len(world.echo.got)) == (b"", b"", None, None, 1)
    world.proxy.frozen = False
    await kept.until(lambda: kept.got.endswith(BODY))
    await late.until(lambda: late.got.endswith(BODY))


@pytest_twisted.ensureDeferred
async def test_bytes_are_late(world: World) -> None:
    client = await world.client()
    world.proxy.delay = 0.05
    begun = reactor.seconds()  # type: ignore[attr-defined]
    await client.ask(GET, BODY)
    assert 0.1 <= reactor.seconds() - begun < 2  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_bytes_are_slow_both_ways_and_the_sender_is_held_back(world: World) -> None:
    client = await world.client()
    world.proxy.rate = 1_000_000.0
    begun = reactor.seconds()  # type: ignore[attr-defined]
    await client.ask(put(200_000), b"\r\n\r\n200000")
    assert 0.18 <= reactor.seconds() - begun < 2  # type: ignore[attr-defined]
    client.transport.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.until(lambda: len(client.got) > 200_000)
    assert world.proxy.down < len(client.got) + 1_000_000
    world.proxy.rate = None
    await client.until(lambda: client.got.endswith(b"\0" * BIG))


async def turn() -> None:
    """Let the reactor go round once."""
    waiter: Deferred[None] = Deferred()
    reactor.callLater(0, waiter.callback, None)  # type: ignore[attr-defined]
    await waiter
