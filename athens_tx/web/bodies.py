"""Bodies of answers on their way to the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import StorageUnavailable
from athens_tx.interfaces import IZip
from athens_tx.web.conditional import Part, wanted
from athens_tx.web.request import NO_CACHE, WebRequest


def head(
    request: WebRequest,
    content_type: bytes,
    tag: bytes,
    length: int,
    *,
    cache: bytes = NO_CACHE,
    modified: bytes = b"",
) -> Part:
    """
    Set status and headers of an answer that may be asked for in parts.

    @param cache: its C{Cache-Control}.
    @return: what is to be sent of it.
    """
    part = wanted(request.requestHeaders, request.method, tag, length, modified)
    if part.status == 416:
        request.reply(416, b"", None)
        request.setHeader(b"Content-Range", b"bytes */%d" % length)
        return part
    request.setResponseCode(part.status)
    request.setHeader(b"Cache-Control", cache)
    request.setHeader(b"ETag", tag)
    if modified:
        request.setHeader(b"Last-Modified", modified)
    if part.status == 304:
        return part
    request.setHeader(b"Accept-Ranges", b"bytes")
    request.setHeader(b"Content-Type", content_type)
    request.setHeader(b"Content-Length", b"%d" % part.length)
    if part.status == 206:
        request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (part.start, part.start + part.length - 1, length))
    return part


def body(
    request: WebRequest, data: bytes, content_type: bytes, tag: bytes, *, cache: bytes = NO_CACHE, modified: bytes = b""
) -> bytes:
    """@return: what the client wants of C{data}, which is in memory."""
    part = head(request, content_type, tag, len(data), cache=cache, modified=modified)
    return data if part.length == len(data) else data[part.start : part.start + part.length]


@implementer(IPushProducer)
class _Tap:
    """Between a zip and the request: a zip is told to stop once, whoever says it first."""

    def __init__(self, source: IZip) -> None:
        self._source: IZip | None = source

    def pauseProducing(self) -> None:
        """The client takes nothing at the moment."""
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """The client takes more."""
        if self._source is not None:
            self._source.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        source, self._source = self._source, None
        if source is not None:
            source.stopProducing()

    def dry(self) -> None:
        """All has come: there is nothing to stop."""
        self._source = None


async def stream(request: WebRequest, source: IZip) -> None:
    """
    Send a zip, as fast as the client takes it. Whatever happens, C{source} is finished or stopped afterwards.

    @raise StorageUnavailable: fewer or more bytes came than C{source.length}.
    """
    tap = _Tap(source)
    channel = request.channel
    before = request.sentLength
    request.registerProducer(tap, True)
    try:
        done: Awaitable[None] = source.startProducing(request)
        await done
        tap.dry()
    finally:
        tap.stopProducing()
        request.producer = None
        channel.unregisterProducer()  # not through the request, which forgets the channel when the client goes
    if request.sentLength - before != source.length and not request.gone:
        raise StorageUnavailable(f"a body has {request.sentLength - before} bytes instead of {source.length}")


@implementer(IPullProducer)
class _Pieces:
    """Writes piece after piece, each when the client has taken the one before."""

    def __init__(self, request: WebRequest, pieces: Iterator[bytes]) -> None:
        self._request = request
        self._pieces = pieces
        self.done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def resumeProducing(self) -> None:
        """Write the next piece."""
        try:
            piece = next(self._pieces, None)
        except Exception:
            self._finish(Failure())
            return
        if piece is not None:
            self._request.write(piece)
        else:
            self._finish(None)

    def _finish(self, result: Failure | None) -> None:
        done, self.done = self.done, Deferred()
        self._pieces = iter(())
        if not done.called:
            done.callback(result)

    def stopProducing(self) -> None:
        """The client is gone."""
        self._pieces = iter(())


async def send_pieces(request: WebRequest, content_type: bytes, pieces: Iterator[bytes]) -> bytes | None:
    """
    Send a body that is made piece by piece; the reactor has its turn between two of them.

    @return: the body if it is one piece only; else C{None}, and all is written.
    """
    first = next(pieces, b"")
    second = next(pieces, None)
    if second is None:
        return request.reply(200, first, content_type)
    request.reply(200, b"", content_type)
    request.responseHeaders.removeHeader(b"Content-Length")
    if request.method == b"HEAD":
        return None
    request.write(first)
    request.write(second)
    rest = _Pieces(request, pieces)
    channel = request.channel
    request.registerProducer(rest, False)
    try:
        await rest.done
    finally:
        request.producer = None
        channel.unregisterProducer()  # or it would be asked for more for ever after a stream of HTTP/2 was reset
    return None


@implementer(IPushProducer)
class _Valve:
    """Says whether the client takes more at the moment."""

    def __init__(self, request: WebRequest, clock: IReactorTime, patience: float) -> None:
        self.gone = False
        self._request = request
        self._clock = clock
        self._patience = patience
        self._shut = False
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """Enough for now."""
        self._shut = True

    def resumeProducing(self) -> None:
        """The client takes more."""
        self._shut = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The client is gone."""
        self.gone = True
        self.resumeProducing()

    async def open(self) -> None:
        """Wait until the client takes more, or is gone; one that takes nothing for too long is sent away."""
        while self._shut and not self.gone:
            self._waiting = Deferred(self._leave)
            late = self._clock.callLater(self._patience, self._cut)
            try:
                await self._waiting
            finally:
                if late.active():
                    late.cancel()

    def _cut(self) -> None:
        self._request.abort()
        self.stopProducing()

    def _leave(self, waiting: Deferred[None]) -> None:
        self._waiting = None


async def send_pages(
    request: WebRequest,
    content_type: bytes,
    pages: AsyncGenerator[bytes, None],
    clock: IReactorTime,
    patience: float,
) -> bytes | None:
    """
    Send a body whose pieces have to be waited for, each made when the client has taken those before.

    @param patience: seconds after which a client that takes nothing is cut off.
    @param pages: is closed afterwards, whatever happens.
    @return: the body if it is one piece only; else C{None}, and all is written.
    """
    async with aclosing(pages):
        first = await anext(pages, b"")
        second = await anext(pages, None)
        if second is None:
            return request.reply(200, first, content_type)
        request.reply(200, b"", content_type)
        request.responseHeaders.removeHeader(b"Content-Length")
        if request.method == b"HEAD":
            return None
        valve, channel = _Valve(request, clock, patience), request.channel
        request.registerProducer(valve, True)
        try:
            request.write(first)
            page: bytes | None = second
            while page is not None and not valve.gone:
                await valve.open()
                if not valve.gone:
                    request.write(page)
                    page = await anext(pages, None)
        finally:
            request.producer = None
            channel.unregisterProducer()
    return None
