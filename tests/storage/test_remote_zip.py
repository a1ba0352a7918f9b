"""A zip over the network: cut anywhere it goes on, and however it is stopped no connection stays."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.static import File
from zope.interface.verify import verifyObject

from athens_tx.errors import AthensError, NotFound, StorageUnavailable
from athens_tx.http_client import AnswerCut, HttpClient, OpenResponse
from athens_tx.interfaces import IZip
from athens_tx.storage import remote_zip
from athens_tx.storage.body import MemorySink
from athens_tx.storage.remote_zip import BREAKS, LONGEST_PAUSE, MOST_BREAKS, PROGRESS, RemoteZip
from tests.contract.zips import Mouthful, whole
from tests.support.faults import FaultProxy
from tests.support.loopback import LoopbackServer

_case = SynchronousTestCase()
DATA = random.Random(4).randbytes(2_000_000)


class World:
    """
    A file on a server, behind a proxy that makes trouble.

    @ivar reached: what was asked for, as start and length.
    """

    def __init__(self, path: Path) -> None:
        self.file = path / "zip"
        self.file.write_bytes(DATA)
        self.server = LoopbackServer(reactor, File(str(path)))
        self.proxy = FaultProxy(reactor, self.server.port)
        self.http = HttpClient(reactor, {})
        self.reached: list[tuple[int, int]] = []
        self.fails: list[Exception] = []

    async def reach(self, start: int, length: int) -> OpenResponse:
        self.reached.append((start, length))
        if self.fails:
            raise self.fails.pop(0)
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        answer = await self.http.open("GET", f"{self.proxy.endpoint}/zip", headers=wanted, timeout=10)
        if answer.status != 206:
            answer.abort()
            raise NotFound("it was deleted meanwhile")
        return answer

    async def opened(self) -> RemoteZip:
        """@return: one whose bytes are on their way already."""
        answer = await self.http.open("GET", f"{self.proxy.endpoint}/zip", timeout=10)
        assert answer.length == len(DATA)
        return RemoteZip(reactor, self.reach, len(DATA), answer)

    def closed(self) -> RemoteZip:
        return RemoteZip(reactor, self.reach, len(DATA))

    async def no_connection(self) -> None:
        """Wait until none is open, with the client still there to keep those that it thinks are good."""
        while self.proxy.open:
            await turn()


async def turn() -> None:
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0.005, waiting.callback, None)  # type: ignore[attr-defined]
    await waiting


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(remote_zip, "FIRST_PAUSE", 0.01)
    world = World(tmp_path)
    yield world
    await world.http.close()
    await world.proxy.stop()
    await world.server.stop()


def test_it_is_a_zip() -> None:
    assert verifyObject(IZip, RemoteZip(reactor, None, 0))  # type: ignore[arg-type]


# --- all of it, and parts


@pytest_twisted.ensureDeferred
async def test_what_was_opened_is_given_without_another_request(world: World) -> None:
    assert await whole(await world.opened()) == DATA
    assert world.reached == []
    assert len(world.proxy.requests) == 1


@pytest_twisted.ensureDeferred
async def test_what_was_not_opened_is_asked_for(world: World) -> None:
    assert await whole(world.closed()) == DATA
    assert world.reached == [(0, len(DATA))]


@pytest_twisted.ensureDeferred
async def test_a_part_of_it_and_a_part_of_that(world: World) -> None:
    part = (await world.opened()).part(1000, 500_000).part(7, 1000)
    assert await whole(part) == DATA[1007:2007]
    assert world.reached == [(1007, 1000)]
    await world.http.close()
    await world.no_connection()


@pytest_twisted.ensureDeferred
async def test_nothing_of_it_asks_for_nothing(world: World) -> None:
    assert await whole((await world.opened()).part(1000, 0)) == b""
    assert world.reached == []
    await world.no_connection()


@pytest_twisted.ensureDeferred
async def test_an_empty_zip_lets_go_of_its_answer(world: World) -> None:
    world.file.write_bytes(b"")
    answer = await world.http.open("GET", f"{world.proxy.endpoint}/zip", timeout=10)
    assert await whole(RemoteZip(reactor, world.reach, 0, answer)) == b""
    await world.http.close()
    await world.no_connection()


# --- cut


@pytest_twisted.ensureDeferred
async def test_where_the_connection_breaks_the_rest_is_asked_for(world: World) -> None:
    for keep in (1_500_000, 100_000, 1):
        world.proxy.truncate(keep)
    assert await whole(await world.opened()) == DATA
    assert world.reached == [(1_500_000, 500_000), (1_600_000, 400_000), (1_600_001, 399_999)]


@pytest_twisted.ensureDeferred
async def test_a_part_goes_on_in_its_own_place(world: World) -> None:
    world.proxy.truncate(300)
    assert await whole(world.closed().part(1000, 5000)) == DATA[1000:6000]
    assert world.reached == [(1000, 5000), (1300, 4700)]


@pytest_twisted.ensureDeferred
async def test_some_breaks_with_bytes_between_them_do_not_end_it(world: World) -> None:
    for _ in range(2 * BREAKS):
        world.proxy.truncate(1000)
    assert await whole(world.closed().part(0, 10_000)) == DATA[:10_000]
    assert len(world.reached) == 2 * BREAKS + 1


@pytest_twisted.ensureDeferred
async def test_breaks_without_a_byte_end_it(world: World) -> None:
    world.proxy.truncate(1000)
    world.proxy.truncate(0, times=None)
    with pytest.raises(StorageUnavailable, match=r"^a stored zip can't be read: the connection broke") as error:
        await whole(world.closed())
    assert error.value.retry_after == 10
    assert len(world.reached) == 1 + BREAKS
    await world.no_connection()


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_down_ends_it_at_once(world: World) -> None:
    """Whoever reaches has tried often enough."""
    world.proxy.truncate(1000)
    opened = await world.opened()
    world.fails = [StorageUnavailable("down")]
    with pytest.raises(StorageUnavailable, match="down"):
        await whole(opened)
    assert world.reached == [(1000, len(DATA) - 1000)]


@pytest_twisted.ensureDeferred
async def test_it_is_deleted_in_the_middle(world: World) -> None:
    world.proxy.truncate(1000)
    opened = await world.opened()
    world.file.unlink()
    with pytest.raises(NotFound):
        await whole(opened)
    await world.http.close()
    await world.no_connection()


@pytest_twisted.ensureDeferred
async def test_a_shorter_one_in_its_place_is_not_taken_for_it(world: World) -> None:
    world.proxy.truncate(1000)
    opened = await world.opened()
    world.file.write_bytes(DATA[:5000])
    with pytest.raises(StorageUnavailable, match="shorter than it was"):
        await whole(opened)


@pytest_twisted.ensureDeferred
async def test_more_than_was_asked_for_is_not_passed_on(world: World) -> None:
    async def reach(start: int, length: int) -> OpenResponse:
        return await world.reach(start, length + 10)

    with pytest.raises(StorageUnavailable, match="can't be read"):
        await whole(RemoteZip(reactor, reach, 1000))


# --- paused and resumed


@pytest_twisted.ensureDeferred
async def test_it_can_be_paused_before_it_begins(world: World) -> None:
    for body in (await world.opened(), world.closed()):
        mouth = Mouthful(body)
        body.pauseProducing()
        done = body.startProducing(mouth)
        for _ in range(20):
            await turn()
        assert mouth.data == b""
        while not done.called:
            body.resumeProducing()
            await turn()
        assert mouth.data == DATA


@pytest_twisted.ensureDeferred
async def test_it_waits_at_every_piece(world: World) -> None:
    world.proxy.truncate(700_000)
    body = await world.opened()
    mouth = Mouthful(body)
    done = body.startProducing(mouth)
    seen = 0
    while not done.called:
        while mouth.pieces == seen and not done.called:
            await turn()
        seen = min(seen + 1, mouth.pieces)
        await turn()
        assert mouth.pieces == seen
        body.resumeProducing()
    assert mouth.data == DATA
    assert mouth.pieces > 10


# --- stopped


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest_twisted.ensureDeferred
async def test_stopped_at_any_time_it_leaves_no_connection(
    world: World, after: int, cancel: bool, paused: bool
) -> None:
    for body in (await world.opened(), world.closed()):
        mouth = Mouthful(body)
        if paused:
            body.pauseProducing()
        done = body.startProducing(mouth)
        for _ in range(after):
            await turn()
            if not paused:
                body.resumeProducing()
        if cancel:
            done.cancel()
            _case.failureResultOf(done, CancelledError)
        body.stopProducing()
        body.stopProducing()
        got = mouth.data
        body.resumeProducing()
        await world.no_connection()
        assert mouth.data == got
        if not cancel:
            _case.assertNoResult(done)


@pytest_twisted.ensureDeferred
async def test_stopped_before_it_begins_it_can_not_be_begun(world: World) -> None:
    body = await world.opened()
    body.stopProducing()
    await world.no_connection()
    with pytest.raises(CancelledError):
        await whole(body)
    assert world.reached == []


@pytest_twisted.ensureDeferred
async def test_one_that_gave_away_a_part_can_not_be_begun(world: World) -> None:
    body = world.closed()
    part = body.part(0, 5)
    with pytest.raises(CancelledError):
        await whole(body)
    assert await whole(part) == DATA[:5]


@pytest_twisted.ensureDeferred
async def test_stopped_when_all_was_given_nothing_happens(world: World) -> None:
    body = await world.opened()
    assert await whole(body) == DATA
    body.stopProducing()
    body.pauseProducing()
    body.resumeProducing()


# --- what no real server would do in time


class Broken:
    """An answer that breaks when it is taken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def receive(self, sink: Any, *, limit: int, idle: float) -> int:
        raise self._error

    def abort(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AnswerCut("cut", detail="of whom"), StorageUnavailable),
        (NotFound("gone"), NotFound),
        (StorageUnavailable("down"), StorageUnavailable),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_what_goes_wrong_is_told_as_what_it_is(error: Exception, told: type[Exception]) -> None:
    async def reach(start: int, length: int) -> Any:
        return Broken(error)

    clock = Clock()
    body = RemoteZip(clock, reach, 10)
    done = body.startProducing(Mouthful(body))
    clock.pump([LONGEST_PAUSE] * BREAKS)
    failed = _case.failureResultOf(done, told).value
    if isinstance(error, AnswerCut):
        assert isinstance(failed, AthensError)
        assert failed.detail == "of whom"


