"""A part of an answer, of a server that gives nothing but the whole."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.http_client import OpenResponse

_MOST = 1 << 40


@implementer(IConsumer)
class Counted:
    """Counts what comes, and keeps nothing."""

    def __init__(self) -> None:
        self.length = 0

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Nobody is too slow for counting."""

    def unregisterProducer(self) -> None:
        """Nothing to forget."""

    def write(self, data: bytes) -> None:
        """Count."""
        self.length += len(data)


class Slice(OpenResponse):
    """Some bytes of an answer; the connection is cut behind them."""

    def __init__(self, answer: OpenResponse, start: int, length: int) -> None:
        """@param answer: it is ours now."""
        self.status, self.headers, self.url = answer.status, answer.headers, answer.url
        self.length = length
        self._answer = answer
        self._start = start

    def receive(self, sink: IConsumer, *, limit: int, idle: float) -> Deferred[int]:
        """See L{OpenResponse.receive}."""
        assert self.length is not None
        window = _Window(sink, self._start, min(limit, self.length))

        def cut(failure: Failure) -> int | Failure:
            return window.passed if window.full else failure

        return self._answer.receive(window, limit=_MOST, idle=idle).addCallbacks(lambda _: window.passed, cut)

    def abort(self) -> None:
        """See L{OpenResponse.abort}."""
        self._answer.abort()


@implementer(IConsumer)
class _Window:
    """Lets through what is wanted, and stops the producer behind it."""

    def __init__(self, sink: IConsumer, start: int, length: int) -> None:
        self.passed = 0
        self._sink = sink
        self._skip = start
        self._length = length
        self._producer: IProducer | None = None

    @property
    def full(self) -> bool:
        return self.passed == self._length

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._producer = producer
        self._sink.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self._sink.unregisterProducer()

    def write(self, data: bytes) -> None:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        piece = data[skipped : skipped + self._length - self.passed]
        if piece:
            self.passed += len(piece)
            self._sink.write(piece)
        if self.full and self._producer is not None:
            self._producer.stopProducing()
