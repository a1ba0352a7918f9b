"""The order in which C{athens-tx verify} reports, and how much of a store it holds."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from athens_tx import commands
from athens_tx.module.version import ModuleVersion
from athens_tx.verify import verify_versions
from tests.copying.stores import Troubled, fill, versions


def assembly(storage: Any, incomplete: Any = None) -> Any:
    config = SimpleNamespace(go_get_dir="")
    return SimpleNamespace(reactor=reactor, storage=storage, config=config, checksums=None, incomplete=incomplete)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [f"{line['module']}@{line['version']}" for line in map(json.loads, capsys.readouterr().out.splitlines())]


@pytest_twisted.ensureDeferred
async def test_it_reports_in_the_order_of_the_walk_whichever_ends_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PAGE", 3)
    first: Deferred[None] = Deferred()

    class SlowFirst(Troubled):
        async def info(self, mv: ModuleVersion) -> bytes:
            if mv == wanted[0]:
                await first
            elif mv == wanted[-1]:
                assert told(capsys) == []  # all wait for the first
                first.callback(None)
            return await super().info(mv)

    wanted = versions(10)
    storage = SlowFirst()
    await fill(storage, wanted)
    assert await verify_versions(assembly(storage), versions=[], checksums=False, as_json=True) == 0
    assert told(capsys) == [str(mv) for mv in wanted]
    assert storage.calls.count("catalog") == 4


@pytest_twisted.ensureDeferred
async def test_it_reports_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    class Counting(Troubled):
        async def info(self, mv: ModuleVersion) -> bytes:
            seen.append(len(told(capsys)))
            return await super().info(mv)

    storage = Counting()
    await fill(storage, versions(40))
    await verify_versions(assembly(storage), versions=[], checksums=False, as_json=True)
    assert sum(seen[:20]) > 5  # lines that were there before half of it was looked at


@pytest_twisted.ensureDeferred
async def test_versions_that_are_named_come_sorted_and_what_is_incomplete_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = Troubled()
    await fill(storage, versions(6))
    named = [*reversed(versions(3)), versions(1)[0]]
    assert await verify_versions(assembly(storage), versions=named, checksums=False, as_json=True) == 0
    assert told(capsys) == [str(mv) for mv in [versions(1)[0], *versions(3)]]
    torn = ModuleVersion("example.com/a", "v0.0.1")

    class Incomplete:
        async def incomplete(self) -> list[ModuleVersion]:
            return [torn]

    assert await verify_versions(assembly(storage, Incomplete()), versions=[], checksums=False, as_json=False) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "7 versions verified, 1 broken\n",
        "example.com/a@v0.0.1: incomplete: one of its files is missing or empty\n",
    )
