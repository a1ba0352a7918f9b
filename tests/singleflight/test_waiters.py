"""One result for many who wait."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.singleflight.waiters import Waiters

check = SynchronousTestCase()


def test_all_get_the_result_before_and_after() -> None:
    waiters: Waiters[int] = Waiters()
    early = [waiters.wait(), waiters.wait()]
    assert not waiters.landed
    waiters.land(7)
    waiters.land(8)
    assert waiters.landed
    assert [check.successResultOf(waiter) for waiter in [*early, waiters.wait()]] == [7, 7, 7]


def test_a_failure_is_everybodys_own() -> None:
    waiters: Waiters[int] = Waiters()
    early = waiters.wait()
    waiters.land(Failure(KeyError("x")))
    first, second = check.failureResultOf(early, KeyError), check.failureResultOf(waiters.wait(), KeyError)
    assert first is not second


def test_who_is_cancelled_leaves_alone() -> None:
    waiters: Waiters[int] = Waiters()
    stays, leaves = waiters.wait(), waiters.wait()
    leaves.cancel()
    check.failureResultOf(leaves, CancelledError)
    waiters.land(7)
    assert check.successResultOf(stays) == 7


def test_a_waiter_that_waits_again_from_its_callback() -> None:
    waiters: Waiters[int] = Waiters()
    again: list[Deferred[int]] = []
    waiters.wait().addCallback(lambda _: again.append(waiters.wait()))
    waiters.land(7)
    assert check.successResultOf(again[0]) == 7


def test_it_is_told_when_nobody_waits_any_more() -> None:
    left: list[int] = []
    waiters: Waiters[int] = Waiters(lambda: left.append(1))
    first, second = waiters.wait(), waiters.wait()
    for waiter, times in ((first, 0), (second, 1)):
        waiter.cancel()
        check.failureResultOf(waiter, CancelledError)
        assert len(left) == times
    third = waiters.wait()
    waiters.land(1)
    assert check.successResultOf(third) == 1
    assert len(left) == 1
