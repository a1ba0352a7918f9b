"""The daemon is killed in the middle of saves: nothing half is ever visible, and what is stored verifies."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.repositories import noise
from tests.support.synthetic import add_version
from tests.support.upstream import Upstream

KILLS = int(os.environ.get("ATHENS_TX_KILLS", "5"))
AT_ONCE = 12


async def check(daemon: Daemon, zips: dict[str, bytes], seen: set[str]) -> None:
    """Each version that shows in the catalog is whole; C{seen} are those that were looked at before."""
    import json

    catalog = json.loads((await daemon.get("/catalog?pagesize=100000")).body)["modules"]
    for entry in catalog:
        path, version = entry["module"], entry["version"]
        if path in seen:
            continue
        for kind in ("info", "mod", "zip"):
            reply = await daemon.get(f"/{path}/@v/{version}.{kind}", headers={"Disable-Module-Fetch": "true"})
            assert (reply.status, reply.whole) == (200, True), (path, kind, reply.text[:200])
        assert reply.body == zips[path]
        seen.add(path)
    listed = [path for path in zips if (daemon.storage / path).is_dir() and path not in seen]
    for path in listed:
        reply = await daemon.get(f"/{path}/@v/v1.0.0.info", headers={"Disable-Module-Fetch": "true"})
        assert reply.status == 404, path


def half_versions(storage: Path) -> list[str]:
    """@return: the version folders that have less than three files, or more."""
    whole = {"go.mod", "source.zip"}
    folders = [folder for folder in storage.glob("example.test/*/*") if folder.is_dir()]
    assert folders
    return [
        str(folder) for folder in folders if {file.name for file in folder.iterdir()} != {*whole, f"{folder.name}.info"}
    ]


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest_twisted.ensureDeferred
async def test_kill_9_during_saves(tmp_path: Path, make_daemon: MakeDaemon) -> None:
    tree = tmp_path / "tree"
    zips = {
        f"example.test/m{number}": add_version(tree, f"example.test/m{number}", "v1.0.0", noise(0.25, number))
        for number in range(KILLS * AT_ONCE)
    }
    upstream = Upstream(reactor, tree)
    seen: set[str] = set()
    moments = random.Random(os.environ.get("ATHENS_TX_KILL_SEED"))
    try:
        daemon = make_daemon(env=through(upstream))
        for round_number in range(KILLS):
            await daemon.start()
            await check(daemon, zips, seen)
            paths = list(zips)[round_number * AT_ONCE : (round_number + 1) * AT_ONCE]
            asked = upstream.when_asked(".info")
            requests = [Deferred.fromCoroutine(daemon.get(f"/{path}/@v/v1.0.0.zip", keep=False)) for path in paths]
            await asked
            await deferLater(reactor, moments.uniform(0.0, 0.4))
            daemon.signal(signal.SIGKILL)
            await daemon.kill()
            await DeferredList(requests, consumeErrors=True)
        await daemon.start()
        await check(daemon, zips, seen)
        print(f"{KILLS} kills, {len(seen)} of {len(zips)} versions had been saved")
        assert not half_versions(daemon.storage)
        for path in zips:
            assert (await daemon.get(f"/{path}/@v/v1.0.0.zip", keep=False)).status == 200
        verified = await daemon.cli("verify")
        assert verified.status == 0, verified
    finally:
        await upstream.stop()
