"""Locks on the Redis master that sentinels name: they are asked again for each connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.logger import Logger
from txredisapi import ResponseError

from athens_tx import client_tls
from athens_tx.config.backends import RedisSentinel
from athens_tx.singleflight.redis import OneServer, RedisLocks
from athens_tx.singleflight.redis_link import Dialer, Link
from athens_tx.singleflight.redis_trouble import TROUBLE, Unready, Unusable, described, said
from athens_tx.singleflight.redis_url import RedisServer, sentinels

#: Seconds for the answer of one sentinel: another one may be quicker.
SENTINEL_LIMIT = 2.0

_SETTING = "SingleFlight.RedisSentinel"


class Sentinels:
    """
    Those who know the master. Whoever named a good one is asked first the next time.

    @ivar name: what they call it.
    """

    log = Logger()

    def __init__(self, dialer: Dialer, sentinels: list[RedisServer], name: str, master: RedisServer) -> None:
        """@param master: how to log in to whom they name."""
        self._dialer = dialer
        self._sentinels = sentinels
        self._master = master
        self.name = name

    async def master(self) -> Link:
        """@return: a connection to the master; raise one of L{TROUBLE}, the last one there was."""
        trouble: Exception = Unusable("there is no sentinel")
        for sentinel in list(self._sentinels):
            try:
                link = await self._named_by(sentinel)
            except TROUBLE as error:
                trouble = error
                text = "redis lock: the sentinel {sentinel} names no master: {reason}"
                self.log.debug(text, sentinel=sentinel.address, reason=described(error)[0])
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return link
        raise trouble

    async def _named_by(self, sentinel: RedisServer) -> Link:
        host, port = await self._ask(sentinel)
        link = await self._dialer.connect(self._master.at(host, port))
        try:
            if await _role(link) != b"master":  # a sentinel that is cut off knows of no failover
                raise Unready("the server that the sentinel names is no master")
        except BaseException:
            link.abort()
            raise
        return link

    async def _ask(self, sentinel: RedisServer) -> tuple[str, int]:
        try:
            link = await self._dialer.connect(sentinel, SENTINEL_LIMIT)
        except ResponseError as error:
            why = f"the sentinel: {described(error)[0]}; check SentinelPassword, which is empty where they have none"
            raise Unusable(why) from error
        try:
            found = await link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        finally:
            link.abort()
        if not found:
            raise Unusable("the sentinels know no such master; check MasterName")
        return found[0].decode(), int(found[1])


async def _role(link: Link) -> bytes:
    try:
        role: bytes = (await link.ask("ROLE"))[0]
    except ResponseError as error:
        if said(error).startswith("NOPERM"):
            return b"master"  # what is none will refuse to write
        raise
    return role


def redis_sentinel_locks(reactor: Any, table: RedisSentinel, environ: Mapping[str, str]) -> RedisLocks:
    """
    @param environ: has C{SSL_CERT_FILE}.
    @raise ConfigError: the settings can't be read.
    """
    setting = f"{_SETTING}.Endpoints"
    servers = [attrs.evolve(server, password=table.sentinel_password) for server in sentinels(table.endpoints, setting)]
    # Without a host: a sentinel's name is not that of the master, which is met by its own, or by its address.
    login = attrs.evolve(
        servers[0], host="", user=table.redis_username, password=table.redis_password, database=table.db
    )
    dialer = Dialer(reactor, client_tls.load(servers[0].options, setting, environ))
    found = Sentinels(dialer, servers, table.master_name, login)
    address = f"{table.master_name} of {', '.join(sentinel.address for sentinel in servers)}"
    return RedisLocks(dialer, OneServer(reactor, found.master, setting, address), table.lock_config.ttl)
