"""
Locks in etcd, as Athens has them: a queue of keys C{path@version/LEASE}, the oldest of which holds the lock.

Each key is bound to a lease of its own, which is kept alive as long as its owner waits or works.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx import client_tls
from athens_tx.config.backends import Etcd
from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.http_client import HttpClient
from athens_tx.interfaces import ILock, ILocks
from athens_tx.singleflight.etcd_gateway import (
    ATTEMPT_LIMIT,
    EXISTS,
    NOT_FOUND,
    Answer,
    EtcdRefused,
    Gateway,
    NoServer,
    key,
)
from athens_tx.singleflight.etcd_servers import ENDPOINTS, parse
from athens_tx.starting import Away, in_time, patiently

#: Seconds that a lock lives without being renewed. Athens' own lives 60 s; each renews his, so they need not agree.
LEASE = 30.0
#: Seconds that the start waits for the servers.
START_LIMIT = 20.0
#: What nobody calls a module.
PROBE = "athens-tx:probe"
#: Seconds before one who has lost his place looks again.
_PAUSE = 0.1


@implementer(ILocks)
class EtcdLocks:
    """
    The locks of one daemon.

    @ivar lease: seconds that the next lock lives without being renewed.
    """

    def __init__(self, reactor: Any, gateway: Gateway) -> None:
        """@param gateway: is closed by L{close}."""
        self.reactor = reactor
        self.gateway = gateway
        self.lease = LEASE

    async def connect(self) -> None:
        """See L{ILocks.connect}: once the whole of what a lock needs."""
        await in_time(self.reactor, patiently(self.reactor, self._start), ENDPOINTS, limit=START_LIMIT)

    async def _start(self) -> None:
        try:
            await self._probe()
        except LockUnavailable as error:
            text = ": ".join(filter(None, (str(error).rpartition(": ")[2], error.detail)))
            kind = Away if isinstance(error, NoServer) else ConfigError
            raise kind([f"{ENDPOINTS}: {text}"]) from error

    async def close(self) -> None:
        """See L{ILocks.close}."""
        await self.gateway.close()

    async def check(self) -> None:
        """See L{ILocks.check}: by a read, which a majority of the servers has to agree to."""
        await self.ask("look", "kv/range", {"key": key(PROBE), "count_only": True})

    async def _probe(self) -> None:
        """The whole of what a lock needs, by one that nobody else wants."""
        lock = self.lock(f"{PROBE}@{secrets.token_hex(8)}")
        await lock.take()
        await lock.release()

    def lock(self, name: str) -> EtcdLock:
        """See L{ILocks.lock}."""
        return EtcdLock(self, name)

    async def ask(self, what: str, method: str, message: Mapping[str, Any]) -> Answer:
        """As L{Gateway.ask}, with any refusal a L{LockUnavailable} but that of a lease which is not there."""
        try:
            return await self.gateway.ask(what, method, message)
        except EtcdRefused as refused:
            if refused.code == NOT_FOUND:
                raise
            short, long = refused.described()
            raise LockUnavailable(f"etcd lock: {what}: {short}", detail=long, retry_after=10) from None


@attrs.define
class _Place:
    """
    A place in the queue.

    @ivar lease: its number, which we choose, so that asking for it twice gives one.
    @ivar granted: whether the lease is there.
    @ivar kept: when it was last known to be there.
    @ivar revision: when the place was taken; 0 if that is not known.
    """

    lease: int
    granted: bool = False
    kept: float = 0.0
    revision: int = 0


@implementer(ILock)
class EtcdLock:
    """One who wants a lock."""

    def __init__(self, locks: EtcdLocks, name: str) -> None:
        self.lease = locks.lease
        self._locks = locks
        self._name = name
        self._queue = {"key": key(f"{name}/"), "range_end": key(f"{name}0")}  # 0 is what comes after the slash
        self._first = {**self._queue, "sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1"}
        self._place: _Place | None = None
        self._held = False
        self._watching: Deferred[None] | None = None
        self._waiting: Deferred[None] | None = None
        self._news: Failure | bool = False

    def _key(self, place: _Place) -> str:
        return key(f"{self._name}/{place.lease:x}")

    # -- the queue

    async def take(self) -> bool:
        """See L{ILock.take}."""
        self._news = False
        place = self._place
        if place is None:
            place = self._place = _Place(secrets.randbelow(2**63 - 1) + 1)
        try:
            with _understood(self._name):
                self._held = await self._get_on(place)
        except EtcdRefused:  # the lease came to its end
            self._leave()
            return False
        return self._held

    async def _get_on(self, place: _Place) -> bool:
        """@return: whether it is our turn."""
        if not place.granted:
            await self._grant(place)
        elif self._locks.reactor.seconds() - place.kept >= self.lease / 3 and not await self._keep(place):
            raise EtcdRefused(NOT_FOUND, "the lease came to its end")
        own, oldest = await (self._look(place) if place.revision else self._enter(place))
        if own is None:
            self._leave()
            return False
        place.revision = own
        return oldest == own

    async def _grant(self, place: _Place) -> None:
        wanted = {"ID": str(place.lease), "TTL": str(round(self.lease))}
        try:
            await self._locks.gateway.ask(f"take {self._name}", "lease/grant", wanted)
        except EtcdRefused as refused:
            if refused.code != EXISTS or "lease already exists" not in str(refused):
                short, long = refused.described()
                text = f"etcd lock: take {self._name}: {short}"
                raise LockUnavailable(text, detail=long, retry_after=10) from None
        place.granted, place.kept = True, self._locks.reactor.seconds()

    async def _enter(self, place: _Place) -> tuple[int | None, int]:
        """
        Take a place at the end of the queue, if we have none.

        @return: the revisions of our place and of the first one.
        """
        own = self._key(place)
        first = {"request_range": self._first}
        answer = await self._ask(
            "take",
            "kv/txn",
            {
                "compare": [{"key": own, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
                "success": [{"request_put": {"key": own, "lease": str(place.lease)}}, first],
                "failure": [{"request_range": {"key": own}}, first],
            },
        )
        there, oldest = answer.document["responses"]
        if answer.document.get("succeeded"):
            return answer.revision, _created(oldest) or answer.revision
        return _created(there), _created(oldest) or 0

    async def _look(self, place: _Place) -> tuple[int | None, int]:
        """@return: see L{_enter}; C{None} if our place is gone."""
        both = [{"request_range": {"key": self._key(place)}}, {"request_range": self._first}]
        answer = await self._ask("take", "kv/txn", {"success": both})
        own, oldest = map(_created, answer.document["responses"])
        return (own if own == place.revision else None), oldest or 0

    async def _keep(self, place: _Place) -> bool:
        """Let the lease begin anew; @return: whether it was still there."""
        now = self._locks.reactor.seconds()
        answer = await self._ask("renew", "lease/keepalive", {"ID": str(place.lease)})
        place.kept = now
        return int(answer.document.get("TTL", 0)) > 0

    async def _ask(self, what: str, method: str, message: Mapping[str, Any]) -> Answer:
        return await self._locks.ask(f"{what} {self._name}", method, message)

    def _leave(self) -> _Place | None:
        """@return: the place that we had."""
        place, self._place, self._held = self._place, None, False
        if self._watching is not None:
            self._watching.cancel()
        return place

    # -- the wait

    async def changed(self, seconds: float) -> None:
        """See L{ILock.changed}."""
        if self._place is None or not self._place.revision:
            await deferLater(self._locks.reactor, min(seconds, _PAUSE) if self._place is None else seconds)
            return
        if self._watching is None and not self._news:
            self._watching = Deferred.fromCoroutine(self._watch(self._place))
            self._watching.addBoth(self._watched)
        news, self._news = self._news, False
        if isinstance(news, Failure):
            news.raiseException()
        if not news:
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        waiting = self._waiting = Deferred()
        try:
            await waiting.addTimeout(seconds, self._locks.reactor, onTimeoutCancel=lambda result, seconds: None)
        finally:
            self._waiting = None

    async def _watch(self, place: _Place) -> None:
        """Wait until the one before us leaves the queue."""
        before = {
            **self._queue,
            "sort_order": "DESCEND",
            "sort_target": "CREATE",
            "limit": "1",
            "max_create_revision": str(place.revision - 1),
        }
        answer = await self._ask("watch", "kv/range", before)
        with _understood(self._name):
            found, revision = answer.document.get("kvs"), answer.revision
            watched = str(found[0]["key"]) if found else ""
        if watched:
            # In that revision it was there. From one that is to come etcd tells at once, else up to 100 ms later.
            await self._locks.gateway.watch(f"watch {self._name}", watched, revision + 1)

    def _watched(self, result: Failure | None) -> None:
        self._watching = None
        if isinstance(result, Failure) and result.check(CancelledError):
            return
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._news = result or True
        elif isinstance(result, Failure):
            waiting.errback(result)
        else:
            waiting.callback(None)

    # -- the lock

    async def renew(self) -> bool:
        """See L{ILock.renew}."""
        place = self._place
        with _understood(self._name):
            if place is None or not await self._keep(place):
                return False
            answer = await self._ask("renew", "kv/range", {"key": self._key(place)})
            return any(int(found["create_revision"]) == place.revision for found in answer.document.get("kvs", ()))

    async def release(self) -> None:
        """See L{ILock.release}."""
        held = self._held
        place = self._leave()
        if place is None:
            return
        answer = await self._ask("release", "kv/deleterange", {"key": self._key(place)})
        lost = not answer.document.get("deleted") and answer.first
        with suppress(EtcdRefused):  # it came to its end by itself
            await self._ask("release", "lease/revoke", {"ID": str(place.lease)})
        if held and lost:
            raise LockLost("etcd lock: it was not ours any more")


@contextmanager
def _understood(name: str) -> Iterator[None]:
    """Around the reading of answers, which may be anybody's."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        text = f"etcd lock: {name}: not the answer of etcd"
        raise LockUnavailable(text, detail=type(error).__name__, retry_after=10) from None


def _created(response: Mapping[str, Any]) -> int | None:
    """@return: the revision in which the only key of an answer was made, if there is one."""
    found = response["response_range"].get("kvs")
    return int(found[0]["create_revision"]) if found else None


def etcd_locks(reactor: Any, table: Etcd, environ: Mapping[str, str]) -> EtcdLocks:
    """
    @param environ: where the HTTP client looks.
    @raise ConfigError: the settings can't be read.
    """
    servers = parse(table.endpoints)
    http = HttpClient(
        reactor,
        environ,
        connections_per_host=16,
        connect_timeout=ATTEMPT_LIMIT,
        header_timeout=ATTEMPT_LIMIT,
        policy=client_tls.load(servers[0].options, ENDPOINTS, environ),
    )
    return EtcdLocks(reactor, Gateway(reactor, http, servers))
