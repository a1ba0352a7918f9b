"""Readiness, and the file for robots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer

from athens_tx.config import Config
from athens_tx.errors import IndexUnavailable, LockUnavailable, StorageUnavailable
from athens_tx.interfaces import ILagging
from athens_tx.web import status
from athens_tx.web.files import MAX_FILE
from tests.web.conftest import FakeStore

reactor: Any = _reactor


@pytest_twisted.ensureDeferred
async def test_ready_is_who_can_read_both(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    assert (await server.ask("/readyz")).status == 200
    server.storage.failure = StorageUnavailable("no answer from https://user:secret@10.0.0.1/x\n at /srv/athens")
    got = await server.ask("/readyz")
    assert (got.status, got.body) == (503, b"storage: no answer from (a URL) at (a path)\n")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    server.index.failure = RuntimeError("secret")
    got = await server.ask("/readyz")
    assert got.body.endswith(b"; index: internal error\n")
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_a_store_that_does_not_answer_is_not_ready(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(status, "CHECK_TIME", 0.05)
    server = serve()
    server.index.wait = Deferred()
    got = await server.ask("/readyz")
    assert (got.status, got.body) == (503, b"index: no answer in 0.05 s\n")


@implementer(ILagging)
class Lagging(FakeStore):
    """An index whose lines may wait."""

    trouble = ""


@pytest_twisted.ensureDeferred
async def test_what_we_can_do_without_is_named_and_sends_nobody_away(serve: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(status, "GLANCE_TIME", 0.05)
    index, lock = Lagging(), FakeStore()
    server = serve(index=index, lock=lock)
    got = await server.ask("/readyz")
    assert (got.status, got.body) == (200, b"")
    lock.failure = LockUnavailable("redis lock: look: can't connect", detail="to 10.0.0.1")
    index.trouble = "mysql: can't connect"
    lines = (
        b"index: degraded: lines wait for it: mysql: can't connect\nlock: degraded: redis lock: look: can't connect\n"
    )
    got = await server.ask("/readyz")
    assert (got.status, got.body) == (200, lines)
    server.storage.failure = StorageUnavailable("s3 storage: away")
    index.failure = IndexUnavailable("the journal takes no lines")
    got = await server.ask("/readyz")
    assert got.status == 503
    assert got.body == b"storage: s3 storage: away; index: the journal takes no lines\n" + lines
    server.storage.failure = index.failure = None
    index.trouble, lock.wait = "", Deferred()
    got = await server.ask("/readyz")
    assert (got.status, got.body) == (200, b"lock: degraded: no answer in 0.05 s\n")


@pytest_twisted.ensureDeferred
async def test_who_stops_waiting_for_readiness_stops_the_checks(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    cancelled: Deferred[None] = Deferred()
    server.storage.wait = Deferred(lambda _: cancelled.callback(None))
    wire = await server.connect()
    wire.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    while not server.site.in_flight:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
    wire.drop()
    await cancelled
    await server.site.drain()
    assert not [event for event in logged if event["log_level"].name in ("error", "critical")]


@pytest_twisted.ensureDeferred
async def test_robots_are_told_to_stay_away_where_nobody_chose_a_file(
    serve: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Config().robots_file == status.DEFAULT_ROBOTS_FILE
    server = serve(robots_file=status.DEFAULT_ROBOTS_FILE)
    got = await server.ask("/robots.txt")
    assert (got.status, got.body) == (200, b"User-agent: *\nDisallow: /\n")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await server.ask("/robots.txt", If_None_Match=got.headers["etag"])).status == 304
    (tmp_path / "robots.txt").write_bytes(b"come in\n")
    assert (await server.ask("/robots.txt")).body == b"come in\n"
    (tmp_path / "robots.txt").unlink()
    assert (await server.ask("/robots.txt")).body == got.body


@pytest_twisted.ensureDeferred
async def test_robots_are_told_what_is_in_the_file(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "robots.txt"
    server = serve(robots_file=str(path))
    assert (await server.ask("/robots.txt")).status == 404
    path.write_bytes(b"User-agent: *\nDisallow: /\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    got = await server.ask("/robots.txt")
    assert (got.status, got.body) == (200, path.read_bytes())
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert got.headers["accept-ranges"] == "bytes"
    for headers, code, body in (
        ({"If_Modified_Since": got.headers["last-modified"]}, 304, b""),
        ({"If_None_Match": got.headers["etag"]}, 304, b""),
        ({"Range": "bytes=0-3"}, 206, b"User"),
        ({"Range": "bytes=0-3", "If_Range": got.headers["last-modified"]}, 206, b"User"),
    ):
        again = await server.ask("/robots.txt", **headers)
        assert (again.status, again.body) == (code, body)
    path.write_bytes(b"changed\n")
    assert (await server.ask("/robots.txt")).body == b"changed\n"
    path.write_bytes(bytes(MAX_FILE + 1))
    assert (await server.ask("/robots.txt")).status == 404
    path.unlink()
    os.mkfifo(path)
    assert (await server.ask("/robots.txt")).status == 404
    path.unlink()
    path.mkdir()
    assert (await server.ask("/robots.txt")).status == 404
