"""Zips on their way: backpressure, clients that leave, clients that take nothing."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from athens_tx.storage.body import BytesZip

reactor: Any = _reactor
ASK = b"GET /github.com/acme/lib/@v/v1.0.0.zip HTTP/1.1\r\nHost: x\r\n\r\n"


class Endless:
    """A push producer of many bytes that says what happens to it."""

    def __init__(self, length: int = 1 << 40) -> None:
        self.length = length
        self.said: list[str] = []
        self.written = 0
        self.paused = True
        self.consumer: Any = None
        self.heard: list[tuple[str, Deferred[None]]] = []

    def part(self, start: int, length: int) -> Any:
        raise AssertionError

    def _say(self, word: str) -> None:
        self.said.append(word)
        for entry in [entry for entry in self.heard if entry[0] == word]:
            self.heard.remove(entry)
            entry[1].callback(None)

    async def hear(self, word: str) -> None:
        if word not in self.said:
            waiter: Deferred[None] = Deferred()
            self.heard.append((word, waiter))
            await waiter

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        self._say("start")
        self.done: Deferred[None] = Deferred()
        self.paused = False
        self.write()
        return self.done

    def write(self) -> None:
        if not self.paused:
            self.written += 65536
            self.consumer.write(bytes(65536))
            reactor.callLater(0, self.write)

    def pauseProducing(self) -> None:
        self.paused = True
        self._say("pause")

    def resumeProducing(self) -> None:
        if self.paused:
            self.paused = False
            self._say("resume")
            self.write()

    def stopProducing(self) -> None:
        self.paused = True
        self._say("stop")


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing_pauses_the_zip_and_is_given_up(serve: Any) -> None:
    server = serve(idle_timeout=0.3)
    body = server.protocol.zip_body = Endless()
    wire = await server.connect()
    wire.transport.pauseProducing()
    wire.send(ASK)
    await body.hear("stop")
    assert body.said[-2:] == ["pause", "stop"]  # once what lies between us is full, nothing more is made
    assert body.said.count("stop") == 1
    assert body.written < 64 << 20
    await server.site.drain()
    assert server.metrics.seen == [("GET", "zip", 200, body.written)]


@pytest_twisted.ensureDeferred
async def test_a_slow_client_is_not_given_up(serve: Any) -> None:
    server = serve(idle_timeout=0.3)
    body = server.protocol.zip_body = Endless()
    wire = await server.connect()
    wire.transport.pauseProducing()
    wire.send(ASK)
    for _ in range(3):  # each time within the limit
        del body.said[1:]
        await body.hear("pause")
        wire.transport.resumeProducing()
        await body.hear("resume")
        wire.transport.pauseProducing()
    assert not wire.closed


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_stops_the_zip(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    body = server.protocol.zip_body = Endless()
    wire = await server.connect()
    wire.send(ASK)
    await wire.until(lambda: len(wire.got) > 100_000)
    wire.drop()
    await body.hear("stop")
    assert body.said.count("stop") == 1
    await server.site.drain()
    assert not server.site.in_flight
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_before_the_answer_costs_nothing(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    cancelled: Deferred[None] = Deferred()
    server.protocol.wait = Deferred(lambda _: cancelled.callback(None))
    wire = await server.connect()
    wire.send(ASK)
    while not server.site.in_flight:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
    wire.drop()
    await cancelled
    await server.site.drain()
    assert server.metrics.seen == [("GET", "zip", 499, 0)]
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_a_failure_for_a_client_that_left_is_logged_if_it_is_ours(
    serve: Any, logged: list[dict[str, Any]]
) -> None:
    server = serve()
    for failure, lines in ((RuntimeError("bug"), 1), (OSError("bug"), 1)):
        wait: Deferred[None] = Deferred(lambda it, failure=failure: it.errback(failure))
        server.protocol.wait = wait
        wire = await server.connect()
        wire.send(ASK)
        while not server.site.in_flight:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        wire.drop()
        while server.site.in_flight:
            turn = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        assert len([event for event in logged if event["log_level"].name == "critical"]) == lines
        logged.clear()


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
@pytest_twisted.ensureDeferred
async def test_a_zip_of_any_size_arrives_whole(serve: Any, size: int) -> None:
    server = serve()
    data = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    server.protocol.zip_body = BytesZip(data[:size])
    got = await server.ask("/github.com/acme/lib/@v/v1.0.0.zip")
    assert (got.status, got.headers["content-length"]) == (200, str(size))
    assert got.body == data[:size]


@pytest_twisted.ensureDeferred
async def test_requests_in_a_row_are_answered_in_their_order(serve: Any) -> None:
    server = serve()
    data = bytes(range(256)) * 1000
    server.protocol.zip_body = BytesZip(data)
    wire = await server.connect()
    last = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    wire.send(ASK + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50 + last)
    got = await wire.end()
    assert got.count(b"HTTP/1.1 200 OK") == 52
    assert data in got
    assert got.endswith(b"{}\n")
    assert [seen[1] for seen in server.metrics.seen] == ["zip"] + ["healthz"] * 50 + ["version"]
