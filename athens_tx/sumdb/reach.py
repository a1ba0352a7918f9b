"""How a checksum database is reached: through a proxy that offers it, by go's own rule, or straight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from athens_tx.errors import AthensError
from athens_tx.singleflight.waiters import Waiters
from athens_tx.sumdb.database import Database

#: Bytes of one answer; the largest, a tile of records, has some tens of KiB.
LIMIT = 4 * 1024 * 1024

#: Seconds that a decision holds.
DECISION = 600.0

#: Seconds that it holds if a proxy could not be asked that may be better again soon.
DECISION_IN_TROUBLE = 30.0


class DatabaseResponse(Protocol):
    """What is looked at of an answer, see L{athens_tx.http_client.Response}."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def body(self) -> bytes:
        """The whole body."""

    def header(self, name: str) -> str | None:
        """@return: the value of a header."""


class DatabaseClient(Protocol):
    """What is needed of an HTTP client, see L{athens_tx.http_client.HttpClient}."""

    async def get_bytes(
        self,
        url: str,
        *,
        limit: int,
        timeout: float,  # noqa: ASYNC109  the name is the client's
        headers: Mapping[str, str] | None = None,
    ) -> DatabaseResponse:
        """GET with redirects; a failure to get an answer is an L{AthensError}."""


@attrs.frozen
class _Decision:
    base: str
    until: float


class Reach:
    """
    The way to one database.

    Each proxy of C{GOPROXY} is asked in turn whether it offers the database, and the first that does is used; none
    that does, C{direct} or C{off} lead to the database itself, and so does an address given with its name. A decision
    holds for ten minutes, or until the chosen server fails.
    """

    log = Logger()

    def __init__(
        self,
        database: Database,
        proxies: Sequence[str],
        client: DatabaseClient,
        clock: IReactorTime,
        *,
        timeout: float = 30.0,
        authorize: Callable[[str], Mapping[str, str]] = lambda url: {},
    ) -> None:
        """
        @param proxies: the entries of C{GOPROXY}, in order.
        @param timeout: seconds for each request.
        @param authorize: gives the headers (credentials) that go with a request to a URL.
        """
        self.database = database
        self._proxies = () if database.url is not None else tuple(proxies)
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._authorize = authorize
        self._decision: _Decision | None = None
        self._deciding: Waiters[str] | None = None

    async def get(self, path: str) -> DatabaseResponse:
        """
        @param path: what stands behind the name of the database, escaped with C{!} but not with C{%}.
        @return: the answer, whatever its status.
        @raise FetchFailed: there is none, neither by the way that was good so far nor by another one found instead.
        """
        base = await self._base()
        try:
            return await self._ask(base, path)
        except AthensError as error:
            self._decision = None
            other = await self._base()
            if other == base:
                raise
            self.log.warn("{name} is reached another way now: {reason}", name=self.database.name, reason=str(error))
        return await self._ask(other, path)

    async def _ask(self, base: str, path: str) -> DatabaseResponse:
        response = await self._get(f"{base}/{quote(path, safe='/!@+,=~')}")
        if response.status >= 500:
            self._decision = None
        return response

    async def _get(self, url: str) -> DatabaseResponse:
        return await self._client.get_bytes(url, limit=LIMIT, timeout=self._timeout, headers=self._authorize(url))

    async def _base(self) -> str:
        if self._decision is not None and self._clock.seconds() < self._decision.until:
            return self._decision.base
        deciding = self._deciding
        if deciding is None:
            deciding = self._deciding = Waiters()
            Deferred.fromCoroutine(self._decide()).addBoth(self._decided, deciding)
        return await deciding.wait()

    def _decided(self, result: str | Failure, deciding: Waiters[str]) -> None:
        self._deciding = None
        deciding.land(result)

    async def _decide(self) -> str:
        in_trouble = False
        base = self.database.address
        for proxy in self._proxies:
            if proxy in ("direct", "off"):
                break
            if not proxy.startswith(("http://", "https://")):  # a folder of modules has no database
                continue
            offer = f"{proxy.rstrip('/')}/sumdb/{self.database.name}"
            try:
                response = await self._get(f"{offer}/supported")
            except AthensError:
                in_trouble = True
                continue
            if response.status == 200:
                base = offer
                break
            in_trouble = in_trouble or response.status not in (404, 410)
        held = DECISION_IN_TROUBLE if in_trouble else DECISION
        self._decision = _Decision(base, self._clock.seconds() + held)
        return base
