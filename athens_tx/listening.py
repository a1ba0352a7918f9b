"""Where the daemon listens: TCP, a Unix socket, sockets that systemd hands over; each plain or with TLS."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import attrs
from OpenSSL import SSL, crypto
from twisted.internet import endpoints
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from athens_tx.errors import ConfigError
from athens_tx.systemd import activated_endpoints

#: What plain HTTP gets at a port that speaks TLS, as Go says it.
PLAIN_HTTP = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


@implementer(IOpenSSLServerConnectionCreator)
class ServerCertificate:
    """
    The certificate of the TLS listener, which L{reload} reads anew for the connections to come.

    @param certificate: path of a PEM file, the server's own certificate first and then its chain.
    @param key: path of its PEM key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.reload()

    def reload(self) -> None:
        """@raise ConfigError: a file can't be read, or the two don't fit; the certificate before stays in use."""
        try:
            key = crypto.load_privatekey(crypto.FILETYPE_PEM, self._key.read_bytes())
        except (OSError, crypto.Error, ValueError) as error:
            raise ConfigError(
                [f"TLSKeyFile {self._key}: {_reason(error)}; a PEM key without a password is wanted"]
            ) from error
        try:
            chain = _certificates(self._certificate.read_bytes())
        except (OSError, crypto.Error, ValueError) as error:
            raise ConfigError(
                [f"TLSCertFile {self._certificate}: {_reason(error)}; a PEM certificate is wanted"]
            ) from error
        options = CertificateOptions(privateKey=key, certificate=chain[0], extraCertChain=chain[1:])
        try:
            context = options.getContext()  # compares the two
        except SSL.Error as error:
            problem = f"TLSKeyFile {self._key} is not the key of TLSCertFile {self._certificate}"
            raise ConfigError([problem]) from error
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """@return: a connection with the certificate as it was last read."""
        return SSL.Connection(self._context, None)


class _ServerTLS(BufferingTLSTransport):
    """TLS, and a sentence for who speaks plain HTTP to it: he would wait for an answer, or see the connection break."""

    _begun = False
    _answered = False

    def dataReceived(self, data: bytes) -> None:
        """The first byte tells: a TLS record begins with one of 20 to 23, a method of HTTP with a capital letter."""
        if not self._begun:
            self._begun = True
            if data[:1].isupper():
                self._answered = True
                transport = cast(ITransport, self.transport)
                transport.write(PLAIN_HTTP)
                transport.loseConnection()
        if not self._answered:
            super().dataReceived(data)


class _ServerTLSFactory(TLSMemoryBIOFactory):
    protocol = _ServerTLS


def _certificates(pem: bytes) -> list[crypto.X509]:
    end = b"-----END CERTIFICATE-----"
    blocks = [block + end for block in pem.split(end)[:-1]]
    if not blocks:
        raise ValueError("it holds no certificate")
    return [crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in blocks]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) and not isinstance(error, crypto.Error) else "it can't be parsed"


@attrs.frozen
class Listening:
    """
    The settings of where to listen.

    @ivar port: C{host:port} or C{:port}; or a Twisted endpoint string that begins with C{systemd:}.
    @ivar unix_socket: path, takes the place of C{port}; empty for none.
    @ivar certificate: turns TLS on.
    """

    port: str
    unix_socket: str
    certificate: ServerCertificate | None

    async def listen(
        self, reactor: IReactorCore, factory: IProtocolFactory, environ: Mapping[str, str]
    ) -> list[IListeningPort]:
        """
        Listen; sockets that systemd passes to this very process take the place of all settings.

        @param environ: of the start of the process, see L{activated_endpoints}.
        @return: one port, or one for each socket of systemd.
        @raise ConfigError: an address can't be had, with the setting to look at.
        """
        if self.certificate is not None:
            factory = _ServerTLSFactory(self.certificate, False, factory)
        passed = activated_endpoints(environ, pid=os.getpid())
        if passed:
            return [
                await self._listen_at(place, factory, "systemd's socket")
                for place in (endpoints.serverFromString(reactor, name) for name in passed)
            ]
        if self.unix_socket:
            _make_room(self.unix_socket)
            umask = os.umask(0)
            os.umask(umask)
            place = endpoints.UNIXServerEndpoint(reactor, self.unix_socket, mode=0o777 & ~umask)
            return [await self._listen_at(place, factory, f"UnixSocket {self.unix_socket}")]
        if self.port.startswith("systemd:"):
            raise ConfigError(
                [f"Port {self.port}: systemd has passed no socket to this process (LISTEN_FDS, LISTEN_PID)"]
            )
        host, number = split_port(self.port)
        ports: list[IStreamServerEndpoint] = [
            endpoints.TCP4ServerEndpoint(reactor, number, interface=host, backlog=1024)
        ]
        if ":" in host or not host:
            # Without a host Go listens on IPv6 and IPv4 by one socket; so does "::" where the machine has IPv6.
            ports = [
                endpoints.TCP6ServerEndpoint(reactor, number, interface=host or "::", backlog=1024),
                *([] if host else ports),
            ]
        return [await self._listen_first(ports, factory, f"Port {self.port}")]

    async def _listen_first(
        self, places: list[IStreamServerEndpoint], factory: IProtocolFactory, name: str
    ) -> IListeningPort:
        """Listen at the first place that can be had; more than one only where IPv6 may be missing."""
        for place in places[:-1]:
            try:
                return await self._listen_at(place, factory, name)
            except ConfigError as error:
                if not _lacks_ipv6(error.__cause__):
                    raise
        return await self._listen_at(places[-1], factory, name)

    async def _listen_at(self, place: IStreamServerEndpoint, factory: IProtocolFactory, name: str) -> IListeningPort:
        try:
            return await place.listen(factory)
        except Exception as error:
            cause = getattr(error, "socketError", error)
            reason = getattr(cause, "strerror", None) or str(cause)
            raise ConfigError([f"{name}: can't listen there: {reason}"]) from error


def _lacks_ipv6(error: BaseException | None) -> bool:
    cause = getattr(error, "socketError", error)
    return getattr(cause, "errno", None) in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def split_port(port: str) -> tuple[str, int]:
    """
    @param port: C{host:port} as Go takes it: the host may be empty (all interfaces), a name, an address, or an IPv6
        address in brackets; the port may be a number or the name of a service.
    @return: host and number.
    @raise ConfigError: it can't be read.
    """
    host, colon, service = port.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or (":" in host and not port.startswith("[")):
        raise ConfigError([f"Port {port}: host:port, :port or a number is wanted"])
    try:
        number = int(service) if service.isascii() and service.isdigit() else socket.getservbyname(service, "tcp")
    except OSError:
        number = -1
    if not 0 <= number < 65536:
        raise ConfigError([f"Port {port}: {service!r} is no port number and no known service"])
    if host and not _is_address(host):
        try:
            found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError([f"Port {port}: the host {host!r} has no address: {error.strerror}"]) from error
        host = str(sorted(found, key=lambda entry: entry[0] != socket.AF_INET)[0][4][0])
    return host, number


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _make_room(path: str) -> None:
    """Remove a socket that a killed daemon left; anything else at C{path} is not ours to remove."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError([f"UnixSocket {path}: {error.strerror}"]) from error
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            [f"UnixSocket {path}: something that is no socket lies there; remove it or name another path"]
        )
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise ConfigError([f"UnixSocket {path}: {error.strerror}"]) from error
    raise ConfigError([f"UnixSocket {path}: another process listens there"])
