"""The pool of fetches."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import Overloaded
from athens_tx.fetch.pool import Pool


def hold(pool: Pool, until: Deferred[None], started: list[int], number: int) -> Deferred[None]:
    async def work() -> None:
        async with pool.slot():
            started.append(number)
            await until

    return Deferred.fromCoroutine(work())


@pytest_twisted.ensureDeferred
async def test_slots_are_given_in_order_and_the_queue_is_bounded() -> None:
    pool, started, ends = Pool(2, 1), [], [Deferred() for _ in range(4)]
    works = [hold(pool, end, started, number) for number, end in enumerate(ends)]
    assert (pool.in_flight, pool.queued, started) == (2, 1, [0, 1])
    with pytest.raises(Overloaded) as caught:
        await works[3]
    assert caught.value.retry_after == 10
    ends[1].callback(None)
    assert (pool.in_flight, pool.queued, started) == (2, 0, [0, 1, 2])
    ends[0].errback(ValueError())
    with pytest.raises(ValueError):
        await works[0]
    ends[2].callback(None)
    assert (pool.in_flight, pool.queued) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_one_who_leaves_the_queue_leaves_its_place() -> None:
    pool, started, end = Pool(1, 1), [], Deferred()
    first = hold(pool, end, started, 0)
    waiting = hold(pool, Deferred(), started, 1)
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    assert pool.queued == 0
    end.callback(None)
    await first
    assert (pool.in_flight, started) == (0, [0])


@pytest_twisted.ensureDeferred
async def test_no_queue_at_all() -> None:
    pool, end = Pool(1, 0), Deferred()
    running = hold(pool, end, [], 0)
    with pytest.raises(Overloaded):
        await hold(pool, Deferred(), [], 1)
    end.callback(None)
    await running


def test_nobody_waits_for_ever() -> None:
    clock = Clock()
    pool, started = Pool(1, 5, clock=clock, wait_limit=60), []
    end: Deferred[None] = Deferred()
    first, second = hold(pool, end, started, 0), hold(pool, end, started, 1)
    clock.advance(59.9)
    assert pool.queued == 1
    clock.advance(0.1)
    check = SynchronousTestCase()
    assert "no turn within 60 s" in str(check.failureResultOf(second, Overloaded).value)
    assert (pool.in_flight, pool.queued) == (1, 0)
    end.callback(None)
    check.successResultOf(first)
    assert started == [0]


def test_a_long_queue_of_those_who_end_at_once() -> None:
    """Each hands the slot on to the next: that must not nest."""
    pool, end, ended = Pool(1, 5000), Deferred[None](), []

    async def work(number: int) -> None:
        async with pool.slot():
            if not number:
                await end
            ended.append(number)

    works = [Deferred.fromCoroutine(work(number)) for number in range(5000)]
    end.callback(None)
    check = SynchronousTestCase()
    for each in works:
        check.successResultOf(each)
    assert ended == list(range(5000))
    assert (pool.in_flight, pool.queued) == (0, 0)
