"""One request and the answer to it, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.server import Request

from athens_tx.web.target import Target
from athens_tx.web.upload import Upload

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
    A request that keeps no body unless it has an C{upload}, and knows what the log and the metrics want to know of it.

    @ivar request_id: the client's C{Athens-Request-ID}, or one of our own. For the log only.
    @ivar route: the name of the route that answers; C{-} before one is found.
    @ivar target: what is asked for; C{None} where that can't be understood.
    @ivar local: the decoded path without the path prefix.
    @ivar module: the module that is asked for, unescaped, and C{version}, for the log.
    @ivar source: where the answer comes from: C{memory}, C{storage}, C{upstream}, C{go}, or C{-}.
    @ivar started: when the request was complete, in seconds; one with an C{upload}: when its headers were.
    @ivar announced: how long its body is, as the headers say; C{None} where they don't.
    @ivar upload: the body, where the route takes a large one.
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
        self.announced: int | None = None
        self.upload: Upload | None = None
        self._body_size = 0
        self._over = False

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more to answer to."""
        return bool(self._disconnected)

    def gotLength(self, length: int | None) -> None:
        """Keep no body: nothing is spooled to a temporary file."""
        self.content = BytesIO()
        self.announced = length

    def expect_upload(self, source: Any, limit: int, version: bytes) -> Upload:
        """
        Its body is an upload, and begins now.

        @param source: see L{Upload}; C{limit} too. C{version} is that of HTTP.
        """
        expectations = self.requestHeaders.getRawHeaders(b"Expect", [])
        self.upload = Upload(
            self.web.reactor,
            source,
            limit=limit,
            announced=self.announced,
            idle=self.web.idle_timeout,
            expected=any(value.lower() == b"100-continue" for value in expectations) and version != b"HTTP/1.0",
        )
        return self.upload

    def headers_received(self, command: bytes, uri: bytes, version: bytes) -> None:
        """Answer the request although its body is still to come."""
        super().requestReceived(command, uri, version)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete, its body too."""
        if self.upload is None:
            super().requestReceived(command, path, version)
        else:
            self.upload.ended()

    def handleContentChunk(self, data: bytes) -> None:
        """Throw a piece of the body away unless it is an upload; refuse the request if it is one too many."""
        if self.upload is not None:
            self.upload.received(data)
            return
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
            if self.upload is not None:
                self.upload.drop()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone; whoever works for it is told by C{notifyFinish}."""
        if self.gone:
            return
        super().connectionLost(reason)
        if self.upload is not None:
            self.upload.lost()
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
