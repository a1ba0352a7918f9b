"""
One connection to a MongoDB server: how it is made, secured and greeted, and how a command goes over it.

txmongo has the wire protocol. Its own connections and pool are not used: they wait for ever where no server answers,
hide a refused login, log an outage at each attempt, and know one name for the certificates of several servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from bson.codec_options import CodecOptions, DatetimeConversion
from OpenSSL import SSL
from pymongo.errors import AutoReconnect
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.python.failure import Failure
from txmongo.protocol import MongoProtocol, Msg
from zope.interface import implementer

from athens_tx.client_tls import own_certificate
from athens_tx.errors import ConfigError
from athens_tx.http_endpoints import Trust
from athens_tx.storage.mongo_auth import Login
from athens_tx.storage.mongo_url import DEFAULT_PORT, Host, MongoTarget, refused

#: What others have stored is read as far as it can be.
_CODEC: Any = CodecOptions(unicode_decode_error_handler="replace", datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class Link(MongoProtocol):  # type: ignore[misc]  # txmongo has no types
    """
    A connection.

    @ivar host: what it is connected to.
    @ivar alive: whether it still is.
    @ivar lost: why it no longer is.
    """

    host: Host = ("", 0)
    alive = True
    lost: Failure | None = None

    async def run(
        self, database: str, command: Mapping[str, Any], documents: Mapping[str, Sequence[Any]] | None = None
    ) -> Any:
        """
        @param documents: what is long and comes in a section of its own, by the name of its field.
        @return: the answer, be it an error.
        """
        message = Msg.create({**command, "$db": database}, documents, codec_options=_CODEC)
        return await self.send_msg(message, _CODEC, None, check=False)

    async def greet(self, application: str, asks: str) -> Any:
        """@return: what the server says of itself; the one command that all of them take in the old form."""
        client = {
            "application": {"name": application},
            "driver": {"name": "athens-tx", "version": "1"},
            "os": {"type": "Linux"},
        }
        command: dict[str, Any] = {"isMaster": 1, "helloOk": True, "client": client}
        if asks:
            command["saslSupportedMechs"] = asks
        return await self.send_op_query_command("admin", command)

    def fail(self, reason: object) -> None:
        """What came is not MongoDB's protocol."""
        self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        self.alive = False
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        """See L{Links.close}."""
        self.factory.open.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:
        """Whoever waits for an answer hears of it from txmongo."""
        self.alive = False
        self.lost = reason
        super().connectionLost(reason)
        self.factory.closed(self)


class Links(Factory):
    """
    What txmongo's protocol expects of a factory and its pool.

    @ivar open: the connections that are.
    """

    protocol = Link
    noisy = False

    def __init__(self) -> None:
        self.open: set[Link] = set()
        self._none: Deferred[None] | None = None

    @property
    def pool(self) -> Links:
        """For txmongo."""
        return self

    def closed(self, link: Link) -> None:
        """A connection is no more."""
        self.open.discard(link)
        none = self._none
        if none is not None and not self.open:
            self._none = None
            none.callback(None)

    async def close(self) -> None:
        """Cut all connections, and wait until they are."""
        for link in list(self.open):
            link.abort()
        if self.open:
            self._none = Deferred()
            await self._none

    def _advance_cluster_time(self, session: object, reply: object) -> None:
        """Without sessions nobody needs it."""

    def setInstance(self, instance: object = None, reason: object = None) -> None:
        """The pool sees by L{Link.alive}."""


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class _AnyName:
    """A TLS client that names its server, and does not compare that with the certificate."""

    context: SSL.Context
    host: str

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        if not isIPAddress(self.host) and not isIPv6Address(self.host):
            connection.set_tlsext_host_name(self.host.encode("idna"))
        return connection


@attrs.frozen
class Dialer:
    """
    Makes connections.

    @ivar extra: our own certificate, for L{CertificateOptions}.
    @ivar trust: whom to believe; C{None} for anybody.
    """

    reactor: Any
    target: MongoTarget
    login: Login
    extra: Mapping[str, Any]
    trust: Trust | None
    links: Links = attrs.field(factory=Links)

    @classmethod
    def load(cls, reactor: Any, target: MongoTarget, setting: str) -> Dialer:
        """
        In a thread: read the files.

        @param setting: what names the authority's file.
        @raise ConfigError: one can't be read.
        """
        trust = None
        if target.tls and target.verify_chain:
            try:
                trust = Trust(target.authority)
            except ConfigError:
                raise ConfigError([f"{setting}: can't read certificates from {target.authority!r}"]) from None
        extra = _own_certificate(target) if target.tls and target.certificate else {}
        return cls(reactor, target, Login(reactor, target), extra, trust)

    def endpoint(self, host: Host, limit: float) -> IStreamClientEndpoint:
        """@return: a way to a server."""
        name, port = host
        if not port:
            return UNIXClientEndpoint(self.reactor, name, timeout=limit)
        plain: IStreamClientEndpoint
        if isIPAddress(name):
            plain = TCP4ClientEndpoint(self.reactor, name, port, limit)
        elif isIPv6Address(name):
            plain = TCP6ClientEndpoint(self.reactor, name, port, limit)
        else:
            plain = HostnameEndpoint(self.reactor, name, port, limit)
        return wrapClientTLS(self._tls(name), plain) if self.target.tls else plain

    def _tls(self, name: str) -> Any:
        if self.target.verify_name:
            return optionsForClientTLS(name, trustRoot=self.trust, extraCertificateOptions=dict(self.extra))
        options = CertificateOptions(trustRoot=self.trust, **self.extra)
        return _AnyName(options.getContext(), name)

    async def connect(self, host: Host, limit: float) -> tuple[Link, Any]:
        """@return: a connection that is not yet logged in, and the server's greeting."""
        try:
            link = cast(Link, await self.endpoint(host, limit).connect(self.links))
        except ConnectingCancelledError:  # which is no CancelledError
            raise CancelledError from None
        link.host = host
        try:
            return link, await link.greet(self.target.application, self.login.asks)
        except AutoReconnect:
            lost = link.lost.value if link.lost is not None else None
            if lost is None or isinstance(lost, ConnectionDone | ConnectionLost):
                raise
            raise lost from None  # TLS has more to say
        except BaseException:
            link.abort()
            raise


def _own_certificate(target: MongoTarget) -> Mapping[str, Any]:
    """@return: what L{CertificateOptions} wants to know."""
    option = "tlsCertificateKeyFile"
    try:
        data = Path(target.certificate).read_bytes()
        return own_certificate(data, data, target.certificate_password.encode() or None)
    except OSError as error:
        raise refused(f"the file of its option {option} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise refused(
            f"the file of its option {option} must hold a certificate and its key in PEM; a key with a password "
            "needs the right tlsCertificateKeyFilePassword"
        ) from error


def named(host: str) -> Host:
    """@return: a server as other servers name it."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        return host.lower(), DEFAULT_PORT
    return name.strip("[]").lower(), int(port)
