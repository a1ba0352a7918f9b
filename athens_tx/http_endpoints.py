"""
How to reach a server: over TCP or TLS, straight or through a tunnel, and which certificates are trusted.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet._sslverify import IOpenSSLTrustRoot  # it has no public name; the same since Twisted 14
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, BrowserLikePolicyForHTTPS, HostnameCachingHTTPSPolicy
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from athens_tx.errors import ConfigError
from athens_tx.http_proxy import Proxy, ProxyRules, TunnelEndpoint


@implementer(IOpenSSLTrustRoot)
class Trust:
    """The platform's certificates, and those of one more file."""

    def __init__(self, file: str, *, alone: bool = False) -> None:
        """@param alone: believe those of the file only."""
        self._file = file or None
        self._alone = alone
        try:
            self._addCACertsToContext(SSL.Context(SSL.TLS_METHOD))
        except SSL.Error:
            raise ConfigError([f"SSL_CERT_FILE: can't read certificates from {file!r}"]) from None

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        if not self._alone:
            context.set_default_verify_paths()
        if self._file is not None:
            context.load_verify_locations(self._file)


@implementer(IAgentEndpointFactory)
class Endpoints:
    """How to reach a server: straight, or through a tunnel."""

    def __init__(
        self, reactor: Any, rules: ProxyRules, trust: Trust, timeout: float, policy: IPolicyForHTTPS | None = None
    ) -> None:
        """@param policy: for the servers, if it is not C{trust} that says whom to believe; it does for proxies."""
        self._reactor = reactor
        self._rules = rules
        self._timeout = timeout
        self._proxy_policy = HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS(trust), cacheSize=200)
        self._policy = self._proxy_policy if policy is None else HostnameCachingHTTPSPolicy(policy)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """@return: a way to the server of C{uri}."""
        scheme, host, port = uri.scheme.decode("ascii"), uri.host.decode("ascii"), uri.port
        proxy = self._rules.proxy_for(scheme, host, port)
        if proxy is not None:  # only https comes here with one
            tunnel = TunnelEndpoint(self._reactor, self.to_proxy(proxy), proxy, host, port, self._timeout)
            return wrapClientTLS(self._policy.creatorForNetloc(uri.host, port), tunnel)
        straight = HostnameEndpoint(self._reactor, host, port, timeout=self._timeout)
        if scheme == "http":
            return straight
        return wrapClientTLS(self._policy.creatorForNetloc(uri.host, port), straight)

    def to_proxy(self, proxy: Proxy) -> IStreamClientEndpoint:
        """@return: a way to the proxy itself."""
        endpoint = HostnameEndpoint(self._reactor, proxy.host, proxy.port, timeout=self._timeout)
        if proxy.scheme == "http":
            return endpoint
        return wrapClientTLS(self._proxy_policy.creatorForNetloc(proxy.host.encode("ascii"), proxy.port), endpoint)
