"""
Connection strings of MongoDB, as far as this program speaks its protocol.

An option that we can't do is refused by its name. One that changes nothing but speed is taken, with a note for the log.
A connection string holds a password, so no message repeats more of it than the name of an option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import attrs

from athens_tx.errors import ConfigError

SETTING = "Storage.Mongo.URL (ATHENS_MONGO_STORAGE_URL)"
DEFAULT_PORT = 27017
MECHANISMS = ("SCRAM-SHA-1", "SCRAM-SHA-256", "MONGODB-X509")

#: Options by which nothing that is stored or answered changes.
_WITHOUT_EFFECT = frozenset(
    name.lower()
    for name in (
        "compressors",
        "zlibCompressionLevel",
        "heartbeatFrequencyMS",
        "localThresholdMS",
        "maxIdleTimeMS",
        "minPoolSize",
        "maxConnecting",
        "maxStalenessSeconds",
        "retryReads",
        "retryWrites",
        "serverMonitoringMode",
        "srvMaxHosts",
        "tlsDisableCertificateRevocationCheck",
        "tlsDisableOCSPEndpointCheck",
        "uuidRepresentation",
        "waitQueueTimeoutMS",
    )
)
#: Other names of options, as drivers know them.
_ALIASES: Mapping[str, str] = {
    "ssl": "tls",
    "sslcertificateauthorityfile": "tlscafile",
    "sslclientcertificatekeyfile": "tlscertificatekeyfile",
    "sslclientcertificatekeypassword": "tlscertificatekeyfilepassword",
    "sslinsecure": "tlsinsecure",
    "j": "journal",
    "wtimeout": "wtimeoutms",
}

Host = tuple[str, int]


def refused(problem: str) -> ConfigError:
    """@return: what keeps the program from starting."""
    return ConfigError([f"{SETTING}: {problem}"])


@attrs.frozen
class MongoUrl:
    """
    A connection string taken apart.

    @ivar hosts: names and ports; a port of 0 is the path of a Unix socket. With C{srv} the one name to ask DNS for.
    @ivar options: by their name in small letters.
    """

    srv: bool
    hosts: tuple[Host, ...]
    user: str
    password: str = attrs.field(repr=False)
    database: str
    options: Mapping[str, str] = attrs.field(repr=False)


def parse_url(text: str) -> MongoUrl:
    """@raise ConfigError: nobody can read this."""
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("mongodb", "mongodb+srv"):
        raise refused("must begin with mongodb:// or mongodb+srv://")
    place = re.search(r"[/?]", rest)
    authority, tail = (rest[: place.start()], rest[place.start() :]) if place else (rest, "")
    if "@" in tail.partition("?")[0]:
        raise refused("user name and password must be percent-encoded (a / as %2F)")
    path, _, query = tail.partition("?")
    login, at, names = authority.rpartition("@")
    user, _, password = login.partition(":")
    if re.search(r"[@:]", password) or "@" in user or (at and not user):
        raise refused("user name and password must be percent-encoded (a : as %3A, an @ as %40)")
    srv = scheme == "mongodb+srv"
    hosts = tuple(_host(name) for name in names.split(","))
    if srv and (len(hosts) != 1 or re.search(r":\d+$", names) or names.strip(".").count(".") < 1):
        raise refused("mongodb+srv:// takes one host name with a domain, and no port")
    database = unquote(path.lstrip("/"))
    return MongoUrl(srv, hosts, unquote(user), unquote(password), database, parse_options(query))


def _host(text: str) -> Host:
    if text.lower().endswith(".sock"):
        return unquote(text), 0
    match = re.fullmatch(r"(?:\[([0-9A-Za-z:.%]+)\]|([^:\[\]\s]+))(?::(\d{1,5}))?", text)
    if match is None:
        raise refused("names no host, or one that can't be read: they are host:port, with commas between them")
    port = int(match[3]) if match[3] else DEFAULT_PORT
    if not 0 < port < 65536:
        raise refused("a port must be between 1 and 65535")
    return unquote(match[1] or match[2]).lower(), port


def parse_options(query: str) -> dict[str, str]:
    """@param query: as in a URL, C{&} or C{;} between the options."""
    options = {}
    for item in re.split(r"[&;]", query):
        if not item:
            continue
        name, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"\w+", name):
            raise refused("its options must be name=value, with & between them")
        options[_ALIASES.get(name.lower(), name.lower())] = unquote(value)
    return options


@attrs.frozen
class MongoTarget:
    """
    What the options of a connection string mean, with their defaults.

    @ivar mechanism: empty to take the best that the server has for the user.
    @ivar authority: file of the certificates that are trusted besides the platform's.
    @ivar certificate: file of our own certificate and its key.
    @ivar write_concern: C{None} for the server's own, which becomes C{majority} where there is a replica set.
    @ivar selection: seconds to look for a server that takes writes; C{None} if nothing is said of it.
    @ivar notes: what is taken and has no effect, for the log.
    """

    user: str
    password: str = attrs.field(repr=False)
    source: str
    mechanism: str
    replica_set: str
    direct: bool
    tls: bool
    authority: str
    certificate: str
    certificate_password: str = attrs.field(repr=False)
    verify_chain: bool
    verify_name: bool
    write_concern: Mapping[str, object] | None
    read_concern: str
    connect_limit: float
    selection: float | None
    call_limit: float | None
    pool_size: int
    application: str
    notes: tuple[str, ...]


class _Options:
    """Reads options, and knows those that nobody has read."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._left = dict(options)

    def text(self, name: str, default: str = "") -> str:
        """@return: the value, as it is."""
        return self._left.pop(name.lower(), default)

    def flag(self, name: str, default: bool = False) -> bool:
        """@return: whether it says true."""
        value = self.text(name, "true" if default else "false")
        if value not in ("true", "false"):
            raise refused(f"the option {name} must be true or false")
        return value == "true"

    def number(self, name: str) -> int | None:
        """@return: C{None} where the option is absent."""
        value = self.text(name)
        if value and not re.fullmatch(r"\d{1,9}", value):
            raise refused(f"the option {name} must be a number, and not negative")
        return int(value) if value else None

    def seconds(self, name: str) -> float | None:
        """@return: of an option in milliseconds; C{None} for 0 too, which is no limit of its own."""
        number = self.number(name)
        return number / 1000 if number else None

    def rest(self) -> Iterator[str]:
        """@return: the names of options without effect; refuse all else that nobody has read."""
        for name in sorted(self._left):
            if name not in _WITHOUT_EFFECT:
                raise refused(f"this version does not know the option {name}; take it out")
            yield f"{name} has no effect"


