"""Where a Redis server is and how it lets us in: C{host:port}, or a URL as Athens' library reads it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs

from athens_tx.config.rules import is_host
from athens_tx.errors import ConfigError
from athens_tx.tls_options import TLS_OPTIONS, TlsOptions

PORT = 6379
SENTINEL_PORT = 26379

#: What the URL may say besides, about pools and times of that library: it means nothing here.
_IGNORED = frozenset(
    [
        "protocol",
        "client_name",
        "max_retries",
        "min_retry_backoff",
        "max_retry_backoff",
        "dial_timeout",
        "read_timeout",
        "write_timeout",
        "context_timeout_enabled",
        "pool_fifo",
        "pool_size",
        "pool_timeout",
        "min_idle_conns",
        "max_idle_conns",
        "max_active_conns",
        "conn_max_idle_time",
        "conn_max_lifetime",
        "conn_max_lifetime_jitter",
        "idle_timeout",
        "idle_check_frequency",
        "max_conn_age",
        "max_redirects",
        "read_only",
        "route_by_latency",
        "route_randomly",
    ]
)
_SCHEMES = ("redis", "rediss", "unix")


@attrs.frozen
class RedisServer:
    """
    @ivar path: of its socket, if it listens on one.
    @ivar verify: with TLS, whether to believe only whom the trusted authorities vouch for.
    @ivar options: with TLS, what else was said of it.
    @ivar known_as: with TLS, the name to expect, if it is not C{host}.
    """

    host: str = "localhost"
    port: int = PORT
    path: str = ""
    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)
    database: int = 0
    tls: bool = False
    verify: bool = True
    options: TlsOptions = attrs.field(factory=TlsOptions)
    known_as: str = ""

    @property
    def address(self) -> str:
        """The server for people, without secrets."""
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def at(self, host: str, port: int) -> RedisServer:
        """
        @return: another server that lets us in by the same means. One that is named by its address only has the name of
            the one through which it was found.
        """
        name = self.known_as or ("" if is_ip(self.host) else self.host)
        known_as = name if is_ip(host) else ""
        return attrs.evolve(self, host=host, port=port, path="", known_as=known_as)


def parse(text: str, setting: str, default: int = PORT) -> RedisServer:
    """
    @param setting: what holds C{text}.
    @param default: the port where it names none.
    @raise ConfigError: it can't be read; the message does not repeat it, for it may hold a password.
    """
    text = text.strip()
    if "://" not in text:
        return RedisServer(*host_and_port(text, setting, default))
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise _unreadable(setting, "it can't be read as a URL") from None
    if url.scheme not in _SCHEMES:
        raise _unreadable(setting, "it must begin with redis://, rediss:// or unix://, or be host:port")
    server = RedisServer(
        host="localhost" if url.scheme == "unix" else _host(url.hostname or "", setting),
        port=default if port is None else port,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        tls=url.scheme == "rediss",
    )
    if url.scheme == "unix":
        path = unquote((url.netloc.rpartition("@")[2] if not url.username else "") + url.path)
        server = attrs.evolve(server, path=path)
    return _with_options(server, url, setting)


def host_and_port(text: str, setting: str, default: int) -> tuple[str, int]:
    """@return: the two parts of C{host:port}; raise L{ConfigError}."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text.strip(), str(default)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise _unreadable(setting, "the port must be a number from 1 to 65535")
    return _host(host.strip("[]"), setting), int(port)


def _host(text: str, setting: str) -> str:
    if "@" in text:
        raise _unreadable(setting, "user and password belong into a URL: redis://user:password@host:6379")
    if text and not is_host(text):
        raise _unreadable(setting, "the host must be a name of letters, digits, dots and hyphens, or an address")
    return text or "localhost"


def sentinels(texts: Sequence[str], setting: str) -> list[RedisServer]:
    """
    @return: where sentinels are, each C{host:port} or a URL; if one has TLS, all have, as that one says.
    @raise ConfigError: that can't be read.
    """
    found = [_sentinel(text, setting) for text in texts if text.strip()]
    if not found:
        raise _unreadable(setting, "must name a sentinel")
    return _alike(found)


def _sentinel(text: str, setting: str) -> RedisServer:
    if "@" in text or ("/" in text and "://" not in text):
        raise _unreadable(setting, "each must be host:port; user and password have settings of their own")
    server = parse(text, setting, SENTINEL_PORT)
    if ("://" in text and not server.tls) or server.database:
        raise _unreadable(setting, "each must be host:port, or rediss://host:port for TLS")
    return server


def _alike(found: Sequence[RedisServer]) -> list[RedisServer]:
    secure = next((server for server in found if server.tls), found[0])
    return [attrs.evolve(server, tls=secure.tls, verify=secure.verify, options=secure.options) for server in found]


def seeds(text: str, setting: str) -> list[RedisServer]:
    """
    Read some servers of a cluster; they let us in alike, by what the first that says something of it says.

    @param text: with commas.
    @raise ConfigError: one can't be read, or there is none.
    """
    found = [parse(part, setting) for part in text.split(",") if part.strip()]
    if not found:
        raise ConfigError([f"{setting}: must name a server"])
    if any(server.path or server.database for server in found):
        raise _unreadable(setting, "the servers of a cluster are host:port or redis:// URLs, without a database")
    login = next((server for server in found if server.password), found[0])
    return [attrs.evolve(server, user=login.user, password=login.password) for server in _alike(found)]


def _with_options(server: RedisServer, url: SplitResult, setting: str) -> RedisServer:
    options = parse_qs(url.query, keep_blank_values=True)
    unknown = sorted(set(options) - _IGNORED - {"db", "skip_verify", *TLS_OPTIONS})
    if unknown:
        raise _unreadable(setting, f"the URL has an unknown option {unknown[0][:40]}")
    database = options["db"][-1] if "db" in options else "0"
    if not server.path and url.path.strip("/"):
        database = url.path.strip("/")
    if not database.isascii() or not database.isdecimal():
        raise _unreadable(setting, "the database must be a number")
    verify = options.get("skip_verify", ["0"])[-1].lower() not in ("1", "t", "true")
    tls = TlsOptions.of(options)
    problem = tls.problem or ("the options of TLS need rediss://" if tls != TlsOptions() and not server.tls else "")
    if problem:
        raise _unreadable(setting, problem)
    return attrs.evolve(server, database=int(database), verify=verify, options=tls)


def is_ip(host: str) -> bool:
    """@return: whether a host is an address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _unreadable(setting: str, why: str) -> ConfigError:
    return ConfigError([f"{setting}: {why}"])
