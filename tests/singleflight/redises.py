"""Locks over the session's Redis, and how a test is rid of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from twisted.internet import reactor as _reactor

from athens_tx.config.backends import LockConfig, Redis
from athens_tx.singleflight.redis import RedisLocks, redis_locks
from tests.support.servers_process import HOST
from tests.support.servers_redis import PASSWORD

reactor: Any = _reactor


def table(endpoint: str, password: str = "", *, ttl: int = 30, cluster: bool = False) -> Redis:
    """@return: the settings."""
    return Redis(endpoint=endpoint, password=password, cluster=cluster, lock_config=LockConfig(ttl=ttl))


def address(port: int) -> str:
    return f"{HOST}:{port}"


def url(port: int, user: str = "", password: str = PASSWORD, *, scheme: str = "redis", rest: str = "") -> str:
    return f"{scheme}://{user}:{quote(password, safe='')}@localhost:{port}{rest}"


@asynccontextmanager
async def connected(settings: Redis, **environ: str) -> AsyncIterator[RedisLocks]:
    """Around the use of one daemon's locks."""
    locks = redis_locks(reactor, settings, environ)
    try:
        await locks.connect()
        yield locks
    finally:
        await locks.close()
