"""The local upstream proxy and its checksum database satisfy the real go command; and it misbehaves as told."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.checksum_log import ChecksumLog, mod_hash, stored_versions
from tests.support.goclient import GoClient
from tests.support.http import request
from tests.support.repositories import standard
from tests.support.upstream import Trouble, Upstream, module_tree

LIB = "/github.com/acme/lib/@v"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    queries = [f"github.com/acme/lib@{v}" for v in ("v0.9.0", "v1.0.0", "v1.1.0-beta.1", "main")]
    queries += ["github.com/Acme/Top@v1.0.0", "github.com/acme/old@v2.0.0"]
    made: Path = pytest_twisted.blockon(
        Deferred.fromCoroutine(module_tree(reactor, root / "made", standard(root / "repositories"), queries))
    )
    return made


@pytest_twisted.async_yield_fixture
async def upstream(tree: Path) -> AsyncIterator[Upstream]:
    log = ChecksumLog()
    log.add_tree(tree)
    upstream = Upstream(reactor, tree, log)
    yield upstream
    await upstream.stop()


@pytest_twisted.ensureDeferred
async def test_go_downloads_with_the_checksum_database(upstream: Upstream, tmp_path: Path) -> None:
    assert upstream.sumdb is not None
    client = GoClient(reactor, tmp_path, upstream.url, {"GOSUMDB": f"{upstream.sumdb.key}"})
    documents = await client.download(
        "github.com/acme/lib@v1.0.0", "github.com/Acme/Top@v1.0.0", "github.com/acme/old@v2.0.0+incompatible"
    )
    assert not [d for d in documents if "Error" in d]
    assert upstream.asked["sumdb/sum.example.test/lookup/github.com/acme/lib@v1.0.0"] == 1
    assert upstream.total(".zip") == 3
    listing = await client.versions("github.com/acme/lib")
    assert (listing["Version"], listing["Versions"]) == ("v1.0.0", ["v0.9.0", "v1.0.0", "v1.1.0-beta.1"])


@pytest_twisted.ensureDeferred
async def test_go_refuses_a_zip_that_the_database_knows_otherwise(tree: Path, tmp_path: Path) -> None:
    log = ChecksumLog()
    for path, version, stem in stored_versions(tree):
        log.add(path, version, "h1:" + "A" * 43 + "=", mod_hash(stem.with_name(stem.name + ".mod").read_bytes()))
    upstream = Upstream(reactor, tree, log)
    try:
        client = GoClient(reactor, tmp_path, upstream.url, {"GOSUMDB": log.key})
        (document,) = await client.download("github.com/acme/lib@v1.0.0")
        assert "SECURITY ERROR" in document["Error"]
    finally:
        await upstream.stop()


@pytest_twisted.ensureDeferred
async def test_a_log_of_more_than_one_tile_is_proven(tree: Path, tmp_path: Path) -> None:
    log = ChecksumLog()
    for number in range(300):
        log.add("example.test/filler", f"v1.0.{number}", "h1:" + "A" * 43 + "=", "h1:" + "B" * 43 + "=")
    log.add_tree(tree)
    upstream = Upstream(reactor, tree, log)
    try:
        client = GoClient(reactor, tmp_path, upstream.url, {"GOSUMDB": log.key})
        (document,) = await client.download("github.com/acme/lib@v1.0.0")
        assert "Error" not in document
        assert upstream.asked["sumdb/sum.example.test/tile/8/1/000.p/1"] == 1
    finally:
        await upstream.stop()


@pytest_twisted.ensureDeferred
async def test_it_misbehaves_as_told(upstream: Upstream) -> None:
    zip_size = upstream.file("github.com/acme/lib", "v1.0.0", "zip").stat().st_size
    upstream.troubles = {
        "v1.0.0.zip": Trouble(cut=100),
        "v0.9.0.zip": Trouble(status=429, headers={"Retry-After": "7"}, times=1),
        "v0.9.0.mod": Trouble(gzip=True),
        "v1.0.0.mod": Trouble(claim=10_000),
        "v1.0.0.info": Trouble(text=b"no JSON"),
    }
    cut = await request(reactor, f"{upstream.url}{LIB}/v1.0.0.zip")
    assert (cut.status, cut.whole) == (200, False)
    assert cut.size <= 100 < zip_size
    limited = await request(reactor, f"{upstream.url}{LIB}/v0.9.0.zip")
    assert (limited.status, limited.headers["retry-after"]) == (429, "7")
    assert zipfile.is_zipfile(upstream.file("github.com/acme/lib", "v0.9.0", "zip"))
    assert (await request(reactor, f"{upstream.url}{LIB}/v0.9.0.zip")).status == 200
    packed = await request(reactor, f"{upstream.url}{LIB}/v0.9.0.mod")
    assert gzip.decompress(packed.body).startswith(b"module github.com/acme/lib\n")
    assert not (await request(reactor, f"{upstream.url}{LIB}/v1.0.0.mod")).whole
    assert (await request(reactor, f"{upstream.url}{LIB}/v1.0.0.info")).body == b"no JSON"


@pytest_twisted.ensureDeferred
async def test_it_holds_until_released(upstream: Upstream) -> None:
    upstream.troubles["v1.0.0.info"] = Trouble(hold=True)
    asked = upstream.when_asked("v1.0.0.info")
    waiting = Deferred.fromCoroutine(request(reactor, f"{upstream.url}{LIB}/v1.0.0.info"))
    await asked
    assert not waiting.called
    upstream.release()
    assert (await waiting).status == 200


@pytest_twisted.ensureDeferred
async def test_latest_list_and_aliases(upstream: Upstream) -> None:
    latest = await request(reactor, f"{upstream.url}/github.com/acme/lib/@latest")
    assert '"Version":"v1.0.0"' in latest.text
    versions = await request(reactor, f"{upstream.url}{LIB}/list")
    assert versions.text == "v0.9.0\nv1.0.0\nv1.1.0-beta.1\n"
    upstream.aliases["github.com/acme/lib@main"] = "v1.0.0"
    assert '"Version":"v1.0.0"' in (await request(reactor, f"{upstream.url}{LIB}/main.info")).text
    assert (await request(reactor, f"{upstream.url}{LIB}/v9.9.9.info")).status == 404
