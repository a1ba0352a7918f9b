"""Two daemons over each kind of lock, and what Athens gets wrong there."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.contract.lock_backends import BACKENDS
from tests.support import leases
from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.http import Reply
from tests.support.synthetic import add_version
from tests.support.upstream import Trouble, Upstream

reactor: Any = _reactor

#: Seconds of a lease, where that can be set, and of a slow download.
LEASE, SLOW = 1, 3.0
V1 = "v1.0.0"
ASYNC = """
mode = "sync"
downloadURL = ""
download "example.test/async" {
  mode = "async"
}
"""


class Pair:
    """Two daemons that share a storage and a lock service."""

    def __init__(self, daemons: list[Daemon], upstream: Upstream, backend: Any) -> None:
        self.daemons = daemons
        self.upstream = upstream
        self.backend = backend

    def ask(self, path: str, times: int) -> list[Deferred[Reply]]:
        """Let each of them be asked so many times."""
        return [Deferred.fromCoroutine(daemon.get(path)) for daemon in self.daemons for _ in range(times)]

    def fetched(self, path: str) -> int:
        return self.upstream.asked[f"{path}/@v/{V1}.zip"]

    async def until_fetched(self, path: str, times: int, limit: float = 20.0) -> None:
        """Wait until upstream was asked for it so many times, or time is up."""
        end = reactor.seconds() + limit
        while self.fetched(path) < times and reactor.seconds() < end:
            await deferLater(reactor, 0.02)

    def stored(self) -> Counter[str]:
        """@return: how often the daemons say that they have stored each version."""
        said = [line for daemon in self.daemons for line in daemon.lines if "stashed example.test/" in line]
        return Counter(line.partition("stashed ")[2].partition(" (")[0] for line in said)


@pytest_twisted.async_yield_fixture
async def pair(request: Any, tmp_path: Path, make_daemon: MakeDaemon) -> AsyncIterator[Pair]:
    """Over the kind of locks that the parameter names."""
    backend = BACKENDS[request.param](LEASE)
    upstream = Upstream(reactor, tmp_path / "tree")
    shared = {
        **backend.environ,
        **leases.ENVIRONMENT,
        leases.LEASE: str(LEASE),
        "ATHENS_REDIS_LOCK_TIMEOUT": "1",
        "ATHENS_REDIS_LOCK_MAX_RETRIES": "1",
        "ATHENS_STASH_TIMEOUT": "60",
        "ATHENS_DOWNLOAD_MODE": f"custom:{base64.b64encode(ASYNC.encode()).decode()}",
        "ATHENS_DISK_STORAGE_ROOT": str(tmp_path / "shared"),
    }
    env = through(upstream, **shared)
    daemons = [make_daemon(f"daemon{number}", env=env, command=leases.COMMAND) for number in range(2)]
    await gatherResults([Deferred.fromCoroutine(daemon.start()) for daemon in daemons])
    yield Pair(daemons, upstream, backend)
    for daemon in daemons:
        await daemon.kill()
    await upstream.stop()


def add(pair: Pair, path: str) -> bytes:
    return add_version(pair.upstream.tree, path, V1, {"name.txt": path.encode()})


@pytest.mark.parametrize("pair", sorted(BACKENDS), indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_fetch_that_takes_long_is_one_and_nobody_is_sent_away(pair: Pair) -> None:
    slow, behind = "example.test/slow", "example.test/async"
    for path in (slow, behind):
        add(pair, path)
        pair.upstream.troubles[f"{path}/@v/{V1}.zip"] = Trouble(delay=SLOW)
    waiting = pair.ask(f"/{slow}/@v/{V1}.zip", 10)
    begun = reactor.seconds()
    told = await gatherResults(pair.ask(f"/{behind}/@v/{V1}.info", 2))
    assert {reply.status for reply in told} == {404}, "it is fetched behind the answer"
    assert {reply.status for reply in await gatherResults(waiting)} == {200}
    while (reply := await pair.daemons[1].get(f"/{behind}/@v/{V1}.zip")).status == 404:
        assert reactor.seconds() < begun + SLOW + 10
        await deferLater(reactor, 0.05)
    assert (reply.status, pair.fetched(slow), pair.fetched(behind)) == (200, 1, 1)
    for daemon in pair.daemons:
        assert not [line for line in daemon.lines if "WARN" in line and "lock" in line]
        assert await daemon.stop() == 0


@pytest.mark.parametrize("pair", sorted(BACKENDS), indirect=True)
@pytest_twisted.ensureDeferred
async def test_what_two_fetch_is_whole(pair: Pair) -> None:
    lost, branch = "example.test/lost", "example.test/branch"
    zips = {path: add(pair, path) for path in (lost, branch)}
    pair.upstream.aliases[f"{branch}@main"] = V1
    for path in zips:
        pair.upstream.troubles[f"{path}/@v/{V1}.zip"] = Trouble(hold=True)
    first, second = pair.daemons
    # a branch and the version that it means: two locks
    waiting = [Deferred.fromCoroutine(first.get(f"/{branch}/@v/main.zip"))]
    waiting += [Deferred.fromCoroutine(second.get(f"/{branch}/@v/{V1}.zip"))]
    # a lock that somebody takes away: its holder gets it back, or another one comes in
    waiting += pair.ask(f"/{lost}/@v/{V1}.zip", 2)
    await pair.until_fetched(branch, 2)
    await pair.until_fetched(lost, 1)
    pair.backend.lose(f"{lost}@{V1}")
    await pair.until_fetched(lost, 2, limit=2.5 * LEASE)
    pair.upstream.release()

    replies = await gatherResults(waiting)
    assert {reply.status for reply in replies} == {200}
    assert {reply.body for reply in replies[:2]} == {zips[branch]}
    assert {reply.body for reply in replies[2:]} == {zips[lost]}
    assert pair.fetched(branch) == 2
    assert pair.stored()[f"{branch}@{V1}"] == 1
    assert 1 <= pair.stored()[f"{lost}@{V1}"] <= pair.fetched(lost) <= 2
    assert (await first.cli("verify")).check().stdout.strip() == "2 versions verified, 0 broken"
    for daemon in pair.daemons:
        assert await daemon.stop() == 0
