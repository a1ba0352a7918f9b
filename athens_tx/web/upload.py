"""The body of a request that may have a large one: taken piece by piece, as fast as the one who wants it takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import InvalidRequest, RequestTooLarge


@implementer(IPushProducer)
class Upload:
    """
    A body on its way in. Nothing is read from the client before L{take}, so a request can be judged by its headers.

    @ivar complete: whether all of it has come.
    @ivar paused: whether the client is to be kept waiting.
    """

    def __init__(
        self, clock: IReactorTime, source: Any, *, limit: int, announced: int | None, idle: float, expected: bool
    ) -> None:
        """
        @param source: can be paused and resumed, and has C{go_on}, which says C{100 Continue}.
        @param limit: the most bytes that are taken.
        @param announced: how many the client says it will send; C{None} where it does not say.
        @param idle: seconds without a byte after which the client is given up; those of a pause don't count.
        @param expected: whether the client waits to be told to go on.
        """
        self.complete = False
        self.paused = True
        self._clock = clock
        self._source = source
        self._limit = limit
        self._announced = announced
        self._idle = idle
        self._expected = expected
        self._length = 0
        self._write: Callable[[bytes], None] | None = None
        self._early: list[bytes] = []
        self._over = False
        self._done: Deferred[None] = Deferred(lambda _: self._finish())
        self._timer: IDelayedCall | None = None
        source.pauseProducing()

    def take(self, write: Callable[[bytes], None]) -> Deferred[None]:
        """
        Let the body come.

        @param write: given each piece; what it raises ends the upload.
        @return: fires when the body is complete; fails with L{RequestTooLarge}, L{InvalidRequest} of a client that says
            nothing any more, or L{CancelledError} of one that is gone. Cancelling it drops the rest.
        """
        if self._announced is not None and self._announced > self._limit:
            return fail(self._too_large())
        if self._over:
            return fail(CancelledError())
        self._write = write
        early, self._early = self._early, []
        for data in early:
            self._pass(data)
        if self.complete and not self._over:
            self._finish()
            return succeed(None)
        if self._expected and not self._over:
            self._source.go_on()
        self.resumeProducing()
        return self._done

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the request has a body of more than {self._limit} bytes")

    def received(self, data: bytes) -> None:
        """A piece came; with a client that is paused there may be one more."""
        if self._over:
            return
        self._length += len(data)
        if self._length > self._limit:
            self._fail(Failure(self._too_large()))
        elif self._write is None:
            self._early.append(data)
        else:
            if self._timer is not None:
                self._timer.reset(self._idle)
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self._over or self._write is None:
            return
        try:
            self._write(data)
        except Exception:
            self._fail(Failure())

    def ended(self) -> None:
        """The body is complete."""
        self.complete = True
        self._stop_clock()
        self._resume_source()  # one who is paused is not seen leaving
        if self._write is not None and not self._over:
            self._finish()
            self._done.callback(None)

    def lost(self) -> None:
        """The client is gone."""
        self._fail(Failure(CancelledError()))

    def drop(self) -> None:
        """The request is answered: the rest is read for nobody."""
        self._finish()
        self._resume_source()

    def _fail(self, why: Failure) -> None:
        if not self._over:
            self._finish()
            if self._write is not None:
                self._done.errback(why)

    def _finish(self) -> None:
        self._over = True
        self._early.clear()
        self._stop_clock()

    def _stop_clock(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _silent(self) -> None:
        self._timer = None
        self._fail(Failure(InvalidRequest(f"no byte of the body came for {self._idle:g} s")))

    def _resume_source(self) -> None:
        if self.paused:
            self.paused = False
            self._source.resumeProducing()

    def pauseProducing(self) -> None:
        """What came has to be worked off first."""
        if not (self._over or self.complete or self.paused):
            self.paused = True
            self._stop_clock()
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """More can be taken."""
        if self._over or self.complete:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(self._idle, self._silent)
        self._resume_source()

    def stopProducing(self) -> None:
        """No more can be taken."""
        self._fail(Failure(CancelledError()))
