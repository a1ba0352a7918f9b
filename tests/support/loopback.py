"""A web server on loopback, in the test's own reactor, that can be stopped for good: no connection outlives it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import implementer


class LoopbackServer:
    """
    Speaks HTTP/1.1.

    @ivar port: the TCP port.
    """

    def __init__(self, reactor: Any, resource: IResource, tls: Any = None) -> None:
        """@param tls: a context factory, to speak TLS."""
        site = Site(resource, timeout=None)
        site.displayTracebacks = False
        self._factory = _Counting(site)
        self._factory.noisy = False
        if tls is None:
            self._port = reactor.listenTCP(0, self._factory, interface="127.0.0.1", backlog=512)
        else:
            self._port = reactor.listenSSL(0, self._factory, tls, interface="127.0.0.1", backlog=512)
        self.port: int = self._port.getHost().port

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        stopped: Deferred[None] | None = self._port.stopListening()
        if stopped is not None:
            await stopped
        for connection in list(self._factory.protocols):
            connection.transport.abortConnection()


@implementer(IProtocolNegotiationFactory)
class _Counting(WrappingFactory):
    """Knows the connections that are open. HTTP/2 would hide them, so it is not offered."""

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]
