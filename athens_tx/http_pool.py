"""Kept-alive connections whose servers can't make us remember any number of headers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol, Request  # what a pool makes has no public name
from twisted.web.client import HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.iweb import IResponse

from athens_tx.errors import BadUpstream

#: Bytes that an answer may have before its body: its headers, and all answers of 1xx before it.
MAX_HEADERS = 256 * 1024


class _Connection(HTTP11ClientProtocol):
    """Twisted bounds the length of a header, and neither their number nor that of the answers before the answer."""

    _received = 0

    def request(self, request: Request) -> Deferred[IResponse]:
        """Begin to count anew."""
        self._received = 0
        return super().request(request)

    def dataReceived(self, bytes: bytes) -> None:
        """Give up a server that does not come to its body."""
        parser: Any = self._parser
        if parser is not None and parser.state in (STATUS, HEADER):
            self._received += len(bytes)
            if self._received > MAX_HEADERS:
                self._giveUp(Failure(BadUpstream(f"the headers of the answer have more than {MAX_HEADERS} bytes")))
                return
        super().dataReceived(bytes)


class _ConnectionFactory(_HTTP11ClientFactory):
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:
        return _Connection(self._quiescentCallback)


class ConnectionPool(HTTPConnectionPool):
    """A pool of such connections."""

    _factory = _ConnectionFactory
