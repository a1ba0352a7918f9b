"""The daemon over every remote store: go builds through it, the store goes away and comes back, or was never there."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.support.daemon import Daemon, MakeDaemon, direct, free_port, through
from tests.support.faults import FaultProxy
from tests.support.goclient import GoClient
from tests.support.http import Reply
from tests.support.repositories import Repositories
from tests.support.stores import KINDS, REMOTE, Store
from tests.support.upstream import Upstream

reactor: Any = _reactor
LIB = "github.com/acme/lib"


@pytest_twisted.async_yield_fixture
async def store(request: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the parameter names."""
    store = await Store(reactor, request.param, tmp_path / "store").open()
    yield store
    await store.close()


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_program_builds_cold_and_then_offline_from_another_daemon(
    store: Store, repositories: Repositories, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    online = await make_daemon(env=direct(repositories, **store.settings())).start()
    client = make_client(online.url)
    imports = {"github.com/acme/app": "v1.0.0"}
    printed = await client.build_and_run(client.project("cold", imports))
    assert len(printed.split()) == 8
    assert await online.stop() == 0
    assert not any(path.suffix == ".zip" for path in online.folder.rglob("*.zip"))

    repositories.move_away()
    offline = make_daemon("offline", env={**direct(repositories), **store.settings(), "ATHENS_NETWORK_MODE": "offline"})
    await offline.start()
    client = make_client(offline.url, "second")
    assert await client.build_and_run(client.project("offline", imports)) == printed
    assert (await client.versions(LIB))["Versions"] == ["v1.0.0"]
    catalog = json.loads((await offline.get("/catalog")).body)
    named = {f"{entry['module']}@{entry['version']}" for entry in catalog["modules"]}
    assert {f"{LIB}@v1.0.0", "github.com/Acme/Top@v1.0.0", "github.com/acme/major/v2@v2.1.0"} <= named
    assert set((await offline.cli("catalog")).check().stdout.split()) == named
    verified = (await offline.cli("verify")).check().stdout.strip()
    assert verified == f"{len(named)} versions verified, 0 broken"
    assert await offline.stop() == 0


class Broken:
    """A daemon whose way to the store can be cut; it fetches from an upstream that counts."""

    def __init__(self, daemon: Daemon, proxy: FaultProxy, upstream: Upstream) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self._upstream = upstream

    @property
    def fetched(self) -> int:
        """How many versions the upstream was asked for; a list looks at the small files of the latest one."""
        return self._upstream.total(".zip") + self._upstream.total("v0.9.0.info")

    async def ask(self, *paths: str) -> list[Reply]:
        """All at once."""
        return await gatherResults([Deferred.fromCoroutine(self.daemon.get(path)) for path in paths])

    async def until(self, path: str, expected: Callable[[Reply], bool]) -> None:
        """Ask for C{path} until the answer is as expected."""
        end = reactor.seconds() + 20
        while not expected(answer := await self.daemon.get(path)):
            assert reactor.seconds() < end, answer
            await deferLater(reactor, 0.1)

    async def ready(self) -> None:
        """Wait for C{/readyz}."""
        await self.until("/readyz", lambda answer: answer.status == 200)


@pytest_twisted.async_yield_fixture
async def broken(store: Store, upstream: Upstream, make_daemon: MakeDaemon) -> AsyncIterator[Broken]:
    proxy = FaultProxy(reactor, store.port, http=store.http)
    daemon = make_daemon(env=through(upstream, ATHENS_LIST_CACHE_TTL="0", **store.settings(proxy.port)))
    yield Broken(await daemon.start(), proxy, upstream)
    await daemon.kill()
    await proxy.stop()


def files(version: str) -> list[str]:
    """@return: the paths of all that a version of L{LIB} has."""
    return [f"/{LIB}/@v/{version}.{kind}" for kind in ("info", "mod", "zip")]


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest_twisted.ensureDeferred
async def test_while_the_store_is_away_nobody_is_told_404_and_nothing_is_fetched(store: Store, broken: Broken) -> None:
    stored, other = files("v1.0.0"), files("v0.9.0")
    before = await broken.ask(*stored)
    assert [answer.status for answer in before] == [200] * 3
    fetched = broken.fetched

    broken.proxy.refuse()
    broken.proxy.cut()
    answers = await broken.ask(*stored, *other, f"/{LIB}/@v/list", "/catalog", "/readyz")
    for answer in answers:
        assert answer.status in (503, 504), answer
        assert len(answer.text.strip().splitlines()) == 1
        assert not re.search(r"127\.0\.0\.1|:\d{4,5}|opensesame", answer.text), answer.text
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers[:-1])
    assert answers[-1].text.startswith("storage: ")
    assert (await broken.daemon.get("/healthz")).status == 200
    assert broken.fetched == fetched

    broken.proxy.heal()
    await broken.ready()
    assert [answer.body for answer in await broken.ask(*stored)] == [answer.body for answer in before]
    assert broken.fetched == fetched
    assert [answer.status for answer in await broken.ask(*other)] == [200] * 3
    in_trouble = [line for line in broken.daemon.lines if "storage is in trouble" in line]
    assert len(in_trouble) == 1, in_trouble
    assert (await broken.daemon.cli("verify", **store.settings())).check().stdout.startswith("2 versions verified, 0 ")
    assert await broken.daemon.stop() == 0


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_store_that_goes_away_in_the_middle_of_a_save(store: Store, broken: Broken) -> None:
    assert [answer.status for answer in await broken.ask(*files("v1.0.0"))] == [200] * 3
    up = broken.proxy.up
    assert [answer.status for answer in await broken.ask(*files("v0.9.0"))] == [200] * 3
    broken.proxy.cut_after(up=(broken.proxy.up - up) * 2 // 3, outage=True)  # of as much as the last one took
    path = f"/{LIB}/@v/v1.1.0-beta.1.zip"
    (answer,) = await broken.ask(path)
    assert answer.status in (503, 504), answer
    assert int(answer.headers["retry-after"]) > 0
    assert (await broken.daemon.get("/readyz")).status == 503

    broken.proxy.heal()
    await broken.ready()
    assert [answer.status for answer in await broken.ask(*files("v1.1.0-beta.1"))] == [200] * 3
    await broken.until(
        "/catalog", lambda answer: "v1.1.0-beta.1" in answer.text
    )  # the info may come before it is whole
    assert (await broken.daemon.cli("verify", **store.settings())).check().stdout.startswith("3 versions verified, 0 ")
    assert await broken.daemon.stop() == 0


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


#: A secret that is wrong, and must not be shown.
WRONG = "wr0ng-s3cret"
#: What is wrong with the settings, by C{StorageType}: the settings, and what the message has to name.
TROUBLES: Mapping[str, Mapping[str, tuple[dict[str, str], str]]] = {
    "azureblob": {
        "credentials": ({"ATHENS_AZURE_ACCOUNT_KEY": _encoded(WRONG)}, "AccountKey"),
        "bucket": ({"ATHENS_AZURE_CONTAINER_NAME": "absent"}, "ContainerName"),
    },
    "external": {
        "credentials": ({"ATHENS_EXTERNAL_STORAGE_URL": f"http://keeper:{WRONG}@HOST:PORT/storage"}, "External.URL"),
        "bucket": ({"ATHENS_EXTERNAL_STORAGE_URL": "http://keeper:opensesame@HOST:PORT/absent"}, "External.URL"),
    },
    "gcp": {
        "credentials": ({"ATHENS_STORAGE_GCP_JSON_KEY": _encoded(json.dumps({"private_key": WRONG}))}, "JSONKey"),
        "bucket": ({"ATHENS_STORAGE_GCP_BUCKET": "absent"}, "Bucket"),
    },
    "minio": {"credentials": ({"ATHENS_MINIO_SECRET_ACCESS_KEY": WRONG}, "Storage.Minio")},  # the bucket is made
    "mongo": {"credentials": ({"ATHENS_MONGO_STORAGE_URL": f"mongodb://me:{WRONG}@HOST:PORT"}, "Mongo.URL")},
    "s3": {
        "credentials": ({"AWS_SECRET_ACCESS_KEY": WRONG}, "Secret"),
        "bucket": ({"ATHENS_S3_BUCKET_NAME": "absent"}, "Storage.S3.Bucket"),
    },
}
CASES = [
    pytest.param(name, trouble, id=f"{name}-{trouble}")
    for name in KINDS
    for trouble in (*TROUBLES[name.partition("-")[0]], "host")
]


@pytest.mark.parametrize(("store", "trouble"), CASES, indirect=["store"])
@pytest_twisted.ensureDeferred
async def test_a_store_that_can_not_be_used_ends_the_start_with_one_line(
    store: Store, trouble: str, make_daemon: MakeDaemon
) -> None:
    env, named = store.settings(free_port()), "Storage."
    if trouble != "host":
        wrong, named = TROUBLES[store.kind][trouble]
        env = store.settings() | {
            name: value.replace("HOST:PORT", f"127.0.0.1:{store.port}") for name, value in wrong.items()
        }
    daemon = make_daemon(env={**env, "ATHENS_LOG_LEVEL": "info"})
    daemon.launch()
    begun = reactor.seconds()
    assert await daemon.ended() == 1
    assert reactor.seconds() - begun < 30
    said = [line for line in daemon.lines if line.startswith(("ERROR", "FATAL", "CRITICAL")) or "Storage." in line]
    assert len(said) == 1, daemon.lines
    assert named in said[0], said
    text = "\n".join(daemon.lines)
    for secret in (WRONG, _encoded(WRONG), "opensesame", "test-secret-key", "Traceback"):
        assert secret not in text, text
    assert "ready" not in text


#: The setting that sends clients to the store for zips.
REDIRECTS = {
    "azureblob": "ATHENS_AZURE_PRESIGNED_REDIRECT",
    "minio": "ATHENS_MINIO_PRESIGNED_REDIRECT",
    "s3": "ATHENS_S3_PRESIGNED_REDIRECT",
}


@pytest.mark.parametrize("store", [name for name in REMOTE if name.partition("-")[0] in REDIRECTS], indirect=True)
@pytest_twisted.ensureDeferred
async def test_go_gets_the_zips_from_the_store_itself(
    store: Store, upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    proxy = FaultProxy(reactor, store.port)
    settings = store.settings(proxy.port) | {REDIRECTS[store.kind]: "true"}
    daemon = await make_daemon(env=through(upstream, **settings)).start()
    client = make_client(daemon.url)
    try:
        await client.build_and_run(client.project("redirected", {"github.com/acme/app": "v1.0.0"}))
        zips = [asked for asked in proxy.requests if asked.method == "GET" and ".zip" in asked.target]
        assert len(zips) == 7
        for asked in zips:
            assert "Go-http-client" in asked.headers["user-agent"]
            assert "authorization" not in asked.headers
            assert re.search(r"[?&](X-Amz-Signature|sig)=", asked.target)
        sent = await daemon.get(f"/{LIB}/@v/v1.0.0.zip")
        assert (sent.status, sent.size) == (302, 0)
        assert not any("X-Amz-" in line or "sig=" in line for line in daemon.lines)
    finally:
        assert await daemon.stop() == 0
        await proxy.stop()
