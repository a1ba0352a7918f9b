"""
treq, kept from two of its habits: it always offers gzip, and raises inside the reactor when an answer that says so is
no gzip; and it takes an IPv6 address for a name.
"""

from __future__ import annotations

from hyperlink import URL
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

#: What L{Wire} calls C{Content-Encoding}.
ENCODING = b"X-Athens-Tx-Encoding"


class AsWritten(URL):
    """A URL that goes out as it stands: treq would make an IDNA name of an IPv6 address, and fail."""

    def to_uri(self) -> URL:
        """@return: the same; the one who made it has escaped what has to be."""
        return self


@implementer(IAgent)
class Wire:
    """An agent as treq should have it: it asks for bodies as they are, and treq is not told how they are encoded."""

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Take back treq's C{Accept-Encoding}, and call the answer's C{Content-Encoding} L{ENCODING}."""
        assert headers is not None
        headers = headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", headers.getRawHeaders(b"Accept-Encoding", [])[:1])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._renamed)

    @staticmethod
    def _renamed(response: IResponse) -> IResponse:
        encodings = response.headers.getRawHeaders(b"Content-Encoding")
        if encodings is not None:
            response.headers.removeHeader(b"Content-Encoding")
            response.headers.setRawHeaders(ENCODING, encodings)
        return response
