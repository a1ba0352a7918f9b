"""A start that takes too long fails, and says where to look."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.starting import PATIENCE, PAUSE, START_LIMIT, Away, in_time, patiently

_case = SynchronousTestCase()


async def waits(for_: Deferred[Any]) -> Any:
    return await for_


@pytest.mark.parametrize(
    ("given", "seconds", "line"),
    [
        (("look at it",), START_LIMIT, "Storage.S3: no answer within 25 s: look at it"),
        (("", 0.5), 0.5, "Storage.S3: no answer within 0.5 s"),
    ],
)
def test_it_fails_when_its_time_is_up_and_is_given_up(given: Any, seconds: float, line: str) -> None:
    clock, given_up = Clock(), list[Any]()
    never: Deferred[None] = Deferred(given_up.append)
    starting = Deferred.fromCoroutine(in_time(clock, waits(never), "Storage.S3", *given))
    clock.advance(seconds - 0.01)
    _case.assertNoResult(starting)
    clock.advance(0.01)
    assert str(_case.failureResultOf(starting, ConfigError).value) == line
    assert given_up == [never]


def test_what_is_ready_in_time_or_fails_otherwise_is_passed_on() -> None:
    clock = Clock()
    for result in (5, StorageUnavailable("broken")):
        answer: Deferred[Any] = Deferred()
        starting = Deferred.fromCoroutine(in_time(clock, waits(answer), "Storage.S3"))
        if isinstance(result, int):
            answer.callback(result)
            assert _case.successResultOf(starting) == 5
        else:
            answer.errback(result)
            _case.failureResultOf(starting, StorageUnavailable)
    assert not clock.getDelayedCalls()


def attempts(*outcomes: Exception | None) -> Any:
    """@return: an attempt to be given on, and what is left of its outcomes."""
    left = list(outcomes)

    async def attempt() -> str:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if outcome is not None:
            raise outcome
        return "there"

    return attempt, left


def test_who_is_away_is_waited_for() -> None:
    clock = Clock()
    attempt, left = attempts(Away(["a: away"]), Away(["a: away"]), None)
    starting = Deferred.fromCoroutine(patiently(clock, attempt))
    assert len(left) == 2
    clock.advance(PAUSE)
    _case.assertNoResult(starting)
    clock.advance(PAUSE)
    assert _case.successResultOf(starting) == "there"


def test_who_stays_away_is_waited_for_only_so_long() -> None:
    clock = Clock()
    attempt, _ = attempts(Away(["a: away"]))
    starting = Deferred.fromCoroutine(patiently(clock, attempt))
    clock.pump([PAUSE] * int(PATIENCE / PAUSE - 1))
    _case.assertNoResult(starting)
    clock.advance(PAUSE)
    assert str(_case.failureResultOf(starting, Away).value) == "a: away"
    assert not clock.getDelayedCalls()


def test_who_refuses_is_not_asked_again() -> None:
    clock = Clock()
    attempt, left = attempts(ConfigError(["a: no"]), None)
    _case.failureResultOf(Deferred.fromCoroutine(patiently(clock, attempt)), ConfigError)
    assert left == [None]
