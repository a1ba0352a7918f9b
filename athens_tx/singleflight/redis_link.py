"""
One connection to a Redis server: how it is made, secured and logged in, and how a command goes over it.

txredisapi has the wire protocol. Its own connections are not used: they verify no certificates, give up for good after
one refused login, and know neither clusters nor TLS to a master that a sentinel named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from txredisapi import BaseRedisProtocol, ConnectionError, ResponseError

from athens_tx.client_tls import ClientTls
from athens_tx.singleflight.redis_trouble import login_refused, said
from athens_tx.singleflight.redis_url import RedisServer

#: Seconds for a connection with its login, and for one command.
CONNECT_LIMIT = 5.0
COMMAND_LIMIT = 5.0


@attrs.frozen
class Script:
    """A script; the server knows it by its digest once it has seen it."""

    text: str
    digest: str = attrs.field(init=False)

    @digest.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Link(BaseRedisProtocol):  # type: ignore[misc]  # txredisapi has no types
    """
    A connection.

    @ivar server: what it is connected to.
    @ivar alive: whether it still is.
    @ivar lost: why it no longer is.
    @ivar heard: told each message of a channel that was subscribed to.
    """

    reactor: Any = None
    server: RedisServer
    alive = True
    lost: Failure | None = None

    def __init__(self) -> None:
        # Numbers stay the bytes they are: a lock's value may look like one.
        super().__init__(charset=None, convertNumbers=False)
        self.heard: Callable[[bytes], None] = lambda message: None
        self._ends: list[Deferred[None]] = []
        self._rest = b""

    async def ask(self, *command: str | bytes | int) -> Any:
        """
        @return: the answer.
        @raise ResponseError: the server says no.
        @raise ConnectionError, TimeoutError: there is no answer; the connection is cut.
        """
        answer: Deferred[Any] = self.execute_command(*command)
        return await answer.addTimeout(COMMAND_LIMIT, self.reactor, onTimeoutCancel=self._late)

    async def run(self, script: Script, key: bytes, *arguments: str | bytes | int, asking: bool = False) -> Any:
        """
        @param asking: tell the server that it is asked about a key that is moving to it.
        @return: what a script of one key gives.
        """
        try:
            return await self._evaluate(asking, "EVALSHA", script.digest, 1, key, *arguments)
        except ResponseError as error:
            if not said(error).startswith("NOSCRIPT"):
                raise
        return await self._evaluate(asking, "EVAL", script.text, 1, key, *arguments)

    async def _evaluate(self, asking: bool, *command: str | bytes | int) -> Any:
        if asking:  # it holds for the one command that follows
            self.execute_command("ASKING").addErrback(lambda _: None)
        return await self.ask(*command)

    def _late(self, result: Any, seconds: float) -> Any:
        self.abort()
        raise TimeoutError(f"no answer in {seconds:g} s")

    def ended(self) -> Deferred[None]:
        """@return: fires when it is alive no more."""
        waiter: Deferred[None] = Deferred(self._ends.remove)
        self._ends.append(waiter)
        return waiter

    def abort(self) -> None:
        """Cut the connection."""
        self.alive = False
        if self.transport is not None:
            self.transport.abortConnection()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Take what comes, all of it at once; it may be no Redis at all."""
        try:
            while data:
                self._rest = b""
                super().dataReceived(data)
                data = self._rest
        except (ValueError, IndexError, AttributeError, TypeError):
            self.abort()

    def setLineMode(self, extra: bytes = b"") -> None:
        """txredisapi would go on with the rest in the reactor's next turn, whatever has become of us by then."""
        self.line_mode = 1
        self._rest = extra

    def replyReceived(self, reply: Any) -> None:
        """Messages answer no command."""
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            self.heard(reply[2])
        elif self.replyQueue.waiting:
            self.replyQueue.put(reply)

    def connectionLost(self, reason: Failure) -> None:
        """Whoever waits for an answer hears of it from txredisapi."""
        self.alive = False
        self.lost = reason
        super().connectionLost(reason)
        ends, self._ends = self._ends, []
        for waiter in ends:
            waiter.callback(None)


@attrs.frozen
class Dialer:
    """
    Makes connections.

    @ivar tls: how those with TLS are met.
    """

    reactor: Any
    tls: ClientTls
    _open: set[Link] = attrs.field(factory=set, init=False)

    async def close(self) -> None:
        """Cut all connections, and wait until they are."""
        ends = [link.ended() for link in self._open]
        for link in self._open:
            link.abort()
        for end in ends:
            await end

    async def connect(self, server: RedisServer, limit: float = CONNECT_LIMIT) -> Link:
        """@return: a connection that is logged in; raise what is wrong, see L{described}."""
        connecting = Deferred.fromCoroutine(self._connect(server, limit))
        return await connecting.addTimeout(limit, self.reactor)

    async def _connect(self, server: RedisServer, limit: float) -> Link:
        factory = Factory.forProtocol(Link)
        factory.noisy = False
        try:
            link = cast(Link, await self._endpoint(server, limit).connect(factory))
        except ConnectingCancelledError as error:  # which is none, strange to say
            raise CancelledError from error
        link.reactor, link.server = self.reactor, server
        self._open.add(link)
        link.ended().addCallback(lambda _: self._open.discard(link))
        try:
            if server.password:
                await _log_in(link, server)
            if server.database:
                await link.ask("SELECT", server.database)
            await link.ask("PING")
        except ConnectionError:
            link.abort()
            lost = link.lost.value if link.lost is not None else None
            if lost is None or isinstance(lost, ConnectionDone | ConnectionLost):
                raise
            raise lost from None  # TLS has more to say
        except BaseException:
            link.abort()
            raise
        return link

    def _endpoint(self, server: RedisServer, limit: float) -> IStreamClientEndpoint:
        if server.path:
            return UNIXClientEndpoint(self.reactor, server.path, timeout=limit)
        plain = HostnameEndpoint(self.reactor, server.host.encode("idna").decode(), server.port, limit)
        if not server.tls:
            return plain
        name = server.known_as or server.host
        return wrapClientTLS(self.tls.creator(name) if server.verify else self.tls.unverified(name), plain)


async def _log_in(link: Link, server: RedisServer) -> None:
    try:
        await link.ask("AUTH", *([server.user] if server.user else []), server.password)
    except ResponseError as error:
        raise login_refused(error) from None
