"""A start that takes too long fails, and says where to look."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.starting import START_LIMIT, in_time

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
