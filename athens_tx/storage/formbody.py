"""The form that a version is saved with in an external storage, as a body on its way out."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProducer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, BadUpstream, StorageUnavailable

_PART = (
    '--{}\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\nContent-Type: application/octet-stream\r\n\r\n'
)


@implementer(IBodyProducer, IConsumer)
class FormBody:
    """
    C{multipart/form-data} with the three files, byte for byte as Athens sends it: chunked, the zip last.

    The end of the form is sent only if the zip was whole. Whatever happens, the zip is finished or stopped; who sends
    the form calls L{leave} when there is an answer, since there may be one before all is sent.
    @ivar content_type: for the header of the request.
    @ivar sent: fires when all is sent.
    @ivar length: not known, so that it goes out in chunks: nobody takes a broken form for a whole one.
    """

    length = UNKNOWN_LENGTH

    def __init__(self, clock: Any, info: bytes, mod: bytes, zip: IBodyProducer, *, idle: float) -> None:
        """@param idle: seconds in which nothing could be sent, or nothing came of C{zip}, after which we give up."""
        self._boundary = secrets.token_hex(30)
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self.sent: Deferred[None] = Deferred()
        self._clock = clock
        self._head = self._part("mod.info", info) + self._part("mod.mod", mod) + self._part("mod.zip", b"")[:-2]
        self._zip = zip
        self._idle = idle
        self._left = zip.length
        self._consumer: IConsumer | None = None
        self._source: Deferred[None] | None = None
        self._done: Deferred[None] | None = None
        self._over = False
        self._timer: IDelayedCall | None = None

    def _part(self, name: str, data: bytes) -> bytes:
        return _PART.format(self._boundary, name, name).encode("ascii") + data + b"\r\n"

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Send the form to C{consumer}."""
        self._done = done = Deferred[None](lambda _: self._stop())
        if self._over:
            done.cancel()
            return done
        self._consumer = consumer
        self._timer = self._clock.callLater(self._idle, self._stuck)
        consumer.write(self._head)
        self._source = self._zip.startProducing(self)
        if self._over:  # the zip came, and was too much, at once
            self._source.cancel()
        self._source.addCallbacks(self._whole, self._broken)
        return done

    def write(self, data: bytes) -> None:
        """A piece of the zip."""
        if self._over or self._consumer is None or not data:  # an empty chunk would be the end of the body
            return
        self._alive()
        self._left -= len(data)
        if self._left < 0:
            self._fail(BadUpstream(f"more than the expected {self._zip.length} bytes came"))
        else:
            self._consumer.write(data)

    def _alive(self) -> None:
        if self._timer is not None:
            self._timer.reset(self._idle)

    def _whole(self, _: object) -> None:
        if self._over or self._consumer is None:
            return
        if self._left:
            self._fail(BadUpstream(f"{self._zip.length - self._left} bytes came instead of {self._zip.length}"))
            return
        self._consumer.write(f"\r\n--{self._boundary}--\r\n".encode("ascii"))
        self._finish(None)
        self.sent.callback(None)

    def _broken(self, failure: Failure) -> None:
        if not self._over:
            self._finish(failure)

    def _stuck(self) -> None:
        self._timer = None
        self._fail(StorageUnavailable(f"nothing of a zip could be sent for {self._idle:g} s", retry_after=10))

    def _fail(self, error: AthensError) -> None:
        done = self._done
        self._stop()
        if done is not None:
            done.errback(Failure(error))

    def _finish(self, result: Failure | None) -> None:
        done = self._done
        self._source = None
        self._stop()
        if done is not None:
            done.callback(result)  # a failure fails it

    def _stop(self) -> None:
        """Want nothing of the zip any more."""
        if self._over:
            return
        self._over = True
        self._consumer = self._done = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        source, self._source = self._source, None
        if source is not None:
            source.cancel()
        elif timer is None:  # it never began
            self._zip.stopProducing()

    def leave(self) -> None:
        """There is an answer, or there will be none: send nothing more, and call it done."""
        done = self._done
        self._stop()
        if done is not None:
            done.callback(None)

    def pauseProducing(self) -> None:
        """The server takes nothing at the moment."""
        if not self._over:
            self._zip.pauseProducing()

    def resumeProducing(self) -> None:
        """The server takes more."""
        if not self._over:
            self._alive()
            self._zip.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._stop()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """The zip is known already."""

    def unregisterProducer(self) -> None:
        """The zip is known already."""