class Short:
    """An answer that breaks after so many bytes."""

    def __init__(self, length: int) -> None:
        self._length = length

    async def receive(self, sink: Any, *, limit: int, idle: float) -> int:
        sink.write(bytes(min(limit, self._length)))
        if limit > self._length:
            raise AnswerCut("cut")
        return limit


class Dripping:
    """
    A zip whose answers all break.

    @ivar times: when it was asked for the rest.
    """

    def __init__(self, *lengths: int, size: int = 1 << 40) -> None:
        """@param lengths: how many bytes come each time, the last one for ever."""
        self.clock = Clock()
        self.times: list[float] = []
        self._lengths = list(lengths)
        body = RemoteZip(self.clock, self.reach, size)  # type: ignore[arg-type]
        self.done = body.startProducing(MemorySink(1 << 40))

    async def reach(self, start: int, length: int) -> Short:
        self.times.append(self.clock.seconds())
        return Short(self._lengths.pop(0) if len(self._lengths) > 1 else self._lengths[0])

    def pauses(self) -> list[float]:
        return [after - before for before, after in pairwise(self.times)]


def test_breaks_are_waited_for_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    it = Dripping(1)
    it.clock.pump([0.1] * 10 * MOST_BREAKS * int(LONGEST_PAUSE))
    _case.failureResultOf(it.done, StorageUnavailable)
    assert len(it.times) == MOST_BREAKS == 20
    wanted = [0.2, 0.4, 0.8, 1.6, 3.2] + [LONGEST_PAUSE] * 14
    assert it.pauses() == pytest.approx(wanted, abs=0.11)
    assert not it.clock.getDelayedCalls()


def test_the_pauses_have_jitter_and_are_short_again_after_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    it = Dripping(1, 1, 1, PROGRESS, 1)
    it.clock.pump([0.05] * 40)
    assert it.pauses()[:5] == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2], abs=0.06)
    it.done.cancel()
    _case.failureResultOf(it.done, CancelledError)
    assert not it.clock.getDelayedCalls()
