"""What every ILocks keeps over its real server, and what the single flight of a fleet makes of it."""

from __future__ import annotations

import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from athens_tx.errors import LockLost, NotFound
from athens_tx.interfaces import ILock, ILocks
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.locked import LockedSingleFlight
from tests.contract.lock_backends import BACKENDS, LockBackend, locks
from tests.support.processes import kill_group

reactor: Any = _reactor

#: Seconds of a lease in these tests.
LEASE = 2


class Daemon:
    """One daemon of a fleet: its single flight, on a connection of its own."""

    def __init__(self, fleet: Fleet, backend: LockBackend) -> None:
        self.fleet = fleet
        self.waits: Counter[str] = Counter()
        self.lost = 0
        self.flight = LockedSingleFlight(
            reactor,
            locks(reactor, backend.environ),
            exists=fleet.exists,
            limit=60.0,
            waited=lambda turn, seconds: self.waits.update([turn]),
            lost=self._lost,
        )
        self.flight.startService()

    def _lost(self) -> None:
        self.lost += 1

    def run(self, mv: ModuleVersion, work: Any) -> Deferred[ModuleVersion]:
        return self.flight.run(mv, work)


class Fleet:
    """Some daemons, and the storage that they share."""

    def __init__(self, backend: LockBackend) -> None:
        self.backend = backend
        self.daemons: list[Daemon] = []
        self.stored: set[ModuleVersion] = set()
        self.fetching: set[ModuleVersion] = set()
        self.fetches: Counter[ModuleVersion] = Counter()
        self.overlaps = 0

    async def exists(self, mv: ModuleVersion) -> bool:
        return mv in self.stored

    async def daemon(self) -> Daemon:
        found = Daemon(self, self.backend)
        self.daemons.append(found)
        await found.flight.ready
        return found

    async def fetch(self, mv: ModuleVersion, seconds: float, *, fails: bool = False) -> ModuleVersion:
        """As the work of a stash: look, fetch, save."""
        if mv in self.stored:
            return mv
        self.overlaps += mv in self.fetching
        self.fetching.add(mv)
        self.fetches[mv] += 1
        await deferLater(reactor, seconds)
        self.fetching.discard(mv)
        if fails:
            raise NotFound("not now")
        self.stored.add(mv)
        return mv

    async def close(self) -> None:
        for daemon in self.daemons:
            await daemon.flight.stopService()


