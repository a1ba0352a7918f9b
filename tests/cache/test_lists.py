"""Version lists that are remembered, refreshed behind the answer, and served old while upstream fails."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.cache.lists import CachedLister
from athens_tx.errors import FetchTimeout, NotFound, UpstreamUnreachable
from athens_tx.interfaces import Listing

PATH = "example.com/a"


class HeldLister:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Listing]] = []

    async def listing(self, path: str) -> Listing:
        self.asked.append(Deferred())
        return await self.asked[-1]

    def answer(self, *versions: str) -> None:
        self.asked[-1].callback(Listing(versions, versions[-1], "2020-01-01T00:00:00Z", "upstream"))

    def fail(self, error: Exception) -> None:
        self.asked[-1].errback(error)


check = SynchronousTestCase()


class Lists:
    """A lister under a clock; C{ask} starts a question."""

    def __init__(self, ttl: float = 60.0, not_found_ttl: float = 10.0) -> None:
        self.clock, self.upstream = Clock(), HeldLister()
        self.hits: list[bool] = []
        self.cached = CachedLister(
            self.upstream, self.clock, ttl=ttl, not_found_ttl=not_found_ttl, hit=self.hits.append
        )

    def ask(self) -> Deferred[Listing]:
        return Deferred.fromCoroutine(self.cached.listing(PATH))

    def versions(self) -> tuple[str, ...]:
        return tuple(check.successResultOf(self.ask()).versions)


@pytest.fixture
def lists() -> Lists:
    return Lists()


def test_many_who_ask_at_once_ask_upstream_once(lists: Lists) -> None:
    asking = [lists.ask() for _ in range(5)]
    lists.upstream.answer("v1.0.0")
    assert [check.successResultOf(one).versions for one in asking] == [("v1.0.0",)] * 5
    assert len(lists.upstream.asked) == 1


def test_what_comes_from_memory_says_so(lists: Lists) -> None:
    asking = lists.ask()
    lists.upstream.answer("v1.0.0")
    assert [check.successResultOf(one).origin for one in (asking, lists.ask())] == ["upstream", "memory"]
    lists.clock.advance(3600)
    old = lists.ask()
    lists.upstream.fail(UpstreamUnreachable("down"))
    assert check.successResultOf(old).origin == "memory"


def test_one_who_leaves_takes_nothing_away(lists: Lists) -> None:
    first, second = lists.ask(), lists.ask()
    first.cancel()
    check.failureResultOf(first, CancelledError)
    lists.upstream.answer("v1.0.0")
    assert check.successResultOf(second).versions == ("v1.0.0",)


def test_fresh_then_refreshed_behind_the_answer_then_waited_for(lists: Lists) -> None:
    lists.ask()
    lists.upstream.answer("v1.0.0")
    lists.clock.advance(59.9)
    assert lists.versions() == ("v1.0.0",)
    assert len(lists.upstream.asked) == 1
    lists.clock.advance(0.1)
    assert lists.versions() == lists.versions() == ("v1.0.0",)
    assert len(lists.upstream.asked) == 2  # asked once, and nobody waited
    lists.upstream.answer("v1.0.0", "v1.1.0")
    assert lists.versions() == ("v1.0.0", "v1.1.0")
    lists.clock.advance(120)
    waiting = lists.ask()
    check.assertNoResult(waiting)
    lists.upstream.answer("v2.0.0")
    assert check.successResultOf(waiting).versions == ("v2.0.0",)
    assert lists.hits == [False, True, True, True, True, False]


def test_the_old_list_is_served_while_upstream_fails_and_upstream_is_left_in_peace(lists: Lists) -> None:
    lists.ask()
    lists.upstream.answer("v1.0.0")
    lists.clock.advance(3600)
    waiting = lists.ask()
    lists.upstream.fail(UpstreamUnreachable("down"))
    assert check.successResultOf(waiting).versions == ("v1.0.0",)
    assert lists.versions() == ("v1.0.0",)
    assert len(lists.upstream.asked) == 2
    lists.clock.advance(10)
    lists.ask()
    assert len(lists.upstream.asked) == 3


def test_a_failed_refresh_behind_the_answer_is_not_repeated_at_once(lists: Lists) -> None:
    lists.ask()
    lists.upstream.answer("v1.0.0")
    lists.clock.advance(61)
    assert lists.versions() == ("v1.0.0",)
    lists.upstream.fail(FetchTimeout("slow"))
    assert lists.versions() == ("v1.0.0",)
    assert len(lists.upstream.asked) == 2


def test_a_module_that_is_gone_is_not_served_from_memory(lists: Lists) -> None:
    lists.ask()
    lists.upstream.answer("v1.0.0")
    lists.clock.advance(61)
    assert lists.versions() == ("v1.0.0",)
    lists.upstream.fail(NotFound("gone"))
    check.failureResultOf(lists.ask(), NotFound)


def test_that_a_module_is_not_found_is_remembered_for_a_while(lists: Lists) -> None:
    asking = lists.ask()
    absent = NotFound("no such module")
    absent.origin = "go"
    lists.upstream.fail(absent)
    check.failureResultOf(asking, NotFound)
    lists.clock.advance(9.9)
    assert check.failureResultOf(lists.ask(), NotFound).value.origin == "go"
    assert str(check.failureResultOf(lists.ask(), NotFound).value) == "no such module"
    lists.clock.advance(0.1)
    check.assertNoResult(lists.ask())
    assert len(lists.upstream.asked) == 2


def test_off_with_0_but_still_one_question_at_a_time() -> None:
    lists = Lists(ttl=0, not_found_ttl=0)
    asking = [lists.ask(), lists.ask()]
    lists.upstream.fail(NotFound("no"))
    for one in asking:
        check.failureResultOf(one, NotFound)
    again = lists.ask()
    lists.upstream.answer("v1.0.0")
    check.successResultOf(again)
    check.assertNoResult(lists.ask())
    assert len(lists.upstream.asked) == 3


def test_what_is_no_failure_of_ours_is_logged_and_raised(lists: Lists, logged: list[dict[str, Any]]) -> None:
    asking = lists.ask()
    lists.upstream.fail(ZeroDivisionError())
    check.failureResultOf(asking, ZeroDivisionError)
    assert any(event.get("module") == PATH for event in logged)
    logged.clear()
    check.assertNoResult(lists.ask())  # it was not remembered
