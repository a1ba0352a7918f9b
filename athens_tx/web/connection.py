"""One connection of a client: how long it may take, how much it may send, and when it is given up."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from zope.interface import implementer

from athens_tx.web.http2 import Http2
from athens_tx.web.request import LINGER, MAX_BODY

if TYPE_CHECKING:
    from athens_tx.web.request import WebRequest
    from athens_tx.web.site import WebSite
    from athens_tx.web.upload import Upload

#: How large the request line and all headers together may be, in bytes.
MAX_HEADERS = 64 * 1024

#: How many digits a Content-Length may have: Python itself refuses to read a number of some thousand.
MAX_DIGITS = 19

_log = Logger(namespace="athens_tx.web")


@attrs.frozen
class BodySource:
    """Where the body of an upload comes from: see L{athens_tx.web.upload.Upload}."""

    _producer: Any
    go_on: Callable[[], None]

    def pauseProducing(self) -> None:
        """Read nothing from the client."""
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._producer.resumeProducing()


class Http1(HTTPChannel):
    """
    HTTP/1.1 with limits that a client can't stretch by sending a byte now and then.

    The headers of a request must be complete C{header_timeout} seconds after its first byte (the first request's:
    after the connection was made), its body C{idle_timeout} seconds later. An answer of which nothing could be sent
    for C{idle_timeout} seconds is cut. A request whose route takes a large body is answered before that has come, see
    L{athens_tx.web.upload}.
    """

    totalHeadersSize = MAX_HEADERS
    MAX_LENGTH = MAX_HEADERS
    site: WebSite
    transport: Any
    _networkProducer: Any

    def __init__(self) -> None:
        super().__init__()
        self._deadline: IDelayedCall | None = None
        self._stalled: IDelayedCall | None = None
        self._refused = False
        self._lost = False
        self._half_closed = False
        self._sent_something = False
        self._upload: Upload | None = None

    # The way in.

    def connectionMade(self) -> None:
        """Start the clock."""
        super().connectionMade()
        self._expect(self.site.header_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Part of a request, or several requests."""
        if self._refused:
            return
        self._sent_something = True
        if self._deadline is None and not self._busy:
            self._expect(self.site.header_timeout)
        super().dataReceived(data)

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self._handlingRequest or self._upload is not None

    def lineReceived(self, line: bytes) -> None:
        """A line of the headers."""
        if self._refused:
            return
        if self._receivedHeaderSize + len(line) > MAX_HEADERS:
            self.lineLengthExceeded(line)
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """There is too much of the request line or the headers."""
        if self.requests:
            self.refuse(431, "the headers are too large")
        else:
            self.refuse(400, "the path is too long")

    def rawDataReceived(self, data: bytes) -> None:
        """Part of a body, or what comes behind the request that is being answered."""
        if not self._refused:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """The headers are complete: refuse a body that is announced as too large before a byte of it is read."""
        limit = self.site.upload_limit(self._command, self._path) if self.length != 0 else 0
        if limit:
            self._begin_upload(limit)
            return
        if self.length is not None and self.length > MAX_BODY:
            self.refuse(413, "the request has a body of more than 1 MiB, which nothing here wants")
            return
        super().allHeadersReceived()
        if self.length != 0:
            self._expect(self.site.idle_timeout)

    def _begin_upload(self, limit: int) -> None:
        """Have the request answered, whose headers are complete."""
        request = self.requests[-1]
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        self._expect(None)
        self._savedTimeOut = self.setTimeout(None)  # given back when the request is done
        body = BodySource(self._networkProducer, self._send100Continue)
        self._upload = request.expect_upload(body, limit, self._version)
        request.headers_received(self._command, self._path, self._version)

    def allContentReceived(self) -> None:
        """The request is complete."""
        if self._refused:
            return
        self._expect(None)
        self._sent_something = False
        if self.site.draining:
            self.persistent = False
        super().allContentReceived()

    def _expect(self, seconds: float | None) -> None:
        """The next part must be complete in so many seconds from now."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.callLater(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self._sent_something:
            self.refuse(408, "the request did not come in time")
        else:
            self.loseConnection()

    # The way out.

    def pauseProducing(self) -> None:
        """The client takes nothing at the moment."""
        super().pauseProducing()
        if self._stalled is None and not self._lost:
            self._stalled = self.callLater(self.site.idle_timeout, self._give_up)

    def resumeProducing(self) -> None:
        """The client has taken all that waited."""
        super().resumeProducing()
        if self._upload is not None and self._upload.paused:
            self._networkProducer.pauseProducing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _give_up(self) -> None:
        self._stalled = None
        _log.info("gave up a client that takes nothing: {peer}", peer=str(self.transport.getPeer()))
        self.abortConnection()

    def requestDone(self, request: WebRequest) -> None:
        """A request is answered; the next one may have come already."""
        if self.site.draining:
            self.persistent = False
        upload, self._upload = self._upload, None
        if upload is not None and not upload.complete:
            self.requests.remove(request)
            self._take_no_more()
            return
        super().requestDone(request)
        if self._half_closed and not self._handlingRequest:
            self.loseConnection()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """The head of an answer; one that comes before the end of its request is the last."""
        if self._upload is not None and (self.site.draining or not self._upload.complete):
            headers.setRawHeaders(b"Connection", [b"close"])
        super().writeHeaders(version, code, reason, headers)

    # The end.

    def refuse(self, status: int, message: str) -> None:
        """Answer to a request that never became one, and close."""
        if self._refused:
            return
        _log.info(
            "refused a request: {status} {reason}", status=status, reason=message, peer=str(self.transport.getPeer())
        )
        body = f"{message}\n".encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
            b"Cache-Control: no-store\r\nConnection: close\r\n\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self._take_no_more()

    def _take_no_more(self) -> None:
        """Close when all is sent; what still comes is dropped until then."""
        self._refused = True
        self._expect(None)
        self.setTimeout(None)
        self._networkProducer.resumeProducing()
        half_close = getattr(self.transport, "loseWriteConnection", None)  # TLS has none
        if half_close is None:
            self.loseConnection()
            return
        self._networkProducer.unregisterProducer()
        half_close()
        self._abort_in(LINGER)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > MAX_DIGITS:
            return bool(self._failChooseTransferDecoder())
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(400, "the request can't be read")

    def readConnectionLost(self) -> None:
        """
        The client sends nothing more. What it asked is answered, if that begins soon: a client that only shut down its
        sending side looks just like one that is gone.
        """
        if self._refused or not self._handlingRequest:
            self.loseConnection()
            return
        self._half_closed = True
        if self._deadline is None:
            self._deadline = self.callLater(self.site.header_timeout, self._probably_gone)

    def _probably_gone(self) -> None:
        self._deadline = None
        if self.requests and not self.requests[0].startedWriting:
            self.abortConnection()

    def retire(self) -> None:
        """Close as soon as nothing is being answered."""
        if not self._busy:
            self.loseConnection()

    def leave(self) -> None:
        """Make room for another protocol."""
        self._expect(None)
        self.setTimeout(None)
        self._networkProducer.unregisterProducer()

    def loseConnection(self) -> None:
        """Close when all is sent, or when nothing was taken for too long."""
        super().loseConnection()
        self._abort_in(self.site.idle_timeout)

    def _abort_in(self, seconds: float) -> None:
        if self._abortingCall is None and not self._lost:
            self._abortingCall = self.callLater(seconds, self.forceAbortClient)

    def abortConnection(self) -> None:
        """Close now, whatever waits to be sent."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop all clocks, tell the requests."""
        self._lost = True
        self._expect(None)
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().connectionLost(reason)