def target(url: MongoUrl, cert_path: str = "", insecure: bool = False) -> MongoTarget:
    """
    @param cert_path: C{CertPath}; TLS with it, and C{InsecureConn}, are in place of what the URL says of TLS.
    @raise ConfigError: an option that can't be done, or not be read.
    """
    options = _Options(url.options)
    mechanism = _mechanism(options)
    source = options.text("authSource") or url.database or "admin"
    notes = list(_read_preference(options))
    for name, value in (("loadBalanced", "true"), ("proxyHost", None)):
        said = options.text(name)
        if said and value in (None, said):
            raise refused(f"this version can't do the option {name}; take it out")
    tls = options.flag("tls", default=url.srv)
    lax = options.flag("tlsInsecure")
    verify_chain = not (options.flag("tlsAllowInvalidCertificates") or lax)
    verify_name = not (options.flag("tlsAllowInvalidHostnames") or lax)
    authority = options.text("tlsCAFile")
    certificate = options.text("tlsCertificateKeyFile")
    if cert_path:
        tls, authority, verify_chain, verify_name = True, cert_path, not insecure, not insecure
    if mechanism == "MONGODB-X509" and not (tls and certificate):
        raise refused("the option authMechanism=MONGODB-X509 needs tls=true and tlsCertificateKeyFile")
    direct = options.flag("directConnection") or options.text("connect") == "direct"
    found = MongoTarget(
        user=url.user,
        password=url.password,
        source="$external" if mechanism == "MONGODB-X509" else source,
        mechanism=mechanism,
        replica_set=options.text("replicaSet"),
        direct=direct,
        tls=tls,
        authority=authority,
        certificate=certificate,
        certificate_password=options.text("tlsCertificateKeyFilePassword"),
        verify_chain=verify_chain,
        verify_name=verify_name and verify_chain,
        write_concern=_write_concern(options),
        read_concern=options.text("readConcernLevel"),
        connect_limit=options.seconds("connectTimeoutMS") or 10.0,
        selection=options.seconds("serverSelectionTimeoutMS"),
        call_limit=_least(options.seconds("socketTimeoutMS"), options.seconds("timeoutMS")),
        pool_size=options.number("maxPoolSize") or 50,
        application=options.text("appName", "athens-tx")[:128],
        notes=(),
    )
    return attrs.evolve(found, notes=(*notes, *_ignored(options)))


def _ignored(options: _Options) -> Iterator[str]:
    options.text("srvServiceName")  # was of use before
    yield from options.rest()


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _mechanism(options: _Options) -> str:
    mechanism = options.text("authMechanism")
    if mechanism in ("DEFAULT", ""):
        mechanism = ""
    elif mechanism not in MECHANISMS:
        raise refused(f"the option authMechanism must be one of {', '.join(MECHANISMS)}")
    if options.text("authMechanismProperties"):
        raise refused("this version can't do the option authMechanismProperties; take it out")
    return mechanism


def _read_preference(options: _Options) -> Iterator[str]:
    preference = options.text("readPreference", "primary")
    options.text("readPreferenceTags")
    if preference == "secondary":
        raise refused("the option readPreference=secondary can't be done: all is read from the primary")
    if preference != "primary":
        yield "readPreference has no effect: all is read from the primary"


def _write_concern(options: _Options) -> Mapping[str, object] | None:
    w, journal = options.text("w"), options.text("journal")
    limit = options.number("wtimeoutMS")
    if w == "0":
        raise refused("the option w=0 would let saved versions be lost without a word; take it out")
    if journal not in ("", "true", "false"):
        raise refused("the option journal must be true or false")
    concern: dict[str, object] = {}
    if w:
        concern["w"] = int(w) if w.isdecimal() else w
    if journal:
        concern["j"] = journal == "true"
    if limit:
        concern["wtimeout"] = limit
    return concern or None
