"""
The consumers that a storage keeps module zips with.

Files are written in the reactor's thread pool, in order, one operation at a time, so that a descriptor is never closed
under a thread that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, BadUpstream, StorageUnavailable

T = TypeVar("T")

#: A sink pauses its producer when so many bytes wait to be written, and resumes it at half of it.
SINK_LIMIT = 512 * 1024


@implementer(IConsumer)
class FileSink:
    """
    Writes what comes to a new file, in the reactor's thread pool, and slows its producer down to the speed of the disk.

    For what is no body producer (the body of an HTTP answer): C{registerProducer(transport, True)}, C{write} each
    piece, and C{await finish()}, or C{await abort()} where the source failed.
    @ivar length: how many bytes came.
    @ivar error: why no more is taken: L{StorageUnavailable} of the disk, L{BadUpstream} of more bytes than C{limit}.
        The producer was stopped then, C{write} does nothing, and L{finish} raises it.
    """

    def __init__(self, reactor: IReactorThreads, path: Path, limit: int | None = None) -> None:
        self.length = 0
        self.error: AthensError | None = None
        self._path = path
        self._limit = limit
        self._reactor = reactor
        self._descriptor = -1
        self._producer: IPushProducer | None = None
        self._buffer: list[bytes] = []
        self._waiting = 0
        self._paused = self._busy = self._closed = self._created = False
        self._idle: list[Deferred[None]] = []

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """@param streaming: must be true; what only answers when asked is not for a file."""
        if not streaming:
            raise ValueError("a FileSink takes push producers only")
        self._producer = cast(IPushProducer, producer)

    def unregisterProducer(self) -> None:
        """Ask the producer for nothing any more."""
        self._producer = None
        self._paused = False

    def write(self, data: bytes) -> None:
        """Take a piece; without a producer that can be paused nothing bounds what waits."""
        if self.error is not None or self._closed:
            return
        self.length += len(data)
        if self._limit is not None and self.length > self._limit:
            self._give_up(BadUpstream(f"more than the expected {self._limit} bytes came"))
            return
        self._buffer.append(data)
        self._waiting += len(data)
        if self._waiting >= SINK_LIMIT and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._drain()

    def _drain(self) -> None:
        if self._busy or not self._buffer:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._in_thread(self._write_out, data).addCallbacks(self._written, self._write_failed)

    def _in_thread(self, function: Callable[..., T], *args: object) -> Deferred[T]:
        """@return: one whose cancelling lets the thread go on; the file is busy until that is done."""
        waiter: Deferred[T] = Deferred()

        def done(result: T | Failure) -> None:
            self._busy = False
            waiter.callback(result)  # a failure fails it
            self._tell_idle()

        self._busy = True
        deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args).addBoth(done)
        return waiter

    def _write_out(self, data: bytes) -> int:
        """In a thread."""
        self._open()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(data)

    def _open(self) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._created = True

    def _written(self, size: int) -> None:
        self._waiting -= size
        self._drain()
        if self._paused and self._waiting <= SINK_LIMIT // 2 and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()

    def _write_failed(self, failure: Failure) -> None:
        self._give_up(_writable(failure, self._path))

    def _give_up(self, error: AthensError) -> None:
        if self.error is None:
            self.error = error
        self._buffer.clear()
        if self._producer is not None:
            self._producer.stopProducing()

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle.copy():
            if not waiter.called:  # one may cancel the next
                waiter.callback(None)

    async def _until_idle(self) -> None:
        while self._busy:  # the one who was told first may be at work already
            waiter: Deferred[None] = Deferred(self._idle.remove)
            self._idle.append(waiter)
            await waiter

    async def finish(self, *, sync: bool = True) -> int:
        """
        Write what still waits, and close the file, which exists then even if nothing came.

        @param sync: wait until it is on the disk.
        @return: its length.
        """
        await self._until_idle()
        self._closed = True
        if self.error is not None:
            raise self.error
        try:
            await self._in_thread(self._finish, sync)
        except OSError as error:
            self._give_up(_writable(Failure(error), self._path))
            raise _writable(Failure(error), self._path) from error
        return self.length

    def _finish(self, sync: bool) -> None:
        """In a thread."""
        self._open()
        if sync:
            os.fsync(self._descriptor)
        self._shut()

    def _shut(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    async def abort(self) -> None:
        """Take no more, and remove the file if it is ours. After L{finish} too, and more than once."""
        self._closed = True
        self._buffer.clear()
        await self._until_idle()
        await self._in_thread(self._abort)

    def _abort(self) -> None:
        """In a thread."""
        self._shut()
        if self._created:
            self._created = False
            self._path.unlink(missing_ok=True)


def _writable(failure: Failure, path: Path) -> AthensError:
    """@return: the error as one of ours, without the path in what a client may see."""
    error = failure.value
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    return StorageUnavailable(f"a file can't be written: {reason}", detail=str(path))


@implementer(IConsumer)
class MemorySink:
    """
    Keeps what comes in memory.

    @ivar error: L{BadUpstream} once more than C{limit} bytes came; the producer was stopped then.
    """

    def __init__(self, limit: int) -> None:
        self.length = 0
        self.error: AthensError | None = None
        self._limit = limit
        self._pieces: list[bytes] = []
        self._producer: IPushProducer | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """The producer is never paused, only stopped at the limit."""
        self._producer = cast(IPushProducer, producer)

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Take a piece."""
        if self.error is not None:
            return
        self.length += len(data)
        if self.length <= self._limit:
            self._pieces.append(data)
            return
        self._pieces.clear()
        self.error = BadUpstream(f"more than the expected {self._limit} bytes came")
        if self._producer is not None:
            self._producer.stopProducing()

    def value(self) -> bytes:
        """@return: all that came; raises L{error} if there is one."""
        if self.error is not None:
            raise self.error
        return b"".join(self._pieces)


@implementer(IPushProducer)
class _Pouring:
    """What a sink sees of a body: to stop it is to cancel it, so that the one who waits for it hears of it."""

    def __init__(self, body: IBodyProducer) -> None:
        self._body = body
        self.produced: Deferred[None] | None = None
        self.stopped = False

    def pauseProducing(self) -> None:
        self._body.pauseProducing()

    def resumeProducing(self) -> None:
        self._body.resumeProducing()

    def stopProducing(self) -> None:
        self.stopped = True
        if self.produced is not None:
            self.produced.cancel()


class Sink(Protocol):
    """
    What L{pour} fills.

    @ivar length: how many bytes came.
    @ivar error: why no more is taken; the producer was stopped then.
    """

    length: int
    error: AthensError | None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def write(self, data: bytes) -> None: ...


async def pour(body: IBodyProducer, sink: Sink) -> None:
    """
    Let all of C{body} run into C{sink}; the sink is neither finished nor aborted.

    @raise AthensError: the sink's C{error}; what the body fails with is raised as it is.
    @raise BadUpstream: not as many bytes came as C{body.length} says.
    """
    pouring = _Pouring(body)
    sink.registerProducer(pouring, True)
    try:
        pouring.produced = body.startProducing(sink)
        if pouring.stopped:
            pouring.produced.cancel()
        await pouring.produced
    except CancelledError:
        if sink.error is not None:
            raise sink.error from None
        raise
    finally:
        sink.unregisterProducer()
    if sink.error is not None:
        raise sink.error
    if sink.length != body.length:
        raise BadUpstream(f"{sink.length} bytes came instead of {body.length}")
