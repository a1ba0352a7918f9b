"""The real go command believes the checksum database that comes through ours, online and offline; and so do we."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from athens_tx.http_client import HttpClient
from athens_tx.module.version import ModuleVersion
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.client import SumDBClient
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.proxy import SumDBProxy
from athens_tx.sumdb.reach import Reach
from athens_tx.sumdb.source import Source
from tests.support.checksum_log import ChecksumLog
from tests.support.goclient import GoClient, real_go
from tests.support.loopback import LoopbackServer
from tests.support.processes import run
from tests.support.repositories import standard
from tests.support.upstream import Upstream, module_tree

QUERIES = ("github.com/acme/lib@v0.9.0", "github.com/acme/lib@v1.0.0", "github.com/Acme/Top@v1.0.0")


class Front(Resource):
    """Only the checksum database, at C{/sumdb/NAME/}."""

    isLeaf = True

    def __init__(self, proxy: SumDBProxy) -> None:
        super().__init__()
        self._proxy = proxy
        self.statuses: list[int] = []

    def render_GET(self, request: Request) -> int:
        Deferred.fromCoroutine(self._answer(request))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        _, sumdb, host, rest = request.uri.decode().split("/", 3)
        assert sumdb == "sumdb"
        answer = await self._proxy.answer(host, "/" + rest)
        self.statuses.append(answer.status)
        request.setResponseCode(answer.status)
        for name, value in answer.headers:
            request.setHeader(name, value)
        request.write(answer.body)
        request.finish()


@attrs.frozen
class Ground:
    upstream: Upstream
    http: HttpClient
    log: ChecksumLog

    def source(self, directory: Path, *, online: bool = True) -> Source:
        database = Database.parse(self.log.key)
        reach = Reach(database, [self.upstream.url], self.http, reactor) if online else None  # type: ignore[arg-type]
        return Source(database, Store(reactor, directory), reach)

    async def download(self, root: Path, source: Source) -> tuple[list[dict[str, Any]], Front]:
        """Have a go command without any memory download all modules, checked by way of a front for C{source}."""
        front = Front(SumDBProxy([source]))
        server = LoopbackServer(reactor, front)
        try:
            database = f"{self.log.key} http://127.0.0.1:{server.port}/sumdb/{self.log.name}"
            client = GoClient(reactor, root, self.upstream.url, {"GOSUMDB": database})
            return await client.download(*QUERIES), front
        finally:
            await server.stop()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    made: Path = pytest_twisted.blockon(
        Deferred.fromCoroutine(module_tree(reactor, root / "made", standard(root / "repositories"), QUERIES))
    )
    return made


@pytest_twisted.async_yield_fixture
async def ground(tree: Path) -> AsyncIterator[Ground]:
    log = ChecksumLog()
    for number in range(400):
        log.add(f"example.com/m{number}", "v1.0.0", f"h1:{number}", f"h1:{number}")
    log.add_tree(tree)
    upstream, http = Upstream(reactor, tree, log), HttpClient(reactor, {})
    yield Ground(upstream, http, log)
    await http.close()
    await upstream.stop()
    await deferLater(reactor, 0)  # type: ignore[arg-type]  # the aborted connections are lost in the next turn


@pytest_twisted.ensureDeferred
async def test_go_verifies_through_it_and_again_when_nothing_may_leave(ground: Ground, tmp_path: Path) -> None:
    online = ground.source(tmp_path / "cache")
    first, _ = await ground.download(tmp_path / "one", online)
    assert [document.get("Error") for document in first] == [None] * 3
    asked = ground.upstream.total()
    assert ground.upstream.asked[f"sumdb/{ground.log.name}/supported"] == 1
    await online.store.settle()

    ground.upstream.sumdb = None
    offline = ground.source(tmp_path / "cache", online=False)
    second, front = await ground.download(tmp_path / "two", offline)
    assert [document["Sum"] for document in second] == [document["Sum"] for document in first]
    assert set(front.statuses) == {200}
    assert ground.upstream.total("/supported") == 1
    assert ground.upstream.total() > asked  # the modules themselves still came from there


@pytest_twisted.ensureDeferred
async def test_go_stops_when_the_database_is_cut_off_and_nothing_is_kept(ground: Ground, tmp_path: Path) -> None:
    [*documents], front = await ground.download(tmp_path / "one", ground.source(tmp_path / "cache", online=False))
    assert all("404 Not Found" in document["Error"] for document in documents)
    assert set(front.statuses) == {404}


@pytest_twisted.ensureDeferred
async def test_we_get_the_sums_that_go_gets(ground: Ground, tmp_path: Path) -> None:
    source = ground.source(tmp_path / "cache")
    documents, _ = await ground.download(tmp_path / "one", ground.source(tmp_path / "other"))
    client = SumDBClient(source)
    for document in documents:
        sums = await client.checksums(ModuleVersion(document["Path"], document["Version"]))
        assert (sums.zip, sums.mod) == (document["Sum"], document["GoModSum"])
    await source.store.settle()


@pytest.mark.upstream
@pytest_twisted.ensureDeferred
async def test_the_real_database_says_what_go_says(tmp_path: Path) -> None:
    go = GoClient(reactor, tmp_path, "")
    told = await run(reactor, [real_go(), "env", "GOPROXY"], dict(os.environ), cwd=tmp_path)
    proxies = told.check().stdout.strip()
    [document] = await go.download("github.com/google/uuid@v1.6.0", GOPROXY=proxies, GOSUMDB="sum.golang.org")
    http = HttpClient(reactor, os.environ)
    database = Database.parse("https://sum.golang.org")
    reach = Reach(database, proxies.replace("|", ",").split(","), http, reactor)  # type: ignore[arg-type]
    store = Store(reactor, tmp_path / "cache")
    try:
        sums = await SumDBClient(Source(database, store, reach)).checksums(
            ModuleVersion("github.com/google/uuid", "v1.6.0")
        )
        assert (sums.zip, sums.mod) == (document["Sum"], document["GoModSum"])
        await store.settle()
    finally:
        await http.close()
