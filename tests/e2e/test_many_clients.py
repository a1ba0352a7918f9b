"""Many clients at once: one fetch for all of them, and memory that does not grow with what they download."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from tests.support.daemon import MakeDaemon, direct, through
from tests.support.go_stub import GoStub
from tests.support.http import Reply
from tests.support.repositories import Repositories, noise
from tests.support.synthetic import add_version
from tests.support.upstream import Trouble, Upstream

MIB = 1024 * 1024
BIG = int(os.environ.get("ATHENS_TX_BIG_ZIP_MB", "64"))


async def together(asked: list[Awaitable[Reply]]) -> list[Reply]:
    """@return: the replies, in order."""
    replies: list[Reply] = await gatherResults([Deferred.fromCoroutine(one) for one in asked])  # type: ignore[arg-type]
    return replies


@pytest_twisted.ensureDeferred
async def test_two_hundred_requests_one_run_of_go(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    stub = GoStub(tmp_path / "stub")
    daemon = await make_daemon(env=direct(repositories, GO_BINARY_PATH=str(stub.path))).start()
    kinds = ["info", "mod", "zip", "zip"] * 50
    replies = await together([daemon.get(f"/github.com/acme/lib/@v/v1.0.0.{kind}") for kind in kinds])
    assert {reply.status for reply in replies} == {200}
    assert len({reply.sha256 for reply in replies}) == 3
    assert len(stub.calls("mod download")) == 1
    lists = await together([daemon.get("/github.com/acme/lib/@v/list") for _ in range(50)])
    assert {reply.status for reply in lists} == {200}
    assert len(stub.calls("list")) == 1


@pytest_twisted.ensureDeferred
async def test_two_hundred_requests_one_download_and_the_small_files_first(
    upstream: Upstream, make_daemon: MakeDaemon
) -> None:
    daemon = await make_daemon(env=through(upstream)).start()
    upstream.troubles["v1.0.0.zip"] = Trouble(hold=True)
    held = upstream.when_asked("v1.0.0.zip")
    zips = [Deferred.fromCoroutine(daemon.get("/github.com/acme/lib/@v/v1.0.0.zip")) for _ in range(100)]
    await held
    small = [daemon.get(f"/github.com/acme/lib/@v/v1.0.0.{kind}") for kind in ["info", "mod"] * 50]
    assert {reply.status for reply in await together(small)} == {200}
    assert not any(zip.called for zip in zips)
    upstream.release()
    assert {(reply.status, reply.whole) for reply in await gatherResults(zips)} == {(200, True)}
    for kind in ("info", "mod", "zip"):
        assert upstream.asked[f"github.com/acme/lib/@v/v1.0.0.{kind}"] == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_costs_the_others_nothing(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    daemon = await make_daemon(env=through(upstream)).start()
    upstream.troubles["v1.0.0.zip"] = Trouble(hold=True)
    held = upstream.when_asked("v1.0.0.zip")
    first = await raw_get(daemon.port, "/github.com/acme/lib/@v/v1.0.0.zip")
    await held
    second = Deferred.fromCoroutine(daemon.get("/github.com/acme/lib/@v/v1.0.0.zip"))
    first.transport.abortConnection()  # type: ignore[union-attr]
    await first.lost
    upstream.release()
    assert (await second).status == 200
    assert upstream.asked["github.com/acme/lib/@v/v1.0.0.zip"] == 1


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A tree with one big module zip."""
    tree = tmp_path / "big"
    add_version(tree, "example.test/big", "v1.0.0", noise(BIG))
    return tree


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest_twisted.ensureDeferred
async def test_memory_stays_while_64_clients_download_a_big_zip(big: Path, make_daemon: MakeDaemon) -> None:
    upstream = Upstream(reactor, big)
    try:
        daemon = await make_daemon(env=through(upstream)).start()
        assert (await daemon.get("/healthz")).status == 200
        before = daemon.rss()
        daemon.forget_peak()
        size = upstream.file("example.test/big", "v1.0.0", "zip").stat().st_size
        for _cold_then_warm in range(2):
            asked = [daemon.get("/example.test/big/@v/v1.0.0.zip", keep=False) for _ in range(64)]
            replies = await together(asked)
            assert {(reply.status, reply.size, reply.whole) for reply in replies} == {(200, size, True)}
        assert upstream.total(".zip") == 1
    finally:
        await upstream.stop()
    rise = daemon.peak_rss() - before
    print(f"64 clients, {BIG} MiB: resident memory rose from {before / MIB:.0f} by {rise / MIB:.1f} MiB")
    assert rise < 64 * MIB


class _Raw(Protocol):
    """Sends a request and reads nothing until told."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]
        self.transport.write(f"GET {self._path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())  # type: ignore[union-attr]

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


async def raw_get(port: int, path: str) -> _Raw:
    """@return: a client that has sent its request and does not read the answer."""
    from twisted.internet.endpoints import TCP4ClientEndpoint

    factory = Factory.forProtocol(lambda: _Raw(path))  # type: ignore[arg-type]
    raw: _Raw = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)  # type: ignore[assignment]
    return raw


@pytest_twisted.ensureDeferred
async def test_memory_stays_while_64_clients_do_not_read(big: Path, make_daemon: MakeDaemon) -> None:
    upstream = Upstream(reactor, big)
    try:
        daemon = await make_daemon(env=through(upstream)).start()
        assert (await daemon.get("/example.test/big/@v/v1.0.0.zip", keep=False)).status == 200
    finally:
        await upstream.stop()
    before = daemon.rss()
    daemon.forget_peak()
    clients = [await raw_get(daemon.port, "/example.test/big/@v/v1.0.0.zip") for _ in range(64)]
    # A whole download beside them: by its end the others had their chance to fill the memory.
    assert (await daemon.get("/example.test/big/@v/v1.0.0.zip", keep=False)).whole
    rise = daemon.peak_rss() - before
    for client in clients:
        client.transport.abortConnection()  # type: ignore[union-attr]
        await client.lost
    assert rise < 64 * MIB
    assert (await daemon.get("/healthz")).status == 200
