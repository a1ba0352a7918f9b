"""The backends of this build: a row for each, by the value of the setting that chooses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed

from athens_tx.config import Config
from athens_tx.errors import ConfigError
from athens_tx.index.memory import MemoryIndex, NoIndex
from athens_tx.singleflight.memory import MemorySingleFlight
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.external import ExternalStorage
from athens_tx.storage.memory import MemoryStorage

#: Makes a backend, not started, from the reactor, the settings and the environment. What a backend needs beyond the
#: base is an extra, so it imports its module only here; see L{extra}.
Maker = Callable[[Any, Config, Mapping[str, str]], Any]


def _memory(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    return MemoryStorage(config.memory_storage_limit)


def _disk(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    return DiskStorage(reactor, Path(config.storage.disk.root_path), stash_limit=config.stash_timeout)


def _s3(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("s3"):
        from athens_tx.storage.s3_start import s3_storage
    return s3_storage(reactor, config.storage.s3, environ, timeout=config.timeout)


def _minio(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("s3"):
        from athens_tx.storage.minio_start import minio_storage
    return minio_storage(reactor, config.storage.minio, environ, timeout=config.timeout)


def _azureblob(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("azure"):  # whose library is imported only for a managed identity
        from athens_tx.storage.azureblob_start import azureblob_storage

        return azureblob_storage(reactor, config.storage.azure_blob, environ, timeout=config.timeout)


def _gcp(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("gcp"):
        from athens_tx.storage.gcp_start import gcp_storage
    return gcp_storage(reactor, config.storage.gcp, environ, timeout=config.timeout)


def _external(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    url, limit = config.storage.external.url, config.stash_timeout
    return ExternalStorage(reactor, url, environ, config.timeout, save_limit=limit)


def _mongo(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("mongo"):
        from athens_tx.storage.mongo import MongoStorage
        from athens_tx.storage.mongo_start import Settings
    table = config.storage.mongo
    settings = Settings(
        url=table.url,
        database=table.default_db_name,
        collection=table.default_collection_name,
        cert_path=table.cert_path,
        insecure=table.insecure_conn,
        limit=min(config.timeout, 30.0),
        stash_limit=config.stash_timeout,
    )
    return MongoStorage(reactor, settings)


def _redis(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("redis"):
        from athens_tx.singleflight.redis import redis_locks
    return redis_locks(reactor, config.single_flight.redis, environ)


def _redis_sentinel(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("redis"):
        from athens_tx.singleflight.redis_sentinel import redis_sentinel_locks
    return redis_sentinel_locks(reactor, config.single_flight.redis_sentinel, environ)


def _etcd(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    from athens_tx.singleflight.etcd import etcd_locks

    return etcd_locks(reactor, config.single_flight.etcd, environ)


def _azureblob_lock(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("azure"):
        from athens_tx.singleflight.azureblob import azureblob_locks

        return azureblob_locks(reactor, config.storage.azure_blob, environ)


def _gcp_lock(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    with extra("gcp"):
        from athens_tx.singleflight.gcp import gcp_locks
    return gcp_locks(reactor, config.storage.gcp, environ)


def _mysql(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    return _sql_index(reactor, sql_dialect(config, environ), config.index.mysql, config, environ)


def _postgres(reactor: Any, config: Config, environ: Mapping[str, str]) -> Any:
    return _sql_index(reactor, sql_dialect(config, environ), config.index.postgres, config, environ)


def sql_dialect(config: Config, environ: Mapping[str, str]) -> Any:
    """
    @return: how the database of the index is reached; C{None} where C{IndexType} wants none.
    @raise ConfigError: the settings make no sense.
    """
    if config.index_type == "mysql":
        with extra("mysql"):
            from athens_tx.index.mysql import MySqlDialect
        return MySqlDialect(config.index.mysql)
    if config.index_type == "postgres":
        with extra("postgres"):
            from athens_tx.index.postgres import PostgresDialect
        return PostgresDialect(config.index.postgres, environ)
    return None


def _sql_index(reactor: Any, dialect: Any, table: Any, config: Config, environ: Mapping[str, str]) -> Any:
    from athens_tx.index.journal import Journal
    from athens_tx.index.journal_folders import journal_folder
    from athens_tx.index.journaled import JournaledIndex
    from athens_tx.index.sql import LineTable

    base = journal_folder(config.index_journal, config.go_get_dir, environ)
    folder = base / dialect.name / f"{table.host}-{table.port}-{table.database}".replace("/", "_")
    return JournaledIndex(reactor, LineTable(reactor, dialect), Journal(folder, base=base))


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around an import: a library that is not installed is a L{ConfigError} that names the C{extra} to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("athens_tx"):
            raise
        lines = [f"the library {error.name} is not installed: install athens-tx[{name}]"]
        raise ConfigError(lines) from error


#: All other types are settings that Athens knows and we refuse by name.
STORAGES: Mapping[str, Maker] = {
    "memory": _memory,
    "disk": _disk,
    "external": _external,
    "gcp": _gcp,
    "s3": _s3,
    "minio": _minio,
    "mongo": _mongo,
    "azureblob": _azureblob,
}
INDEXES: Mapping[str, Maker] = {
    "": lambda reactor, config, environ: NoIndex(),
    "none": lambda reactor, config, environ: NoIndex(),
    "memory": lambda reactor, config, environ: MemoryIndex(),
    "mysql": _mysql,
    "postgres": _postgres,
}
#: They make an L{athens_tx.interfaces.ISingleFlight}, or an L{athens_tx.interfaces.ILocks} for the service to wrap.
LOCKS: Mapping[str, Maker] = {
    "": lambda reactor, config, environ: MemorySingleFlight(),
    "memory": lambda reactor, config, environ: MemorySingleFlight(),
    "redis": _redis,
    "redis-sentinel": _redis_sentinel,
    "etcd": _etcd,
    "gcp": _gcp_lock,
    "azureblob": _azureblob_lock,
}


def backend(kinds: Mapping[str, Maker], setting: str, kind: str) -> Maker:
    """
    @param kinds: L{STORAGES}, L{INDEXES} or L{LOCKS}; C{setting} is what chooses among them, C{kind} its value.
    @return: what makes the backend.
    @raise ConfigError: there is none of this kind.
    """
    if kind not in kinds:
        known = ", ".join(name for name in kinds if name)
        raise ConfigError([f"{setting} {kind}: this version has no such backend yet; it has {known}"])
    return kinds[kind]


class Backends:
    """Those that are open, to be closed together."""

    def __init__(self, reactor: Any, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environ = environ
        self._open: list[Any] = []

    async def open(
        self,
        kinds: Mapping[str, Maker],
        setting: str,
        kind: str,
        config: Config,
        wrap: Callable[[Any], Any] = lambda made: made,
    ) -> Any:
        """
        Make and start a backend.

        @param kinds: see L{backend}, for C{setting} and C{kind} too.
        @param wrap: makes the service of what the backend is.
        @raise ConfigError: it can't be used; L{close} closes it all the same.
        """
        service = wrap(backend(kinds, setting, kind)(self._reactor, config, self._environ))
        service.startService()
        self._open.append(service)
        # What has to connect says so by a Deferred; a Service's own startService gives none.
        await getattr(service, "ready", succeed(None))
        return service

    async def close(self) -> None:
        """Stop them all, the last one first, side by side: none has to wait until another one has said farewell."""
        stopping, self._open = [_stopped(service) for service in reversed(self._open)], []
        failures = [result for done, result in await DeferredList(stopping, consumeErrors=True) if not done]
        if failures:
            failures[0].raiseException()


def _stopped(service: Any) -> Deferred[Any]:
    return maybeDeferred(service.stopService)


def unbuilt(config: Config) -> list[str]:
    """@return: the settings that are taken and mean nothing to this version, one line each."""
    lines = []
    if config.enable_pprof:
        lines.append("EnablePprof: this version has no profiling listener; nothing listens on PprofPort")
    if config.trace_exporter:
        lines.append("TraceExporter: this version sends no traces")
    return lines
