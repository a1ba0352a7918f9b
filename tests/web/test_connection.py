"""What a client may send, and how long it may take."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from athens_tx.web.request import MAX_BODY

reactor: Any = _reactor
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
LAST = b"Connection: close\r\n\r\n"


def status(raw: bytes) -> int:
    return int(raw.split(b" ")[1])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz HTTP/3.0\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\n\r\n", 400),
        (b"G\x00T /healthz HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"no colon\r\n\r\n", 400),
        (HEAD + b"a b: c\r\n\r\n", 400),
        (HEAD + b"a: b\x00c\r\n\r\n", 400),
        (HEAD + b"Content-Length: x\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + b"9" * 6000 + b"\r\na: b\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"a: b\r\n" * 501 + b"\r\n", 400),
        (HEAD + b"a: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (HEAD + b"a: " + b"b" * 10_000_000, 431),
        (HEAD + (b"a: " + b"b" * 1000 + b"\r\n") * 70 + b"\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 200_000, 400),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", 413),
        (HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1), 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 20, 413),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_request_is_refused_in_words(serve: Any, sent: bytes, code: int) -> None:
    server = serve()
    wire = await server.connect()
    wire.send(sent)
    await wire.until(lambda: wire.got.endswith(b"\n") and b"\r\n\r\n" in wire.got)
    assert status(wire.got) == code
    assert b"Connection: close" in wire.got
    assert wire.got.count(b"HTTP/1.1") == 1
    await wire.end()
    assert not server.site.in_flight
    assert (await server.ask("/healthz")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % MAX_BODY + b"x" * MAX_BODY,
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_wants_is_read_and_dropped(serve: Any, body: bytes) -> None:
    server = serve()
    wire = await server.connect()
    wire.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\n" + body + HEAD + LAST)
    got = (await wire.end()).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert status(got) == 405
    assert got.count(b"HTTP/1.1 200 OK") == 1


@pytest_twisted.ensureDeferred
async def test_headers_must_be_complete_in_time_however_they_drip(serve: Any) -> None:
    server = serve(header_timeout=0.3)
    wire = await server.connect()
    wire.send(HEAD)

    drip = LoopingCall(wire.send, b"a: b\r\n")
    drip.start(0.05)
    await wire.until(lambda: b"\n" in wire.got)
    drip.stop()
    assert status(await wire.end()) == 408


@pytest_twisted.ensureDeferred
async def test_a_client_that_says_nothing_is_left(serve: Any) -> None:
    server = serve(header_timeout=0.1)
    wire = await server.connect()
    assert await wire.end() == b""


@pytest_twisted.ensureDeferred
async def test_a_body_must_come_in_time_too(serve: Any) -> None:
    server = serve(idle_timeout=0.2)
    wire = await server.connect()
    wire.send(HEAD + b"Content-Length: 9\r\n\r\nabc")
    got = await wire.end()
    assert got == b"" or status(got) == 408


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_may_rest_but_not_for_ever(serve: Any) -> None:
    server = serve(header_timeout=0.05, idle_timeout=0.3)
    wire = await server.connect()
    wire.send(HEAD + b"\r\n")
    await wire.until(lambda: b"\r\n\r\n" in wire.got)
    rest: Deferred[None] = Deferred()
    reactor.callLater(0.15, rest.callback, None)  # longer than headers may take
    await rest
    wire.send(HEAD + b"\r\n")
    await wire.until(lambda: wire.got.count(b"200 OK") == 2)
    got = await wire.end()
    assert got.count(b"HTTP/1.1") == 2


@pytest_twisted.ensureDeferred
async def test_a_client_that_only_shut_its_sending_side_is_answered(serve: Any) -> None:
    server = serve()
    server.protocol.wait = Deferred()
    wire = await server.connect()
    wire.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD + b"\r\n")
    wire.transport.loseWriteConnection()
    while not server.site.in_flight:
        await turn()
    for _ in range(20):
        await turn()
    server.protocol.wait.callback(None)
    got = await wire.end()
    assert got.count(b"200 OK") == 2
    assert b"v1.1.0" in got


@pytest_twisted.ensureDeferred
async def test_a_client_that_shut_its_sending_side_is_not_waited_for_too_long(serve: Any) -> None:
    server = serve(header_timeout=0.1)
    server.protocol.wait = Deferred()
    wire = await server.connect()
    wire.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n\r\n")
    wire.transport.loseWriteConnection()
    assert await wire.end() == b""
    assert server.metrics.seen == [("GET", "list", 499, 0)]


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"Content-Length: 5\r\n\r\nab"])
@pytest_twisted.ensureDeferred
async def test_half_a_request_from_a_half_closed_connection_is_the_end_of_it(serve: Any, sent: bytes) -> None:
    server = serve()
    wire = await server.connect()
    wire.send(sent)
    wire.transport.loseWriteConnection()
    assert await wire.end() == b""


async def turn() -> None:
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    await done


@pytest_twisted.ensureDeferred
async def test_a_site_that_drains_answers_what_it_has_and_closes(serve: Any) -> None:
    server = serve()
    server.protocol.wait = Deferred()
    resting, asking = await server.connect(), await server.connect()
    resting.send(HEAD + b"\r\n")
    await resting.until(lambda: b"200 OK" in resting.got)
    asking.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD + b"\r\n")
    while not server.site.in_flight:
        await turn()
    drained = server.site.drain()
    await resting.end()
    assert not drained.called
    server.protocol.wait.callback(None)
    got = await asking.end()
    assert got.count(b"200 OK") == 1
    await drained
    late = await server.connect()
    late.send(HEAD + b"\r\n")
    assert b"Connection: close" in await late.end()


@pytest_twisted.ensureDeferred
async def test_a_site_that_aborts_cuts_everything(serve: Any) -> None:
    server = serve()
    server.protocol.wait = Deferred(lambda _: None)
    wire = await server.connect()
    wire.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n\r\n")
    while not server.site.in_flight:
        await turn()
    drained = server.site.drain()
    server.site.abort()
    await drained
    assert await wire.end() == b""
    waiting = server.site.drain()
    assert waiting.called


@pytest_twisted.ensureDeferred
async def test_who_stops_waiting_for_the_drain_stops_nothing_else(serve: Any) -> None:
    server = serve()
    wire = await server.connect()
    server.protocol.wait = Deferred(lambda _: None)
    wire.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n\r\n")
    while not server.site.in_flight:
        await turn()
    drained = server.site.drain()
    drained.addErrback(lambda _: None)
    drained.cancel()
    assert not wire.closed
    wire.drop()


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_to_close_and_takes_nothing_is_cut(serve: Any) -> None:
    server = serve(idle_timeout=0.2)
    server.protocol.answers["list"] = b"x" * 8_000_000
    wire = await server.connect()
    wire.transport.pauseProducing()
    wire.send(b"GET /github.com/acme/lib/@v/list HTTP/1.1\r\nHost: x\r\n" + LAST)
    await server_lost(server)
    wire.transport.resumeProducing()
    assert len(await wire.end()) < 8_000_000


async def server_lost(server: Any) -> None:
    while not server.metrics.seen:
        await turn()
    await server.site.drain()