@implementer(IHalfCloseableProtocol)
class Connection(Protocol):
    """Speaks HTTP/1.1, or HTTP/2 where TLS has agreed on it."""

    def __init__(self, site: WebSite) -> None:
        self._site = site
        self._agreed = False
        self._channel: Any = Http1()

    def _prepare(self, channel: Any) -> None:
        channel.site = channel.factory = self._site
        channel.requestFactory = self._site.requestFactory
        channel.timeOut = self._site.idle_timeout
        channel.callLater = self._site.reactor.callLater
        channel.makeConnection(self.transport)

    def connectionMade(self) -> None:
        """The connection is there."""
        self._site.opened(self)
        self._prepare(self._channel)

    def dataReceived(self, data: bytes) -> None:
        """The first bytes: only now it is known what was agreed on."""
        if not self._agreed:
            self._agreed = True
            if getattr(self.transport, "negotiatedProtocol", None) == b"h2":
                self._speak_http2()
        self._channel.dataReceived(data)

    def _speak_http2(self) -> None:
        self._channel.leave()
        self._channel = Http2(self._site.reactor)
        self._prepare(self._channel)
        transport: Any = self.transport
        transport.registerProducer(self._channel, True)

    def readConnectionLost(self) -> None:
        """The client sends nothing more."""
        self._channel.readConnectionLost()  # only without TLS, so this is HTTP/1.1

    def writeConnectionLost(self) -> None:
        """We send nothing more: part of a refusal."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._channel.connectionLost(reason)
        self._site.closed(self)

    def retire(self) -> None:
        """Close as soon as nothing is being answered."""
        self._channel.retire()

    def abort(self) -> None:
        """Close now."""
        transport: Any = self.transport
        transport.abortConnection()
