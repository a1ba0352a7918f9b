"""Zips for the tests of storages: one that a test holds in its hand, and what takes one as slowly as the test wants."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from athens_tx.interfaces import IZip
from athens_tx.storage.body import MemorySink, pour


@implementer(IZip)
class HandZip:
    """
    A zip that comes as the test says.

    @ivar started: fires when somebody wants it.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.started: Deferred[None] = Deferred()
        self.paused = self.stopped = self.cancelled = False
        self._consumer: Any = None
        self._finished: Any = None

    def part(self, start: int, length: int) -> HandZip:
        raise NotImplementedError

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._finished = Deferred(self._cancel)
        reactor.callLater(0, self.started.callback, None)  # type: ignore[attr-defined]
        return self._finished

    def _cancel(self, _: object) -> None:
        self.cancelled = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True

    def give(self, data: bytes) -> None:
        """Produce C{data}."""
        self._consumer.write(data)

    def end(self) -> None:
        """Say that this was all."""
        self._finished.callback(None)

    def break_off(self, error: Exception) -> None:
        """Fail."""
        self._finished.errback(error)


@implementer(IConsumer)
class Mouthful:
    """
    Takes one piece of a body and pauses it.

    @ivar full: fires at the next piece.
    """

    def __init__(self, body: Any) -> None:
        self._body = body
        self.pieces = 0
        self.data = b""
        self.full: Deferred[None] = Deferred()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.pieces += 1
        self.data += data
        self._body.pauseProducing()
        if not self.full.called:
            self.full.callback(None)


async def whole(body: Any) -> bytes:
    """@return: all of a zip, whose length was right."""
    sink = MemorySink(1 << 30)
    await pour(body, sink)
    return sink.value()
