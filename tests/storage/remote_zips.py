"""Zips of any size, made piece by piece, no two pieces the same; and a reader that wants a pause after each."""

from __future__ import annotations

import random
import zlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from athens_tx.interfaces import IZip

PIECE = 64 * 1024
_NOISE = random.Random("noise").randbytes(PIECE - 8)


def piece(number: int) -> bytes:
    """@return: the piece with this number."""
    return number.to_bytes(8, "big") + _NOISE


@implementer(IZip)
class MadeZip:
    """
    Makes its pieces as fast as it is let, or slowly.

    @ivar crc: of what was made.
    @ivar pauses: how often the consumer had enough.
    """

    def __init__(self, reactor: Any, length: int, wait: float = 0.0) -> None:
        """@param wait: seconds between two pieces."""
        self.length = length
        self.crc = self.pauses = self._made = 0
        self._reactor = reactor
        self._wait = wait
        self._call: Any = None
        self._paused = False
        self._finished: Deferred[None] | None = None

    def part(self, start: int, length: int) -> MadeZip:
        raise NotImplementedError

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._finished = finished = Deferred[None](lambda _: self.stopProducing())
        self._produce()
        return finished

    def _produce(self) -> None:
        self._call = None
        if self._paused or self._finished is None:
            return
        if self._made == self.length:
            finished, self._finished = self._finished, None
            finished.callback(None)
            return
        data = piece(self._made // PIECE)[: self.length - self._made]
        self._made += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self._call = self._reactor.callLater(self._wait, self._produce)
        self._consumer.write(data)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._call is None:
            self._call = self._reactor.callLater(0, self._produce)

    def stopProducing(self) -> None:
        self._finished = None
        if self._call is not None:
            self._call.cancel()
            self._call = None


@implementer(IConsumer)
class SlowReader:
    """
    Wants a pause after each piece, and lets go of it a little later.

    @ivar length: how many bytes came; C{crc} is theirs.
    """

    def __init__(self, reactor: Any, body: Any, wait: float = 0.0001) -> None:
        self.length = self.crc = 0
        self._reactor = reactor
        self._body = body
        self._wait = wait
        self._paused = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)
        if not self._paused:
            self._paused = True
            self._body.pauseProducing()
            self._reactor.callLater(self._wait, self._go_on, data)

    def _go_on(self, kept: bytes) -> None:
        self._paused = False
        self._body.resumeProducing()
