"""
The way out through an HTTP proxy: which one the environment names for a URL, and the tunnel through it.

The rules are those of the go command (C{HTTP_PROXY}, C{HTTPS_PROXY}, C{NO_PROXY} and their lower-case forms), so that
what a person has set for go holds for us too.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import ConfigError

_PORTS = {"http": 80, "https": 443}
_MAX_ANSWER = 16 * 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TunnelRefused(Exception):
    """The proxy did not open a tunnel; the text has its status line, shortened."""


@attrs.frozen
class Proxy:
    """One HTTP proxy. C{authorization} is the value of C{Proxy-Authorization}, from the userinfo of its URL."""

    scheme: str
    host: str
    port: int
    authorization: bytes | None = attrs.field(default=None, repr=False)

    @classmethod
    def from_setting(cls, name: str, text: str) -> Proxy:
        """
        @param name: the variable, for the error.
        @param text: a URL, or C{host:port}, which means C{http://host:port}.
        @raise ConfigError: it is neither, or names a kind of proxy that we can't speak to.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in _PORTS:
            raise ConfigError([f"{name}: not the URL of an http or https proxy (http://HOST:PORT)"])
        return cls(
            parts.scheme, host, port or _PORTS[parts.scheme], basic_authorization(parts.username, parts.password)
        )


def basic_authorization(username: str | None, password: str | None) -> bytes | None:
    """@return: the value of an C{Authorization} header for the (percent-encoded) userinfo of a URL, if there is any."""
    if username is None:
        return None
    plain = f"{unquote(username)}:{unquote(password or '')}"
    return b"Basic " + base64.b64encode(plain.encode())


def is_loopback(host: str) -> bool:
    """@return: whether C{host} is C{localhost} or a loopback address, which no proxy is asked for."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


Exemption = Callable[[str, int, Address | None], bool]


def _exemption(entry: str) -> Exemption | None:
    """@return: the meaning of one entry of C{NO_PROXY}; C{None} if it has none."""
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
        else:
            return lambda host, port, address: address is not None and address in network
    host, port = _split_port(entry)
    if not host:
        return None
    wanted = _address(host)
    if wanted is not None:
        return lambda _, at, address: address == wanted and port in (None, at)
    suffix = host[1:] if host.startswith("*.") else host
    exact = not suffix.startswith(".")
    suffix = suffix if suffix.startswith(".") else "." + suffix

    def domain(host: str, at: int, address: Address | None) -> bool:
        named = host.endswith(suffix) or (exact and host == suffix[1:])
        return address is None and named and port in (None, at)

    return domain


def _split_port(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port)
    return entry.strip("[]"), None


class ProxyRules:
    """Which proxy to use for a URL."""

    def __init__(self, http: Proxy | None, https: Proxy | None, no_proxy: str) -> None:
        self._proxies = {"http": http, "https": https}
        entries = [entry.strip().lower() for entry in no_proxy.split(",")]
        self._never = "*" in entries
        self._exemptions = [test for test in map(_exemption, entries) if test is not None]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxyRules:
        """@raise ConfigError: a variable holds no URL of a proxy."""

        def value(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        def proxy(name: str) -> Proxy | None:
            return Proxy.from_setting(name, value(name)) if value(name) else None

        return cls(proxy("HTTP_PROXY"), proxy("HTTPS_PROXY"), value("NO_PROXY"))

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """@return: the proxy to go through, C{None} to go directly."""
        proxy = self._proxies.get(scheme)
        if proxy is None or self._never or is_loopback(host):
            return None
        host = host.lower()
        address = _address(host)
        return None if any(exempt(host, port, address) for exempt in self._exemptions) else proxy


class _Tunnel(Protocol):
    """Asks the proxy for a tunnel, then passes everything on to the protocol that wanted the connection."""

    def __init__(self, request: bytes, factory: IProtocolFactory, opened: Deferred[IProtocol]) -> None:
        self._request = request
        self._factory = factory
        self._opened: Deferred[IProtocol] | None = opened
        self._answer = b""
        self._inner: IProtocol | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._opened is None:
            return
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if end:
            self._answered(head, rest)
        elif len(self._answer) > _MAX_ANSWER:
            self._refuse("an endless answer")

    def _answered(self, head: bytes, rest: bytes) -> None:
        line = head.split(b"\r\n", 1)[0].decode("latin-1")[:100]
        words = line.split(" ")
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or words[1] != "200":
            self._refuse(line)
            return
        assert self.transport is not None
        peer: IAddress = self.transport.getPeer()
        inner = self._factory.buildProtocol(peer)
        opened, self._opened = self._opened, None
        assert opened is not None
        if inner is None:
            self.transport.loseConnection()
            opened.errback(Failure(TunnelRefused("nobody wants the connection any more")))
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        self.fail(TunnelRefused(why))

    def fail(self, why: Exception) -> None:
        """Give the connection up, if there is no tunnel yet."""
        opened, self._opened = self._opened, None
        if opened is not None:
            self.transport.abortConnection()  # type: ignore[union-attr] # every TCP and TLS transport has it
            opened.errback(Failure(why))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.errback(Failure(TunnelRefused("the proxy closed the connection")))
        if self._inner is not None:
            self._inner.connectionLost(reason)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A TCP connection to C{host:port} through C{CONNECT} at a proxy."""

    def __init__(
        self, reactor: IReactorTime, to_proxy: IStreamClientEndpoint, proxy: Proxy, host: str, port: int, timeout: float
    ) -> None:
        """@param timeout: seconds for the proxy to answer, once it is connected."""
        self._reactor = reactor
        self._to_proxy = to_proxy
        self._timeout = timeout
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1".encode(), f"Host: {target}".encode()]
        if proxy.authorization is not None:
            lines.append(b"Proxy-Authorization: " + proxy.authorization)
        self._request = b"\r\n".join([*lines, b"", b""])

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """@return: the protocol of C{protocolFactory}, connected; fails with L{TunnelRefused}."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        tunnel: _Tunnel | None = None

        def cancel(_: Deferred[IProtocol]) -> None:
            if tunnel is not None:
                tunnel.fail(TunnelRefused("cancelled"))

        opened: Deferred[IProtocol] = Deferred(cancel)
        tunnel = _Tunnel(self._request, factory, opened)
        await self._to_proxy.connect(Factory.forProtocol(lambda: tunnel))
        late = self._reactor.callLater(self._timeout, tunnel.fail, TunnelRefused("no answer in time"))
        try:
            return await opened
        finally:
            if late.active():
                late.cancel()
