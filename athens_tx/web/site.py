"""The factory of connections: it knows all that are open, all that is being answered, and how to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Site

from athens_tx.web.connection import Connection
from athens_tx.web.request import CLIENT_LEFT, WebRequest

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))

_log = Logger(namespace="athens_tx.web")

#: How much of a path a log line shows.
_SHOWN = 1024


class Metrics(Protocol):
    """What the web room asks of L{athens_tx.observe.metrics}."""

    def request(self, method: str, route: str, status: int, seconds: float, bytes: int) -> None:
        """Count a request; C{method} and C{route} are of small sets, C{bytes} those of the body of the answer."""

    def render(self) -> tuple[str, bytes]:
        """@return: the content type and the text that Prometheus reads."""


class WebSite(Site):
    """
    Serves one resource, which must finish each request itself.

    @ivar draining: whether no connection outlives its present request.
    @ivar in_flight: the requests that are being answered.
    @ivar upload_limit: from the method and the target of a request to how many bytes of a body its route takes, where
        that is more than L{athens_tx.web.request.MAX_BODY}; else 0.
    """

    requestFactory = WebRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        *,
        header_timeout: float,
        idle_timeout: float,
        metrics: Metrics | None = None,
        upload_limit: Callable[[bytes, bytes], int] = lambda method, uri: 0,
    ) -> None:
        super().__init__(resource, timeout=idle_timeout, reactor=reactor, parsePOSTFormSubmission=False)
        self.header_timeout = header_timeout
        self.idle_timeout = idle_timeout
        self.upload_limit = upload_limit
        self.draining = False
        self.in_flight: set[WebRequest] = set()
        self._metrics = metrics
        self._connections: set[Connection] = set()
        self._waiting: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        """@return: what will serve one connection."""
        return Connection(self)

    def startFactory(self) -> None:
        """Nothing to start: the log is ours, and needs no clock of its own."""

    def stopFactory(self) -> None:
        """Nothing to stop; see L{drain} and L{abort}."""

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def begun(self, request: WebRequest) -> None:
        """A request is complete and will be answered."""
        self.in_flight.add(request)
        if self.draining:
            request.setHeader(b"Connection", b"close")

    def log(self, request: Request | IRequest) -> None:
        """A request is answered, or its client is gone: one line in the log, one count in the metrics."""
        assert isinstance(request, WebRequest)
        if request.over():
            return
        self.in_flight.discard(request)
        seconds = self.reactor.seconds() - request.started
        status = CLIENT_LEFT if request.gone and not request.startedWriting else int(request.code)
        method = request.method if request.method in _METHODS else b"other"
        size = int(request.sentLength)
        if self._metrics is not None:
            self._metrics.request(method.decode("ascii"), request.route, status, seconds, size)
        _log.info(
            "incoming request",
            http_method=request.method[:32].decode("ascii", "backslashreplace"),
            http_path=shown_path(request),
            http_status=status,
            request_id=request.request_id,
            bytes=size,
            ms=round(seconds * 1000, 3),
            source=request.source,
        )

    def drain(self) -> Deferred[None]:
        """
        Close each connection as soon as it has nothing to answer.

        @return: fires when all are closed. Cancelling it stops the waiting only.
        """
        self.draining = True
        for connection in tuple(self._connections):
            connection.retire()
        done: Deferred[None] = Deferred(lambda it: self._waiting.remove(it))
        if self._connections:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def abort(self) -> None:
        """Cut all connections, whatever they are at."""
        for connection in tuple(self._connections):
            connection.abort()


def shown_path(request: WebRequest) -> str:
    """@return: the decoded path of a request for the log, or the raw one where it can't be decoded."""
    path = request.target.path if request.target is not None else _raw_path(request)
    return path if len(path) <= _SHOWN else path[:_SHOWN] + "..."


def _raw_path(request: WebRequest) -> str:
    raw: Any = request.path or b""
    return str(raw.decode("ascii", "backslashreplace"))
