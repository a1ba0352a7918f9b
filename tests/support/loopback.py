"""A web server on loopback, in the test's own reactor, that can be stopped for good: no connection outlives it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Site


class LoopbackServer:
    """
    @ivar port: the TCP port.
    """

    def __init__(self, reactor: Any, resource: IResource, tls: Any = None) -> None:
        """@param tls: a context factory, to speak TLS."""
        self._site = _CountingSite(resource, timeout=None)
        if tls is None:
            self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1", backlog=512)
        else:
            self._port = reactor.listenSSL(0, self._site, tls, interface="127.0.0.1", backlog=512)
        self.port: int = self._port.getHost().port

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        stopped: Deferred[None] | None = self._port.stopListening()
        if stopped is not None:
            await stopped
        for channel in list(self._site.channels):
            # What a Site builds only stands in front of the protocol that HTTP/1 or ALPN chose.
            transport = getattr(channel, "_channel", channel).transport
            if transport is not None:
                transport.abortConnection()


class _CountingSite(Site):
    """Knows the connections that are open."""

    displayTracebacks = False

    def __init__(self, resource: IResource, **options: Any) -> None:
        super().__init__(resource, **options)
        self.channels: set[Any] = set()

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        self.channels.add(channel)
        lost = channel.connectionLost

        def forget(reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
            self.channels.discard(channel)
            lost(reason)

        channel.connectionLost = forget
        return channel
