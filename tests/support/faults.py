"""
A TCP proxy in the test's own reactor that stands between a daemon and a server and makes trouble when it is told to.

What concerns HTTP requests takes C{match}, a regular expression that is looked for in C{"METHOD target"}, and C{times},
how often (C{None}: until L{FaultProxy.heal}). Of several faults for a request the one that was asked for first happens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from tests.support.faults_http import (
    Allowance,
    Answer,
    CutRequest,
    Fault,
    Hang,
    LoseAnswer,
    Reaction,
    Tamper,
    Traffic,
    allowances,
)
from tests.support.faults_link import Link
from tests.support.http_heads import Head


class FaultProxy:
    """
    Passes everything on until it is told otherwise; see L{Weather}. Whoever makes one has to L{stop} it.

    @ivar port: where it listens, on loopback.
    @ivar delay: how many seconds later all bytes arrive, each way.
    @ivar rate: how many bytes a second go through a connection each way; C{None} for all there are.
    @ivar connections: how many it has accepted.
    @ivar requests: the HTTP requests that it has seen, answered by the server or not.
    @ivar up: how many bytes it has got from clients.
    @ivar down: how many bytes it has got from the server.
    """

    def __init__(self, reactor: Any, port: int, host: str = "127.0.0.1", http: bool = True) -> None:
        """
        @param port: that of the server.
        @param http: whether it is HTTP/1 that goes through.
        """
        self._reactor = reactor
        self._server = TCP4ClientEndpoint(reactor, host, port, timeout=10)
        self._http = http
        self._links: dict[Link, Traffic] = {}
        self._each: dict[str, int | None] = {}
        self._allowances: list[Allowance] = []
        self._faults: list[Fault] = []
        self._frozen = False
        self._gone: Deferred[None] | None = None
        self.delay = 0.0
        self.rate: float | None = None
        self.connections = 0
        self.requests: list[Head] = []
        self.up = 0
        self.down = 0
        self.port = 0
        self._port: Any = None
        self._closing: Any = None
        self.accept()

    @property
    def endpoint(self) -> str:
        """Its URL, for a server that speaks HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def count(self, match: str = "") -> int:
        """@return: how many of the requests seen match."""
        return sum(1 for request in self.requests if re.search(match, str(request)))

    def methods(self) -> Counter[str]:
        """@return: how many requests were seen of each method."""
        return Counter(request.method for request in self.requests)

    @property
    def frozen(self) -> bool:
        """Whether it is a black hole: it accepts, and passes nothing on either way. What it has it passes on later."""
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        self._frozen = frozen
        for link in list(self._links):
            link.pump()

    # connections

    def cut(self) -> None:
        """Reset every open connection."""
        for link in list(self._links):
            link.cut()

    def half_close(self) -> None:
        """Tell every client that no more comes, and go on taking what it sends."""
        for link in list(self._links):
            link.half_close()

    def cut_after(self, up: int | None = None, down: int | None = None, outage: bool = False) -> None:
        """
        Pass so many bytes on, counted from now over all connections; close the connection that carried the last one.

        @param outage: reset all connections then, and refuse new ones until L{accept} or L{heal}.
        """
        self._allowances += allowances(outage, up=up, down=down)

    def cut_each(self, up: int | None = None, down: int | None = None) -> None:
        """Close every connection that is made from now on when it has carried so many bytes."""
        self._each = {"up": up, "down": down}

    def refuse(self) -> None:
        """Refuse new connections."""
        if self._port is not None:
            self._closing = self._port.stopListening()
            self._port = None

    def accept(self) -> None:
        """Take connections again, on the same port."""
        if self._port is None:
            factory = Factory.forProtocol(self._accepted)
            factory.noisy = False
            self._port = self._reactor.listenTCP(self.port, factory, interface="127.0.0.1", backlog=512)
            self.port = self._port.getHost().port

    # requests

    def answer(
        self,
        status: int,
        times: int | None = 1,
        match: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        length: int | None = None,
    ) -> None:
        """
        Answer in the place of the server.

        @param length: what the Content-Length says, if not the truth; the connection is closed after the body then.
        """
        self._add(times, match, lambda: Answer(status, headers or {}, body, length))

    def hang(self, times: int | None = 1, match: str = "") -> None:
        """Take a request and never answer; the server does not get it."""
        self._add(times, match, Hang)

    def cut_request(self, after: int, times: int | None = 1, match: str = "") -> None:
        """Let the server have so many bytes of the request's body, or all of it, and close the connection."""
        self._add(times, match, lambda: CutRequest(after))

    def lose_answer(self, times: int | None = 1, match: str = "") -> None:
        """Let the server have the request, and reset the connection when it answers."""
        self._add(times, match, LoseAnswer)

    def wrong_length(self, by: int, times: int | None = 1, match: str = "") -> None:
        """Let the server's answer say that it is so many bytes longer (shorter) than it is; close after it."""
        self._add(times, match, lambda: Tamper(by=by))

    def truncate(self, keep: int, times: int | None = 1, match: str = "") -> None:
        """Pass only so many bytes of the body of the server's answer on, and close the connection."""
        self._add(times, match, lambda: Tamper(keep=keep))

    def _add(self, times: int | None, match: str, make: Callable[[], Reaction]) -> None:
        self._faults.append(Fault(re.compile(match), times, make))

    def heal(self) -> None:
        """Forget every fault, and go on passing everything."""
        self._faults.clear()
        self._allowances.clear()
        self._each = {}
        self.delay, self.rate, self.frozen = 0.0, None, False
        self.accept()

    async def stop(self) -> None:
        """Refuse new connections, reset those that are open, and wait for both."""
        self.refuse()
        if self._closing is not None:
            await self._closing
        self.cut()
        if self._links:
            self._gone = Deferred()
            await self._gone

    # what the connections tell

    def _accepted(self) -> Any:
        self.connections += 1
        link = Link(self._reactor, self, self._server, self)
        self._links[link] = Traffic(link, self._seen if self._http else None, allowances(False, **self._each))
        return link.client

    def ended(self, link: Link) -> None:
        """See L{Watcher}."""
        del self._links[link]
        if not self._links and self._gone is not None:
            self._gone.callback(None)

    def from_client(self, link: Link, data: bytes) -> None:
        """See L{Watcher}."""
        self.up += len(data)
        data, close = self._allowed(link, data, "up")
        self._links[link].from_client(data)
        if close is not None:
            close(link)

    def from_server(self, link: Link, data: bytes) -> None:
        """See L{Watcher}."""
        self.down += len(data)
        data, close = self._allowed(link, data, "down")
        self._links[link].from_server(data)
        if close is not None:
            close(link)

    def _allowed(self, link: Link, data: bytes, way: str) -> tuple[bytes, Callable[[Link], None] | None]:
        """@return: what of the data may pass, and what is to be done with the connection then."""
        close: Callable[[Link], None] | None = None
        own = [each for each in self._links[link].allowances if each.way == way]
        for allowance in [*own, *(each for each in self._allowances if each.way == way)]:
            data = data[: allowance.left]
            allowance.left -= len(data)
            if not allowance.left:
                close = self._outage if allowance.outage else Link.finish
        self._allowances = [each for each in self._allowances if each.left]
        return data, close

    def _outage(self, link: Link) -> None:
        self.refuse()
        link.finish()
        for other in list(self._links):
            if other is not link:
                other.cut()

    def _seen(self, request: Head) -> Reaction | None:
        self.requests.append(request)
        for fault in self._faults:
            if fault.concerns(request):
                return fault.happens()
        return None
