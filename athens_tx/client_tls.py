"""Our side of TLS to a server, where options of its URL say more than the platform does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from athens_tx.errors import ConfigError
from athens_tx.http_endpoints import Trust
from athens_tx.tls_options import TlsOptions

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


def load(options: TlsOptions, setting: str, environ: Mapping[str, str]) -> ClientTls:
    """
    Read the files.

    @param setting: what holds the URL with the options.
    @param environ: has C{SSL_CERT_FILE}, which says whom to believe where there is no C{ca_file}.
    @raise ConfigError: one can't be used.
    """
    own: Mapping[str, Any] = {}
    if options.cert_file:
        try:
            certificate = Path(options.cert_file).read_bytes()
            own = own_certificate(certificate, Path(options.key_file).read_bytes() if options.key_file else certificate)
        except OSError as error:
            raise ConfigError([f"{setting}: {error.filename} can't be read: {error.strerror}"]) from None
        except (ValueError, TypeError, IndexError):
            names = "cert_file and key_file" if options.key_file else "cert_file"
            text = f"{setting}: {names} must hold a certificate and its key in PEM, without a password"
            raise ConfigError([text]) from None
    return ClientTls(_trust(options.ca_file, setting, environ), own, options.server_name)


def _trust(file: str, setting: str, environ: Mapping[str, str]) -> Trust:
    if not file:
        return Trust(environ.get("SSL_CERT_FILE", ""))
    try:
        return Trust(file, alone=True)
    except ConfigError:
        raise ConfigError([f"{setting}: ca_file: can't read certificates from {file!r}"]) from None


@implementer(IPolicyForHTTPS)
@attrs.frozen
class ClientTls:
    """
    How to meet a server.

    @ivar own: our own certificate, for L{CertificateOptions}.
    @ivar name: whom to expect, if it is not the host.
    """

    trust: Trust
    own: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    name: str = ""

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """@return: what makes a connection to who shows that he is C{host}."""
        options = dict(self.own)
        return optionsForClientTLS(self.name or host, trustRoot=self.trust, extraCertificateOptions=options)

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """See L{IPolicyForHTTPS}."""
        return self.creator(hostname.decode("ascii"))

    def unverified(self, host: str) -> IOpenSSLClientConnectionCreator:
        """@return: what believes anybody."""
        return _Unverified(CertificateOptions(verify=False, **self.own).getContext(), self.name or host)


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class _Unverified:
    """Names its server, and does not look at the certificate."""

    context: SSL.Context
    host: str

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        if not re.fullmatch(r"[0-9.]+|.*:.*", self.host):
            connection.set_tlsext_host_name(self.host.encode("idna"))
        return connection


def own_certificate(certificate: bytes, key: bytes, password: bytes | None = None) -> Mapping[str, Any]:
    """
    @param certificate: PEM, with those that vouch for it; C{key} may be the same.
    @return: what L{CertificateOptions} wants to know.
    @raise ValueError, TypeError, IndexError: it is none, or the password is wrong or missing.
    """
    found = [crypto.X509.from_cryptography(one) for one in x509.load_pem_x509_certificates(certificate)]
    first = _KEY.search(key)
    private = load_pem_private_key(first[0] if first else b"", password)
    return {
        "privateKey": crypto.PKey.from_cryptography_key(private),  # type: ignore[arg-type]  # any that TLS has
        "certificate": found[0],
        "extraCertChain": found[1:],
    }
