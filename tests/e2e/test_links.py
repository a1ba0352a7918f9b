"""The go command fetches a zip from where the daemon sends it, and takes its login for the daemon nowhere else."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest_twisted
import trustme
from twisted.internet import reactor as _reactor
from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.goclient import GoClient
from tests.support.linking import SIGNATURE
from tests.support.loopback import LoopbackServer
from tests.support.upstream import Upstream

reactor: Any = _reactor
LIB = "github.com/acme/lib"


class Store(Resource):
    """
    Serves the folder of a storage to those who have a signature.

    @ivar asked: what was asked for, with the headers.
    """

    isLeaf = True

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.asked: list[tuple[str, dict[str, str]]] = []

    def render_GET(self, request: Request) -> bytes:
        path = request.path.decode()
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append((path, headers))
        if request.args.get(b"signed") != [SIGNATURE.encode()]:
            request.setResponseCode(403)
            return b"no"
        request.setHeader(b"Content-Type", b"application/zip")
        return (self._root / path[1:]).read_bytes()


@attrs.frozen
class Linked:
    """A daemon behind TLS and a login, and its store, which is called by another name."""

    daemon: Daemon
    store: Store
    ca: Path

    def proxy(self) -> str:
        return f"https://me:hunter22@localhost:{self.daemon.port}"


@pytest_twisted.async_yield_fixture
async def linked(make_daemon: MakeDaemon, upstream: Upstream, tmp_path: Path) -> AsyncIterator[Linked]:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost", "127.0.0.1")
    authority, chain, key = (tmp_path / f"{name}.pem" for name in ("ca", "chain", "key"))
    ca.cert_pem.write_to_path(str(authority))
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    settings = through(
        upstream,
        ATHENS_TLSCERT_FILE=str(chain),
        ATHENS_TLSKEY_FILE=str(key),
        BASIC_AUTH_USER="me",
        BASIC_AUTH_PASS="hunter22",
    )
    daemon = make_daemon(env=settings, command=[sys.executable, "-m", "tests.support.linking", "serve"])
    store = Store(daemon.storage)
    context = ssl.PrivateCertificate.loadPEM(key.read_bytes() + chain.read_bytes()).options()
    server = LoopbackServer(reactor, store, context)
    daemon.env |= {
        "LINKS": f"https://127.0.0.1:{server.port}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    await daemon.start()
    yield Linked(daemon, store, authority)
    await daemon.stop()
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_go_is_sent_to_the_store_and_leaves_its_login_behind(
    linked: Linked, make_client: Callable[..., GoClient], upstream: Upstream
) -> None:
    client = make_client(linked.proxy(), SSL_CERT_FILE=str(linked.ca))
    for _cold_then_warm in range(2):
        [got] = await client.download(f"{LIB}@v1.0.0")
        assert "Error" not in got, got
        assert got["Sum"].startswith("h1:")
        client.forget()
    [first, second] = linked.store.asked
    assert first[0] == second[0] == f"/{LIB}/v1.0.0/source.zip"
    for _, headers in linked.store.asked:
        assert "authorization" not in headers
        assert "hunter22" not in str(headers)
    assert upstream.total(".zip") == 1
    assert not linked.daemon.has_logged(SIGNATURE)
    assert linked.daemon.has_logged("302")


@pytest_twisted.ensureDeferred
async def test_without_a_login_nobody_is_sent_anywhere(linked: Linked, make_client: Callable[..., GoClient]) -> None:
    client = make_client(linked.proxy().replace("hunter22", "wrong"), SSL_CERT_FILE=str(linked.ca))
    [got] = await client.download(f"{LIB}@v1.0.0")
    assert "401" in got["Error"]
    assert linked.store.asked == []
