"""Credentials come from the first source that has some, and are renewed before they end, once for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.credentials import AGAIN, AHEAD, BETTER, Credentials

_case = SynchronousTestCase()
START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = 3600.0
AHEAD_SECONDS = AHEAD.total_seconds()


@attrs.frozen
class Key:
    name: str
    ends: datetime | None = None


class World:
    """Sources that give what a test has laid into them, in the order in which they are asked."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.answers: dict[str, Any] = dict.fromkeys(names)
        self.asked: list[str] = []
        sources = {name: self.source(name) for name in names}
        self.credentials: Credentials[Key] = Credentials(self.clock, sources, self.now)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock.seconds())

    def source(self, name: str) -> Callable[[], Awaitable[Key | None]]:
        async def load() -> Key | None:
            self.asked.append(name)
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return await answer if isinstance(answer, Deferred) else answer

        return load

    def key(self, name: str, seconds: float) -> Key:
        """@return: one that ends so many seconds from now."""
        return Key(name, self.now() + timedelta(seconds=seconds))

    def ask(self) -> Deferred[Key]:
        return Deferred.fromCoroutine(self.credentials.keys())

    def name(self) -> str:
        return str(_case.successResultOf(self.ask()).name)


def test_the_first_source_that_has_some_is_used_and_the_others_not_asked() -> None:
    world = World("first", "second", "third")
    world.answers["second"] = Key("2")
    world.answers["third"] = Key("3")
    assert world.name() == "2"
    assert world.asked == ["first", "second"]


def test_a_source_that_fails_is_passed_over() -> None:
    world = World("first", "second")
    world.answers.update(first=ValueError("whatever"), second=Key("2"))
    assert world.name() == "2"


def test_what_holds_for_ever_is_asked_for_once() -> None:
    world = World("first")
    world.answers["first"] = Key("1")
    for _ in range(5):
        assert world.name() == "1"
        world.clock.advance(1e6)
    assert world.asked == ["first"]


def test_where_nobody_has_any_the_error_says_what_each_said_and_no_userinfo() -> None:
    world = World("settings", "endpoint", "chain")
    world.answers.update(endpoint=ValueError("no answer of http://user:sesame@host/"), chain=KeyError())
    error = _case.failureResultOf(world.ask(), StorageUnavailable).value
    assert str(error) == "there are no credentials for the storage"
    assert error.detail == "settings: none; endpoint: no answer of http://***@host/; chain: KeyError"
    world.answers["settings"] = Key("1")
    assert world.name() == "1"


def test_all_who_wait_get_what_was_asked_for_once() -> None:
    world = World("first")
    answer: Deferred[Key] = Deferred()
    world.answers["first"] = answer
    waiting = [world.ask() for _ in range(20)]
    waiting[0].cancel()
    _case.failureResultOf(waiting[0], CancelledError)
    assert world.asked == ["first"]
    answer.callback(Key("1"))
    assert {_case.successResultOf(each).name for each in waiting[1:]} == {"1"}


def test_all_who_wait_hear_of_the_failure() -> None:
    world = World("first")
    answer: Deferred[Key] = Deferred()
    world.answers["first"] = answer
    waiting = [world.ask() for _ in range(3)]
    answer.errback(ValueError("down"))
    assert all(_case.failureResultOf(each, StorageUnavailable) for each in waiting)


def test_new_ones_are_loaded_ahead_while_the_old_ones_are_used() -> None:
    world = World("first")
    world.answers["first"] = world.key("old", HOUR)
    assert world.name() == "old"
    world.clock.advance(HOUR - AHEAD_SECONDS - 1)
    assert world.name() == "old"
    assert len(world.asked) == 1
    answer: Deferred[Key] = Deferred()
    world.answers["first"] = answer
    world.clock.advance(1)
    for _ in range(5):
        assert world.name() == "old"  # nobody waits
    assert len(world.asked) == 2
    answer.callback(world.key("new", HOUR))
    assert world.name() == "new"


