"""A body comes in parts of the right size, however it is chunked, and memory is given to one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from athens_tx.errors import BadUpstream
from athens_tx.storage.body import BytesZip
from athens_tx.storage.parts import Budget, Part, Parts, PiecesBody

_case = SynchronousTestCase()


def begun(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def joined(part: Part) -> bytes:
    assert sum(map(len, part.pieces)) == part.length
    return b"".join(bytes(piece) for piece in part.pieces)


@implementer(IBodyProducer)
class Chunks:
    """
    A body that gives its chunks one by one while nobody pauses it; C{rude} ones do not listen.

    @ivar given: how many bytes.
    """

    def __init__(self, chunks: list[bytes], length: int | None = None, *, rude: bool = False) -> None:
        self.length = sum(map(len, chunks)) if length is None else length
        self.given = 0
        self.stopped = False
        self._chunks = list(chunks)
        self._rude = rude
        self._paused = False
        self._consumer: Any = None
        self._finished: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._go()
        return self._finished

    def _go(self) -> None:
        while self._chunks and not self.stopped and (self._rude or not self._paused):
            chunk = self._chunks.pop(0)
            self.given += len(chunk)
            self._consumer.write(chunk)
        if not self._chunks and not self.stopped and not self._finished.called:
            self._finished.callback(None)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._go()

    def stopProducing(self) -> None:
        self.stopped = True

    def fail(self, error: Exception) -> None:
        self._finished.errback(error)


async def _all(parts: Parts) -> list[Part]:
    found = [await parts.next()]
    while not found[-1].last:
        found.append(await parts.next())
    return found


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 50), st.booleans())
def test_any_chunking_gives_parts_of_the_size_with_all_the_bytes(chunks: list[bytes], size: int, rude: bool) -> None:
    whole = b"".join(chunks)
    parts = Parts(Chunks(chunks, rude=rude), size)
    found = _case.successResultOf(begun(_all(parts)))
    assert b"".join(map(joined, found)) == whole
    assert [part.number for part in found] == list(range(len(found)))
    assert [part.start for part in found] == [number * size for number in range(len(found))]
    assert all(part.length == size for part in found[:-1])
    assert found[-1].length <= size
    assert bool(found[-1].length) is bool(whole)  # an empty one only if it is the only one
    parts.stop()


@given(st.integers(0, 200), st.integers(1, 50))
def test_it_says_how_much_the_next_part_wants(length: int, size: int) -> None:
    parts = Parts(Chunks([b"x"] * length), size)
    while True:
        wanted = parts.wanted
        part = _case.successResultOf(begun(parts.next()))
        assert part.length == wanted
        if part.last:
            return


def test_no_more_than_a_part_is_held_and_the_body_waits_meanwhile() -> None:
    body = Chunks([b"12345"] * 20)
    parts = Parts(body, 10)
    for number in range(10):
        assert joined(_case.successResultOf(begun(parts.next()))) == b"1234512345"
        assert body.given == 10 * (number + 1)


def test_nothing_is_read_before_the_first_part_is_wanted() -> None:
    body = Chunks([b"12345"])
    parts = Parts(body, 10)
    assert body.given == 0
    parts.stop()
    assert body.stopped
    _case.failureResultOf(begun(parts.next()), CancelledError)
    assert body.given == 0
    parts.stop()


@pytest.mark.parametrize("size", [1, 5, 7, 8, 100])
def test_too_many_bytes_fail_and_stop_the_body(size: int) -> None:
    body = Chunks([b"12345", b"6789", b"0"], length=7)
    error = _case.failureResultOf(begun(_all(Parts(body, size))), BadUpstream).value
    assert str(error) == "more than the expected 7 bytes came"
    assert body.stopped or body.given == 10  # it gave all before it could be told


def test_bytes_that_still_come_after_too_many_are_not_kept() -> None:
    parts = Parts(Chunks([b"12345", b"6789", b"0" * 1000], length=7, rude=True), 100)
    _case.failureResultOf(begun(_all(parts)), BadUpstream)
    assert parts.length >= 9


@pytest.mark.parametrize("size", [1, 5, 7, 8, 100])
def test_too_few_bytes_fail(size: int) -> None:
    error = _case.failureResultOf(begun(_all(Parts(Chunks([b"123", b"45"], length=7), size))), BadUpstream).value
    assert str(error) == "5 bytes came instead of 7"


def test_what_the_body_fails_with_is_raised_once_what_came_before_is_used_up() -> None:
    body = Chunks([b"123"], length=7)
    body._finished = Deferred()
    body._chunks.append(b"4")
    body._paused = True
    parts = Parts(body, 5)
    waiting = begun(parts.next())
    _case.assertNoResult(waiting)
    body.fail(ZeroDivisionError("of the body"))
    _case.failureResultOf(waiting, ZeroDivisionError)
    parts.stop()


def test_who_waits_for_a_part_may_give_up_and_that_stops_the_body() -> None:
    body = Chunks([b"123"], length=7)
    body._chunks.append(b"4")
    body._paused = True
    parts = Parts(body, 5)
    waiting = begun(parts.next())
    waiting.cancel()
    _case.failureResultOf(waiting, CancelledError)
    assert not body.stopped
    parts.stop()
    assert body.stopped
    body.resumeProducing()  # nobody minds


def test_stopped_in_the_middle_the_one_who_waits_hears_of_it() -> None:
    body = Chunks([b"123"], length=7)
    body._chunks.append(b"4")
    body._paused = True
    parts = Parts(body, 5)
    waiting = begun(parts.next())
    parts.stop()
    _case.failureResultOf(waiting, CancelledError)
    assert body.stopped


def test_stopped_at_the_end_nothing_happens() -> None:
    body = Chunks([b"123"])
    parts = Parts(body, 5)
    assert _case.successResultOf(begun(parts.next())).last
    parts.stop()
    assert not body.stopped


def test_a_zip_of_ours_can_be_cut_to_parts() -> None:
    found = _case.successResultOf(begun(_all(Parts(BytesZip(b"0123456789"), 4))))
    assert list(map(joined, found)) == [b"0123", b"4567", b"89"]


# --- a part as the body of a request


class Slow:
    """A consumer that wants one piece at a time."""

    def __init__(self, body: PiecesBody) -> None:
        self.body = body
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data
        self.body.pauseProducing()


def test_the_pieces_go_as_fast_as_they_are_taken() -> None:
    body = PiecesBody((b"12", memoryview(b"0345")[1:], b"6"), 6)
    assert verifyObject(IBodyProducer, body)
    slow = Slow(body)
    sent = body.startProducing(slow)  # type: ignore[arg-type]
    for data in (b"12", b"12345"):
        assert slow.data == data
        _case.assertNoResult(sent)
        body.resumeProducing()
    assert slow.data == b"123456"
    _case.assertNoResult(sent)
    body.resumeProducing()
    _case.successResultOf(sent)
    body.resumeProducing()
    body.stopProducing()
    assert slow.data == b"123456"


def test_no_pieces_are_sent_at_once() -> None:
    body = PiecesBody((), 0)
    _case.successResultOf(body.startProducing(Slow(body)))  # type: ignore[arg-type]


@pytest.mark.parametrize("cancel", [True, False])
def test_no_piece_comes_after_the_stop(cancel: bool) -> None:
    body = PiecesBody((b"1", b"2"), 2)
    slow = Slow(body)
    sent = body.startProducing(slow)  # type: ignore[arg-type]
    if cancel:
        sent.cancel()
        _case.failureResultOf(sent, CancelledError)
    else:
        body.stopProducing()
        _case.assertNoResult(sent)
    body.resumeProducing()
    assert slow.data == b"1"


# --- the memory of all


def test_who_comes_first_is_served_first_even_if_others_want_less() -> None:
    budget = Budget(10)
    _case.successResultOf(begun(budget.take(6)))
    large, small = begun(budget.take(6)), begun(budget.take(1))
    _case.assertNoResult(large)
    _case.assertNoResult(small)
    budget.give(6)
    _case.successResultOf(large)
    _case.successResultOf(small)


def test_who_gives_up_waiting_lets_the_next_one_pass() -> None:
    budget = Budget(10)
    _case.successResultOf(begun(budget.take(6)))
    large, small = begun(budget.take(6)), begun(budget.take(1))
    large.cancel()
    _case.failureResultOf(large, CancelledError)
    _case.successResultOf(small)
    budget.give(6)
    budget.give(1)
    _case.successResultOf(begun(budget.take(10)))


def test_what_is_larger_than_all_there_is_gets_all_of_it() -> None:
    budget = Budget(10)
    _case.successResultOf(begun(budget.take(1000)))
    waiting = begun(budget.take(1))
    _case.assertNoResult(waiting)
    budget.give(1000)
    _case.successResultOf(waiting)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=40))
def test_never_is_more_out_than_there_is_and_nobody_starves(steps: list[tuple[bool, int]]) -> None:
    budget = Budget(10)
    takers: list[tuple[int, Deferred[None]]] = []
    for give_up, size in steps:
        if give_up and takers:
            wanted, taker = takers.pop(size % len(takers))
            if taker.called:
                budget.give(wanted)
            else:
                taker.addErrback(lambda _: None)
                taker.cancel()
        else:
            takers.append((size, begun(budget.take(size))))
        out = sum(min(10, wanted) for wanted, taker in takers if taker.called)
        assert out <= 10
        waiting = [min(10, wanted) for wanted, taker in takers if not taker.called]
        assert not waiting or out + waiting[0] > 10


def test_a_part_waits_for_room_and_has_it_as_long_as_it_is_used() -> None:
    budget, body = Budget(10), Chunks([b"12345678"])
    parts = Parts(body, 8)
    used: Deferred[None] = Deferred()

    async def use() -> bytes:
        async with parts.held(budget) as part:
            await used
            return joined(part)

    _case.successResultOf(begun(budget.take(3)))
    using = begun(use())
    assert body.given == 0
    budget.give(3)
    assert body.given == 8
    waiting = begun(budget.take(3))
    _case.assertNoResult(waiting)
    used.callback(None)
    assert _case.successResultOf(using) == b"12345678"
    _case.successResultOf(waiting)


@pytest.mark.parametrize("at", ["room", "part", "use"])
def test_whoever_gives_up_a_part_gives_its_room_back(at: str) -> None:
    budget, body = Budget(10), Chunks([b"1234"] if at == "part" else [b"12345678"], 8)
    parts = Parts(body, 8)

    async def use() -> None:
        async with parts.held(budget):
            await Deferred()

    if at == "room":
        _case.successResultOf(begun(budget.take(3)))
    using = begun(use())
    if at == "part":
        _case.failureResultOf(using, BadUpstream)
    else:
        using.cancel()
        _case.failureResultOf(using, CancelledError)
    parts.stop()
    if at == "room":
        budget.give(3)
    _case.successResultOf(begun(budget.take(10)))
