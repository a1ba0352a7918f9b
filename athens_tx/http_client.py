"""
The one way to make an HTTP client: kept-alive connections, every wait limited, every failure one of our own errors.

treq makes the requests, over agents of ours and kept from two of its habits, see L{athens_tx.http_treq}.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.web.client import (
    Agent,
    ProxyAgent,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse

from athens_tx.errors import BadUpstream, FetchFailed, FetchTimeout
from athens_tx.http_body import BytesBody, Kept
from athens_tx.http_endpoints import Endpoints, Trust
from athens_tx.http_pool import ConnectionPool
from athens_tx.http_proxy import Proxy, ProxyRules, basic_authorization
from athens_tx.http_response import (
    AnswerCut,
    BodyTooLong,
    ClientClosed,
    OpenResponse,
    Response,
    deliver,
    masked,
    translated,
)
from athens_tx.http_treq import AsWritten, Wire

__all__ = ["AnswerCut", "BodyTooLong", "ClientClosed", "HttpClient", "OpenResponse", "Response", "masked"]

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}
_CREDENTIALS = (b"Authorization", b"Cookie")
_ERROR_TEXT = 64 * 1024


class HttpClient:
    """
    Makes requests over a pool of kept-alive connections.

    Every failure to get an answer is a L{FetchTimeout}, an L{UpstreamUnreachable} (network, names, TLS, a body cut
    short), a L{BadUpstream} (a body that is too long, or no gzip though it says so) or a L{FetchFailed}; any answer, a
    404 too, is a L{Response}. Credentials in the userinfo of a URL become basic authorization; like all others they
    never follow a redirect to another server.
    Closing: C{await client.close()}.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        *,
        connections_per_host: int = 16,
        connect_timeout: float = 30.0,
        header_timeout: float = 120.0,
        policy: IPolicyForHTTPS | None = None,
    ) -> None:
        """
        @param environ: where C{HTTP_PROXY}, C{HTTPS_PROXY}, C{NO_PROXY} and C{SSL_CERT_FILE} are looked up.
        @param connections_per_host: how many idle connections are kept for one server.
        @param connect_timeout: seconds for a connection, and again for a tunnel on top of it.
        @param header_timeout: seconds from the request to the end of the answer's headers, connecting included.
        @param policy: how to meet servers over TLS, if not as the platform and C{SSL_CERT_FILE} say.
        @raise ConfigError: the environment names a proxy or a certificate file that can't be used.
        """
        self._reactor = reactor
        self._header_timeout = header_timeout
        self._rules = ProxyRules.from_environ(environ)
        self._pool = ConnectionPool(reactor)
        self._pool.maxPersistentPerHost = connections_per_host
        self._pool.cachedConnectionTimeout = 60  # below what servers commonly allow, so that few are found closed
        trust = Trust(environ.get("SSL_CERT_FILE", ""))
        self._endpoints = Endpoints(reactor, self._rules, trust, connect_timeout, policy)
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints, self._pool)
        self._proxy_agents: dict[Proxy, ProxyAgent] = {}
        self._running: set[Deferred[Any]] = set()
        self._closed = False

    async def close(self) -> None:
        """Cancel what is running and close the kept-alive connections."""
        self._closed = True
        for running in list(self._running):
            running.cancel()
        await deferLater(self._reactor, 0, lambda: None)  # a body given up just now still hands its connection back
        await self._pool.closeCachedConnections()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | IBodyProducer | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109  counted by the reactor, like the next two
        limit: int = 1024 * 1024,
        follow_redirects: bool = False,
    ) -> Response:
        """
        @param url: absolute, already escaped; taken as it is.
        @param timeout: seconds for all of it.
        @param limit: the most bytes of a body; more is L{BodyTooLong}.
        @param follow_redirects: for GET and HEAD only, at most ten, never from https to http.
        """
        kept = Kept()

        async def exchange() -> Response:
            response, final = await self._final(method, url, _headers(headers), data, follow_redirects)
            await self._receive(response, kept, limit=limit, idle=timeout)
            return Response(response.code, response.headers, kept.whole(), final)

        return await self._within(timeout, url, exchange())

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | IBodyProducer | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109
    ) -> OpenResponse:
        """
        @param timeout: seconds until the headers are there; the body has limits of its own.
        @return: any answer, a redirect too; its body must be taken or aborted.
        """

        async def exchange() -> OpenResponse:
            response, final = await self._final(method, url, _headers(headers), data, False)
            return OpenResponse(self._reactor, response, final)

        return await self._within(timeout, url, exchange())

    async def get_bytes(
        self,
        url: str,
        *,
        limit: int,
        timeout: float,  # noqa: ASYNC109
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """GET, with redirects; see L{request}."""
        return await self.request("GET", url, headers=headers, timeout=timeout, limit=limit, follow_redirects=True)

    async def stream(
        self,
        url: str,
        sink: IConsumer,
        *,
        timeout: float,  # noqa: ASYNC109
        idle_timeout: float = 60.0,
        limit: int,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """
        GET, with redirects, the body of a 200 going into C{sink}, which may pause it.

        @param idle_timeout: seconds without a byte of the body.
        @param limit: the most bytes of the body.
        @return: with an empty body; when the status is not 200 with its body, of at most 64 KiB, and C{sink} untouched.
        """

        async def exchange() -> Response:
            response, final = await self._final("GET", url, _headers(headers), None, True)
            if response.code == 200:
                await self._receive(response, sink, limit=limit, idle=idle_timeout)
                return Response(200, response.headers, b"", final)
            kept = Kept()
            await self._receive(response, kept, limit=_ERROR_TEXT, idle=idle_timeout)
            return Response(response.code, response.headers, kept.whole(), final)

        return await self._within(timeout, url, exchange())

    async def _within(self, seconds: float, url: str, exchange: Coroutine[Any, Any, T]) -> T:
        """Wait for an exchange, but not for ever, and tell why it failed in our own words."""
        expired = left = False

        def expire() -> None:
            nonlocal expired
            expired = True
            running.cancel()

        def leave(_: Deferred[T]) -> None:
            nonlocal left
            left = True
            running.cancel()

        running = Deferred.fromCoroutine(exchange)
        waiting: Deferred[T] = Deferred(leave)
        running.chainDeferred(waiting)
        if self._closed:
            running.cancel()
        self._running.add(running)
        timer = self._reactor.callLater(seconds, expire)
        try:
            return await waiting
        except Exception as error:
            if left:
                raise CancelledError from None
            if expired:
                raise FetchTimeout(f"no complete answer within {seconds:g} s", detail=masked(url)) from None
            if self._closed:
                raise ClientClosed("the program is stopping", detail=masked(url)) from None
            raise translated(error, url) from None
        finally:
            self._running.discard(running)
            if timer.active():
                timer.cancel()

    async def _final(
        self, method: str, url: str, headers: Headers, data: bytes | IBodyProducer | None, follow: bool
    ) -> tuple[IResponse, str]:
        """@return: the answer after the redirects, body not read, and its URL without credentials."""
        parts = _split(url)
        authorization = basic_authorization(parts.username, parts.password)
        if authorization is not None:
            headers.setRawHeaders(b"Authorization", [authorization])
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._headers_of(method, parts, headers, data)
            location = response.headers.getRawHeaders(b"Location", [b""])[-1].decode("latin-1")
            if not follow or method not in ("GET", "HEAD") or response.code not in _REDIRECTS or not location:
                return response, _plain(parts)
            await self._discard(response)
            target = _split(urljoin(_plain(parts), location))
            if parts.scheme == "https" and target.scheme == "http":
                raise BadUpstream("refusing a redirect from https to http", detail=masked(target.geturl()))
            if _origin(target) != _origin(parts):
                headers = _without_credentials(headers)
            parts = target
        raise BadUpstream("too many redirects", detail=masked(url))

    async def _headers_of(
        self, method: str, parts: SplitResult, headers: Headers, data: bytes | IBodyProducer | None
    ) -> IResponse:
        """@return: an answer with its body still to come."""
        body = BytesBody(data) if isinstance(data, bytes) else data
        scheme, host, port = _origin(parts)
        proxy = self._rules.proxy_for(scheme, host, port) if scheme == "http" else None
        agent: IAgent = self._agent
        if proxy is not None:
            agent = self._proxy_agent(proxy)
            headers = headers.copy()
            if proxy.authorization is not None:
                headers.setRawHeaders(b"Proxy-Authorization", [proxy.authorization])
        # A client of its own for each request: treq keeps the cookies of a client, and nobody here may have any.
        answer = HTTPClient(Wire(agent)).request(
            method,
            AsWritten.from_text(_plain(parts)),
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        late = self._reactor.callLater(self._header_timeout, answer.cancel)
        try:
            response: IResponse = await answer
            return response
        except Exception:
            if not late.active():
                raise FetchTimeout(f"no answer within {self._header_timeout:g} s") from None
            raise
        finally:
            if late.active():
                late.cancel()

    def _proxy_agent(self, proxy: Proxy) -> ProxyAgent:
        agent = self._proxy_agents.get(proxy)
        if agent is None:
            agent = ProxyAgent(self._endpoints.to_proxy(proxy), self._reactor, self._pool)
            self._proxy_agents[proxy] = agent
        return agent

    async def _receive(self, response: IResponse, sink: IConsumer, *, limit: int, idle: float) -> int:
        return await deliver(self._reactor, response, sink, limit, idle).done

    async def _discard(self, response: IResponse) -> None:
        """Read a small body, so that its connection can be used again; cut a large one."""
        try:
            await self._receive(response, Kept(), limit=_ERROR_TEXT, idle=self._header_timeout)
        except CancelledError:
            raise
        except Exception:  # noqa: S110  whatever was wrong with it, nobody wanted it
            pass


def _headers(given: Mapping[str, str] | None) -> Headers:
    headers = Headers({name: [value] for name, value in (given or {}).items()})
    if not headers.hasHeader(b"User-Agent"):
        headers.setRawHeaders(b"User-Agent", [b"athens-tx"])
    if not headers.hasHeader(b"Accept-Encoding"):
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
    return headers


def _split(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url:
        url = quote(url, safe="!#$%&'()*+,/:;=?@[]~")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise FetchFailed("not an http or https URL", detail=masked(url))
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _plain(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _without_credentials(headers: Headers) -> Headers:
    headers = headers.copy()
    for name in _CREDENTIALS:
        headers.removeHeader(name)
    return headers
