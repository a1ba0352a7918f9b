"""A zip that lies in a remote store, as a stream over the network that survives a cut of it."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import AthensError, NotFound, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.http_treq import ENCODING
from athens_tx.interfaces import IZip
from athens_tx.storage.calls import IDLE_LIMIT, Calls

#: Asks for so many bytes from a place on: an answer whose body is just these.
Reach = Callable[[int, int], Awaitable[OpenResponse]]

#: How often in a row an answer may break off without a byte.
BREAKS = 3
#: How often answers for one zip may break off in all.
MOST_BREAKS = 20
#: Seconds before the rest is asked for: at most twice as many each time, up to the last, and again the first where so
#: many bytes have come.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
PROGRESS = 1 << 20


@implementer(IZip)
class RemoteZip:
    """
    Gives what C{reach} reaches; where the connection breaks in the middle, asks for the rest.

    @ivar length: how many bytes come; more or fewer are a L{StorageUnavailable}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reach: Reach,
        length: int,
        opened: OpenResponse | None = None,
        start: int = 0,
        *,
        resumable: bool = True,
    ) -> None:
        """
        @param opened: the answer to C{reach(start, length)}, if it is there already; it is ours now.
        @param resumable: C{reach} gives bytes of the same zip each time, or fails; else what breaks off remains so,
            because what is there now may be another one.
        """
        self.length = length
        self._clock = clock
        self._reach = reach
        self._opened = opened
        self._start = start
        self._resumable = resumable
        self._position = 0
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._producer: IPushProducer | None = None
        self._resumed: Deferred[None] | None = None
        self._paused = self._stopped = False

    def part(self, start: int, length: int) -> RemoteZip:
        """See L{IZip.part}."""
        self._let_go()
        return RemoteZip(self._clock, self._reach, length, None, self._start + start, resumable=self._resumable)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """
        Write to C{consumer}.

        @return: fails with L{NotFound} if it was deleted meanwhile, with L{StorageUnavailable} if it can't be read.
        """
        if self._stopped:
            return fail(CancelledError())
        self._consumer = consumer
        self._finished = finished = Deferred[None](lambda _: self.stopProducing())
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addCallbacks(self._done, self._fail)
        return finished

    async def _run(self) -> None:
        breaks, in_a_row, pause = 0, 0, FIRST_PAUSE
        while self._position < self.length:
            before = self._position
            opened, self._opened = self._opened, None
            if opened is None:
                opened = await self._reach(self._start + self._position, self.length - self._position)
            if self._paused:  # what came with the headers would be passed on at once
                self._opened, self._resumed = opened, Deferred()
                await self._resumed
                self._opened = None
            try:
                await opened.receive(_Inlet(self), limit=self.length - self._position, idle=IDLE_LIMIT)
                if self._position < self.length:
                    raise StorageUnavailable("a stored zip is shorter than it was")
            except (NotFound, StorageUnavailable):
                raise
            except AthensError as error:
                breaks, in_a_row = breaks + 1, in_a_row + 1 if self._position == before else 0
                torn = self._position > 0 and not self._resumable
                if torn or in_a_row == BREAKS or breaks == MOST_BREAKS:
                    raise StorageUnavailable(
                        f"a stored zip can't be read: {error}", detail=error.detail, retry_after=10
                    ) from None
                if self._position - before >= PROGRESS:
                    pause = FIRST_PAUSE
                await deferLater(self._clock, pause * random.uniform(0.5, 1.0), lambda: None)  # noqa: S311
                pause = min(LONGEST_PAUSE, 2 * pause)
        if self._opened is not None:  # of nothing
            self._let_go()

    def _done(self, _: None) -> None:
        finished = self._finished
        self._forget()
        if finished is not None:
            finished.callback(None)

    def _fail(self, failure: Failure) -> None:
        finished = self._finished
        self._forget()
        if finished is not None:
            finished.errback(failure)

    def _forget(self) -> None:
        self._stopped = True
        self._consumer = self._finished = self._producer = None

    def take(self, data: bytes) -> None:
        """Pass on what came."""
        if self._consumer is not None:
            self._position += len(data)
            self._consumer.write(data)

    def comes_from(self, producer: IPushProducer | None) -> None:
        """What comes, comes from C{producer}."""
        self._producer = producer

    def pauseProducing(self) -> None:
        """Write no more until L{resumeProducing}."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.called:
            resumed.callback(None)  # it may be paused again when this returns
        elif self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Write no more at all, cut the connection, and never fire what L{startProducing} gave."""
        running = self._running
        self._forget()
        self._let_go()
        if running is not None and not running.called:
            running.cancel()

    def _let_go(self) -> None:
        self._stopped = True
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.abort()


def object_zip(
    calls: Calls, key: str, ask: Callable[[str], Awaitable[OpenResponse]], known: OpenResponse | int, *, tagged: bool
) -> RemoteZip:
    """
    @param ask: asks for a range of the object, as HTTP writes it; any answer but a 206 says that it is gone.
    @param known: the store's answer to a question for all of it, which is ours now; or only its length.
    @param tagged: whether C{ask} asks for that very object.
    """
    opened = None if isinstance(known, int) else known
    length = known if isinstance(known, int) else known.length
    if length is None:
        assert opened is not None
        opened.abort()
        raise StorageUnavailable(f"{calls.name} storage: get {key}: an answer without a length")

    async def reach(start: int, length: int) -> OpenResponse:
        part = await ask(f"bytes={start}-{start + length - 1}")
        if part.status != 206:
            part.abort()
            raise NotFound(f"{key} was deleted meanwhile")
        return part

    return RemoteZip(calls.reactor, reach, length, opened, resumable=tagged)


def stated_length(answer: Response) -> int | None:
    """@return: how long the body would be of what a HEAD asked for, if the answer is good and says so."""
    said = answer.header("Content-Length") or ""
    if answer.status != 200 or answer.headers.hasHeader(ENCODING) or not re.fullmatch("[0-9]{1,18}", said):
        return None
    return int(said)


@implementer(IConsumer)
class _Inlet:
    """What the body of an answer sees."""

    def __init__(self, zip: RemoteZip) -> None:
        self._zip = zip

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._zip.comes_from(producer)  # type: ignore[arg-type]  # Body is a push producer

    def unregisterProducer(self) -> None:
        self._zip.comes_from(None)

    def write(self, data: bytes) -> None:
        self._zip.take(data)
