"""A body on its way in: when it is read, when it waits, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import InvalidRequest, NotFound, RequestTooLarge
from athens_tx.web.upload import Upload

IDLE = 5.0


class Source:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pauseProducing(self) -> None:
        self.said.append("pause")

    def resumeProducing(self) -> None:
        self.said.append("resume")

    def go_on(self) -> None:
        self.said.append("go on")


class Setup:
    """An upload, its source, its clock, and what came."""

    def __init__(self, *, limit: int = 10, announced: int | None = None, expected: bool = False) -> None:
        self.clock, self.source = Clock(), Source()
        self.upload = Upload(self.clock, self.source, limit=limit, announced=announced, idle=IDLE, expected=expected)
        self.got: list[bytes] = []

    def take(self) -> Deferred[None]:
        return self.upload.take(self.got.append)


def failure(deferred: Deferred[None], *kinds: type[BaseException]) -> Any:
    return SynchronousTestCase().failureResultOf(deferred, *kinds)


def test_nothing_is_read_before_it_is_taken_and_all_that_came_with_the_headers_is_kept() -> None:
    it = Setup(expected=True)
    it.upload.received(b"ab")
    it.upload.received(b"c")
    assert it.source.said == ["pause"]
    done = it.take()
    assert it.source.said == ["pause", "go on", "resume"]
    it.upload.received(b"d")
    assert it.got == [b"ab", b"c", b"d"]
    it.upload.ended()
    assert done.called
    assert not it.clock.getDelayedCalls()


def test_a_body_that_came_whole_with_the_headers_needs_no_word() -> None:
    it = Setup(expected=True)
    it.upload.received(b"ab")
    it.upload.ended()
    assert it.take().called
    assert it.got == [b"ab"]
    assert it.source.said == ["pause", "resume"]


@pytest.mark.parametrize("early", [True, False])
def test_what_the_taker_raises_is_the_end(early: bool) -> None:
    it = Setup(limit=100)

    def refuse(data: bytes) -> None:
        it.got.append(data)
        raise NotFound("no")

    if early:
        it.upload.received(b"a")
        it.upload.received(b"b")
    done = it.upload.take(refuse)
    it.upload.received(b"c")
    it.upload.received(b"d")
    failure(done, NotFound)
    assert it.got == [b"a" if early else b"c"]
    assert not it.clock.getDelayedCalls()


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 10, b"y"]])
def test_more_than_the_limit_is_refused(pieces: list[bytes]) -> None:
    it = Setup()
    done = it.take()
    for piece in pieces:
        it.upload.received(piece)
    failure(done, RequestTooLarge)


def test_more_than_the_limit_is_refused_before_it_comes() -> None:
    it = Setup(announced=11, expected=True)
    failure(it.take(), RequestTooLarge)
    assert it.source.said == ["pause"]
    it.upload.received(b"x" * 11)
    failure(it.take(), RequestTooLarge)


def test_who_says_nothing_is_given_up_but_not_while_he_waits_for_us() -> None:
    it = Setup()
    done = it.take()
    it.clock.advance(IDLE - 1)
    it.upload.received(b"a")
    it.clock.advance(IDLE - 1)
    it.upload.pauseProducing()
    it.upload.pauseProducing()
    it.clock.advance(10 * IDLE)
    it.upload.resumeProducing()
    it.upload.resumeProducing()
    assert it.source.said == ["pause", "resume", "pause", "resume"]
    it.clock.advance(IDLE - 1)
    assert not done.called
    it.clock.advance(1)
    failure(done, InvalidRequest)


@pytest.mark.parametrize("taken", [True, False])
def test_who_is_gone_is_gone(taken: bool) -> None:
    it = Setup()
    done = it.take() if taken else None
    it.upload.lost()
    it.upload.lost()
    failure(done or it.take(), CancelledError)
    it.upload.received(b"a")
    it.upload.pauseProducing()
    it.upload.resumeProducing()
    it.upload.stopProducing()
    assert it.got == []
    assert not it.clock.getDelayedCalls()


def test_what_is_answered_is_read_for_nobody() -> None:
    it = Setup()
    it.upload.drop()
    it.upload.received(b"a")
    it.upload.ended()
    assert it.upload.complete
    assert it.source.said == ["pause", "resume"]


def test_who_stops_waiting_drops_the_rest() -> None:
    it = Setup()
    done = it.take()
    done.cancel()
    failure(done, CancelledError)
    it.upload.received(b"a")
    it.upload.ended()
    assert it.got == []
    assert not it.clock.getDelayedCalls()


def test_a_sink_that_can_take_no_more_ends_it() -> None:
    it = Setup()
    done = it.take()
    it.upload.stopProducing()
    failure(done, CancelledError)
