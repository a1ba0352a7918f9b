"""The daemon with its index in a real database: fetches, an outage, a kill, a restart, and a rebuild."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from tests.contract.index_backends import BACKENDS
from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.faults import FaultProxy
from tests.support.servers_process import HOST
from tests.support.servers_sql import PASSWORD, USER
from tests.support.upstream import Upstream

reactor: Any = _reactor
LIB = "github.com/acme/lib"


def settings(kind: str, port: int, database: str) -> dict[str, str]:
    where = {"HOST": HOST, "PORT": str(port), "USER": USER, "PASSWORD": PASSWORD, "DATABASE": database}
    return {"ATHENS_INDEX_TYPE": kind} | {f"ATHENS_INDEX_{kind.upper()}_{name}": value for name, value in where.items()}


async def index(daemon: Daemon, query: str = "") -> list[str]:
    reply = await daemon.get(f"/index{query}")
    assert reply.status == 200, reply.text
    lines = [json.loads(line) for line in reply.text.splitlines()]
    return [f"{line['Path']}@{line['Version']}" for line in lines]


async def lag(daemon: Daemon) -> float:
    found = re.search(r"^athens_index_lag_lines (\S+)$", (await daemon.get("/metrics")).text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
@pytest_twisted.ensureDeferred
async def test_an_outage_costs_no_fetch_and_no_line(
    kind: str, make_daemon: MakeDaemon, upstream: Upstream, tmp_path: Any
) -> None:
    backend = BACKENDS[kind](reactor, tmp_path)
    proxy = FaultProxy(reactor, backend.server.port, http=False)
    try:
        env = through(
            upstream, ATHENS_GOGET_DIR=str(tmp_path / "goget"), **settings(kind, proxy.port, backend.database.name)
        )
        daemon = await make_daemon(env=env).start()
        assert (await daemon.get(f"/{LIB}/@v/v1.0.0.zip")).status == 200
        assert await index(daemon) == [f"{LIB}@v1.0.0"]

        proxy.refuse()
        proxy.cut()
        assert (await daemon.get(f"/{LIB}/@v/v0.9.0.zip")).status == 200
        assert (await daemon.get("/index")).status == 503
        ready = await daemon.get("/readyz")
        assert (ready.status, ready.body.startswith(b"index: degraded: lines wait for it: ")) == (200, True)
        assert 'athens_degraded{part="index"} 1.0' in (await daemon.get("/metrics")).body.decode()
        assert await lag(daemon) == 1

        await daemon.kill()  # with its line in the journal
        proxy.accept()
        await daemon.start()
        while await lag(daemon):
            await deferLater(reactor, 0.05)
        assert await index(daemon) == [f"{LIB}@v1.0.0", f"{LIB}@v0.9.0"]

        backend.database.execute("DELETE FROM indexes WHERE version = 'v1.0.0'")
        done = await daemon.cli("index", "rebuild", "--json")
        assert done.status == 0, done
        said = json.loads(done.stdout)
        assert (said["complete"], said["added"], said["there"]) == (True, 1, 1)
        assert await index(daemon) == [f"{LIB}@v0.9.0", f"{LIB}@v1.0.0"]
        assert await daemon.stop() == 0
        assert PASSWORD not in "\n".join(daemon.lines)
    finally:
        await proxy.stop()
        backend.database.drop()


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
@pytest_twisted.ensureDeferred
async def test_a_start_without_its_database_says_what_to_look_at(
    kind: str, make_daemon: MakeDaemon, upstream: Upstream, tmp_path: Any
) -> None:
    backend = BACKENDS[kind](reactor, tmp_path)
    daemon = make_daemon(env=through(upstream, **settings(kind, backend.server.port, "absent")))
    daemon.launch()
    assert await daemon.ended() == 1
    name = {"mysql": "MySQL", "postgres": "Postgres"}[kind]
    assert daemon.has_logged(f"Index.{name}.Database: there is no such database")
    backend.database.drop()
