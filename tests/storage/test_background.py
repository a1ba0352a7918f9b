"""What goes on though nobody waits for it, and for how long."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from athens_tx.storage.background import CLOSING, Background


def closing(background: Background) -> Deferred[None]:
    return Deferred.fromCoroutine(background.close())


async def wait(until: Deferred[None]) -> None:
    await until


def test_the_end_waits_for_what_is_under_way() -> None:
    clock, done = Clock(), Deferred[None]()
    background = Background(clock)
    background.start(wait(done))
    closed = closing(background)
    assert (len(background), closed.called) == (1, False)
    done.callback(None)
    assert (len(background), closed.called, clock.getDelayedCalls()) == (0, True, [])


def test_what_takes_too_long_is_cancelled() -> None:
    cancelled: list[object] = []
    clock = Clock()
    background = Background(clock)
    for _ in range(2):
        background.start(wait(Deferred(cancelled.append)))
    closed = closing(background)
    clock.advance(CLOSING - 0.1)
    assert not closed.called
    clock.advance(0.1)
    assert (closed.called, len(cancelled), len(background)) == (True, 2, 0)


def test_where_there_is_nothing_the_end_is_at_once() -> None:
    background = Background(Clock())
    background.start(wait(Deferred.fromCoroutine(wait_for_nothing())))
    assert closing(background).called


async def wait_for_nothing() -> None:
    pass
