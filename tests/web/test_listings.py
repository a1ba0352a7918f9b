"""The catalog and the index, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from athens_tx.errors import InvalidRequest, NotSupported, StorageUnavailable
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion
from athens_tx.web import listings
from athens_tx.web.listings import format_time, parse_time

JSON = "application/json; charset=utf-8"
THEN = datetime(2026, 11, 20, 22, 59, 54, 856415, UTC)


@pytest_twisted.ensureDeferred
async def test_the_pages_of_the_catalog(serve: Any) -> None:
    server = serve()
    got = await server.ask("/catalog?pagesize=2")
    assert (got.status, got.headers["content-type"]) == (200, JSON)
    assert got.body == (
        b'{"modules":[{"module":"example.com/a","version":"v1.0.0"},'
        b'{"module":"example.com/b","version":"v1.0.0"}],"next":"2"}\n'
    )
    got = await server.ask("/catalog?pagesize=2&token=4")
    assert got.body == b'{"modules":[{"module":"example.com/e","version":"v1.0.0"}]}\n'
    assert got.headers["content-length"] == str(len(got.body))
    server.storage.versions = [ModuleVersion("example.com/\ud800", "v1.0.0")]
    assert b'{"module":"example.com/\\ud800",' in (await server.ask("/catalog")).body
    server.storage.versions = []
    assert (await server.ask("/catalog")).body == b'{"modules":[]}\n'
    await server.ask("/catalog?token=a%7Cb%2Bc&pagesize=")
    assert server.storage.asked == [("", 2), ("4", 2), ("", 1000), ("", 1000), ("a|b+c", 1000)]


@pytest.mark.parametrize("size", ["x", "0", "-1", "1.5", "1_0", "\u0664", "9" * 40, "+"])
@pytest.mark.parametrize("name", ["catalog?pagesize", "index?limit"])
@pytest_twisted.ensureDeferred
async def test_a_size_that_is_none_is_a_bad_request(serve: Any, size: str, name: str) -> None:
    server = serve()
    got = await server.ask(f"/{name}={quote(size)}")
    assert got.status == 400
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert server.storage.asked == server.index.asked == []


@pytest_twisted.ensureDeferred
async def test_a_size_has_a_bound(serve: Any) -> None:
    server = serve()
    await server.ask("/catalog?pagesize=999999999")
    await server.ask("/index?limit=%2B999999999")
    assert server.storage.asked == [("", 100_000)]
    assert server.index.asked == [(None, 100_000)]


@pytest_twisted.ensureDeferred
async def test_a_long_page_comes_in_pieces(serve: Any) -> None:
    server = serve()
    server.storage.versions = [ModuleVersion(f"example.com/{number}", "v1.0.0") for number in range(4001)]
    for size, chunked in ((1000, False), (1001, True), (4001, True)):
        got = await server.ask(f"/catalog?pagesize={size}")
        assert (got.headers.get("transfer-encoding") == "chunked") is chunked
        read = json.loads(got.body)
        assert [entry["module"] for entry in read["modules"]] == [f"example.com/{n}" for n in range(size)]
        assert read.get("next") == (None if size == 4001 else str(size))
    head = await server.ask("/catalog?pagesize=4001", "HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_a_long_page_stops_it(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    server.index.written = [IndexLine("example.com/" + "x" * 200, "v1.0.0", THEN)] * 100_000
    wire = await server.connect()
    wire.send(b"GET /index?limit=100000 HTTP/1.1\r\nHost: x\r\n\r\n")
    await wire.until(lambda: len(wire.got) > 500_000)
    wire.drop()
    await server.site.drain()
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_a_long_page_that_breaks_is_cut(serve: Any, logged: list[dict[str, Any]]) -> None:
    def lines(good: int) -> Any:
        for _ in range(good):
            yield IndexLine("example.com/m", "v1.0.0", THEN)
        raise StorageUnavailable("down")

    server = serve()
    server.index.written = lines(5000)
    wire = await server.connect()
    wire.send(b"GET /index HTTP/1.1\r\nHost: x\r\n\r\n")
    got = await wire.end()
    assert b"200 OK" in got
    assert not got.endswith(b"0\r\n\r\n")
    server.index.written = lines(5)
    assert (await server.ask("/index")).status == 503


LONG = b"GET /index?limit=100000 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_only_some_long_answers_are_written_at_once(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "PATIENCE", 0.2)
    monkeypatch.setattr(listings, "MOST_WAITING", 3)
    server = serve()
    server.index.written = [IndexLine("example.com/" + "x" * 200, "v1.0.0", THEN)] * 100_000
    slow = [await server.connect() for _ in range(listings.LONG_AT_ONCE)]
    for wire in slow:
        wire.send(LONG)
        await wire.until(lambda wire=wire: b"\r\n\r\n" in wire.got)
        wire.transport.pauseProducing()
    waiting = [Deferred.fromCoroutine(server.ask("/index?limit=100000")) for _ in range(10)]
    answers = await gatherResults(waiting)
    assert {answer.status for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"10"}
    assert len(server.index.asked) == listings.LONG_AT_ONCE  # nothing is read for who has no place
    server.index.written = []
    assert (await server.ask("/index")).status == 200  # who follows the index is not held up
    for wire in slow:
        wire.drop()
    await server.site.drain()
    assert (await server.ask("/index?limit=100000")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing_is_cut_off(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "STALLED", 0.3)
    server = serve()
    server.index.written = [IndexLine("example.com/" + "x" * 200, "v1.0.0", THEN)] * 100_000
    wire = await server.connect()
    wire.send(LONG)
    await wire.until(lambda: b"\r\n\r\n" in wire.got)
    wire.transport.pauseProducing()
    await server.site.drain()  # which waits for all that is being answered
    wire.transport.resumeProducing()
    assert not (await wire.end()).endswith(b"0\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_errors_of_storage(serve: Any) -> None:
    server = serve()
    assert (await server.ask("/catalog?token=x")).status == 400
    assert (await server.ask("/catalog?token=%ff")).status == 400
    server.storage.failure = NotSupported("an external storage has no catalog")
    got = await server.ask("/catalog")
    assert (got.status, got.body) == (501, b"an external storage has no catalog\n")


@pytest_twisted.ensureDeferred
async def test_the_lines_of_the_index(serve: Any) -> None:
    server = serve()
    server.index.written = [
        IndexLine("github.com/Acme/lib", "v1.0.0", THEN),
        IndexLine('a<b>&"\u2028\u00e9', "v1", THEN.replace(microsecond=0)),
    ]
    got = await server.ask("/index?since=2026-11-20T22:59:54.856415685Z&limit=2")
    assert got.headers["content-type"] == JSON
    assert got.body.decode() == (
        '{"Path":"github.com/Acme/lib","Version":"v1.0.0","Timestamp":"2026-11-20T22:59:54.856415Z"}\n'
        '{"Path":"a\\u003cb\\u003e\\u0026\\"\\u2028\u00e9","Version":"v1","Timestamp":"2026-11-20T22:59:54Z"}\n'
    )
    assert server.index.asked == [(THEN, 2)]
    assert (await server.ask("/index?since=foo")).status == 400


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-20T22:59:54Z", THEN.replace(microsecond=0)),
        ("2026-11-20t22:59:54z", THEN.replace(microsecond=0)),
        ("2026-11-20T22:59:54.856415999Z", THEN),
        ("2026-11-20T22:59:54.8Z", THEN.replace(microsecond=800_000)),
        ("2026-11-21T00:29:54+01:30", THEN.replace(microsecond=0)),
        ("2026-11-20T21:59:54-01:00", THEN.replace(microsecond=0)),
    ],
)
def test_a_time(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026",
        "2026-11-20",
        "2026-11-20T22:59:54",
        "2026-13-20T22:59:54Z",
        "2026-11-20T22:59:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+10:00",
        "2026-11-20T22:59:54+99:00",
        "2026-11-20T22:59:54Z\n",
        "\u0662026-11-20T22:59:54Z",
        "2026-11-20T22:59:54 01:00",
    ],
)
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_time(text)


def test_a_time_is_written_in_utc_without_zeros_at_its_end() -> None:
    assert format_time(THEN.replace(microsecond=120_000)) == "2026-11-20T22:59:54.12Z"
    assert format_time(THEN.astimezone(timezone(timedelta(hours=5)))) == "2026-11-20T22:59:54.856415Z"
