"""Locks in a Redis Cluster: each key has its server, and servers say when it has moved."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from athens_tx.singleflight.redis import PROBE, RedisLocks, probe_key
from athens_tx.singleflight.redis_link import COMMAND_LIMIT, Dialer, Script
from athens_tx.singleflight.redis_node import Node
from athens_tx.singleflight.redis_trouble import TROUBLE, Unready, Unusable, described, said, unstartable
from athens_tx.singleflight.redis_url import RedisServer
from athens_tx.singleflight.waiters import Waiters

SLOTS = 16384
#: How often a command follows the servers' advice to ask another one.
HOPS = 8
#: Seconds before a command is tried again where the cluster is being changed.
PAUSE = 0.1

Address = tuple[str, int]


def slot(key: bytes) -> int:
    """@return: where a key belongs. Names of modules have no braces, which would say something of their own."""
    return crc_hqx(key, 0) % SLOTS


class Cluster:
    """The servers of a cluster; see L{athens_tx.singleflight.redis.Servers}."""

    log = Logger()

    def __init__(self, reactor: Any, dialer: Dialer, seeds: Sequence[RedisServer], setting: str) -> None:
        """@param seeds: some of its servers; the others let us in as the first of them does."""
        self._reactor = reactor
        self._dialer = dialer
        self._seeds = seeds
        self._setting = setting
        self._locks: RedisLocks
        self._nodes: dict[Address, Node] = {}
        self._opening: dict[Address, Waiters[Node]] = {}
        self._owners: list[tuple[int, int, Address]] = []
        self._moved: dict[int, Address] = {}
        self._looking: Deferred[None] | None = None
        self._seen: Waiters[None] = Waiters()
        self._suspects: set[Address] = set()
        self._began = False

    async def connect(self, locks: RedisLocks) -> None:
        self._locks = locks
        addresses = ", ".join(seed.address for seed in self._seeds)
        try:
            await self._look()
            await self.check()
            await self.run(PROBE, probe_key())
            self._began = True
        except TROUBLE as error:
            await self.close()
            raise unstartable(self._setting, addresses, error) from error

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.close()

    async def check(self) -> None:
        for address in {owner for _, _, owner in self._owners}:
            await (await self._node(address)).ask("PING")

    async def run(self, script: Script, key: bytes, *arguments: str | bytes | int, taking: bool = False) -> Any:
        """Ask the server of the key, and whom it names; raise one of L{TROUBLE} within the limit of a command."""
        running = Deferred.fromCoroutine(self._run(script, key, arguments, taking))
        return await running.addTimeout(2 * COMMAND_LIMIT, self._reactor)

    async def _run(self, script: Script, key: bytes, arguments: Sequence[str | bytes | int], taking: bool) -> Any:
        number = slot(key)
        address, asking = self._owner(number), False
        trouble: Exception = Unusable("its servers send us in circles")
        for _ in range(HOPS):
            try:
                node = await self._node(address)
                return await node.run(script, key, *arguments, asking=asking, taking=taking)
            except ResponseError as error:
                kind, _, rest = said(error).partition(" ")
                asking = kind == "ASK"
                if kind in ("MOVED", "ASK"):
                    address = _elsewhere(rest, address)
                    if not asking:
                        self._moved[number] = address
                        self._look_soon()
                elif kind in ("TRYAGAIN", "CLUSTERDOWN"):
                    trouble = error
                    await deferLater(self._reactor, PAUSE)
                    self._look_soon()
                    address = self._owner(number)
                else:
                    raise
            except TROUBLE:
                # A replica may be the master by now; who is, the others know.
                self._suspects.add(address)
                await self._look_soon().wait()
                if self._owner(number) == address:
                    raise
                address, asking = self._owner(number), False
        raise trouble

    # -- who has what

    def _owner(self, number: int) -> Address:
        if number in self._moved:
            return self._moved[number]
        for first, last, address in self._owners:
            if first <= number <= last:
                return address
        raise Unusable("no server has the slot of this key")

    def _look_soon(self) -> Waiters[None]:
        """@return: the result of the look that is under way, for all who need one."""
        if self._looking is None:
            self._seen = Waiters()
            self._looking = Deferred.fromCoroutine(self._look())
            self._looking.addBoth(self._looked)
        return self._seen

    def _looked(self, result: Any) -> None:
        self._looking = None
        if isinstance(result, Failure) and not result.check(CancelledError, *TROUBLE):
            self.log.failure("redis lock: who has which slots was not found out", result)
        if isinstance(result, Failure) and not result.check(*TROUBLE):
            result = Failure(Unusable("who has which slots was not found out"))
        self._seen.land(result)

    async def _look(self) -> None:
        """Ask who has which slots, last those who did not answer lately; raise one of L{TROUBLE}, the last."""
        trouble: Exception = Unusable("none of its servers is known")
        known = {address: self._seeds[0].at(*address) for address in self._nodes}
        known |= {(seed.host, seed.port): seed for seed in self._seeds}
        for address in sorted(known, key=self._suspects.__contains__):
            server = known[address]
            try:
                table = await self._asked(server)
            except TROUBLE as error:
                trouble = error
                self._suspects.add(address)
                text = "redis lock: {server} does not say who has which slots: {reason}"
                self.log.debug(text, server=server.address, reason=described(error)[0])
                continue
            self._suspects.discard(address)
            await self._learn(table)
            return
        raise trouble

    async def _asked(self, server: RedisServer) -> list[tuple[int, int, Address]]:
        node = self._nodes.get((server.host, server.port))
        if node is not None:
            rows = await node.ask("CLUSTER", "SLOTS")
        else:
            link = await self._dialer.connect(server)
            try:
                rows = await link.ask("CLUSTER", "SLOTS")
            finally:
                link.abort()
        if not rows:
            raise Unready("it has no slots yet")
        return [(row[0], row[1], ((row[2][0] or b"").decode() or server.host, row[2][1])) for row in rows]

    async def _learn(self, table: list[tuple[int, int, Address]]) -> None:
        before, self._owners = self._owners, table
        self._moved.clear()
        masters = {address for _, _, address in table}
        for address in set(self._nodes) - masters:
            await self._nodes.pop(address).close()
        for address in masters:
            # One that is away is no reason to do without the others.
            try:
                await self._node(address)
            except TROUBLE as error:
                self.log.debug("redis lock: {server}: {reason}", server=_shown(address), reason=described(error)[0])
        if before and sorted(before) != sorted(table):
            self.log.info("redis lock: the servers of the cluster have changed")
            holding = Deferred.fromCoroutine(self._locks.hold_on())  # which may have to wait for the next look
            holding.addErrback(lambda failure: self.log.failure("redis lock: could not hold on", failure))

    async def _node(self, address: Address) -> Node:
        if address in self._nodes:
            return self._nodes[address]
        waiters = self._opening.get(address)
        if waiters is None:
            waiters = self._opening[address] = Waiters()
            waiter = waiters.wait()
            opening = Deferred.fromCoroutine(self._open(address))
            opening.addBoth(lambda result: self._opening.pop(address).land(result))
            return await waiter
        return await waiters.wait()

    async def _open(self, address: Address) -> Node:
        dial = partial(self._dialer.connect, self._seeds[0].at(*address))
        # While one is away, its replica may take over.
        node = Node(self._reactor, dial, self._locks.heard, self._locks.hold_on, self._look_soon)
        try:
            await node.connect(new=not self._began)
        except BaseException:
            await node.close()
            raise
        self._nodes[address] = node
        return node


def _elsewhere(rest: str, asked: Address) -> Address:
    """@return: the server of C{SLOT HOST:PORT}; without a host it is the one that was asked."""
    host, _, port = rest.partition(" ")[2].rpartition(":")
    return host.strip("[]") or asked[0], int(port)


def _shown(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