@pytest.fixture(params=sorted(BACKENDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backend(kind: str) -> LockBackend:
    return BACKENDS[kind](LEASE)


@pytest.fixture
def own(kind: str, tmp_path: Path) -> Iterator[LockBackend]:
    """With a server of the test's own."""
    made = BACKENDS[kind](LEASE, tmp_path / "server")
    yield made
    made.close()


@pytest_twisted.async_yield_fixture
async def fleet(backend: LockBackend) -> AsyncIterator[Fleet]:
    made = Fleet(backend)
    yield made
    await made.close()


def version(number: int = 0) -> ModuleVersion:
    return ModuleVersion(f"example.com/lock-{os.urandom(6).hex()}", f"v1.{number}.0")


def work(fleet: Fleet, mv: ModuleVersion, seconds: float = 0.0, *, fails: bool = False) -> Any:
    return lambda: fleet.fetch(mv, seconds, fails=fails)


class Held:
    """Work that ends when it is told to."""

    def __init__(self, fleet: Fleet, mv: ModuleVersion) -> None:
        self._fleet, self._mv = fleet, mv
        self.begun: Deferred[None] = Deferred()
        self._end: Deferred[None] = Deferred()

    async def __call__(self) -> ModuleVersion:
        self._fleet.fetches[self._mv] += 1
        self.begun.callback(None)
        await self._end
        self._fleet.stored.add(self._mv)
        return self._mv

    def end(self) -> None:
        self._end.callback(None)


def soon(awaitable: Any, seconds: float = 20.0) -> Deferred[Any]:
    """@return: the same, but it fails when it takes long."""

    async def waits() -> Any:
        return await awaitable

    return Deferred.fromCoroutine(waits()).addTimeout(seconds, reactor)


def warnings(logged: list[dict[str, Any]]) -> list[str]:
    return [event["log_format"] for event in logged if event["log_level"].name == "warn"]


@pytest_twisted.ensureDeferred
async def test_keeps_to_the_interface(fleet: Fleet) -> None:
    await fleet.daemon()
    made = fleet.daemons[0].flight._locks
    assert verifyObject(ILocks, made)
    lock = made.lock(str(version()))
    assert verifyObject(ILock, lock)
    assert lock.lease <= 60
    await lock.release()  # harmless at any moment
    await made.check()


@pytest_twisted.ensureDeferred
async def test_a_lock_is_one_daemons_at_a_time(fleet: Fleet) -> None:
    mine, yours = [(await fleet.daemon()).flight._locks.lock(str(mv)) for mv in [version()] * 2]
    assert await mine.take()
    assert await mine.take(), "whose answer was lost asks again"
    assert not await yours.take()
    assert await mine.renew()
    await yours.release()
    assert not await yours.take(), "who only waited released nothing"
    await mine.release()
    assert await yours.take()
    assert not await mine.renew()
    await yours.release()
    await mine.release()


@pytest_twisted.ensureDeferred
async def test_three_daemons_and_fifty_versions_at_random(fleet: Fleet) -> None:
    dice = random.Random(5)
    daemons = [await fleet.daemon() for _ in range(3)]
    versions = [version(number) for number in range(50)]
    results: list[Deferred[Any]] = []

    async def ask(daemon: Daemon, mv: ModuleVersion) -> bool:
        await deferLater(reactor, dice.uniform(0, 0.5))
        try:
            return await daemon.run(mv, work(fleet, mv, dice.uniform(0, 0.02), fails=dice.random() < 0.2)) == mv
        except NotFound:
            return False

    for daemon in daemons:
        for mv in dice.sample(versions, len(versions)):
            results += [Deferred.fromCoroutine(ask(daemon, mv)) for _ in range(dice.randint(1, 3))]
    answers = await soon(gatherResults(results), 60)
    assert fleet.overlaps == 0
    assert len(fleet.stored) >= 45
    assert len(answers) - sum(answers) < len(answers) / 3, "a failure of one is not that of all"
    assert sum(daemon.waits["unlocked"] + daemon.lost for daemon in daemons) == 0
    assert not any(daemon.flight.held or daemon.flight.waiting for daemon in daemons)


@pytest_twisted.ensureDeferred
async def test_the_others_find_it_stored_at_once(fleet: Fleet, record_property: Any) -> None:
    first, second = await fleet.daemon(), await fleet.daemon()
    extra: list[float] = []
    for number in range(30):
        mv = version(number)
        held = Held(fleet, mv)
        result = first.run(mv, held)
        await soon(held.begun)
        waiting = second.run(mv, work(fleet, mv))
        await deferLater(reactor, 0.03)
        done = reactor.seconds()
        held.end()
        await soon(gatherResults([result, waiting]))
        extra.append(reactor.seconds() - done)
    median = statistics.median(extra)
    record_property("extra_wait_ms", median * 1000)
    print(f"extra wait after a release: median {median * 1000:.2f} ms, longest {max(extra) * 1000:.2f} ms")
    assert set(fleet.fetches.values()) == {1}
    if fleet.backend.tells:
        assert median < 0.05


@pytest_twisted.ensureDeferred
async def test_a_holder_that_lives_outlives_its_lease(fleet: Fleet) -> None:
    first, second = await fleet.daemon(), await fleet.daemon()
    mv = version()
    result = first.run(mv, work(fleet, mv, 3.2 * LEASE))
    waiting = second.run(mv, work(fleet, mv))
    await soon(gatherResults([result, waiting]))
    assert fleet.fetches[mv] == 1
    assert first.lost == 0


class Child(ProcessProtocol):
    """Tells of its first words, and of its end."""

    def __init__(self) -> None:
        self.said: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.errors = b""

    def outReceived(self, data: bytes) -> None:
        if not self.said.called:
            self.said.callback(data)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Any) -> None:
        if not self.said.called:
            self.said.callback(self.errors)
        self.gone.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_holder_that_is_killed_leaves_it_to_somebody_else(fleet: Fleet) -> None:
    mv = version()
    child = Child()
    env = {**os.environ, **fleet.backend.environ}
    argv = ["setsid", sys.executable, "-m", "tests.contract.lock_holder", str(mv)]
    pid = reactor.spawnProcess(child, argv[0], argv, env, path=str(Path(__file__).parents[2])).pid
    try:
        assert (await soon(child.said, 30)).strip() == b"held", child.errors
        waiting = (await fleet.daemon()).run(mv, work(fleet, mv))
        await deferLater(reactor, 1.2 * LEASE)
        assert not fleet.fetches, "it lives"
    finally:
        kill_group(pid)
    await child.gone
    killed = reactor.seconds()
    assert await soon(waiting, 30) == mv
    took = reactor.seconds() - killed
    print(f"after the holder's death: {took:.2f} s, with a lease of {LEASE} s")
    assert fleet.fetches[mv] == 1
    assert took < max(LEASE, fleet.daemons[0].flight._locks.lock("a@b").lease) + 2


@pytest_twisted.ensureDeferred
async def test_a_version_that_appears_is_answered_while_somebody_holds_the_lock(fleet: Fleet) -> None:
    mv = version()
    token = fleet.backend.take(str(mv))
    waiting = (await fleet.daemon()).run(mv, work(fleet, mv))
    await deferLater(reactor, 0.1)
    fleet.stored.add(mv)
    assert await soon(waiting, 3) == mv
    assert not fleet.fetches
    assert fleet.backend.release(str(mv), token)


@pytest_twisted.ensureDeferred
async def test_athens_is_waited_for(fleet: Fleet) -> None:
    mv = version()
    daemon = await fleet.daemon()
    token = fleet.backend.take(str(mv))
    assert token is not None
    waiting = daemon.run(mv, work(fleet, mv))
    await deferLater(reactor, 1.5)
    assert not fleet.fetches
    assert fleet.backend.release(str(mv), token)
    assert await soon(waiting, 3) == mv
    assert fleet.fetches[mv] == 1


@pytest_twisted.ensureDeferred
async def test_athens_waits_for_us(fleet: Fleet) -> None:
    mv = version()
    held = Held(fleet, mv)
    result = (await fleet.daemon()).run(mv, held)
    await soon(held.begun)
    assert fleet.backend.take(str(mv)) is None
    await deferLater(reactor, 1.2 * LEASE)
    assert fleet.backend.take(str(mv)) is None
    held.end()
    await soon(result)
    await fleet.close()
    token = fleet.backend.take(str(mv))
    assert token is not None
    assert fleet.backend.release(str(mv), token)


@pytest_twisted.ensureDeferred
async def test_a_lock_that_is_lost_at_its_release_is_a_warning(fleet: Fleet, logged: list[dict[str, Any]]) -> None:
    mv = version()
    held = Held(fleet, mv)
    daemon = await fleet.daemon()
    result = daemon.run(mv, held)
    await soon(held.begun)
    fleet.backend.lose(str(mv))
    held.end()
    assert await soon(result) == mv
    await fleet.close()
    assert daemon.lost == 1
    assert [text for text in warnings(logged) if "was lost before its work was done" in text]


@pytest_twisted.ensureDeferred
async def test_a_lock_that_somebody_else_took_is_not_released(fleet: Fleet) -> None:
    mv = version()
    lock = (await fleet.daemon()).flight._locks.lock(str(mv))
    assert await lock.take()
    fleet.backend.lose(str(mv))
    token = fleet.backend.take(str(mv))
    assert token is not None
    assert not await lock.renew()
    with pytest.raises(LockLost):
        await lock.release()
    assert fleet.backend.release(str(mv), token), "it is still the other's"


@pytest_twisted.ensureDeferred
async def test_the_server_goes_away_and_comes_back(own: LockBackend, logged: list[dict[str, Any]]) -> None:
    fleet = Fleet(own)
    try:
        first, second = await fleet.daemon(), await fleet.daemon()
        mv = version()
        held = Held(fleet, mv)
        result = first.run(mv, held)
        await soon(held.begun)
        waiting = second.run(mv, work(fleet, mv))
        await deferLater(reactor, 0.1)
        own.away(str(mv))
        await deferLater(reactor, 1.0)
        own.back()
        gone = reactor.seconds()
        while own_check := await problem(second):
            assert reactor.seconds() - gone < 14, own_check
            await deferLater(reactor, 0.05)
        print(f"it works again after {reactor.seconds() - gone:.1f} s")
        await deferLater(reactor, 1.5 * LEASE)
        assert fleet.fetches[mv] == 1, "the holder has said that it holds it"
        held.end()
        assert await soon(gatherResults([result, waiting])) == [mv, mv]
        other = version()
        assert await soon(second.run(other, work(fleet, other))) == other
        assert [daemon.waits["unlocked"] for daemon in fleet.daemons] == [0, 0]
    finally:
        await fleet.close()


async def problem(daemon: Daemon) -> str:
    try:
        await daemon.flight.check()
    except Exception as error:
        return str(error)
    return ""
