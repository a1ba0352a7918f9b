"""
The list of upstreams: who is asked after whom, by the rules of C{GOPROXY}, and whose failure is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from athens_tx.errors import AthensError, ChecksumMismatch, FetchFailed, FetchTimeout, NotFound, RateLimited
from athens_tx.fetch.environment import Proxy, UpstreamRules
from athens_tx.fetch.pool import Pool
from athens_tx.interfaces import FetchedVersion, IFetcher, ILister, Listing, VersionFiles
from athens_tx.module.pattern import matches_any
from athens_tx.module.version import ModuleVersion

T = TypeVar("T")
Source = TypeVar("Source", IFetcher, ILister)

_DIRECT = Proxy("direct")


class _Chain(Generic[Source]):
    """Asks one after the other."""

    def __init__(self, rules: UpstreamRules, sources: Mapping[str, Source]) -> None:
        self._rules = rules
        self._sources: Mapping[str, Source] = sources

    async def first(self, path: str, ask: Callable[[Source, str], Awaitable[T]]) -> T:
        """
        @param ask: told whom to ask, and whether that is C{upstream} or C{go}.
        @return: the first answer.
        @raise AthensError: the most telling failure: that of C{direct}, or the last that is not C{NotFound}, or the
            last.
        """
        direct_only = matches_any(self._rules.no_proxy, path)
        best: tuple[int, AthensError] | None = None
        for proxy in (_DIRECT,) if direct_only else self._rules.proxies:
            if proxy.url == "off":
                failure: AthensError = NotFound(f"{path}: module lookup disabled by GOPROXY=off")
            else:
                try:
                    return await self._ask(proxy, ask)
                except ChecksumMismatch:
                    raise  # nobody else's word is taken for a module that somebody tampered with
                except (NotFound, FetchFailed, RateLimited) as error:
                    failure = error
            missing = isinstance(failure, NotFound)
            rank = 2 if proxy.url == "direct" else 0 if missing else 1
            if best is None or rank >= best[0]:
                best = rank, failure
            if not missing and not proxy.any_error:
                break
        assert best is not None, "a list of proxies is never empty"
        raise best[1]

    async def _ask(self, proxy: Proxy, ask: Callable[[Source, str], Awaitable[T]]) -> T:
        origin = "go" if proxy.url == "direct" else "upstream"
        try:
            return await ask(self._sources[proxy.url], origin)
        except AthensError as error:
            error.origin = origin
            raise


@implementer(IFetcher)
class ChainFetcher:
    """See L{IFetcher}: the first upstream that has it."""

    def __init__(self, rules: UpstreamRules, sources: Mapping[str, IFetcher]) -> None:
        """@param sources: by the URLs of C{rules}, and C{direct}."""
        self._chain = _Chain(rules, sources)

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        """See L{IFetcher.fetch}."""
        told: list[VersionFiles] = []

        def once(files: VersionFiles) -> None:
            if not told:
                told.append(files)
                known(files)

        return await self._chain.first(mv.path, lambda source, _: source.fetch(mv, once))


@implementer(ILister)
class ChainLister:
    """See L{ILister}: the first upstream that knows the module."""

    def __init__(self, rules: UpstreamRules, sources: Mapping[str, ILister]) -> None:
        """@param sources: by the URLs of C{rules}, and C{direct}."""
        self._chain = _Chain(rules, sources)

    async def listing(self, path: str) -> Listing:
        """See L{ILister.listing}."""

        async def ask(source: ILister, origin: str) -> Listing:
            return attrs.evolve(await source.listing(path), origin=origin)

        return await self._chain.first(path, ask)


class Limits:
    """A place in a pool, and a time limit that begins with it."""

    def __init__(self, reactor: Any, pool: Pool, limit_seconds: float) -> None:
        self._reactor = reactor
        self._limit = limit_seconds
        self._running: set[Deferred[Any]] = set()
        self._queued: set[str] = set()
        self._stopping = False
        self.pool = pool

    def is_queued(self, subject: str) -> bool:
        """@return: whether it has no slot yet, so that nothing is lost by giving it up."""
        return subject in self._queued

    async def run(self, subject: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """@raise FetchTimeout: it took too long; it is cancelled then, and waited for."""
        self._queued.add(subject)
        try:
            async with self.pool.slot(lambda: self._queued.discard(subject)):
                if self._stopping:
                    raise FetchFailed("the program is stopping")
                return await self._within(subject, work)
        finally:
            self._queued.discard(subject)

    async def _within(self, subject: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            running.cancel()

        running = Deferred.fromCoroutine(work())
        timer = self._reactor.callLater(self._limit, expire)
        self._running.add(running)
        try:
            return await running
        except CancelledError:
            if expired:
                raise FetchTimeout(f"{subject}: not done within {self._limit:g} s") from None
            if self._stopping:
                raise FetchFailed("the program is stopping") from None
            raise
        finally:
            self._running.discard(running)
            if timer.active():
                timer.cancel()

    def cancel_all(self) -> None:
        """End what is running, for a stop."""
        self._stopping = True
        for running in list(self._running):
            running.cancel()


@implementer(IFetcher)
class LimitedFetcher:
    """See L{IFetcher}: as many at once as a pool lets."""

    def __init__(self, inner: IFetcher, limits: Limits) -> None:
        self._inner = inner
        self._limits = limits

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        """See L{IFetcher.fetch}."""
        return await self._limits.run(str(mv), lambda: _coroutine(self._inner.fetch(mv, known)))


@implementer(ILister)
class LimitedLister:
    """See L{ILister}: as many at once as a pool lets."""

    def __init__(self, inner: ILister, limits: Limits) -> None:
        self._inner = inner
        self._limits = limits

    async def listing(self, path: str) -> Listing:
        """See L{ILister.listing}."""
        return await self._limits.run(path, lambda: _coroutine(self._inner.listing(path)))


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


def upstream_urls(rules: UpstreamRules) -> Sequence[str]:
    """@return: the URLs of the proxies in C{rules}, each once."""
    return list(dict.fromkeys(proxy.url for proxy in rules.proxies if proxy.url not in ("direct", "off")))
