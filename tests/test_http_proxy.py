"""Which proxy is used for a URL: the rules of the go command."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from athens_tx.errors import ConfigError
from athens_tx.http_proxy import Proxy, ProxyRules, TunnelEndpoint, TunnelRefused, basic_authorization

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "used"),
    [
        ("", "example.org", 443, True),
        ("", "localhost", 443, False),
        ("", "LocalHost", 443, False),
        ("", "127.0.0.9", 443, False),
        ("", "::1", 443, False),
        ("*", "example.org", 443, False),
        ("a.test, *", "example.org", 443, False),
        ("example.org", "example.org", 443, False),
        ("example.org", "Sub.Example.org", 443, False),
        ("EXAMPLE.org", "example.org", 443, False),
        ("example.org", "myexample.org", 443, True),
        (".example.org", "example.org", 443, True),
        (".example.org", "sub.example.org", 443, False),
        ("*.example.org", "example.org", 443, True),
        ("*.example.org", "sub.example.org", 443, False),
        ("example.org:443", "example.org", 443, False),
        ("example.org:8443", "example.org", 443, True),
        (" , example.org ,", "example.org", 443, False),
        (":80", "example.org", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 443, False),
        ("10.0.0.0/8", "11.1.2.3", 443, True),
        ("10.0.0.0/8", "example.org", 443, True),
        ("10.0.0.0/99", "10.1.2.3", 443, True),
        ("2001:db8::/32", "2001:db8::5", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, False),
        ("10.1.2.3:80", "10.1.2.3", 443, True),
        ("10.1.2.3:443", "10.1.2.3", 443, False),
        ("2001:db8::5", "2001:db8::5", 443, False),
        ("[2001:db8::5]:443", "2001:db8::5", 443, False),
        ("[2001:db8::5]:80", "2001:db8::5", 443, True),
        (".2.3", "10.1.2.3", 443, True),
    ],
)
def test_exemptions(no_proxy: str, host: str, port: int, used: bool) -> None:
    rules = ProxyRules.from_environ({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (rules.proxy_for("https", host, port) is not None) is used


def test_each_scheme_has_its_variable_and_the_upper_case_form_wins() -> None:
    rules = ProxyRules.from_environ({"HTTP_PROXY": "", "http_proxy": "a.test", "https_proxy": "b.test"})
    assert rules.proxy_for("http", "h", 80) == Proxy("http", "a.test", 80)
    assert rules.proxy_for("https", "h", 443) == Proxy("http", "b.test", 80)
    rules = ProxyRules.from_environ({"HTTP_PROXY": "https://c.test", "http_proxy": "a.test", "no_proxy": "x.test"})
    assert rules.proxy_for("http", "h", 80) == Proxy("https", "c.test", 443)
    assert rules.proxy_for("http", "x.test", 80) is None
    assert rules.proxy_for("https", "h", 443) is None


def test_userinfo_becomes_authorization_and_is_not_shown() -> None:
    proxy = Proxy.from_setting("HTTP_PROXY", "http://me%40x:s%3a3@proxy.test")
    assert proxy.authorization == b"Basic bWVAeDpzOjM="
    assert "bWVAeDpzOjM" not in repr(proxy)
    assert basic_authorization(None, None) is None
    assert basic_authorization("token", None) == b"Basic dG9rZW46"


@pytest.mark.parametrize("text", ["socks5://h:1080", "http://", "http://h:port", "http://[::1"])
def test_what_is_no_proxy_is_an_error_that_names_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="HTTP_PROXY"):
        ProxyRules.from_environ({"HTTP_PROXY": text})


class Wire:
    """An endpoint whose connection the test holds."""

    def __init__(self) -> None:
        self.transport = StringTransport()

    def connect(self, factory: Factory) -> Deferred[object]:
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


def test_a_tunnel_nobody_wants_any_more_is_closed() -> None:
    wire, clock = Wire(), Clock()
    nobody = Factory()
    nobody.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    endpoint = TunnelEndpoint(clock, wire, Proxy("http", "p", 80), "2001:db8::5", 443, 5)  # type: ignore[arg-type]
    failed: list[object] = []
    endpoint.connect(nobody).addErrback(lambda failure: failed.append(failure.trap(TunnelRefused)))
    assert wire.transport.value().startswith(b"CONNECT [2001:db8::5]:443 HTTP/1.1\r\n")
    wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\n")
    assert failed == [TunnelRefused]
    assert wire.transport.disconnecting
    assert not clock.getDelayedCalls()
    wire.protocol.dataReceived(b"late")


def test_what_comes_right_behind_the_answer_is_passed_on() -> None:
    wire, received = Wire(), []

    class Inner:
        def makeConnection(self, transport: object) -> None:
            pass

        def dataReceived(self, data: bytes) -> None:
            received.append(data)

        def connectionLost(self, reason: object) -> None:
            received.append(b"bye")

    factory = Factory()
    factory.buildProtocol = lambda addr: Inner()  # type: ignore
    endpoint = TunnelEndpoint(Clock(), wire, Proxy("http", "p", 80), "h", 443, 5)  # type: ignore[arg-type]
    endpoint.connect(factory)
    wire.protocol.dataReceived(b"HTTP/1.0 200 OK\r\n\r\nhel")
    wire.protocol.dataReceived(b"lo")
    wire.protocol.connectionLost(None)
    assert received == [b"hel", b"lo", b"bye"]
