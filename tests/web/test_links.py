"""A zip that the client fetches from the store itself."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import formatEvent

from athens_tx.errors import StorageUnavailable

reactor: Any = _reactor
ZIP = "/github.com/acme/lib/@v/v1.0.0.zip"
URL = "https://store.test/bucket/github.com/acme/lib/@v/v1.0.0.zip?X-Amz-Signature=s3cret&X-Amz-Expires=300"


@pytest.mark.parametrize("version", ["v1.0.0", "main"])
@pytest_twisted.ensureDeferred
async def test_the_client_is_sent_there_and_nobody_keeps_the_answer(serve: Any, lib: str, version: str) -> None:
    server = serve()
    server.protocol.zip_link = URL
    got = await server.ask(f"/{lib}/@v/{version}.zip", Range="bytes=0-9", If_None_Match="*")
    assert (got.status, got.body, got.headers["location"]) == (302, b"", URL)
    assert (got.headers["cache-control"], got.headers["content-length"]) == ("no-store", "0")
    assert not {"etag", "accept-ranges", "content-type"} & set(got.headers)
    assert server.protocol.zip_body.said == []


@pytest_twisted.ensureDeferred
async def test_head_is_answered_here(serve: Any) -> None:
    server = serve()
    server.protocol.zip_link = URL
    got = await server.ask(ZIP, "HEAD")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "100")
    assert "location" not in got.headers
    assert server.protocol.zip_body.said == ["stop"]


@pytest_twisted.ensureDeferred
async def test_no_log_and_no_metric_shows_the_link(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    server.protocol.zip_link = URL
    await server.ask(ZIP)
    [line] = [event for event in logged if event["log_format"] == "incoming request"]
    assert (line["http_status"], line["bytes"], line["source"]) == (302, 0, "storage")
    assert not any("s3cret" in str(event) + str(formatEvent(event)) for event in logged)
    assert server.metrics.seen[-1] == ("GET", "zip", 302, 0)


@pytest_twisted.ensureDeferred
async def test_a_store_in_trouble_is_no_redirect(serve: Any) -> None:
    server = serve()
    server.protocol.zip_link = URL
    server.protocol.failure = StorageUnavailable("s3: head failed", retry_after=3)
    got = await server.ask(ZIP)
    assert (got.status, got.headers["retry-after"], "location" in got.headers) == (503, "3", False)


@pytest_twisted.ensureDeferred
async def test_a_client_that_left_before_there_was_a_link(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    server.protocol.zip_link, server.protocol.wait = URL, Deferred()
    wire = await server.connect()
    wire.send(f"GET {ZIP} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while not server.protocol.asked:
        await deferLater(reactor, 0)
    wire.drop()
    await wire.end()
    if not server.protocol.wait.called:
        server.protocol.wait.callback(None)
    assert (await server.ask("/healthz")).status == 200
