"""One request and the answer to it, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.server import Request

from athens_tx.web.target import Target

if TYPE_CHECKING:
    from athens_tx.web.site import WebSite

#: How much of a request body is read (and thrown away, because no route wants one) before the request is refused.
MAX_BODY = 1 << 20

#: How long a refused client may go on sending before the connection is cut, in seconds. Cut at once, it would
#: often lose the refusal itself.
LINGER = 2.0

#: What is logged as the status of a request whose client left before there was one.
CLIENT_LEFT = 499

NO_CACHE = b"no-cache, no-store, must-revalidate"
TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json; charset=utf-8"

_ABOUT_THE_BODY = (b"ETag", b"Accept-Ranges", b"Content-Range", b"Content-Length", b"Last-Modified", b"Cache-Control")


class WebRequest(Request):
    """
    A request that keeps no body, and knows what the log and the metrics want to know of it.

    @ivar request_id: the client's C{Athens-Request-ID}, or one of our own. For the log only.
    @ivar route: the name of the route that answers; C{-} before one is found.
    @ivar target: what is asked for; C{None} where that can't be understood.
    @ivar local: the decoded path without the path prefix.
    @ivar module: the module that is asked for, unescaped, and C{version}, for the log.
    @ivar source: where the answer comes from: C{memory}, C{storage}, C{upstream}, C{go}, or C{-}.
    @ivar started: when the request was complete, in seconds.
    """

    defaultContentType = None
    site: WebSite | None
    channel: Any

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(channel, *args, parsePOSTFormSubmission=False, **kwargs)
        self.web: WebSite = channel.site
        self.request_id = ""
        self.route = "-"
        self.target: Target | None = None
        self.local = ""
        self.module = ""
        self.version = ""
        self.source = "-"
        self.started = 0.0
        self._body_size = 0
        self._over = False

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more to answer to."""
        return bool(self._disconnected)

    def gotLength(self, length: int | None) -> None:
        """Keep no body: nothing is spooled to a temporary file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Throw a piece of the body away; refuse the request if it is one too many."""
        before, self._body_size = self._body_size, self._body_size + len(data)
        if before <= MAX_BODY < self._body_size and self.channel is not None:
            self.channel.refuse(413, "the request has a body of more than 1 MiB, which nothing here wants")

    def getRequestHostname(self) -> bytes:
        """A constant: Klein puts the name into its routing, which has no use for it and chokes on strange ones."""
        return b"athens"

    def process(self) -> None:
        """Answer the request, now that it is complete."""
        self.site = self.web
        self.started = self.web.reactor.seconds()
        self.setHeader(b"Date", datetimeToString())
        self.prepath = []
        self.web.begun(self)
        try:
            self.web.resource.render(self)
        except BaseException:
            self.processingFailed(Failure())

    def reply(self, status: int, body: bytes, content_type: bytes | None = TEXT) -> bytes:
        """
        Set the status and the headers of an answer that nobody may keep.

        @return: the body, for Klein to write.
        """
        self.setResponseCode(status)
        for name in _ABOUT_THE_BODY:
            self.responseHeaders.removeHeader(name)
        self.setHeader(b"Cache-Control", NO_CACHE)
        self.setHeader(b"Content-Length", b"%d" % len(body))
        if content_type is None:
            self.responseHeaders.removeHeader(b"Content-Type")
        else:
            self.setHeader(b"Content-Type", content_type)
        return body

    def reply_and_finish(self, status: int, body: bytes, content_type: bytes | None = TEXT) -> None:
        """L{reply}, where no Klein is there to write it."""
        self.write(self.reply(status, body, content_type))
        self.finish()

    def redirect_to(self, status: int, location: str) -> bytes:
        """Send the client elsewhere, this once. @return: the empty body."""
        self.reply(status, b"", None)
        self.setHeader(b"Location", location.encode("ascii", "replace"))
        return b""

    def finish(self) -> None:
        """All is written. Does nothing where the client is gone."""
        if not self.gone:
            super().finish()  # which tells the site's log()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone; whoever works for it is told by C{notifyFinish}."""
        if self.gone:
            return
        super().connectionLost(reason)
        if self.started:
            self.web.log(self)

    def abort(self) -> None:
        """Cut the connection (the stream, over HTTP/2), so that nobody takes what was sent for the whole answer."""
        channel = self.channel
        if self.gone or channel is None:
            return
        if self.producer is not None:
            self.unregisterProducer()
        self.connectionLost(Failure(ConnectionAborted()))
        channel.abortConnection()

    def over(self) -> bool:
        """@return: whether the request was over before; it is now."""
        before, self._over = self._over, True
        return before
