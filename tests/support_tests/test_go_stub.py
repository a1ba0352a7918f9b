"""The stand-in writes down its calls and does as it is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.go_stub import GoStub
from tests.support.processes import Finished, run


async def call(stub: GoStub, *args: str, limit: float = 20.0) -> Finished:
    home = stub.folder / "home"
    home.mkdir(exist_ok=True)
    return await run(
        reactor, [str(stub.path), *args], {"PATH": os.environ["PATH"], "HOME": str(home), "MARK": "1"}, limit=limit
    )


@pytest_twisted.ensureDeferred
async def test_it_runs_the_real_go_and_writes_down_how(tmp_path: Path) -> None:
    stub = GoStub(tmp_path)
    assert "go version go1." in (await call(stub, "-C", str(tmp_path), "version")).check().stdout
    (made,) = stub.calls("version")
    assert made.argv == ["-C", str(tmp_path), "version"]
    assert made.env["MARK"] == "1"


@pytest_twisted.ensureDeferred
async def test_its_troubles(tmp_path: Path) -> None:
    stub = GoStub(tmp_path)
    stub.old()
    assert (await call(stub, "version")).stdout == "go version go1.16.15 linux/amd64\n"
    stub.order("mod download", "flood", size=1_000_000, status=3)
    flooded = await call(stub, "mod", "download", "-json")
    assert (flooded.status, len(flooded.stdout)) == (3, 1_000_000)
    stub.order("mod download", "fail", stderr="oh no\n", has="bad.example")
    failed = await call(stub, "mod", "download", "bad.example/x@v1.0.0")
    assert (failed.status, failed.stderr) == (1, "oh no\n")
    stub.order("mod download", "killed")
    assert (await call(stub, "mod", "download")).status == -9
    stub.order("mod download", "hang")
    assert (await call(stub, "mod", "download", limit=0.5)).status == -9
    stub.clear()
    assert "go1." in (await call(stub, "env", "GOVERSION")).check().stdout


@pytest_twisted.ensureDeferred
async def test_it_holds_until_released(tmp_path: Path) -> None:
    stub = GoStub(tmp_path)
    stub.order("version", "hold")
    waiting = Deferred.fromCoroutine(call(stub, "version"))
    await call(stub, "env", "GOVERSION")
    assert not waiting.called
    stub.release()
    assert (await waiting).status == 0