def test_a_renewal_that_fails_keeps_the_old_ones_until_they_end_and_is_tried_again(logged: list[Any]) -> None:
    world = World("first")
    world.answers["first"] = world.key("old", HOUR)
    assert world.name() == "old"
    world.answers["first"] = ValueError("down")
    world.clock.advance(HOUR - AHEAD_SECONDS)
    for _ in range(3):
        assert world.name() == "old"
    assert len(world.asked) == 2
    world.clock.advance(AGAIN - 1)
    assert world.name() == "old"
    assert len(world.asked) == 2
    world.clock.advance(1)
    assert world.name() == "old"
    assert len(world.asked) == 3
    world.clock.advance(AHEAD_SECONDS - AGAIN - 1)
    assert world.name() == "old"
    world.clock.advance(1)
    _case.failureResultOf(world.ask(), StorageUnavailable)
    world.answers["first"] = world.key("new", HOUR)
    assert world.name() == "new"
    told = [event for event in logged if "no new credentials yet" in event["log_format"]]
    assert len(told) == 3
    assert all("old" not in str(event["reason"]) for event in told)


def test_what_holds_for_a_shorter_time_is_not_asked_for_at_every_use() -> None:
    world = World("first")
    world.answers["first"] = world.key("short", 300)
    for _ in range(60):
        assert world.name() == "short"
        world.clock.advance(1)
    assert len(world.asked) == 1
    world.answers["first"] = world.key("next", HOUR)
    assert world.name() == "short"  # once more, the next ones being on their way
    assert world.name() == "next"


def test_when_the_old_ones_are_over_everybody_waits_for_the_new_ones() -> None:
    world = World("first")
    world.answers["first"] = world.key("old", HOUR)
    assert world.name() == "old"
    world.clock.advance(HOUR)
    answer: Deferred[Key] = Deferred()
    world.answers["first"] = answer
    waiting = [world.ask(), world.ask()]
    for each in waiting:
        _case.assertNoResult(each)
    answer.callback(world.key("new", HOUR))
    assert [_case.successResultOf(each).name for each in waiting] == ["new", "new"]
    assert len(world.asked) == 2


@pytest.mark.parametrize("refused", ["old", "other"])
def test_refused_ones_are_loaded_anew_but_not_again_and_again(refused: str) -> None:
    world = World("first")
    world.answers["first"] = world.key("old", HOUR)
    assert world.name() == "old"
    world.answers["first"] = world.key("new", HOUR)
    assert world.credentials.forget(lambda key: key.name == refused)
    assert world.name() == ("new" if refused == "old" else "old")
    if refused == "old":
        assert not world.credentials.forget(lambda key: key.name == "new")
        assert world.name() == "new"
        world.clock.advance(AGAIN)
        assert world.credentials.forget(lambda key: key.name == "new")
        world.answers["first"] = succeed(world.key("newer", HOUR))
        assert world.name() == "newer"


def test_a_refusal_while_new_ones_are_on_their_way_asks_for_no_others() -> None:
    world = World("first")
    world.answers["first"] = answer = Deferred()
    waiting = world.ask()
    assert world.credentials.forget(lambda key: True)
    answer.callback(world.key("new", HOUR))
    assert _case.successResultOf(waiting).name == "new"
    assert world.name() == "new"
    assert len(world.asked) == 1


def test_a_source_that_failed_once_is_asked_again_in_the_background(logged: list[Any]) -> None:
    world = World("absent", "best", "good")
    world.answers.update(best=ValueError("down"), good=Key("good"))
    assert world.name() == "good"
    world.clock.advance(BETTER - 1)
    assert world.name() == "good"
    assert world.asked == ["absent", "best", "good"]
    world.clock.advance(1)
    assert [world.name(), world.name()] == ["good", "good"]  # it is still down
    assert world.asked == ["absent", "best", "good"] * 2
    world.clock.advance(BETTER)
    world.answers["best"] = answer = Deferred()
    assert [world.name(), world.name()] == ["good", "good"]  # nobody waits
    answer.callback(Key("best"))
    assert world.name() == "best"
    world.clock.advance(10 * BETTER)
    assert world.name() == "best"
    assert world.asked == ["absent", "best", "good"] * 2 + ["absent", "best"]
    told = [event for event in logged if "for now" in event["log_format"]]
    assert [(event["name"], event["reason"]) for event in told] == [("good", "absent: none; best: down")]


def test_what_is_good_stays_while_nobody_has_any() -> None:
    world = World("best", "good")
    world.answers.update(best=ValueError("down"), good=Key("good"))
    assert world.name() == "good"
    world.answers["good"] = ValueError("down")
    for _ in range(3):
        world.clock.advance(BETTER)
        assert world.name() == "good"
