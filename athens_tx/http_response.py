"""The answers that L{athens_tx.http_client} gives, and what may be told of those that did not come."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import attrs
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectError, DNSLookupError, UserError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from athens_tx.errors import AthensError, BadUpstream, FetchTimeout, UpstreamUnreachable
from athens_tx.http_body import BadBody, Body, Kept, Silent, TooLong
from athens_tx.http_proxy import TunnelRefused
from athens_tx.http_treq import ENCODING

_USERINFO = re.compile(r"(?<=://)[^/\s\"'<>]*@")  # anchored at the "://": linear, whatever the text
_UPLOAD = re.compile(r"(?<=[?&]upload_id=)[^&\s\"'<>]+")  # whoever has Google's name of an upload may write to it


def masked(text: str) -> str:
    """@return: C{text} with what gives rights replaced in every URL in it, so that it may be logged."""
    return _UPLOAD.sub("***", _USERINFO.sub("***@", text))


class AnswerCut(UpstreamUnreachable):
    """The connection broke after it was made: asking again may well help."""


class ClientClosed(UpstreamUnreachable):
    """The client was closed: nothing is asked any more."""


class BodyTooLong(BadUpstream):
    """The body has more bytes than we take: asking again does not help."""


@attrs.frozen
class Response:
    """
    An answer whose body is read.

    @ivar url: where it came from at last, without credentials.
    """

    status: int
    headers: Headers
    body: bytes
    url: str

    def header(self, name: str) -> str | None:
        """@return: the last value of a header."""
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None


class OpenResponse:
    """
    An answer whose headers are there and whose body waits to be taken: by L{receive} or L{read}, else by L{abort}.

    @ivar length: of the body; C{None} where the answer does not say.
    @ivar url: where it came from, without credentials.
    """

    def __init__(self, reactor: Any, response: IResponse, url: str) -> None:
        self.status: int = response.code
        self.headers: Headers = response.headers
        self.length: int | None = response.length if isinstance(response.length, int) else None
        self.url = url
        self._reactor = reactor
        self._response: IResponse | None = response

    def header(self, name: str) -> str | None:
        """@return: the last value of a header."""
        values = self.headers.getRawHeaders(name)
        return values[-1] if values else None

    def receive(self, sink: IConsumer, *, limit: int, idle: float) -> Deferred[int]:
        """
        Let the body run into C{sink}, which may pause it.

        @param limit: the most bytes of the body.
        @param idle: seconds without a byte of the body.
        @return: the number of bytes; fails as L{HttpClient} says. Cancelling it cuts the connection.
        """
        response, self._response = self._response, None
        if response is None:
            return fail(AnswerCut("the answer was given up", detail=self.url))
        body = deliver(self._reactor, response, sink, limit, idle)
        return body.done.addErrback(self._translate)

    def _translate(self, failure: Failure) -> NoReturn:
        if failure.check(CancelledError) or not isinstance(failure.value, Exception):
            failure.raiseException()
        raise translated(failure.value, self.url) from None

    async def read(self, *, limit: int, idle: float = 60.0) -> bytes:
        """@return: all of the body; see L{receive}."""
        kept = Kept()
        await self.receive(kept, limit=limit, idle=idle)
        return kept.whole()

    def abort(self) -> None:
        """Cut the connection if the body was not taken; harmless at any moment."""
        response, self._response = self._response, None
        if response is not None:
            body = deliver(self._reactor, response, Kept(), 0, 1.0)
            body.done.addErrback(lambda _: None)
            body.done.cancel()


def deliver(reactor: Any, response: IResponse, sink: IConsumer, limit: int, idle: float) -> Body:
    """Let the body of C{response} run into C{sink}; see L{OpenResponse.receive}."""
    encodings = response.headers.getRawHeaders(ENCODING, [b""])
    gzip = b",".join(encodings).strip().lower() in (b"gzip", b"x-gzip")
    body = Body(reactor, sink, limit=limit, idle=idle, gzip=gzip)
    response.deliverBody(body)
    body.delivered()
    return body


def translated(error: Exception, url: str) -> Exception:
    """@return: the failure that the program knows for one of Twisted's or OpenSSL's."""
    detail = masked(url)
    reasons = getattr(error, "reasons", None)
    cause = reasons[0].value if reasons else error
    if isinstance(cause, AthensError):
        cause.detail = cause.detail or detail
        return cause
    if isinstance(cause, BadBody):
        kinds = ((Silent, FetchTimeout), (TooLong, BodyTooLong), (BadBody, BadUpstream))
        kind = next(ours for theirs, ours in kinds if isinstance(cause, theirs))
        return kind(str(cause), detail=detail)
    if isinstance(cause, (ConnectTimeout, UserError)):
        return FetchTimeout("the server can't be connected in time", detail=detail)
    detail = f"{detail}: {masked(str(cause) or type(cause).__name__)}"
    why = _trouble(cause)
    if why is None:
        return AnswerCut("the connection broke before the answer was complete", detail=detail)
    return UpstreamUnreachable(why, detail=detail)


def _trouble(cause: BaseException) -> str | None:
    """@return: why there is no connection, without a name or address; C{None} if there was one."""
    if isinstance(cause, DNSLookupError):
        return "the server's name is not known"
    if isinstance(cause, TunnelRefused):
        return f"the HTTP proxy gave no tunnel: {cause}"
    if isinstance(cause, SSL.Error) or type(cause).__name__ in ("VerificationError", "CertificateError"):
        return "no trusted TLS connection to the server"
    if isinstance(cause, ConnectError):
        return "the server can't be connected"
    return None
