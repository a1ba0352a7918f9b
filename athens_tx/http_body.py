"""
The bodies of HTTP answers on their way in: bounded, undone from gzip, given up when nothing comes any more.
"""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


class BadBody(Exception):
    """A body that is not what it should be: no gzip though it says so."""


class TooLong(BadBody):
    """A body with more bytes than its receiver takes."""


class Silent(BadBody):
    """A body of which nothing comes any more."""


@implementer(IBodyProducer)
class BytesBody:
    """Bytes as the body of a request; may be sent more than once, for a request that is tried again."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written already."""

    def resumeProducing(self) -> None:
        """All is written already."""

    def stopProducing(self) -> None:
        """All is written already."""


@implementer(IConsumer)
class Kept:
    """Keeps what is written to it in memory; L{Body} has the bound."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Memory is never too slow for anybody."""

    def unregisterProducer(self) -> None:
        """Nothing to forget."""

    def write(self, data: bytes) -> None:
        """Keep C{data}."""
        self._chunks.append(data)

    def whole(self) -> bytes:
        """@return: all that was written."""
        return b"".join(self._chunks)


@implementer(IPushProducer)
class Body(Protocol):
    """
    Receives one body and passes it on to a consumer, which may pause it.

    @ivar done: fires with the number of bytes passed on when the body is complete, fails with L{BadBody} or with the
        reason of the connection. Cancelling it cuts the connection.
    """

    _STEP = 256 * 1024

    def __init__(self, reactor: IReactorTime, sink: IConsumer, *, limit: int, idle: float, gzip: bool) -> None:
        """
        @param limit: the most bytes that C{sink} may get.
        @param idle: seconds without a byte after which we give up; the time that C{sink} keeps us paused is its own.
        """
        self.done: Deferred[int] = Deferred(lambda _: self._abort())
        self._reactor = reactor
        self._sink = sink
        self._limit = limit
        self._idle = idle
        self._unzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if gzip else None
        self._received = 0
        self._begun = False
        self._over = self._paused = False
        self._timer = reactor.callLater(idle, self._silent)

    def connectionMade(self) -> None:
        self._sink.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        if self._timer.active():
            self._timer.reset(self._idle)
        self._begun = True
        if self._unzip is None:
            self._pass(data)
            return
        try:
            while data and not self._over:
                self._pass(self._unzip.decompress(data, self._STEP))
                data = self._unzip.unconsumed_tail
        except zlib.error:
            self._give_up(BadBody("the body is no gzip though it says so"))

    def _pass(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limit:
            self._give_up(TooLong(f"the body has more than {self._limit} bytes"))
        elif data:
            self._sink.write(data)

    def _silent(self) -> None:
        self._give_up(Silent(f"no byte of the body came for {self._idle:g} s"))

    def _give_up(self, why: BadBody) -> None:
        if self._end():
            self._abort()
            self.done.errback(Failure(why))

    def _abort(self) -> None:
        self._end()
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]
            # Not now: we may be in the middle of the packet that the body ends with. The connection would go back into
            # its pool after we have cut it, and the next request with it would be lost.
            self._reactor.callLater(0, self._cut)

    def _cut(self) -> None:
        transport = self.transport
        # The transport of a body lost its abortConnection; loseConnection alone waits for TLS to say goodbye. Where the
        # body has come to its end, the connection is not its own any more, and neither does anything.
        abort = getattr(getattr(transport, "_producer", None), "abortConnection", None)
        if abort is not None:
            abort()
        elif transport is not None:
            transport.loseConnection()

    def _end(self) -> bool:
        first, self._over = not self._over, True
        if self._timer.active():
            self._timer.cancel()
        if first and self.transport is not None:
            self._sink.unregisterProducer()
        return first

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._end():
            return
        if reason.check(ResponseDone) is None:
            self.done.errback(reason)
        elif self._unzip is not None and self._begun and not self._unzip.eof:  # nothing at all is what HEAD gets
            self.done.errback(Failure(BadBody("the gzip body is cut short")))
        else:
            self.done.callback(self._received)

    def delivered(self) -> None:
        """Twisted has handed over what it had, and let the transport go on, though the consumer may have paused it."""
        if self._paused:
            self.pauseProducing()

    def pauseProducing(self) -> None:
        """The consumer has enough for now."""
        self._paused = True
        if self._timer.active():
            self._timer.cancel()
        if self.transport is not None and not self._over:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resumeProducing(self) -> None:
        """The consumer wants more."""
        self._paused = False
        if self._over or self.transport is None:
            return
        if not self._timer.active():
            self._timer = self._reactor.callLater(self._idle, self._silent)
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def stopProducing(self) -> None:
        """The consumer can't take any more."""
        self._give_up(BadBody("the receiver gave up"))
