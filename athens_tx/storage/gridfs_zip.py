"""A zip that lies in GridFS, as a stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.interfaces import IZip
from athens_tx.storage.body import CHUNK

if TYPE_CHECKING:
    from athens_tx.storage.gridfs import GridFS, StoredFile


@implementer(IZip)
class GridZip:
    """
    Asks for a few chunks at a time, and for none while it is paused.

    @ivar length: how many bytes come.
    """

    def __init__(self, grid: GridFS, file: StoredFile, start: int, length: int) -> None:
        self.length = length
        self._grid = grid
        self._file = file
        self._start = start
        self._asked_to = start
        self._end = start + length
        self._pieces: deque[bytes] = deque()
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] | None = None
        self._reading: Deferred[list[bytes]] | None = None
        self._paused = self._stopped = self._writing = False

    def part(self, start: int, length: int) -> GridZip:
        """See L{IZip.part}."""
        return GridZip(self._grid, self._file, self._start + start, length)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write to C{consumer}.

        @return: fails with L{NotFound} if it was deleted meanwhile, with L{StorageUnavailable} if it can't be read.
        """
        if self._stopped:
            return fail(CancelledError())
        self._consumer = consumer
        self._finished = finished = Deferred[None](lambda _: self.stopProducing())
        self._go_on()
        return finished

    def _go_on(self) -> None:
        """Write what is there, then ask for more; a call from inside C{write} leaves it to the loop that is running."""
        if self._finished is None or self._writing:
            return
        self._writing = True
        try:
            self._write()
        except Exception:
            self._end_with(Failure())
            return
        finally:
            self._writing = False
        if self._finished is None or self._reading is not None or self._pieces:
            return
        if self._asked_to == self._end:  # paused or not
            self._end_with(None)
        elif not self._paused:
            self._ask()

    def _write(self) -> None:
        while self._pieces and self._consumer is not None and not self._paused:
            piece = self._pieces.popleft()
            self._grid.hold(-len(piece))
            self._consumer.write(piece)

    def _ask(self) -> None:
        size = self._file.chunk_size
        first = self._asked_to // size
        count = self._grid.ahead(-(-self._end // size) - first, size)
        self._reading = Deferred.fromCoroutine(self._grid.read(self._file, first, count))
        self._reading.addCallbacks(self._take, self._fail)

    def _take(self, chunks: list[bytes]) -> None:
        """Keep what is wanted of the chunks, in pieces of the usual size."""
        self._reading = None
        if self._finished is None:
            return
        position = self._asked_to // self._file.chunk_size * self._file.chunk_size
        for data in chunks:
            begin, end = max(0, self._asked_to - position), min(len(data), self._end - position)
            for start in range(begin, end, CHUNK):
                self._pieces.append(data[start : min(start + CHUNK, end)])
                self._grid.hold(len(self._pieces[-1]))
            position += len(data)
            self._asked_to = min(position, self._end)
        self._go_on()

    def _fail(self, failure: Failure) -> None:
        self._reading = None
        self._end_with(failure)

    def _end_with(self, failure: Failure | None) -> None:
        finished = self._finished
        self.stopProducing()
        if finished is not None:
            finished.callback(failure)  # a failure fails it

    def pauseProducing(self) -> None:
        """Write no more until L{resumeProducing}; what was asked for still comes."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """Write no more at all, and never fire what L{startProducing} gave."""
        self._stopped = True
        self._consumer = self._finished = None
        while self._pieces:
            self._grid.hold(-len(self._pieces.popleft()))
        if self._reading is not None:
            self._reading.cancel()
