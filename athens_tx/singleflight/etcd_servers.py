"""What the setting of the etcd servers says."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from athens_tx.config.rules import is_host
from athens_tx.errors import ConfigError
from athens_tx.tls_options import TLS_OPTIONS, TlsOptions

ENDPOINTS = "SingleFlight.Etcd.Endpoints"

_PORT = 2379


@attrs.frozen
class EtcdServer:
    """
    One of the servers.

    @ivar url: without user and without a slash at its end.
    @ivar address: for people.
    @ivar user: who logs in; empty if nobody.
    @ivar options: what was said of TLS.
    """

    url: str
    address: str
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    options: TlsOptions = attrs.field(factory=TlsOptions)


def parse(setting: str) -> Sequence[EtcdServer]:
    """
    @param setting: with commas, each C{host:port} or a URL, with user and password and options of TLS perhaps. Those of
        the first that has them are for all.
    @raise ConfigError: it can't be read.
    """
    found = [_server(part.strip()) for part in setting.split(",") if part.strip()]
    if not found:
        raise ConfigError([f"{ENDPOINTS}: must name a server"])
    options = next((server.options for server in found if server.options != TlsOptions()), TlsOptions())
    found = [attrs.evolve(server, options=options) for server in found]
    known = next((server for server in found if server.user), None)
    if known is None:
        return found
    return [
        server if server.user else attrs.evolve(server, user=known.user, password=known.password) for server in found
    ]


def _server(text: str) -> EtcdServer:
    if "://" not in text:
        if "@" in text:  # which nobody would know for a secret
            raise ConfigError([f"{ENDPOINTS}: user and password belong into a URL: https://user:password@host:2379"])
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port or _PORT
        host = parts.hostname or ""
        wrong = parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/")
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        wrong = True
    if wrong or parts.fragment or not is_host(host):
        raise ConfigError([f"{ENDPOINTS}: must be host:port or http(s)://host:port, with commas between them"])
    tls = TlsOptions.of(options)
    problem = tls.problem or ("the options of TLS need https://" if options and parts.scheme != "https" else "")
    if set(options) - set(TLS_OPTIONS):
        problem = f"the only options of a URL are {', '.join(TLS_OPTIONS)}"
    if problem:
        raise ConfigError([f"{ENDPOINTS}: {problem}"])
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return EtcdServer(
        f"{parts.scheme}://{address}", address, unquote(parts.username or ""), unquote(parts.password or ""), tls
    )
