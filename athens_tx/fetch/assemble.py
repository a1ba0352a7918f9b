"""
All of fetching, put together: what L{athens_tx.service} calls once, and closes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from athens_tx.fetch.chain import (
    ChainFetcher,
    ChainLister,
    LimitedFetcher,
    LimitedLister,
    Limits,
    upstream_urls,
)
from athens_tx.fetch.credentials import Credentials
from athens_tx.fetch.environment import GoEnvironment, GoFacts, UpstreamRules, ask_go, find_go
from athens_tx.fetch.go import Go, GoFetcher, GoLister
from athens_tx.fetch.modcache import ModCache
from athens_tx.fetch.offline import Offline
from athens_tx.fetch.outcome import Scrubber
from athens_tx.fetch.pool import Pool
from athens_tx.fetch.process import ProcessRunner
from athens_tx.fetch.proxy_files import ProxyFiles
from athens_tx.fetch.upstream import UpstreamFetcher, UpstreamLister
from athens_tx.fetch.workdir import WorkDirectory, remove_tree
from athens_tx.http_client import HttpClient
from athens_tx.interfaces import IChecksumDatabase, IFetcher, ILister

#: Seconds that go has, beyond its own limit, to end by itself before the whole fetch is cancelled.
_GRACE = 5.0

#: From a URL to the C{Authorization} that goes with it.
Authorize = Callable[[str], bytes | None]
ChecksumDatabaseFor = Callable[[HttpClient, UpstreamRules, Authorize], IChecksumDatabase | None]


@attrs.frozen
class FetchSettings:
    """
    The settings of fetching, under their names in the configuration.

    @ivar timeout: seconds for a listing; C{stash_timeout} for a fetch.
    @ivar go_get_workers: how many fetches run at once; C{protocol_workers} how many listings.
    @ivar fetch_queue_limit: how many of each may wait.
    @ivar offline: nothing is fetched or listed, and no go command is needed.
    """

    go_binary: str = "go"
    go_binary_env_vars: Sequence[str] = ("GOPROXY=direct",)
    go_get_dir: str = ""
    go_get_workers: int = 10
    protocol_workers: int = 30
    fetch_queue_limit: int = 1000
    stash_timeout: float = 600
    timeout: float = 300
    netrc_path: str = ""
    github_token: str = attrs.field(default="", repr=False)
    hgrc_path: str = ""
    no_sum_patterns: Sequence[str] = ()
    go_mod_cache_limit: int = 10 << 30
    max_zip_size: int = 500 << 20
    offline: bool = False


@attrs.frozen
class Fetching:
    """
    What fetching gives to the rest of the program.

    @ivar http: the client that upstreams are asked by; others may use it too, until L{close}.
    @ivar fetches: the pool of fetches, C{listings} that of listings, for metrics.
    @ivar rules: C{GOPROXY} and the like, as go itself sees them.
    @ivar is_queued: whether a fetch, named as C{path@version}, still waits for its turn.
    @ivar authorize: the logins of C{.netrc}.
    @ivar stage: makes an empty directory that is removed at L{close}.
    @ivar go: what go said of itself; nothing where it was not asked, since nothing is fetched.
    """

    fetcher: IFetcher
    lister: ILister
    http: HttpClient
    rules: UpstreamRules
    authorize: Authorize
    go: GoFacts
    is_queued: Callable[[str], bool]
    stage: Callable[[], Deferred[Path]]
    fetches: Pool
    listings: Pool
    _reload: Callable[[], Deferred[None]]
    _close: Callable[[], Deferred[None]]

    async def reload_credentials(self) -> None:
        """
        Read C{NETRCPath} and C{HGRCPath} again.

        @raise ConfigError: one can't be read; what was there stays.
        """
        await self._reload()

    async def close(self) -> None:
        """End all that runs, and remove the credentials and what is staged. Nothing may be asked for afterwards."""
        await self._close()


async def make_fetching(
    reactor: Any,
    environ: Mapping[str, str],
    settings: FetchSettings,
    checksum_database: ChecksumDatabaseFor = lambda client, rules, authorize: None,
) -> Fetching:
    """
    @param environ: the environment of the daemon.
    @param checksum_database: makes what versions from upstream proxies are compared with, from the client, C{GOSUMDB}
        and the logins of C{.netrc}, unless that is C{off}; go itself asks for those it fetches. It is asked for no
        module that C{GONOSUMDB} names.
    @raise ConfigError: a setting of these is wrong, a file can't be read, or there is no go that is fit.
    """
    parts = _Parts(reactor, environ, settings)
    try:
        await parts.open()
        database = None
        if parts.rules.sumdb != "off":
            database = checksum_database(parts.client, parts.rules, parts.authorize)
        return parts.fetching(database)
    except BaseException:
        await parts.close()
        raise


class _Parts:
    """What has to be opened before anything can be fetched, and closed again."""

    def __init__(self, reactor: Any, environ: Mapping[str, str], settings: FetchSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._program = "" if settings.offline else find_go(settings.go_binary, environ)
        self._runner = ProcessRunner(reactor)
        self._work = WorkDirectory(settings.go_get_dir)
        self._variables = variables = dict(item.partition("=")[::2] for item in settings.go_binary_env_vars)
        self._credentials = Credentials(
            {**environ, **variables},
            lambda: self._work.home,
            netrc_path=settings.netrc_path,
            github_token=settings.github_token,
            hgrc_path=settings.hgrc_path,
            netrc_variable=variables.get("NETRC", ""),
        )
        self._scrubber = Scrubber(self._credentials.secrets)
        self._environment = GoEnvironment(
            environ,
            settings.go_binary_env_vars,
            settings.no_sum_patterns,
            self._work,
            lambda: self._credentials.home,
        )
        self._limits: list[Limits] = []
        self._cache: ModCache | None = None
        self.client = HttpClient(reactor, environ)
        self.authorize: Authorize = self._credentials.authorization

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)

    async def open(self) -> None:
        """Take the directories, put the credentials in place, and ask go what it is."""
        await self._in_thread(self._work.open)
        await self._in_thread(self._credentials.load)
        if self._settings.offline:
            self._facts, self.rules = GoFacts("", {}), self._offline_rules()
            return
        folder = await self._in_thread(self._work.stage)
        try:
            self._facts = await ask_go(self._runner, self._program, self._environment, folder)
        finally:
            await self._in_thread(remove_tree, folder)
        self.rules = UpstreamRules.from_env(self._facts.env)

    def _offline_rules(self) -> UpstreamRules:
        """@return: what go would say of the checksum database, whose answers of before are still good, and no proxy."""
        usual = {"GOSUMDB": "sum.golang.org", "GONOSUMDB": ",".join(self._settings.no_sum_patterns)}
        return UpstreamRules.from_env({**usual, **self._variables, "GOPROXY": "off"})

    async def close(self) -> None:
        """End what runs, then remove what it used. More than once is harmless."""
        for limits in self._limits:
            limits.cancel_all()
        await self._runner.stop_all()
        await self.client.close()
        if self._cache is not None:
            await self._cache.settle()
        await self._in_thread(self._credentials.close)
        await self._in_thread(self._work.close)

    def fetching(self, checksums: IChecksumDatabase | None) -> Fetching:
        """@return: everything, ready."""
        settings = self._settings
        fetcher, lister = self._sources(checksums)
        fetches = self._limited(settings.go_get_workers, settings.stash_timeout)
        listings = self._limited(settings.protocol_workers, settings.timeout)
        return Fetching(
            fetcher=LimitedFetcher(fetcher, fetches),
            lister=LimitedLister(lister, listings),
            http=self.client,
            rules=self.rules,
            authorize=self.authorize,
            go=self._facts,
            is_queued=fetches.is_queued,
            stage=lambda: self._in_thread(self._work.stage),
            fetches=fetches.pool,
            listings=listings.pool,
            reload=lambda: self._in_thread(self._credentials.load),
            close=lambda: Deferred.fromCoroutine(self.close()),
        )

    def _sources(self, checksums: IChecksumDatabase | None) -> tuple[IFetcher, ILister]:
        if self._settings.offline:
            return Offline(), Offline()
        fetchers, listers = self._upstreams(checksums)
        fetchers["direct"], listers["direct"] = self._direct()
        return ChainFetcher(self.rules, fetchers), ChainLister(self.rules, listers)

    def _limited(self, workers: int, seconds: float) -> Limits:
        pool = Pool(workers, self._settings.fetch_queue_limit, clock=self._reactor, wait_limit=seconds)
        limits = Limits(self._reactor, pool, seconds + _GRACE)
        self._limits.append(limits)
        return limits

    def _direct(self) -> tuple[IFetcher, ILister]:
        settings = self._settings
        self._cache = ModCache(self._reactor, self._work.modcache, settings.go_mod_cache_limit)
        go = Go(
            self._reactor,
            self._runner,
            self._program,
            self._environment,
            self._work,
            self._cache,
            self._scrubber,
            behind_proxies=bool(upstream_urls(self.rules)),
        )
        fetcher = GoFetcher(go, limit_seconds=settings.stash_timeout, max_zip_size=settings.max_zip_size)
        return fetcher, GoLister(go, limit_seconds=settings.timeout)

    def _upstreams(self, checksums: IChecksumDatabase | None) -> tuple[dict[str, IFetcher], dict[str, ILister]]:
        fetchers: dict[str, IFetcher] = {}
        listers: dict[str, ILister] = {}
        for url in upstream_urls(self.rules):
            fetchers[url] = UpstreamFetcher(
                self._files(url, self._settings.stash_timeout),
                self._work,
                max_zip_size=self._settings.max_zip_size,
                checksums=checksums,
                no_sumdb=self.rules.no_sumdb,
            )
            listers[url] = UpstreamLister(self._files(url, self._settings.timeout))
        return fetchers, listers

    def _files(self, url: str, seconds: float) -> ProxyFiles:
        authorization = self._credentials.authorization
        return ProxyFiles(self._reactor, self.client, url, authorization, self._scrubber, limit_seconds=seconds)
