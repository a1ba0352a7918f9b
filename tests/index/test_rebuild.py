"""C{athens-tx index rebuild}: what is stored and not in the index is added, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from athens_tx.config import Config
from athens_tx.errors import ConfigError, IndexUnavailable, NotSupported, StorageUnavailable
from athens_tx.index import rebuild as module
from athens_tx.index.memory import MemoryIndex
from athens_tx.index.rebuild import rebuild_index, why_not_rebuild
from athens_tx.interfaces import Filled, IFillable
from athens_tx.module.version import ModuleVersion as MV

reactor: Any = _reactor
MANY = [MV("example.com/a", f"v1.{number}.0") for number in range(2500)]


@implementer(IFillable)
class Fillable:
    def __init__(self) -> None:
        self.known: dict[MV, None] = {}
        self.failures: list[Exception] = []

    async def fill(self, versions: Sequence[MV]) -> Filled:
        if self.failures:
            raise self.failures.pop(0)
        odd = [mv for mv in versions if len(mv.path) > 255]
        new = [mv for mv in versions if mv not in self.known and mv not in odd]
        self.known |= dict.fromkeys(new)
        return Filled(len(new), len(versions) - len(new) - len(odd), odd)


class World:
    def __init__(self) -> None:
        self.index, self.reactor, self.stored, self.storage = Fillable(), reactor, list(MANY), self
        self.failures: list[Exception] = []
        self.waits: Deferred[None] | None = None

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[MV], str]:
        if self.failures:
            raise self.failures.pop(0)
        if self.waits is not None:
            await self.waits
        start = int(token or 0)
        page = self.stored[start : start + limit]
        return page, str(start + limit) if start + limit < len(self.stored) else ""

    async def run(self, as_json: bool = False) -> int:
        assembly: Any = self
        return await rebuild_index(assembly, as_json)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    return World()


@pytest_twisted.ensureDeferred
async def test_what_is_missing_is_added_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.index.known = dict.fromkeys(MANY[100:300])
    assert await world.run() == 0
    assert capsys.readouterr().out.startswith("2300 versions added, 200 there already, 0 refused; ")
    assert list(world.index.known) == [*MANY[100:300], *MANY[:100], *MANY[300:]]
    assert await world.run(as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["complete"], said["added"], said["there"], said["failures"]) == (True, 0, 2500, [])


@pytest_twisted.ensureDeferred
async def test_what_can_not_be_held_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    long = MV("example.com/" + "x" * 120 + "/" + "x" * 123, "v1.0.0")
    world.stored.insert(7, long)
    assert await world.run() == 1
    captured = capsys.readouterr()
    assert captured.err == f"{long}: the index can't hold it\n"
    assert captured.out.startswith("2500 versions added, 0 there already, 1 refused; ")
    assert await world.run(as_json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert [failure["module"] for failure in said["failures"]] == [long.path]
    assert (said["complete"], said["refused"]) == (True, 1)


@pytest_twisted.ensureDeferred
async def test_what_is_no_version_gets_no_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    odd = [MV("example.com/a", "notaversion"), MV("../a\n\x1b[2J", "v1.0.0"), MV("example.com/\ud800", "v1.0.0")]
    world.stored = [*odd, *MANY[:3]]
    assert await world.run() == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[:2] == [
        "example.com/a@notaversion: is no version of a module: passed over",
        "../a\\n\\x1b[2J@v1.0.0: is no version of a module: passed over",
    ]
    assert list(world.index.known) == MANY[:3]
    assert await world.run(as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["passed_over"], said["there"], said["failures"]) == (3, 3, [])


@pytest_twisted.ensureDeferred
async def test_a_catalog_that_goes_in_circles_ends(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async def circle(token: str, limit: int) -> tuple[Sequence[MV], str]:
        return MANY[:10], "again"

    world.catalog = circle  # type: ignore[method-assign]
    assert await world.run() == 1
    assert "round in circles" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_passing_trouble_is_waited_for(world: World) -> None:
    world.failures = [StorageUnavailable("s3: 503")] * 2
    world.index.failures = [IndexUnavailable("mysql: away")]
    assert await world.run() == 0


@pytest.mark.parametrize(
    "error", [StorageUnavailable("s3: 503", detail="see Endpoint"), NotSupported("an external storage has no catalog")]
)
@pytest_twisted.ensureDeferred
async def test_lasting_trouble_ends_it_and_the_next_goes_on(
    world: World, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    world.failures = [error] * 3
    assert await world.run() == 1
    captured = capsys.readouterr()
    assert str(error) in captured.err
    assert "run it again" in captured.err
    world.failures = []
    assert await world.run() == 0


@pytest_twisted.ensureDeferred
async def test_an_interrupt_leaves_a_summary(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.waits = Deferred()
    running = Deferred.fromCoroutine(world.run(as_json=True))
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    said = json.loads(capsys.readouterr().out)
    assert (said["complete"], said["stopped"]) == (False, "it was cut short")


@pytest_twisted.ensureDeferred
async def test_an_index_of_another_kind_is_refused() -> None:
    assembly: Any = SimpleNamespace(index=MemoryIndex(), storage=None, reactor=reactor)
    with pytest.raises(ConfigError, match="can't be rebuilt"):
        await rebuild_index(assembly, False)


def test_settings_with_which_it_makes_no_sense() -> None:
    assert len(why_not_rebuild(Config())) == 2
    assert why_not_rebuild(Config(index_type="mysql", storage_type="disk")) == []
    assert "IndexType is memory" in why_not_rebuild(Config(index_type="memory", storage_type="disk"))[0]
