"""What C{athens-tx copy} says of it, and how it ends."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred

from athens_tx.backends import STORAGES, Backends
from athens_tx.copying import command
from athens_tx.copying.command import Wishes, copy_store
from athens_tx.copying.ends import End, read_ends
from athens_tx.errors import NotFound, StorageUnavailable
from tests.copying.stores import Troubled, fill, versions

reactor: Any = _reactor


class World:
    """Two stores in place of those that the settings say."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.target = Troubled(), Troubled()
        for name, store in (("disk", self.source), ("external", self.target)):
            monkeypatch.setitem(cast(Any, STORAGES), name, partial(self._make, store))
        environ = {"ATHENS_DISK_STORAGE_ROOT": str(tmp_path), "ATHENS_EXTERNAL_STORAGE_URL": "http://store.test"}
        self.ends: tuple[End, End] = read_ends("disk", "external", "", environ)

    @staticmethod
    def _make(store: Troubled, reactor: Any, config: Any, environ: Any) -> Troubled:
        return store

    async def run(self, **wishes: Any) -> int:
        chosen = {"parallel": 3, "verify": False, "dry_run": False, "as_json": False, **wishes}
        return await copy_store(reactor, Backends(reactor, {}), self.ends, Wishes(**chosen))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, monkeypatch)


@pytest_twisted.ensureDeferred
async def test_the_summary_in_text(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(world.source, versions(5))
    await fill(world.target, versions(2))
    world.source.troubles["zip"] = [NotFound("gone", detail="removed by hand")]
    assert await world.run(parallel=1) == 1
    out, err = capsys.readouterr()
    assert err == "example.com/m0@v1.2.0: FROM: gone: removed by hand\n"
    assert out.startswith("2 versions copied, 2 there already, 1 failed; 0.0 MiB in ")
    assert out.endswith(" MiB/s)\n")
    assert await world.run() == 0
    assert capsys.readouterr().out.startswith("1 versions copied, 4 there already, 0 failed; ")


@pytest_twisted.ensureDeferred
async def test_the_summary_of_a_dry_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(world.source, versions(5))
    await fill(world.target, versions(2))
    assert await world.run(dry_run=True) == 0
    assert capsys.readouterr() == ("3 versions to copy, 2 there already, 0 failed\n", "")


@pytest_twisted.ensureDeferred
async def test_the_summary_in_json(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LISTED", 1)
    await fill(world.source, versions(5))
    world.source.troubles["zip"] = [NotFound("gone"), NotFound("gone")]
    assert await world.run(as_json=True, parallel=1) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert (told["from"], told["to"]) == (
        {"name": "disk", "type": "disk"},
        {"name": "external", "type": "external"},
    )
    assert [told[name] for name in ("copied", "there", "failed", "complete", "stopped", "dry_run")] == [
        3, 0, 2, True, "", False,
    ]  # fmt: skip
    assert told["failures"] == [{"module": "example.com/m0", "version": "v1.0.0", "error": "FROM: gone"}]
    assert told["bytes"] > 0
    assert {"seconds", "versions_per_second", "mib_per_second"} <= set(told)


@pytest_twisted.ensureDeferred
async def test_a_copy_that_stops_says_why(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("athens_tx.copying.copier.PAUSES", ())
    await fill(world.source, versions(30))
    world.target.always["save"] = StorageUnavailable("disk is full", detail="look at df")
    assert await world.run() == 1
    out, err = capsys.readouterr()
    *failures, why = err.splitlines()
    assert len(failures) == 20
    assert why == (
        "athens-tx: 20 versions failed one after the other, the last one because of TO: disk is full; "
        "run it again to go on"
    )
    assert out.startswith("0 versions copied, 0 there already, 20 failed; ")
    world.source.always["catalog"] = StorageUnavailable("no answer", detail="look at the bucket")
    assert await world.run() == 1
    assert "FROM: no answer: look at the bucket; run it again" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_who_cancels_it_is_told_what_was_done(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(world.source, versions(3))
    world.target.held["save"] = Deferred
    running = Deferred.fromCoroutine(world.run())
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    out, err = capsys.readouterr()
    assert err == "athens-tx: the copy was cut short; run it again to go on\n"
    assert out.startswith("0 versions copied, ")
