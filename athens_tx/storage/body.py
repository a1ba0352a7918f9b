"""
Module zips on their way: the producers that a storage gives, and, from L{athens_tx.storage.sink}, what takes them.

A producer is started once, and is finished by its end, by C{stopProducing} or by cancelling what C{startProducing}
gave, each at any moment, before the start too. Files are read in the reactor's thread pool, in order, one operation at
a time, so that a descriptor is never closed under a thread that uses it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.interfaces import IZip
from athens_tx.storage.sink import FileSink, MemorySink, pour

#: How much is read, and written to a consumer, at once. A paused body holds nothing.
CHUNK = 256 * 1024

__all__ = ["CHUNK", "BytesZip", "FileSink", "FileZip", "MemorySink", "file_tag", "pour"]


@implementer(IZip)
class BytesZip:
    """A zip that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data
        self._position = 0
        self._end = len(data)
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] | None = None
        self._paused = self._stopped = self._writing = False

    def part(self, start: int, length: int) -> BytesZip:
        """See L{IZip.part}; the bytes are shared."""
        part = BytesZip(self._data)
        part._position = self._position + start
        part._end = part._position + length
        part.length = length
        return part

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write to C{consumer}, now and whenever it resumes."""
        if self._stopped:
            return fail(CancelledError())
        self._consumer = consumer
        finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._finished = finished
        self._produce()
        return finished

    def _produce(self) -> None:
        """Write until paused or done; a call from inside C{write} leaves it to the loop that is running."""
        if self._consumer is None or self._finished is None or self._writing:
            return
        self._writing = True
        try:
            while self._position < self._end and not self._paused and not self._stopped:
                piece = self._data[self._position : min(self._position + CHUNK, self._end)]
                self._position += len(piece)
                self._consumer.write(piece)
        except Exception:
            finished = self._finished
            self.stopProducing()
            finished.errback()
            return
        finally:
            self._writing = False
        if self._position == self._end and not self._stopped:
            finished = self._finished
            self.stopProducing()
            finished.callback(None)

    def pauseProducing(self) -> None:
        """Write no more until L{resumeProducing}."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._produce()

    def stopProducing(self) -> None:
        """Write no more at all, and never fire what L{startProducing} gave."""
        self._stopped = True
        self._consumer = self._finished = None


def file_tag(found: os.stat_result) -> str:
    """@return: what is different for a file that has taken the place of the one that was found."""
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


@implementer(IZip)
class FileZip:
    """
    A zip, or a part of one, that lies in a file; it is opened when it is started.

    @ivar path: the file.
    @ivar start: offset of the first byte.
    @ivar length: how many bytes; it is a failure (L{StorageUnavailable}) if the file has fewer from C{start} on.
    @ivar tag: see L{file_tag}; it is a failure too if another file is there. Empty: any will do.
    """

    def __init__(self, reactor: IReactorThreads, path: Path, length: int, start: int = 0, tag: str = "") -> None:
        self.path = path
        self.start = start
        self.tag = tag
        self.length = length
        self._reactor = reactor
        self._position = start
        self._end = start + length
        self._descriptor = -1
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] | None = None
        self._paused = self._stopped = self._reading = False

    def part(self, start: int, length: int) -> FileZip:
        """See L{IZip.part}."""
        return FileZip(self._reactor, self.path, length, self.start + start, self.tag)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write the file to C{consumer}.

        @return: fails with L{NotFound} if the file is gone, with L{StorageUnavailable} if it can't be read to its end.
        """
        if self._stopped:
            return fail(CancelledError())
        self._consumer = consumer
        finished: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._finished = finished
        self._go_on()
        return finished

    def _go_on(self) -> None:
        """Read the next chunk, unless that is under way, unwanted or unneeded."""
        if self._finished is None or self._reading or self._paused:
            return
        if self._position == self._end:
            finished = self._finished
            self.stopProducing()
            finished.callback(None)
            return
        self._reading = True
        chunk = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read)
        chunk.addCallback(self._deliver).addErrback(self._fail)

    def _read(self) -> bytes:
        """In a thread: the next chunk. Opens the file for the first, closes it after the last."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            found = os.fstat(self._descriptor)
            if self.tag and file_tag(found) != self.tag:
                raise StorageUnavailable("a stored zip is another one than just now", detail=str(self.path))
            if found.st_size < self._end:
                raise StorageUnavailable("a stored zip is shorter than it was", detail=str(self.path))
        data = os.pread(self._descriptor, min(CHUNK, self._end - self._position), self._position)
        if not data:
            raise StorageUnavailable("a stored zip ended early", detail=str(self.path))
        if self._position + len(data) == self._end:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        return data

    def _deliver(self, data: bytes) -> None:
        self._reading = False
        if self._consumer is None:  # stopped meanwhile
            self._close()
            return
        self._position += len(data)
        self._consumer.write(data)  # may pause, resume and stop
        if self._position == self._end:
            self._paused = False
        self._go_on()

    def _fail(self, failure: Failure) -> None:
        self._reading = False
        finished = self._finished
        self.stopProducing()
        if finished is not None:
            finished.errback(_readable(failure, self.path))

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._reactor.getThreadPool().callInThread(os.close, descriptor)

    def pauseProducing(self) -> None:
        """Write no more until L{resumeProducing}; a chunk that is being read still comes."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """Write no more at all, close the file, and never fire what L{startProducing} gave."""
        self._stopped = True
        self._consumer = self._finished = None
        if not self._reading:
            self._close()


def _readable(failure: Failure, path: Path) -> Failure:
    """@return: the error as one of ours, without the path in what a client may see."""
    error = failure.value
    if isinstance(error, FileNotFoundError):
        return Failure(NotFound("the zip was deleted meanwhile"))
    if isinstance(error, OSError):
        return Failure(StorageUnavailable(f"a stored zip can't be read: {error.strerror}", detail=str(path)))
    return failure
