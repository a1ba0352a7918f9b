"""The form of a save as a body, with a zip that does not behave, and a server that answers before its end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import BadUpstream, FetchFailed, StorageUnavailable
from athens_tx.storage.body import BytesZip, MemorySink
from athens_tx.storage.formbody import FormBody
from tests.contract.zips import HandZip

TEST = SynchronousTestCase()


class Hand(HandZip):
    """One that needs no reactor."""

    def startProducing(self, consumer: Any) -> Any:
        from twisted.internet.defer import Deferred

        self._consumer, self._finished = consumer, Deferred(self._cancel)
        return self._finished


def body(zipped: Any, clock: Clock | None = None) -> FormBody:
    return FormBody(clock or Clock(), b"{}", b"module x\n", zipped, idle=5.0)


def test_the_end_is_sent_once_all_has_come() -> None:
    sink, clock = MemorySink(1000), Clock()
    form = body(BytesZip(b"PK"), clock)
    assert form.startProducing(sink).called
    assert form.sent.called
    assert sink.value().endswith(b"\r\n\r\nPK\r\n--" + form.content_type.partition("=")[2].encode() + b"--\r\n")
    assert not clock.getDelayedCalls()
    form.leave()
    form.stopProducing()


@pytest.mark.parametrize("how", ["breaks", "is short", "is long", "is long at once"])
def test_a_zip_that_does_not_behave_never_comes_to_the_end(how: str) -> None:
    zipped, sink, clock = Hand(4), MemorySink(1000), Clock()
    if how == "is long at once":
        zipped_at_once: Any = BytesZip(b"12345")
        zipped_at_once.length = 4
        done = body(zipped_at_once, clock).startProducing(sink)
    else:
        done = body(zipped, clock).startProducing(sink)
    if how == "breaks":
        zipped.break_off(FetchFailed("no"))
    elif how == "is short":
        zipped.give(b"123")
        zipped.end()
    elif how == "is long":
        zipped.give(b"12345")
        assert zipped.cancelled
        zipped.give(b"6")
    TEST.failureResultOf(done, FetchFailed if how == "breaks" else BadUpstream)
    assert not sink.value().endswith(b"--\r\n")
    assert not clock.getDelayedCalls()


def test_an_early_answer_ends_it_without_an_end() -> None:
    zipped, sink, clock = Hand(4), MemorySink(1000), Clock()
    form = body(zipped, clock)
    done = form.startProducing(sink)
    zipped.give(b"12")
    form.leave()
    assert TEST.successResultOf(done) is None
    assert zipped.cancelled
    assert not form.sent.called
    assert sink.value().endswith(b"12")
    assert not clock.getDelayedCalls()


def test_one_that_never_began_stops_its_zip_once() -> None:
    zipped = Hand(4)
    form = body(zipped)
    form.leave()
    assert zipped.stopped
    TEST.failureResultOf(form.startProducing(MemorySink(9)), CancelledError)


def test_it_waits_with_the_server_but_not_for_ever() -> None:
    zipped, clock = Hand(4), Clock()
    form = body(zipped, clock)
    done = form.startProducing(MemorySink(1000))
    form.registerProducer(None, True)  # type: ignore[arg-type]
    for _ in range(3):
        form.pauseProducing()
        assert zipped.paused
        clock.advance(4.0)
        form.resumeProducing()
        assert not zipped.paused
    zipped.give(b"")
    clock.advance(4.0)
    zipped.give(b"1")
    clock.advance(4.0)
    assert not done.called
    clock.advance(1.0)
    TEST.failureResultOf(done, StorageUnavailable)
    assert zipped.cancelled
    form.pauseProducing()
    form.resumeProducing()
    form.unregisterProducer()


def test_a_connection_that_is_gone_stops_the_zip() -> None:
    zipped = Hand(4)
    form = body(zipped)
    form.startProducing(MemorySink(1000))
    form.stopProducing()
    assert zipped.cancelled
