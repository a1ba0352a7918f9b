"""Daemons that share a storage and a lock service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.support import servers
from tests.support.daemon import MakeDaemon, through
from tests.support.servers_process import HOST
from tests.support.servers_redis import PASSWORD
from tests.support.upstream import Upstream

reactor: Any = _reactor

FILE = "/github.com/acme/lib/@v/v1.0.0.zip"


@pytest_twisted.ensureDeferred
async def test_three_daemons_fetch_a_version_once(upstream: Upstream, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    server = servers.redis()
    shared = {
        "ATHENS_DISK_STORAGE_ROOT": str(tmp_path / "shared"),
        "ATHENS_SINGLE_FLIGHT_TYPE": "redis",
        "ATHENS_REDIS_ENDPOINT": f"{HOST}:{server.port}",
        "ATHENS_REDIS_PASSWORD": PASSWORD,
    }
    daemons = [make_daemon(f"daemon{number}", env=through(upstream, **shared)) for number in range(3)]
    await gatherResults([Deferred.fromCoroutine(daemon.start()) for daemon in daemons])
    asked = [Deferred.fromCoroutine(daemon.get(FILE)) for daemon in daemons for _ in range(10)]
    assert {reply.status for reply in await gatherResults(asked)} == {200}
    assert upstream.total("v1.0.0.zip") == 1
    text = "".join([(await daemon.get("/metrics")).body.decode() for daemon in daemons])
    assert 'athens_lock_waits_total{lock="redis",result="held"}' in text
    assert "athens_locks_held 0.0" in text
    for daemon in daemons:
        assert await daemon.stop() == 0
    assert not server.ask("EXISTS", "github.com/acme/lib@v1.0.0")


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_readiness_and_work_without_the_lock_service(
    upstream: Upstream, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    server = servers.own("redis", tmp_path / "redis")
    try:
        env = {
            "ATHENS_SINGLE_FLIGHT_TYPE": "redis",
            "ATHENS_REDIS_ENDPOINT": f"{HOST}:{server.port}",
            "ATHENS_REDIS_PASSWORD": PASSWORD,
        }
        daemon = await make_daemon(env=through(upstream, **env)).start()
        assert (await daemon.get("/readyz")).status == 200
        server.kill()
        assert (await daemon.get(FILE)).status == 200
        reply = await daemon.get("/readyz")
        assert (reply.status, reply.body.startswith(b"lock: degraded: redis lock: ")) == (200, True)
        assert 'athens_degraded{part="lock"} 1.0' in (await daemon.get("/metrics")).body.decode()
        server.start()
        while (await daemon.get("/readyz")).body:
            await deferLater(reactor, 0.1)
        assert 'athens_degraded{part="lock"} 0.0' in (await daemon.get("/metrics")).body.decode()
        assert daemon.has_logged("no lock for github.com/acme/lib@v1.0.0, going on without")
        assert await daemon.stop() == 0
    finally:
        server.stop()
