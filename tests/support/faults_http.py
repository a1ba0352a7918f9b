"""What can become of a request that goes through the proxy of L{tests.support.faults}, and of its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from tests.support.faults_link import Link
from tests.support.http_heads import Body, Head, RequestReader

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)")


@attrs.define
class Allowance:
    """
    How many bytes may pass before a connection is closed.

    @ivar way: C{up} or C{down}.
    @ivar outage: not only the connection that carried the last one.
    """

    way: str
    left: int
    outage: bool


def allowances(outage: bool, **counts: int | None) -> list[Allowance]:
    """@return: one for each of C{up} and C{down} that has a limit."""
    return [Allowance(way, count, outage) for way, count in counts.items() if count is not None]


class Reaction:
    """Passes a request and its answer on; what happens instead is below."""

    def head(self, link: Link, head: Head) -> None:
        link.up.put(head.raw)

    def body(self, link: Link, data: bytes) -> None:
        link.up.put(data)

    def end(self, link: Link) -> None:
        """The request was whole."""

    def answer(self, link: Link, data: bytes) -> None:
        link.down.put(data)


class Hang(Reaction):
    """Nobody answers."""

    def head(self, link: Link, head: Head) -> None:
        pass

    def body(self, link: Link, data: bytes) -> None:
        pass


class Answer(Hang):
    """The proxy answers when the request is whole, or at once if the client waits before it sends the body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, length: int | None) -> None:
        self._length = len(body) if length is None else length
        self._body = body
        lines = [f"HTTP/1.1 {status} Fault", *(f"{name}: {value}" for name, value in headers.items())]
        self._lines = [*lines, f"Content-Length: {self._length}", "", ""]

    def head(self, link: Link, head: Head) -> None:
        if head.method == "HEAD":
            self._body, self._length = b"", 0  # as to what follows; the header stays
        if "expect" in head.headers:
            self.end(link)
            link.finish()

    def end(self, link: Link) -> None:
        link.down.put("\r\n".join(self._lines).encode("latin-1") + self._body)
        if self._length != len(self._body):
            link.finish()


class CutRequest(Reaction):
    """The server gets some of the body."""

    def __init__(self, after: int) -> None:
        self._left = after

    def head(self, link: Link, head: Head) -> None:
        super().head(link, head)
        self.body(link, b"")

    def body(self, link: Link, data: bytes) -> None:
        super().body(link, data[: self._left])
        self._left -= min(self._left, len(data))
        if not self._left:
            link.finish()

    def end(self, link: Link) -> None:
        link.finish()


class LoseAnswer(Reaction):
    """The client never learns what the server said."""

    def answer(self, link: Link, data: bytes) -> None:
        link.cut()


class Tamper(Reaction):
    """The server's answer is not as long as its head says."""

    def __init__(self, by: int = 0, keep: int | None = None) -> None:
        self._by = by
        self._keep = keep
        self._head: bytes | None = b""
        self._left = 0

    def answer(self, link: Link, data: bytes) -> None:
        while self._head is not None:
            head, found, data = (self._head + data).partition(b"\r\n\r\n")
            if not found:
                self._head = head
                return
            interim = head.startswith((b"HTTP/1.1 100", b"HTTP/1.0 100"))
            self._head = b"" if interim else None
            link.down.put(head + found if interim else self._tampered(head) + found)
        link.down.put(data[: self._left])
        self._left -= min(self._left, len(data))
        if not self._left:
            link.finish()

    def _tampered(self, head: bytes) -> bytes:
        stated = _LENGTH.search(head)
        assert stated is not None, f"an answer without a Content-Length can't be tampered with: {head!r}"
        length = int(stated.group(1))
        self._left = length if self._keep is None else min(length, self._keep)
        return head[: stated.start(1)] + b"%d" % (length + self._by) + head[stated.end(1) :]


@attrs.define
class Fault:
    """What happens to the requests that match, so often."""

    match: re.Pattern[str]
    times: int | None
    make: Callable[[], Reaction]

    def concerns(self, request: Head) -> bool:
        """@return: whether it happens to this one."""
        return self.times != 0 and self.match.search(str(request)) is not None

    def happens(self) -> Reaction:
        """@return: what happens."""
        if self.times is not None:
            self.times -= 1
        return self.make()


class Traffic:
    """What goes through one link, request by request; without C{seen}, byte by byte."""

    def __init__(
        self, link: Link, seen: Callable[[Head], Reaction | None] | None, limits: Sequence[Allowance] = ()
    ) -> None:
        """
        @param seen: says what is to happen to a request.
        @param limits: those of this link alone.
        """
        self.allowances = limits
        self._link = link
        self._seen = seen
        self._reader = RequestReader()
        self._now = Reaction()

    def from_client(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._seen is None:
            self._link.up.put(data)
            return
        for event in self._reader.feed(data):
            if isinstance(event, Head):
                self._now = self._seen(event) or Reaction()
                self._now.head(self._link, event)
            elif isinstance(event, Body):
                self._now.body(self._link, event.raw)
            else:
                self._now.end(self._link)

    def from_server(self, data: bytes) -> None:
        """Take what the server sent."""
        self._now.answer(self._link, data)
