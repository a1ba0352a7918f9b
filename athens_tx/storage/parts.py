"""
A body cut into parts of bounded size, for stores that take an object in pieces: each can be hashed, signed and sent
again, and no more than one of a body is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, BadUpstream
from athens_tx.storage.sink import pour


@attrs.frozen
class Part:
    """
    @ivar number: counts from 0.
    @ivar start: where in the body it begins.
    @ivar last: whether nothing comes after it.
    """

    number: int
    start: int
    pieces: Sequence[bytes | memoryview]
    length: int
    last: bool


@implementer(IConsumer)
class Parts:
    """
    Takes what a body produces, and gives it back in parts.

    @ivar length: how many bytes came.
    @ivar error: see L{pour}.
    """

    def __init__(self, body: IBodyProducer, size: int) -> None:
        """@param size: of each part but the last, in bytes."""
        self.length = 0
        self.error: AthensError | None = None
        self._body = body
        self._size = size
        self._pieces: deque[bytes | memoryview] = deque()
        self._held = self._given = self._number = 0
        self._paused = self._ended = False
        self._producer: IPushProducer | None = None
        self._pouring: Deferred[None] | None = None
        self._failure: Failure | None = None
        self._waiting: Deferred[None] | None = None

    @property
    def wanted(self) -> int:
        """How many bytes the next part has."""
        return min(self._size, int(self._body.length) - self._given)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See L{IConsumer.registerProducer}."""
        self._producer = cast(IPushProducer, producer)

    def unregisterProducer(self) -> None:
        """See L{IConsumer.unregisterProducer}."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See L{IConsumer.write}: what is too much stops the producer, what is enough for a part pauses it."""
        self.length += len(data)
        if self.error is not None:
            return
        if self.length > self._body.length:
            self.error = BadUpstream(f"more than the expected {self._body.length} bytes came")
            self._pieces.clear()
            if self._producer is not None:
                self._producer.stopProducing()
            return
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= self._size and self.length < self._body.length:
            self._pause()
        self._tell()

    def _pause(self) -> None:
        if self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    async def next(self) -> Part:
        """
        @return: the next part; the last one, which may be empty if it is the only one, when the body is at its end.
        @raise Exception: as L{pour}.
        """
        if self._pouring is None:
            self._pouring = Deferred.fromCoroutine(pour(self._body, self))
            self._pouring.addCallbacks(lambda _: None, self._fail).addBoth(self._end)
        if self._held < self._size and self._paused and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        last = self._body.length - self._given <= self._size
        while not (self._ended or (self._held >= self._size and not last)):
            self._waiting = Deferred()
            await self._waiting
        if self._failure is not None:
            self._failure.raiseException()
        return self._cut(last)

    @asynccontextmanager
    async def held(self, budget: Budget) -> AsyncIterator[Part]:
        """The L{next} part, once C{budget} has room for it; around its use."""
        size = self.wanted
        await budget.take(size)
        try:
            yield await self.next()
        finally:
            budget.give(size)

    def _cut(self, last: bool) -> Part:
        length = min(self._size, self._held)
        pieces: list[bytes | memoryview] = []
        rest = length
        while rest:
            piece = self._pieces.popleft()
            if len(piece) > rest:
                self._pieces.appendleft(memoryview(piece)[rest:])
                piece = memoryview(piece)[:rest]
            pieces.append(piece)
            rest -= len(piece)
        part = Part(self._number, self._given, pieces, length, last)
        self._number += 1
        self._held -= length
        self._given += length
        return part

    def _fail(self, failure: Failure) -> None:
        self._failure = failure

    def _end(self, _: object) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stop(self) -> None:
        """Stop the body, whatever it is doing; harmless at any moment."""
        self._pieces.clear()
        if self._pouring is None:
            self._failure = Failure(CancelledError())
            self._pouring = succeed(None)
            self._ended = True
            self._body.stopProducing()
        elif not self._ended:
            self._pouring.cancel()


@implementer(IBodyProducer)
class PiecesBody:
    """The pieces of a part as the body of a request, which may be sent again by making another of these."""

    def __init__(self, pieces: Sequence[bytes | memoryview], length: int) -> None:
        self.length = length
        self._pieces = pieces
        self._next = 0
        self._paused = False
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write piece by piece, as fast as C{consumer} takes them."""
        self._consumer = consumer
        self._finished = finished = Deferred[None](lambda _: self.stopProducing())
        self._produce()
        return finished

    def _produce(self) -> None:
        while self._consumer is not None and not self._paused:
            if self._next == len(self._pieces):
                finished = self._finished
                self.stopProducing()
                assert finished is not None
                finished.callback(None)
                return
            piece = self._pieces[self._next]
            self._next += 1
            self._consumer.write(bytes(piece))

    def pauseProducing(self) -> None:
        """Wait."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._produce()

    def stopProducing(self) -> None:
        """Write no more."""
        self._consumer = self._finished = None


class Budget:
    """How many bytes may be in memory, whoever holds them; who wants more waits for his turn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._waiting: list[tuple[int, Deferred[None]]] = []

    async def take(self, size: int) -> None:
        """Take C{size} bytes once there are as many (all, for something larger); L{give} them back."""
        size = min(size, self._size)
        if not self._waiting and self._used + size <= self._size:
            self._used += size
            return
        waiter: Deferred[None] = Deferred(self._leave)
        self._waiting.append((size, waiter))
        await waiter

    def _leave(self, waiter: Deferred[None]) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not waiter]
        self._admit()

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._used -= min(size, self._size)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._used + self._waiting[0][0] <= self._size:
            size, waiter = self._waiting.pop(0)
            self._used += size
            waiter.callback(None)
