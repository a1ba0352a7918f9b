"""The order of upstreams, whose failure is told, and the limits around it all."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from athens_tx.errors import (
    AthensError,
    ChecksumMismatch,
    FetchFailed,
    FetchTimeout,
    NotFound,
    Overloaded,
    RateLimited,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.fetch.chain import ChainFetcher, ChainLister, LimitedFetcher, LimitedLister, Limits, upstream_urls
from athens_tx.fetch.environment import UpstreamRules, parse_goproxy
from athens_tx.fetch.pool import Pool
from athens_tx.interfaces import IFetcher, ILister, Listing, VersionFiles
from athens_tx.module.version import ModuleVersion

MV = ModuleVersion("a.test/m", "v1.0.0")
A, B = "https://a", "https://b"


class Source:
    """Answers, or fails."""

    def __init__(self, name: str, failure: AthensError | None = None, asked: list[str] | None = None) -> None:
        self.name, self.failure = name, failure
        self.asked = [] if asked is None else asked

    async def fetch(self, mv: ModuleVersion, known: Any) -> Any:
        self.asked.append(self.name)
        known(VersionFiles(mv, self.name.encode(), b""))
        if self.failure is not None:
            raise self.failure
        return self.name

    async def listing(self, path: str) -> Listing:
        self.asked.append(self.name)
        if self.failure is not None:
            raise self.failure
        return Listing((), self.name, "")


GONE, DOWN, NO, BAD = NotFound("gone"), UpstreamUnreachable("down"), UpstreamForbidden("no"), ChecksumMismatch("bad")
SLOW, FULL = RateLimited("slow"), Overloaded("full")


@pytest.mark.parametrize(
    ("goproxy", "failures", "asked", "outcome"),
    [
        (f"{A},{B},direct", {}, [A], A),
        (f"{A},{B},direct", {A: GONE}, [A, B], B),
        (f"{A},{B},direct", {A: GONE, B: GONE}, [A, B, "direct"], "direct"),
        (f"{A},{B},direct", {A: DOWN}, [A], DOWN),
        (f"{A},{B},direct", {A: SLOW}, [A], SLOW),
        (f"{A}|{B},direct", {A: DOWN}, [A, B], B),
        (f"{A}|{B},direct", {A: DOWN, B: GONE}, [A, B, "direct"], "direct"),
        (f"{A}|{B}", {A: DOWN, B: GONE}, [A, B], DOWN),
        (f"{A}|{B}", {A: GONE, B: DOWN}, [A, B], DOWN),
        (f"{A}|{B}", {A: DOWN, B: NO}, [A, B], NO),
        (f"{A}|{B}|direct", {A: DOWN, B: NO, "direct": GONE}, [A, B, "direct"], GONE),
        (f"{A},direct", {A: GONE, "direct": NO}, [A, "direct"], NO),
        (f"{A}|{B}", {A: BAD}, [A], BAD),
        (f"{A}|{B}", {A: FULL}, [A], FULL),
        (f"{A},off", {A: GONE}, [A], "disabled by GOPROXY=off"),
        ("off", {}, [], "disabled by GOPROXY=off"),
        (f"{A}|off", {A: DOWN}, [A], DOWN),
        ("direct", {}, ["direct"], "direct"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_rules_of_goproxy(
    goproxy: str, failures: dict[str, AthensError], asked: list[str], outcome: Any
) -> None:
    rules = UpstreamRules(parse_goproxy(goproxy))
    order: list[str] = []
    sources = {name: Source(name, failures.get(name), order) for name in (A, B, "direct")}
    known: list[VersionFiles] = []
    for ask in (
        lambda: ChainFetcher(rules, sources).fetch(MV, known.append),  # type: ignore[arg-type]
        lambda: ChainLister(rules, sources).listing(MV.path),  # type: ignore[arg-type]
    ):
        result = ask()
        if isinstance(outcome, AthensError):
            with pytest.raises(type(outcome)) as caught:
                await result
            assert caught.value is outcome
        elif outcome.startswith("disabled"):
            with pytest.raises(NotFound, match=outcome):
                await result
        else:
            got = await result
            assert outcome in (got, getattr(got, "latest", None))
        assert order == asked
        order.clear()
    assert len(known) == min(1, len(asked))  # at most once, whoever is asked afterwards


@pytest.mark.parametrize(("goproxy", "origin"), [(A, "upstream"), (f"{A},direct", "go"), ("off", "")])
@pytest_twisted.ensureDeferred
async def test_an_answer_and_a_failure_say_who_was_asked(goproxy: str, origin: str) -> None:
    rules = UpstreamRules(parse_goproxy(goproxy))
    failing = {A: Source(A, NotFound("gone")), "direct": Source("direct", NotFound("gone"))}
    for ask in (
        lambda: ChainFetcher(rules, failing).fetch(MV, lambda files: None),  # type: ignore[arg-type]
        lambda: ChainLister(rules, failing).listing(MV.path),  # type: ignore[arg-type]
    ):
        with pytest.raises(NotFound) as caught:
            await ask()
        assert caught.value.origin == origin
    if origin:
        last = "direct" if origin == "go" else A
        answering = {**failing, last: Source(last)}
        assert (await ChainLister(rules, answering).listing(MV.path)).origin == origin  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_private_modules_are_fetched_directly_even_with_off() -> None:
    order: list[str] = []
    sources = {name: Source(name, None, order) for name in (A, "direct")}
    for goproxy in (A, "off", f"{A},direct"):
        rules = UpstreamRules(parse_goproxy(goproxy), no_proxy=("a.test/*",))
        await ChainFetcher(rules, sources).fetch(MV, lambda files: None)  # type: ignore[arg-type]
    assert order == ["direct"] * 3
    assert upstream_urls(UpstreamRules(parse_goproxy(f"{A},{B}|{A},off"))) == [A, B]


class Slow:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []

    async def fetch(self, mv: ModuleVersion, known: Any) -> Any:
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    async def listing(self, path: str) -> Any:
        return await self.fetch(MV, None)


@pytest_twisted.ensureDeferred
async def test_a_pool_and_a_time_limit() -> None:
    slow = Slow()
    limits = Limits(reactor, Pool(1, 1), 0.1)
    fetcher, lister = LimitedFetcher(slow, limits), LimitedLister(slow, limits)  # type: ignore[arg-type]
    assert verifyObject(IFetcher, fetcher)
    assert verifyObject(ILister, lister)
    first = Deferred.fromCoroutine(fetcher.fetch(MV, lambda files: None))
    second = Deferred.fromCoroutine(lister.listing(MV.path))
    assert (limits.pool.in_flight, limits.pool.queued) == (1, 1)
    with pytest.raises(Overloaded):
        await fetcher.fetch(MV, lambda files: None)
    with pytest.raises(FetchTimeout, match=r"a\.test/m@v1\.0\.0: not done within 0\.1 s"):
        await first
    assert len(slow.waiting) == 2
    slow.waiting[1].callback("done")
    assert await second == "done"
    assert limits.pool.in_flight == 0


@pytest_twisted.ensureDeferred
async def test_leaving_and_stopping() -> None:
    slow = Slow()
    limits = Limits(reactor, Pool(2, 5), 5)
    fetcher = LimitedFetcher(slow, limits)  # type: ignore[arg-type]
    works = [Deferred.fromCoroutine(fetcher.fetch(MV, lambda files: None)) for _ in range(3)]
    works[0].cancel()
    with pytest.raises(CancelledError):
        await works[0]
    assert len(slow.waiting) == 3
    limits.cancel_all()
    for work in works[1:]:
        with pytest.raises(FetchFailed, match="stopping"):
            await work
    with pytest.raises(FetchFailed, match="stopping"):
        await fetcher.fetch(MV, lambda files: None)
