"""How a MongoDB storage begins: from its settings to a database that works, or to the line that says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.storage.gridfs import GridFS, until
from athens_tx.storage.mongo_collection import Collection
from athens_tx.storage.mongo_link import Dialer
from athens_tx.storage.mongo_pool import Pool
from athens_tx.storage.mongo_srv import Srv
from athens_tx.storage.mongo_url import SETTING, Host, parse_url, refused, target

_CERT_PATH = "Storage.Mongo.CertPath (ATHENS_MONGO_CERT_PATH)"

#: Seconds to find the server; to wait for indexes, and until they are given up.
_START_LIMIT = 25.0
_INDEX_WAIT = 10.0
_INDEX_LIMIT = 3600.0

log = Logger()


@attrs.frozen
class Settings:
    """
    @ivar url: the connection string.
    @ivar insecure: works with C{cert_path} only.
    @ivar limit: seconds for a command, with all its attempts.
    @ivar stash_limit: seconds that a save takes at most.
    @ivar name_servers: whom to ask for C{mongodb+srv} URLs, if not the machine's.
    """

    url: str = attrs.field(repr=False)
    database: str = "athens"
    collection: str = "modules"
    cert_path: str = ""
    insecure: bool = False
    limit: float = 30.0
    stash_limit: float = 600.0
    name_servers: Sequence[tuple[str, int]] | None = None


@attrs.frozen
class Opened:
    """A database that works."""

    pool: Pool
    modules: Collection
    grid: GridFS


async def open_database(reactor: Any, settings: Settings, wall: Callable[[], float]) -> Opened:
    """
    Connect, and see to the indexes.

    @raise ConfigError: it can't be done with these settings.
    """
    begun = reactor.seconds()
    try:
        pool = await Deferred.fromCoroutine(_pool(reactor, settings)).addTimeout(_START_LIMIT, reactor)
    except StorageUnavailable as error:
        raise refused(_plain(error)) from error
    except TimeoutError:
        raise refused(f"DNS did not answer within {_START_LIMIT:g} s") from None
    modules = Collection(pool, settings.database, settings.collection)
    opened = Opened(pool, modules, GridFS(pool, settings.database, wall))
    try:
        await modules.look(max(1.0, min(begun + _START_LIMIT - reactor.seconds(), settings.limit)))
        indexing = until(Deferred.fromCoroutine(_index(opened)))
        try:
            await indexing.addTimeout(_INDEX_WAIT, reactor)
        except TimeoutError:
            log.info("the indexes of {name} are still being made", name=settings.collection)
    except StorageUnavailable as error:
        await pool.close()
        raise refused(_plain(error)) from error
    except BaseException:
        await pool.close()
        raise
    return opened


async def _pool(reactor: Any, settings: Settings) -> Pool:
    url = parse_url(settings.url)
    target(url, settings.cert_path, settings.insecure)  # before anybody is asked
    srv = Srv(reactor, url, settings.name_servers) if url.srv else None
    if srv is not None:
        url = await srv.resolve()
    meant = target(url, settings.cert_path, settings.insecure)
    for note in meant.notes:
        log.info("Storage.Mongo.URL: {note}", note=note)
    named = _CERT_PATH if settings.cert_path else f"{SETTING}, its option tlsCAFile"
    dialer = await deferToThreadPool(reactor, reactor.getThreadPool(), Dialer.load, reactor, meant, named)
    known = url.hosts

    async def find() -> Sequence[Host]:
        """DNS may have learned of new servers, or be in trouble itself."""
        nonlocal known
        if srv is not None:
            try:
                known = (await srv.resolve()).hosts
            except (StorageUnavailable, ConfigError) as error:
                log.warn("the servers that were known are tried: {reason}", reason=str(error))
        return known

    return Pool(dialer, find, settings.limit)


async def _index(opened: Opened) -> None:
    """As Athens and the drivers make them, and one that serves our queries. Without them it is slow."""
    unique = {"base_url": 1, "module": 1, "version": 1}
    for index in (
        lambda: opened.modules.index(unique, limit=_INDEX_LIMIT, unique=True, sparse=True),
        lambda: opened.grid.prepare(_INDEX_LIMIT),
        lambda: opened.modules.index({"module": 1, "version": 1}, limit=_INDEX_LIMIT),
    ):
        try:
            await index()
        except StorageUnavailable as error:
            if opened.pool.closed:
                return
            log.warn(
                "an index can't be made: {reason}; look for versions that are stored twice, and at the user's roles",
                reason=str(error),
                detail=error.detail,
            )


def _plain(error: StorageUnavailable) -> str:
    text = str(error).removeprefix("mongo storage: ").removeprefix("reading: ")
    return f"{text}: {error.detail}" if error.detail else text
