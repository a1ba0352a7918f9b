"""
Locks in Redis, as Athens has them: a key C{path@version} with the holder's token, which ends by itself.

What Athens does not do and does not see: the lease is short and renewed, and a release is told on a channel.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx import client_tls
from athens_tx.config.backends import Redis
from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.interfaces import ILock, ILocks
from athens_tx.singleflight.redis_link import Dialer, Link, Script
from athens_tx.singleflight.redis_node import CHANNEL, Node
from athens_tx.singleflight.redis_trouble import TROUBLE, unavailable, unstartable
from athens_tx.singleflight.redis_url import RedisServer, parse, seeds
from athens_tx.starting import patiently

#: Seconds that a lock lives without being renewed, if the settings do not make it shorter: nobody has to wait longer
#: for a daemon that died.
LONGEST_LEASE = 30.0

ENDPOINT = "SingleFlight.Redis.Endpoint"

# A value that is no string counts as somebody else's lock.
TAKE = Script("""
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.pcall('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('pexpire', KEYS[1], ARGV[2])
return 1
""")
# Where the server forgot the lock and nobody has it, it is ours again.
RENEW = Script("""
local value = redis.pcall('get', KEYS[1])
if value == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
if not value and redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
""")
# Who may not publish may release all the same.
RELEASE = Script("""
if redis.pcall('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
redis.pcall('publish', ARGV[2], KEYS[1])
return 1
""")
# The whole of what a lock needs, on a key that nobody else uses.
PROBE = Script("""
redis.call('set', KEYS[1], '', 'NX', 'PX', 1000)
redis.pcall('get', KEYS[1])
redis.call('pexpire', KEYS[1], 1000)
return redis.call('del', KEYS[1])
""")


class Servers(Protocol):
    """One server, or some that share the keys."""

    async def connect(self, locks: RedisLocks) -> None:
        """Connect for the first time; raise L{ConfigError}, an L{Away} where it may be called again."""

    async def close(self) -> None:
        """Cut all connections."""

    async def check(self) -> None:
        """Ask them, and write nothing; raise one of L{TROUBLE}."""

    async def run(self, script: Script, key: bytes, *arguments: str | bytes | int, taking: bool = False) -> Any:
        """
        @param taking: whether a lock is to be taken, see L{Node.settled}.
        @return: what a script of one key gives; 0 if no lock may be taken yet. Raise one of L{TROUBLE}.
        """


class OneServer:
    """A single server: the one of the settings, or the one that a sentinel names."""

    def __init__(self, reactor: Any, dial: Callable[[], Awaitable[Link]], setting: str, address: str) -> None:
        """
        @param dial: see L{Node}.
        @param setting: what to look at when it can't be reached at the start; C{address} is what that says.
        """
        self._reactor = reactor
        self._dial = dial
        self._setting = setting
        self._address = address
        self._node: Node

    async def connect(self, locks: RedisLocks) -> None:
        self._node = Node(self._reactor, self._dial, locks.heard, locks.hold_on)
        try:
            await self._node.connect()
            await self._node.run(PROBE, probe_key())
        except TROUBLE as error:
            await self._node.close()
            raise unstartable(self._setting, self._address, error) from error

    async def close(self) -> None:
        if hasattr(self, "_node"):
            await self._node.close()

    async def check(self) -> None:
        await self._node.ask("PING")

    async def run(self, script: Script, key: bytes, *arguments: str | bytes | int, taking: bool = False) -> Any:
        return await self._node.run(script, key, *arguments, taking=taking)


@implementer(ILocks)
class RedisLocks:
    """The locks of one daemon."""

    log = Logger()

    def __init__(self, dialer: Dialer, servers: Servers, ttl: float) -> None:
        """@param ttl: seconds that a lock may outlive its holder; see L{LONGEST_LEASE}."""
        self.reactor = dialer.reactor
        self._dialer = dialer
        self._servers = servers
        self.lease = min(float(ttl), LONGEST_LEASE)
        self._held: set[RedisLock] = set()
        self._wanted: dict[bytes, set[RedisLock]] = {}

    async def connect(self) -> None:
        await patiently(self.reactor, lambda: self._servers.connect(self))

    async def close(self) -> None:
        await self._servers.close()
        await self._dialer.close()

    async def check(self) -> None:
        try:
            await self._servers.check()
        except TROUBLE as error:
            raise unavailable("look", error) from error

    def lock(self, name: str) -> RedisLock:
        return RedisLock(self, name)

    async def run(
        self, script: Script, what: str, key: bytes, *arguments: str | bytes | int, taking: bool = False
    ) -> bool:
        """@return: whether a script says yes; raise L{LockUnavailable}."""
        try:
            return bool(await self._servers.run(script, key, *arguments, taking=taking))
        except TROUBLE as error:
            raise unavailable(f"{what} {key.decode()}", error) from error

    def heard(self, key: bytes) -> None:
        """A lock was released."""
        for lock in list(self._wanted.get(key, ())):
            lock.news()

    def want(self, key: bytes, lock: RedisLock) -> None:
        """Tell C{lock} of releases."""
        self._wanted.setdefault(key, set()).add(lock)

    def held(self, lock: RedisLock) -> None:
        """It is ours, until L{leave}."""
        self._held.add(lock)

    def leave(self, key: bytes, lock: RedisLock) -> None:
        """Forget it."""
        self._held.discard(lock)
        wanting = self._wanted.get(key, set())
        wanting.discard(lock)
        if not wanting:
            self._wanted.pop(key, None)

    async def hold_on(self) -> None:
        """A server is back, perhaps without the locks that it had: tell it of ours, before others take them."""
        for lock in list(self._held):
            try:
                await lock.hold_on()
            except LockUnavailable as error:
                self.log.debug("could not hold on to a lock: {reason}", reason=str(error))


@implementer(ILock)
class RedisLock:
    """One who wants a lock."""

    def __init__(self, locks: RedisLocks, name: str) -> None:
        self.lease = locks.lease
        self._locks = locks
        self._key = name.encode()
        self._token = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=")
        self._asked = self._held = False
        self._news = False
        self._waiting: Deferred[None] | None = None

    @property
    def _life(self) -> int:
        return round(self.lease * 1000)

    async def take(self) -> bool:
        if not self._asked:
            self._asked = True
            self._locks.want(self._key, self)
        self._news = False
        if not await self._locks.run(TAKE, "take", self._key, self._token, self._life, taking=True):
            return False
        self._held = True
        self._locks.held(self)
        return True

    def news(self) -> None:
        """It may be free."""
        self._news = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def changed(self, seconds: float) -> None:
        if self._news:
            return
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        try:
            await waiting.addTimeout(seconds, self._locks.reactor, onTimeoutCancel=lambda result, seconds: None)
        finally:
            self._waiting = None

    async def renew(self) -> bool:
        return await self._locks.run(RENEW, "renew", self._key, self._token, self._life)

    async def hold_on(self) -> None:
        """Have it still, if it was not released meanwhile."""
        if not self._held:
            return
        await self.renew()
        if not self._held:  # the renewal may have come behind the release, and made it again
            await self._drop()

    async def release(self) -> None:
        if not self._asked:
            return
        held, self._asked, self._held = self._held, False, False
        self._locks.leave(self._key, self)
        if not await self._drop() and held:
            raise LockLost("redis lock: it was not ours any more")

    async def _drop(self) -> bool:
        return await self._locks.run(RELEASE, "release", self._key, self._token, CHANNEL)


def redis_locks(reactor: Any, table: Redis, environ: Mapping[str, str]) -> RedisLocks:
    """
    @param environ: has C{SSL_CERT_FILE}.
    @raise ConfigError: the settings can't be read.
    """
    if table.cluster:
        from athens_tx.singleflight.redis_cluster import Cluster

        found = [with_password(server, table.password) for server in seeds(table.endpoint, ENDPOINT)]
        dialer = Dialer(reactor, client_tls.load(found[0].options, ENDPOINT, environ))
        return RedisLocks(dialer, Cluster(reactor, dialer, found, ENDPOINT), table.lock_config.ttl)
    server = with_password(parse(table.endpoint, ENDPOINT), table.password)
    dialer = Dialer(reactor, client_tls.load(server.options, ENDPOINT, environ))
    one = OneServer(reactor, partial(dialer.connect, server), ENDPOINT, server.address)
    return RedisLocks(dialer, one, table.lock_config.ttl)


def with_password(server: RedisServer, password: str) -> RedisServer:
    """
    @return: the server with the password of either place.
    @raise ConfigError: both have one, and not the same.
    """
    if server.password and password and server.password != password:
        raise ConfigError([f"SingleFlight.Redis.Password, {ENDPOINT}: the two passwords differ; give only one"])
    return attrs.evolve(server, password=server.password or password)


def probe_key() -> bytes:
    """@return: a key that is nobody's lock."""
    return b"athens-tx:probe:" + os.urandom(8).hex().encode()
