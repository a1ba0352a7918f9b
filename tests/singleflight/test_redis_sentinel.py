"""Locks on the master that sentinels name: who that is, and that it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from athens_tx.config.backends import RedisSentinel
from athens_tx.errors import ConfigError, LockUnavailable
from athens_tx.singleflight import redis_link
from athens_tx.singleflight.redis import RedisLocks
from athens_tx.singleflight.redis_sentinel import Sentinels, redis_sentinel_locks
from athens_tx.singleflight.redis_trouble import Unusable
from tests.singleflight.redises import address, reactor
from tests.support import servers
from tests.support.servers_redis import PASSWORD, SENTINEL_PASSWORD, USER, USER_PASSWORD, RawError, Sentinel, name


def made(server: Sentinel, **more: Any) -> RedisLocks:
    settings: dict[str, Any] = {
        "endpoints": [address(server.port)],
        "sentinel_password": SENTINEL_PASSWORD,
        "redis_password": PASSWORD,
        **more,
    }
    return redis_sentinel_locks(reactor, RedisSentinel(**settings), {})


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sentinel]:
    server = servers.own("redis-sentinel", tmp_path / "sentinel")
    yield server
    server.stop()


@pytest_twisted.ensureDeferred
async def test_the_key_is_on_the_master_in_the_database_of_the_settings() -> None:
    server = servers.redis_sentinel()
    for more in ({}, {"redis_username": USER, "redis_password": USER_PASSWORD, "db": 4}):
        locks = made(server, **more)
        await locks.connect()
        key = name()
        lock = locks.lock(key)
        assert await lock.take()
        with server.master.raw() as raw:
            raw("SELECT", more.get("db", 0))
            assert len(raw("GET", key)) == 22
        await lock.release()
        await locks.close()


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_at_the_start_names_the_setting() -> None:
    server = servers.redis_sentinel()
    for more, said in (
        ({"sentinel_password": "secret"}, "check SentinelPassword"),
        ({"redis_password": "secret"}, "the login was refused"),
        ({"master_name": "nobody"}, "check MasterName"),
        ({"endpoints": ["127.0.0.1:1", "127.0.0.1:2"]}, "can't connect"),
        ({"db": 99}, "no such database"),
    ):
        locks = made(server, **more)
        with pytest.raises(ConfigError) as caught:
            await locks.connect()
        await locks.close()
        (problem,) = caught.value.problems
        assert problem.startswith("SingleFlight.RedisSentinel.Endpoints: ")
        assert said in problem, problem
        assert "secret" not in problem


@pytest_twisted.ensureDeferred
async def test_sentinels_that_are_down_are_asked_last_the_next_time() -> None:
    server = servers.redis_sentinel()
    locks = made(server, endpoints=["127.0.0.1:1", address(server.port)])
    await locks.connect()
    sentinels = locks._servers._dial.__self__._sentinels  # type: ignore[attr-defined]
    assert [sentinel.port for sentinel in sentinels] == [server.port, 1]
    await locks.close()


def test_an_endpoint_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"SingleFlight\.RedisSentinel\.Endpoints: the port must be"):
        redis_sentinel_locks(reactor, RedisSentinel(endpoints=["host:x"]), {})


async def taken(lock: Any, seconds: float) -> bool:
    """@return: what the first answer is that there is."""
    end = reactor.seconds() + seconds
    while True:
        try:
            settled = lock._locks._servers._node.settled()
            if await lock.take():
                return True
            if settled:
                return False
        except (LockUnavailable, Unusable):
            pass
        assert reactor.seconds() < end
        await deferLater(reactor, 0.05)


@pytest_twisted.ensureDeferred
async def test_a_failover_leaves_the_lock_with_its_holder(own: Sentinel) -> None:
    one, other = made(own), made(own)
    await one.connect()
    await other.connect()
    key = name()
    mine, yours = one.lock(key), other.lock(key)
    assert await mine.take()
    with own.first.raw() as raw:
        assert raw("WAIT", 1, 2000) == 1, "the replica knows of the lock, which is not promised"
    killed = reactor.seconds()
    own.first.kill()
    assert not await taken(yours, 20)
    print(f"the successor was there after {reactor.seconds() - killed:.1f} s")
    assert len(own.second.ask("GET", key)) == 22
    assert await mine.renew()
    await mine.release()
    assert await taken(yours, 5)
    await yours.release()
    await one.close()
    await other.close()


@pytest_twisted.ensureDeferred
async def test_a_master_that_hangs_is_left_for_its_successor(own: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "COMMAND_LIMIT", 0.5)
    locks = made(own)
    await locks.connect()
    own.first.pause()
    try:
        lock = locks.lock(name())
        assert await taken(lock, 20)
        assert own.master is own.second
        await lock.release()
    finally:
        own.first.resume()
        await locks.close()


def fails_over(server: Sentinel) -> bool:
    """@return: whether the sentinel agrees to it; it has to know its replica well."""
    try:
        return bool(server.watcher.ask("SENTINEL", "FAILOVER", "redis-1") == b"OK")
    except RawError:
        return False


@pytest_twisted.ensureDeferred
async def test_a_master_that_became_a_replica_is_left(own: Sentinel) -> None:
    locks = made(own)
    await locks.connect()
    lock = locks.lock(name())
    assert await lock.take()
    own.wait("the replica is unknown", lambda: fails_over(own))
    end = reactor.seconds() + 20
    while own.master is own.first or own.second.ask("ROLE")[0] != b"master":
        assert reactor.seconds() < end
        await deferLater(reactor, 0.05)
    other = locks.lock(name())
    assert await taken(other, 20)
    assert await lock.renew()
    await lock.release()
    await other.release()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_a_sentinel_that_names_a_replica_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers.redis_sentinel()
    replica = server.second if server.master is server.first else server.first

    async def names_it(self: Any, sentinel: Any) -> tuple[str, int]:
        return "127.0.0.1", replica.port

    monkeypatch.setattr(Sentinels, "_ask", names_it)
    locks = made(server)
    with pytest.raises(ConfigError, match="is no master"):
        await locks.connect()
    await locks.close()
