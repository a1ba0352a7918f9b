"""
Saves in remote stores that are interrupted at random: the connections cut, or the process killed.

C{ATHENS_TX_KILLS} says how many for each store, half of them in each way; a few are under way at the same time.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from athens_tx.errors import AthensError, NotFound
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from tests.contract.zips import whole
from tests.storage.interrupted import BATCH, PATH, content, versions
from tests.support.faults import FaultProxy
from tests.support.opening import Opened
from tests.support.processes import kill_group, spawn
from tests.support.stores import REMOTE, Store

reactor: Any = _reactor
EACH_WAY = (int(os.environ.get("ATHENS_TX_KILLS", "10")) + 1) // 2
TOP = Path(__file__).parents[2]
Salted = tuple[ModuleVersion, int]


class Interrupted:
    """
    A store, what was tried to be saved there, and what became of it.

    @ivar tried: versions with the salt of their first save.
    @ivar seen: how many saves were C{done}, and of those that were interrupted how many versions were C{whole} or
        C{absent}.
    """

    def __init__(self, store: Store, opened: Opened) -> None:
        self.store = store
        self.storage = opened.storage
        self.tried: dict[ModuleVersion, int] = {}
        self.seen: Counter[str] = Counter()

    @property
    def interrupted(self) -> int:
        """How many saves were."""
        return self.seen["whole"] + self.seen["absent"]

    async def look(self, tried: list[Salted], done: set[ModuleVersion]) -> None:
        """Each version is whole, or nobody sees any of it; then all are saved again."""
        self.tried.update(tried)
        catalog = await everything(self.storage)
        listed = {ModuleVersion(PATH, version) for version in await self.storage.list(PATH)}
        for mv, salt in tried:
            shown = {mv in catalog, mv in listed}
            there = await self._is_whole(mv, salt)
            if shown != {there}:  # what the store had got may have taken effect since it was listed; never the reverse
                assert there, (mv, shown)
                assert mv.version in await self.storage.list(PATH)
            assert there or mv not in done
            self.seen["done" if mv in done else "whole" if there else "absent"] += 1
        again = [Deferred.fromCoroutine(save(self.storage, mv, salt)) for mv, salt in tried]
        for ok, result in await DeferredList(again, consumeErrors=True):
            assert ok, result
        for mv, salt in tried:
            assert await self._is_whole(mv, salt)

    async def _is_whole(self, mv: ModuleVersion, salt: int) -> bool:
        """@return: whether it is there; if it is, then byte for byte."""
        if not await self.storage.exists(mv):
            with pytest.raises(NotFound):
                await self.storage.info(mv)
            return False
        files = (await self.storage.info(mv), await self.storage.mod(mv), await whole(await self.storage.zip(mv)))
        assert files == content(mv, salt), mv
        return True

    def told(self, times: int) -> str:
        """@return: what happened."""
        return f" [{self.interrupted} saves interrupted at {times} moments: {dict(self.seen)}]"

    async def end(self) -> None:
        """In the end there are the complete versions, and nothing else."""
        assert set(await everything(self.storage)) == set(self.tried)
        assert {mv.version for mv in self.tried} == set(await self.storage.list(PATH))
        assert not await self.storage.incomplete() if hasattr(self.storage, "incomplete") else True
        await sweep(self.storage)
        assert unfinished(self.store) == []
        keys = {key for mv in self.tried for key in self.store.raw.files(mv)}
        assert set(self.store.raw.keys()) == keys


async def everything(storage: Any) -> list[ModuleVersion]:
    """@return: the catalog, each version once."""
    found: list[ModuleVersion] = []
    token = ""
    while True:
        page, token = await storage.catalog(token, 50)
        found += page
        if not token:
            assert len(found) == len(set(found))
            return found


async def save(storage: Any, mv: ModuleVersion, salt: int) -> None:
    info, mod, zip = content(mv, salt)
    await storage.save(mv, info, mod, BytesZip(zip))


def unfinished(store: Store) -> list[str]:
    """@return: what the server keeps of uploads that were not finished, where it tells."""
    ask = getattr(getattr(store.raw, "bucket", None), "unfinished", None)
    return list(ask()) if ask is not None else []


async def sweep(storage: Any) -> None:
    """Remove what killed saves have left, as the storage does by itself when that is old."""
    objects = getattr(storage, "_objects", None)
    if objects is not None:
        await objects.sweep(0)
    elif hasattr(storage, "_grid"):
        from athens_tx.storage.mongo_sweep import Sweeper

        sweeper = Sweeper(reactor, storage._modules, storage._grid, 0, lambda: time.time() + 7200)
        await sweeper.sweep_chunks()
        await sweeper.sweep_files()


@pytest_twisted.async_yield_fixture
async def work(request: Any, tmp_path: Path) -> AsyncIterator[Interrupted]:
    """The store that the parameter names; what looks at it goes to the server itself."""
    store = await Store(reactor, request.param, tmp_path / "store").open()
    opened = await store.storage()
    if hasattr(opened.storage, "_patience"):
        opened.storage._patience = 0.2  # nobody else is at work when it looks
    yield Interrupted(store, opened)
    await opened.close()
    await store.close()


class Weather:
    """A way to the store that breaks at random."""

    def __init__(self, proxy: FaultProxy, chance: random.Random) -> None:
        self._proxy = proxy
        self._chance = chance

    def break_some_time(self, size: int) -> None:
        """
        Have the connections cut when some bytes have passed; for most, none can be made afterwards.

        @param size: of what is to be saved. The last bytes, of which the small files are, count as much as the rest.
        """
        outage = self._chance.random() < 0.8
        way = self._chance.choice(("up", "up", "up near the end", "down"))
        if way == "down":
            self._proxy.cut_after(down=self._chance.randint(1, 4000), outage=outage)
        elif way == "up":
            self._proxy.cut_after(up=self._chance.randint(1, size + 3000), outage=outage)
        else:
            self._proxy.cut_after(up=self._chance.randint(size, size + 6000), outage=outage)


@pytest.mark.timeout(120 + 10 * EACH_WAY)
@pytest.mark.parametrize("work", REMOTE, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_cut_connection_leaves_no_half_version(
    work: Interrupted, capsys: Any, logged: list[dict[str, Any]]
) -> None:
    chance = random.Random(seed := random.randrange(1 << 30))
    proxy = FaultProxy(reactor, work.store.port, http=work.store.http)
    times = 0
    while work.interrupted < EACH_WAY:
        times += 1
        through = await work.store.storage(proxy.port, ATHENS_TIMEOUT="2")
        source = versions(times)
        tried = [next(source) for _ in range(chance.randint(1, BATCH))]
        Weather(proxy, chance).break_some_time(sum(len(content(*each)[2]) for each in tried))
        saving = [Deferred.fromCoroutine(save(through.storage, *each)) for each in tried]
        results = await DeferredList(saving, consumeErrors=True)
        failures = [result for ok, result in results if not ok]
        assert all(failure.check(AthensError) for failure in failures), (seed, failures)
        proxy.heal()
        await through.close()
        done = {mv for (mv, _), (ok, _) in zip(tried, results, strict=True) if ok}
        await work.look(tried, done)
    await proxy.stop()
    left = [event for event in logged if "is left behind" in formatEvent(event)]
    assert len(unfinished(work.store)) <= len(left)
    await work.end()
    with capsys.disabled():
        print(work.told(times), end="")


class Child(ProcessProtocol):
    """
    The process that saves, as L{tests.storage.remote_child} tells.

    @ivar lines: what it said.
    @ivar ready: fires when it begins.
    @ivar ended: fires when it is gone.
    """

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.text = self.errors = b""

    def outReceived(self, data: bytes) -> None:
        self.text += data
        if not self.ready.called and b"ready\n" in self.text:
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        if not self.ready.called:
            self.ready.errback(AssertionError(self.errors.decode()))
        self.ended.callback(None)

    def said(self, word: str) -> list[Salted]:
        """@return: the versions after C{begun} or C{done}."""
        lines = [line.split() for line in self.text.decode().rpartition("\n")[0].splitlines()]
        return [(ModuleVersion(PATH, line[1]), int(line[2])) for line in lines if line[0] == word]


@pytest.mark.timeout(120 + 10 * EACH_WAY)
@pytest.mark.parametrize("work", REMOTE, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_killed_process_leaves_no_half_version(work: Interrupted, capsys: Any) -> None:
    chance = random.Random(random.randrange(1 << 30))
    times = 0
    while work.interrupted < EACH_WAY:
        times += 1
        child = Child()
        command = [sys.executable, "-m", "tests.storage.remote_child", "save", str(times)]
        pid = spawn(reactor, child, command, work.store.environment(), TOP)
        await child.ready
        await deferLater(reactor, chance.uniform(0.0, 0.5), lambda: None)
        assert not child.ended.called, child.errors.decode()
        kill_group(pid, signal.SIGKILL)
        await child.ended
        begun, done = child.said("begun"), {mv for mv, _ in child.said("done")}
        await work.look(begun, done)
    await work.end()
    with capsys.disabled():
        print(work.told(times), end="")
