"""The daemon is killed in the middle of saves: each version that is stored has one line once it runs again."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.contract.index_backends import BACKENDS
from tests.e2e.test_index import settings
from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.repositories import noise
from tests.support.synthetic import add_version
from tests.support.upstream import Upstream

reactor: Any = _reactor
KILLS = int(os.environ.get("ATHENS_TX_KILLS", "5"))
AT_ONCE = 30
#: Seconds after which what a process left behind must be in the index.
LIMIT = 40.0


async def stored(daemon: Daemon) -> list[str]:
    catalog = json.loads((await daemon.get("/catalog?pagesize=100000")).body)["modules"]
    return sorted(entry["module"] for entry in catalog)


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest_twisted.ensureDeferred
async def test_kill_9_during_saves_costs_no_line(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    tree = tmp_path / "tree"
    paths = [f"example.test/m{number}" for number in range(KILLS * AT_ONCE)]
    for number, path in enumerate(paths):
        add_version(tree, path, "v1.0.0", noise(0.02, number))
    upstream = Upstream(reactor, tree)
    backend = BACKENDS["postgres"](reactor, tmp_path)
    moments = random.Random(os.environ.get("ATHENS_TX_KILL_SEED"))
    saved = found = forgotten = 0
    try:
        where = settings("postgres", backend.server.port, backend.database.name)
        workers = {"ATHENS_GOGET_WORKERS": "30", "ATHENS_PROTOCOL_WORKERS": "30"}
        daemon = make_daemon(env=through(upstream, ATHENS_GOGET_DIR=str(tmp_path / "goget"), **where, **workers))
        await daemon.start()
        for round_number in range(KILLS):
            asked = upstream.when_asked(".zip")
            requests = [
                Deferred.fromCoroutine(daemon.get(f"/{path}/@v/v1.0.0.zip", keep=False))
                for path in paths[round_number * AT_ONCE : (round_number + 1) * AT_ONCE]
            ]
            await asked
            await deferLater(reactor, moments.uniform(0.0, 0.5))
            daemon.signal(signal.SIGKILL)
            await daemon.kill()
            await DeferredList(requests, consumeErrors=True)
            before = {path for path, _, _ in backend.database.rows()}

            await daemon.start()
            there = await stored(daemon)
            end = reactor.seconds() + LIMIT
            while (lines := sorted(path for path, _, _ in backend.database.rows())) != there:
                assert reactor.seconds() < end, sorted(set(there) ^ set(lines))
                await deferLater(reactor, 0.05)
            found += len(set(there) - before)
            forgotten += sum("without a line in the index" in line for line in daemon.lines)
            saved = len(there)
        print(f"{KILLS} kills: {saved} of {len(paths)} versions were stored")
        print(f"{found} were not in the index when the process died, {forgotten} of them not in the journal either")
        assert await daemon.stop() == 0
    finally:
        await upstream.stop()
        backend.database.drop()
