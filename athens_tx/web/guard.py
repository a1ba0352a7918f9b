"""What a request must bring before a handler sees it: TLS and credentials, where they are wanted."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode

from athens_tx.web.request import WebRequest
from athens_tx.web.settings import WebSettings

#: The routes that answer anybody, so that a load balancer needs no credentials.
OPEN = frozenset(("healthz", "readyz"))

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.%A-Za-z]{2,64}\])(?::[0-9]{0,5})?")


def host_of(request: WebRequest) -> bytes | None:
    """@return: the C{Host} (over HTTP/2 the authority) if there is exactly one and it looks like one; else C{None}."""
    hosts = request.requestHeaders.getRawHeaders(b"Host")
    if hosts is None or any(host != hosts[0] for host in hosts) or _HOST.fullmatch(hosts[0]) is None:
        return None
    return hosts[0]


def came_by_tls(request: WebRequest) -> bool:
    """@return: whether the client speaks TLS with us, or with a proxy in front of us that says so."""
    return request.isSecure() or request.requestHeaders.getRawHeaders(b"X-Forwarded-Proto") == [b"https"]


class Guard:
    """Looks at each request that has a route, before its handler does."""

    def __init__(self, settings: WebSettings) -> None:
        self._force_ssl = settings.force_ssl
        self._wants_credentials = settings.wants_credentials
        self._user = settings.basic_auth_user.encode()
        self._password = settings.basic_auth_pass.encode()

    def refusal(self, request: WebRequest) -> bytes | None:
        """@return: the body of a refusal, its headers set on the request; C{None} lets the request pass."""
        if request.route in OPEN:
            return None
        if self._force_ssl and not came_by_tls(request):
            return self._to_https(request)
        if self._wants_credentials and not self._knows(request):
            body = request.reply(401, b"credentials are wanted\n")
            request.setHeader(b"WWW-Authenticate", b'Basic realm="basic auth required"')
            return body
        return None

    @staticmethod
    def _to_https(request: WebRequest) -> bytes:
        host = host_of(request)
        target = request.target
        if host is None or target is None:
            return request.reply(400, b"the request has no host\n")
        query = b"?" + target.query if target.query else b""
        return request.redirect_to(301, (b"https://" + host + target.escaped + query).decode("ascii"))

    def _knows(self, request: WebRequest) -> bool:
        given = request.requestHeaders.getRawHeaders(b"Authorization") or [b""]
        scheme, _, token = given[0].partition(b" ")
        try:
            text = b64decode(token.strip(), validate=True)
        except ValueError:
            text = b""
        user, _, password = text.partition(b":")
        # Both are always compared, so that the time tells nothing of which was wrong.
        right = hmac.compare_digest(user, self._user) & hmac.compare_digest(password, self._password)
        return bool(right) and scheme.lower() == b"basic" and len(given) == 1
