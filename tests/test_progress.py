"""Some at once, each in its turn, and nothing under way when it is over."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import EMPTY_PAGES, Pages, Walk, each, shown, walk

check = SynchronousTestCase()
VERSIONS = [ModuleVersion("example.com/a", f"v1.{minor}.0") for minor in range(7)]


class Work:
    """Work that ends when the test says so."""

    def __init__(self) -> None:
        self.under_way: dict[ModuleVersion, Deferred[None]] = {}
        self.most = 0
        self.cancelled: list[ModuleVersion] = []
        self.tidying: Deferred[None] | None = None
        self.stopping = 0

    async def do(self, mv: ModuleVersion) -> None:
        self.under_way[mv] = Deferred()
        self.most = max(self.most, len(self.under_way))
        try:
            await self.under_way[mv]
        except CancelledError:
            self.cancelled.append(mv)
            if self.tidying is not None:
                await self.tidying
            raise
        finally:
            del self.under_way[mv]

    def stop(self) -> None:
        self.stopping += 1

    def start(self, versions: Walk, parallel: int = 3) -> Deferred[None]:
        return Deferred.fromCoroutine(
            each(versions, self.do, "working", quiet=True, parallel=parallel, stopping=self.stop)
        )


def test_so_many_at_once_and_the_next_one_when_one_is_done() -> None:
    work = Work()
    done = work.start(walk(VERSIONS))
    assert list(work.under_way) == VERSIONS[:3]
    work.under_way[VERSIONS[1]].callback(None)
    assert list(work.under_way) == [VERSIONS[0], VERSIONS[2], VERSIONS[3]]
    while work.under_way:
        next(iter(work.under_way.values())).callback(None)
    check.successResultOf(done)
    assert (work.most, work.stopping) == (3, 0)


def test_no_more_is_taken_from_a_walk_than_is_worked_on() -> None:
    taken: list[ModuleVersion] = []

    async def counted() -> Walk:
        for mv in VERSIONS:
            taken.append(mv)
            yield mv

    work = Work()
    done = work.start(counted(), 2)
    assert taken == VERSIONS[:2]
    done.cancel()
    check.failureResultOf(done, CancelledError)
    assert taken == VERSIONS[:2]


def test_a_failure_cancels_the_others_and_is_told_when_they_are_over() -> None:
    work = Work()
    work.tidying = Deferred()
    done = work.start(walk(VERSIONS))
    work.under_way[VERSIONS[0]].errback(ValueError("broken"))
    assert work.cancelled == VERSIONS[1:3]
    assert not done.called
    assert work.stopping == 1
    work.tidying.callback(None)
    check.failureResultOf(done, ValueError)


def test_what_is_tidied_up_is_not_cut_short() -> None:
    work = Work()
    waiting: list[Deferred[None]] = []

    async def do(mv: ModuleVersion) -> None:
        try:
            await Deferred()
        except CancelledError:
            waiting.append(Deferred())
            await waiting[-1]
            raise

    done = Deferred.fromCoroutine(each(walk(VERSIONS), do, "working", quiet=True, parallel=2, stopping=work.stop))
    ended: list[object] = []
    done.addBoth(ended.append)
    done.cancel()
    done.cancel()
    assert len(waiting) == 2
    waiting[0].callback(None)
    assert not ended
    waiting[1].callback(None)
    [failure] = ended
    assert isinstance(failure, Failure)
    assert failure.check(CancelledError)
    assert work.stopping == 1


def test_a_walk_that_fails_at_once_fails_it() -> None:
    async def broken() -> Walk:
        raise ValueError("no catalog")
        yield VERSIONS[0]

    check.failureResultOf(Work().start(broken()), ValueError)


def test_a_walk_that_fails_later_cancels_what_is_under_way() -> None:
    more: Deferred[None] = Deferred()

    async def breaking() -> Walk:
        yield VERSIONS[0]
        await more
        raise ValueError("the catalog ended")

    work = Work()
    done = work.start(breaking())
    assert list(work.under_way) == VERSIONS[:1]
    more.callback(None)
    check.failureResultOf(done, ValueError)
    assert work.cancelled == VERSIONS[:1]


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_work_that_needs_no_waiting(count: int) -> None:
    done: list[ModuleVersion] = []

    async def do(mv: ModuleVersion) -> None:
        done.append(mv)

    check.successResultOf(Deferred.fromCoroutine(each(walk(VERSIONS[:count]), do, "w", quiet=False, total=count)))
    assert done == VERSIONS[:count]


def test_names_are_shown_on_one_line_and_can_be_encoded() -> None:
    assert shown("ex.com/é@v1.0.0: no") == "ex.com/é@v1.0.0: no"
    assert shown("a\x1b[2J\nb\u202ec\ud800") == "a\\x1b[2J\\nb\\u202ec\\ud800"


def test_a_walk_in_circles_ends() -> None:
    pages = Pages()
    for token in ("a", "b"):
        pages.turn(VERSIONS, token)
    pages.turn(VERSIONS, "")
    with pytest.raises(StorageUnavailable, match="circles"):
        pages.turn(VERSIONS, "a")


def test_a_walk_that_finds_nothing_ends() -> None:
    pages = Pages()
    for number in range(EMPTY_PAGES):
        pages.turn([], f"a{number}")
    pages.turn(VERSIONS, "b")
    for number in range(EMPTY_PAGES):
        pages.turn([], f"c{number}")
    with pytest.raises(StorageUnavailable, match="empty pages"):
        pages.turn([], "d")
