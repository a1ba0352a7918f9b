"""
The composition root: the one place that knows every room, and plugs them together for some settings.

What the rooms say of each other stands in L{athens_tx.interfaces}; how the whole lives, in L{athens_tx.daemon}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from athens_tx import __version__
from athens_tx.backends import INDEXES, LOCKS, STORAGES, Backends, unbuilt
from athens_tx.cache.lists import CachedLister
from athens_tx.config import Config
from athens_tx.errors import ConfigError, Problems
from athens_tx.fetch.assemble import Authorize, Fetching, FetchSettings, make_fetching
from athens_tx.fetch.environment import UpstreamRules
from athens_tx.fetch.pool import Pool
from athens_tx.http_client import HttpClient
from athens_tx.interfaces import (
    FetchedVersion,
    IChecksumDatabase,
    IFindsIncomplete,
    ILagging,
    ILinks,
    ILocks,
    ISingleFlight,
    IStorage,
)
from athens_tx.listening import Listening, ServerCertificate
from athens_tx.module.version import ModuleVersion
from athens_tx.observe.lister import MeteredLister
from athens_tx.observe.metrics import Metrics
from athens_tx.observe.reactor import ReactorWatch
from athens_tx.observe.storage import MeteredStorage
from athens_tx.policy.download_mode import DownloadModes
from athens_tx.policy.filter import Filter
from athens_tx.policy.gate import Gate, ReloadableModes, load_filter
from athens_tx.policy.validator import ValidatorHook
from athens_tx.protocol import Protocol
from athens_tx.singleflight.assemble import across_processes
from athens_tx.stash import Stash
from athens_tx.storage.body import FileZip
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.client import SumDBClient
from athens_tx.sumdb.database import Database, parse_databases
from athens_tx.sumdb.proxy import SumDBProxy
from athens_tx.sumdb.reach import Reach
from athens_tx.sumdb.source import Source
from athens_tx.web.app import make_site
from athens_tx.web.settings import WebSettings
from athens_tx.web.site import WebSite

#: Threads of the pool beyond those that fetches may be using.
SPARE_THREADS = 20


class Assembly:
    """
    The rooms, plugged together.

    @ivar storage: with its metrics around it.
    @ivar stash: fetches and keeps.
    @ivar fetching: C{None} for a command that asks nobody.
    @ivar checksums: what C{GOSUMDB} names; C{None} where it is off.
    @ivar lock: keeps two fetchers off one version; only where something may be fetched.
    @ivar gate: the organisation's say; only where something may be fetched.
    @ivar incomplete: the storage, if it can tell of versions that lack a file.
    @ivar site: what to listen with, after L{start}.
    """

    site: WebSite
    gate: Gate
    stash: Stash
    storage: IStorage
    incomplete: IFindsIncomplete | None
    lock: ISingleFlight
    listening: Listening

    def __init__(self, reactor: Any, config: Config, environ: Mapping[str, str]) -> None:
        self.reactor = reactor
        self.config = config
        self.checksums: IChecksumDatabase | None = None
        self.metrics: Metrics | None = None
        if config.stats_exporter == "prometheus":
            self.metrics = Metrics(scheme="https" if config.tls_cert_file and config.tls_key_file else "http")
        self._environ = environ
        self._backends = Backends(reactor, environ)
        self._watches: list[ReactorWatch] = []
        self._reloads: list[Callable[[], Awaitable[object]]] = []
        self.fetching: Fetching | None = None
        self._turns: Pool | None = None
        self._sumdb_store = Store(reactor, Path(config.sum_db_cache_dir) if config.sum_db_cache_dir else None)
        self._sources: dict[Database, Source] = {}

    # -- start

    async def start(self, *, serving: bool = True, fetching: bool = True) -> None:
        """
        Connect everything to everything.

        @param serving: C{False} for a command that answers no requests.
        @param fetching: C{False} for a command that only works on the storage.
        @raise ConfigError: all that is wrong.
        """
        config, problems, open_ = self.config, Problems(), self._backends.open
        # Reads of storage must not wait for zips that are being hashed: those have a thread each, and some are left.
        self.reactor.suggestThreadPoolSize(config.go_get_workers + SPARE_THREADS)
        storage = await problems.caught(open_, STORAGES, "StorageType", config.storage_type, config)
        self.index = await problems.caught(open_, INDEXES, "IndexType", config.index_type, config)
        if fetching:
            kind, wrap = config.single_flight_type, self._across_processes
            self.lock = await problems.caught(open_, LOCKS, "SingleFlightType", kind, config, wrap)
            certificate = await problems.caught(self._certificate)
            rules = await problems.caught(self._gate_files)
            modes = await problems.caught(self._modes)
            databases = await problems.caught(parse_databases, config.sum_dbs)
            self.fetching = await problems.caught(self._make_fetching)
        problems.raise_them()
        self.storage = MeteredStorage(storage, self.metrics, self.reactor) if self.metrics is not None else storage
        if ILagging.providedBy(self.index):
            self.index.watch(self._exists, config.stash_timeout)
        self.incomplete = storage if IFindsIncomplete.providedBy(storage) else None
        if self.fetching is None:
            return
        self.gate = self._make_gate(rules, self.fetching)
        self._make_stash(self.fetching)
        if serving:
            self.listening = Listening(config.port, config.unix_socket, certificate)
            staging = await self.fetching.stage() if config.external_storage_path else None
            self._make_site(modes, databases, staging)
            self._watch()

    def _across_processes(self, made: Any) -> Any:
        """@return: the single flight over a lock service; what is one already, as it is."""
        if not ILocks.providedBy(made):
            return made
        flight, self._turns = across_processes(self.reactor, made, self.config, self._exists, self.metrics)
        return flight

    async def _exists(self, mv: ModuleVersion) -> bool:
        return await self.storage.exists(mv)

    def _certificate(self) -> ServerCertificate | None:
        config = self.config
        if not (config.tls_cert_file and config.tls_key_file):
            return None
        certificate = ServerCertificate(Path(config.tls_cert_file), Path(config.tls_key_file))
        self._reloads.append(_async(certificate.reload))
        return certificate

    def _gate_files(self) -> Callable[[], Filter]:
        """Read the filter file once, so that what is wrong with it is known with all else; the gate reads it again."""
        config = self.config

        def load() -> Filter:
            read, exact = read_text, config.filter_exact_versions
            return load_filter(config.filter_file, config.global_endpoint, exact=exact, read=read)

        load()
        return load

    def _modes(self) -> ReloadableModes:
        config = self.config
        modes = ReloadableModes(
            self.reactor, lambda: DownloadModes.parse(config.download_mode, config.download_url, read=read_text)
        )
        self._reloads.append(modes.reload)
        return modes

    async def _make_fetching(self) -> Fetching:
        config = self.config
        settings = FetchSettings(
            go_binary=config.go_binary,
            go_binary_env_vars=config.go_binary_env_vars,
            go_get_dir=config.go_get_dir,
            go_get_workers=config.go_get_workers,
            protocol_workers=config.protocol_workers,
            fetch_queue_limit=config.fetch_queue_limit,
            stash_timeout=config.stash_timeout,
            timeout=config.timeout,
            netrc_path=config.netrc_path,
            github_token=config.github_token,
            hgrc_path=config.hgrc_path,
            no_sum_patterns=config.no_sum_patterns,
            go_mod_cache_limit=config.go_mod_cache_limit,
            max_zip_size=config.max_zip_size,
            offline=config.network_mode == "offline",
        )
        fetching = await make_fetching(self.reactor, self._environ, settings, self._checksum_database)
        self._reloads.append(fetching.reload_credentials)
        return fetching

    # -- the rooms behind the web

    def _checksum_database(self, client: HttpClient, rules: UpstreamRules, authorize: Authorize) -> IChecksumDatabase:
        """What versions from upstream proxies are compared with: the database of C{GOSUMDB}, as go would."""
        try:
            database = Database.parse(rules.sumdb)
        except ValueError as error:
            raise ConfigError([f"GoBinaryEnvVars: GOSUMDB: {error}"]) from error
        self.checksums = SumDBClient(self._source(database, client, rules, authorize))
        return self.checksums

    def _source(self, database: Database, client: HttpClient, rules: UpstreamRules, authorize: Authorize) -> Source:
        """@return: the one source of a database, whoever asks for it."""
        source = self._sources.get(database)
        if source is None:
            proxies = [proxy.url for proxy in rules.proxies]
            offline = self.config.network_mode == "offline"
            reach = None if offline else Reach(database, proxies, client, self.reactor, authorize=_headers(authorize))
            source = self._sources[database] = Source(database, self._sumdb_store, reach)
        return source

    def _make_stash(self, fetching: Fetching) -> None:
        config, metrics = self.config, self.metrics
        lister = fetching.lister
        if metrics is not None:
            lister = MeteredLister(lister, metrics, self.reactor)
        self.lister = CachedLister(
            lister,
            self.reactor,
            ttl=config.list_cache_ttl,
            not_found_ttl=config.not_found_ttl,
            hit=lambda hit: metrics.cache_lookup("list", hit) if metrics is not None else None,
        )
        self.stash = Stash(
            fetcher=fetching.fetcher,
            storage=self.storage,
            single_flight=self.lock,
            index=self.index,
            clock=self.reactor,
            admit=self.gate.admit,
            zip_body=self._zip_body,
            limit=config.stash_timeout,
            is_queued=fetching.is_queued,
            fetched=metrics.fetch if metrics is not None else lambda kind, outcome, seconds: None,
        )

    def _zip_body(self, fetched: FetchedVersion) -> FileZip:
        return FileZip(self.reactor, fetched.zip, fetched.zip.stat().st_size)

    def _make_gate(self, load: Callable[[], Filter], fetching: Fetching) -> Gate:
        config, hook = self.config, None
        if config.validator_hook:
            limits = {"timeout": config.validator_timeout, "cache_ttl": config.validator_cache_ttl}
            hook = ValidatorHook(fetching.http, config.validator_hook, self.reactor, **limits)
        gate = Gate(
            self.reactor,
            load,
            global_endpoint=config.global_endpoint,
            filter_lists=config.filter_lists,
            hook=hook,
        )
        self._reloads.append(gate.reload)
        return gate

    def _make_site(self, modes: ReloadableModes, databases: Sequence[Database], staging: Path | None) -> None:
        config, metrics, fetching = self.config, self.metrics, self.fetching
        assert fetching is not None
        protocol = Protocol(
            storage=self.storage,
            links=ILinks(self.storage, None),
            stash=self.stash,
            lister=self.lister,
            modes=modes,
            clock=self.reactor,
            network_mode=config.network_mode,
            listed=self.gate.listed,
            admit=self.gate.admit,
            not_found_ttl=config.not_found_ttl,
            query_ttl=config.list_cache_ttl,
            looked_up=metrics.cache_lookup if metrics is not None else lambda kind, hit: None,
        )
        reach = (fetching.http, fetching.rules, fetching.authorize)
        sources = [self._source(database, *reach) for database in databases]
        self.site = make_site(
            reactor=self.reactor,
            settings=self._web_settings(),
            protocol=protocol,
            gate=self.gate,
            storage=self.storage,
            index=self.index,
            lock=self.lock,
            sumdb=SumDBProxy(sources, config.no_sum_patterns),
            metrics=metrics,
            staging=staging,
        )

    def _web_settings(self) -> WebSettings:
        config = self.config
        return WebSettings(
            path_prefix=config.path_prefix,
            basic_auth_user=config.basic_auth_user,
            basic_auth_pass=config.basic_auth_pass,
            force_ssl=config.force_ssl,
            home_template_path=config.home_template_path,
            robots_file=config.robots_file,
            no_sum_patterns=config.no_sum_patterns,  # type: ignore[arg-type]  # attrs' converter
            gateway_errors=config.upstream_errors == "gateway",
            header_timeout=config.header_timeout,
            idle_timeout=config.idle_timeout,
            external_storage_path=config.external_storage_path,
            max_zip_size=config.max_zip_size,
            save_limit=config.stash_timeout,
            version=__version__,
        )

    def _watch(self) -> None:
        """Show what is under way in the metrics."""
        if self.metrics is None or self.fetching is None:
            return
        for name, pool in (("fetches", self.fetching.fetches), ("listings", self.fetching.listings)):
            self.metrics.gauge(f"athens_{name}_in_flight", f"Running {name}.", partial(getattr, pool, "in_flight"))
        fetches, listings, turns = self.fetching.fetches, self.fetching.listings, self._turns
        queued = (lambda: fetches.queued) if turns is None else lambda: fetches.queued + turns.queued
        self.metrics.gauge("athens_fetches_queued", "Waiting fetches.", queued)
        self.metrics.gauge("athens_listings_queued", "Waiting listings.", lambda: listings.queued)
        if ILagging.providedBy(self.index):
            what = "Lines on their way to the index."
            self.metrics.gauge("athens_index_lag_lines", what, self.index.lag_lines)
            what = "How long the oldest line is on its way to the index."
            self.metrics.gauge("athens_index_lag_seconds", what, self.index.lag_seconds)
            what = "Lines that found no room on their way to the index."
            self.metrics.gauge("athens_index_lost_lines", what, lambda: self.index.lost)
            self.metrics.degraded("index", lambda: self.index.trouble)
        watch = ReactorWatch(self.reactor, self.metrics)
        watch.startService()
        self._watches.append(watch)

    # -- while it runs

    def unbuilt(self) -> list[str]:
        """@return: the settings that are taken and mean nothing to this version, one line each."""
        return unbuilt(self.config)

    def healthy(self) -> bool:
        """@return: whether systemd's watchdog may be content; that it could ask shows that the reactor turns."""
        return True

    async def reload(self) -> tuple[list[str], int]:
        """
        Read the files of the policy, the credentials and the TLS certificate again, each for itself.

        @return: what was refused and is not in the log yet; and how many files were refused that are.
        """
        problems: list[str] = []
        logged = 0
        for reload in self._reloads:
            try:
                logged += await reload() is False
            except ConfigError as error:
                problems += error.problems
        return problems, logged

    # -- stop

    async def finish(self) -> None:
        """Answer what was asked, and store what is being fetched. Nobody listens any more."""
        if not hasattr(self, "site"):
            return  # the start failed, or was cut short: nobody could ask anything
        await self.site.drain()
        await self.stash.drain()

    async def stop(self) -> None:
        """Cut what is left, end all children, remove what is temporary; harmless at any moment."""
        if hasattr(self, "site"):
            self.site.abort()
        if hasattr(self, "stash"):
            self.stash.cancel()
        if self.fetching is not None:
            await self.fetching.close()
        await self._sumdb_store.settle()
        for watch in self._watches:
            watch.stopService()
        await self._backends.close()


def assemble(reactor: Any, config: Config, environ: Mapping[str, str]) -> Assembly:
    """@return: the rooms for these settings, not started."""
    return Assembly(reactor, config, environ)


def read_text(path: Path) -> str:
    """@return: the text of a file of the policy."""
    return path.read_text("utf-8")


def _headers(authorize: Authorize) -> Callable[[str], Mapping[str, str]]:
    def headers(url: str) -> Mapping[str, str]:
        login = authorize(url)
        return {} if login is None else {"Authorization": login.decode("ascii")}

    return headers


def _async(function: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def call() -> object:
        return function()

    return call
