"""Locks over the session's etcd, and how a test is rid of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from athens_tx.config.backends import Etcd
from athens_tx.singleflight.etcd import LEASE, EtcdLocks, etcd_locks
from tests.support.servers_process import HOST

reactor: Any = _reactor


def locks_at(*endpoints: str | int, **environ: str) -> EtcdLocks:
    """@param endpoints: as in the setting, or a port. @return: a daemon's locks, not connected."""
    named = [f"{HOST}:{endpoint}" if isinstance(endpoint, int) else endpoint for endpoint in endpoints]
    return etcd_locks(reactor, Etcd(endpoints=",".join(named)), environ)


@asynccontextmanager
async def connected(*endpoints: str | int, lease: float = LEASE, **environ: str) -> AsyncIterator[EtcdLocks]:
    """Around the use of one daemon's locks."""
    locks = locks_at(*endpoints, **environ)
    locks.lease = lease
    try:
        await locks.connect()
        yield locks
    finally:
        await locks.close()


def started(awaitable: Any) -> Deferred[Any]:
    """@return: the same, on its way."""

    async def waits() -> Any:
        return await awaitable

    return Deferred.fromCoroutine(waits())
