"""The checksum databases behind C{/sumdb/}."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from twisted.web.http_headers import Headers

from athens_tx.errors import NotFound
from athens_tx.web.request import NO_CACHE, WebRequest

#: What we say ourselves, or what belongs to one connection only.
_OURS = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "set-cookie", "te", "trailer", "upgrade")
) | {"transfer-encoding"}


class SumDBAnswer(Protocol):
    """What a checksum database says; see L{athens_tx.sumdb.proxy}."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Iterable[tuple[str, str]]:
        """Names and values that go to the client."""

    @property
    def body(self) -> bytes:
        """All of it."""


class SumDB(Protocol):
    """What the web room asks of L{athens_tx.sumdb.proxy}."""

    async def answer(self, host: str, rest: str, query: str, headers: Headers) -> SumDBAnswer:
        """
        @param host: the name of the database, perhaps with a port.
        @param rest: what follows the host, with its slash in front, escaped as the client sent it.
        @param query: without its question mark.
        @param headers: those of the client.
        @raise NotFound: no database of this name is known.
        """


class SumDBRoutes:
    """Takes the path apart and passes the rest on untouched."""

    def __init__(self, sumdb: SumDB, prefix: str) -> None:
        self._sumdb = sumdb
        self._lead = len(f"{prefix}/sumdb/".encode())

    async def answer(self, request: WebRequest, rest: str) -> bytes:
        """C{/sumdb/HOST/...}: what the database of that name says."""
        host, slash, _ = rest.partition("/")
        target = request.target
        if not slash or target is None:
            raise NotFound("404 page not found")
        tail = target.tail(self._lead + len(host.encode())).decode("ascii")
        answer = await self._sumdb.answer(host, tail, target.query.decode("ascii"), request.requestHeaders)
        body = request.reply(answer.status, answer.body, None)
        if answer.status >= 400:
            request.setHeader(b"Cache-Control", NO_CACHE)
        else:
            request.responseHeaders.removeHeader(b"Cache-Control")  # the database knows better
        for name, value in answer.headers:
            if name.lower() not in _OURS:
                request.setHeader(name.encode("ascii"), value.encode("latin-1", "replace"))
        return body
