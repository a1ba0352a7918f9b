"""C{IndexType = "postgres"}: PostgreSQL, with the keywords of libpq as parameters."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors, pq

from athens_tx.config.backends import Postgres
from athens_tx.errors import ConfigError
from athens_tx.index.parameters import seconds
from athens_tx.index.sql import LIMIT

TABLE = "Index.Postgres"

#: Athens' driver knows these, libpq does not; they change nothing that matters here.
_GO_ONLY = frozenset(("binary_parameters", "disable_prepared_binary_result"))
#: What is said by settings of their own.
_OWN = ("host", "port", "user", "password", "dbname")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

#: What is made if it is absent: by these names, as Athens has them.
_CREATE: Mapping[str, str] = {
    "indexes": "CREATE TABLE IF NOT EXISTS indexes (id SERIAL PRIMARY KEY, path VARCHAR(255) NOT NULL,"
    " version VARCHAR(255) NOT NULL, timestamp TIMESTAMP NOT NULL)",
    "idx_timestamp": "CREATE INDEX IF NOT EXISTS idx_timestamp ON indexes (timestamp)",
    "idx_module_version": "CREATE UNIQUE INDEX IF NOT EXISTS idx_module_version ON indexes (path, version)",
}
#: Two that make the same at the same time: IF NOT EXISTS does not see the other one's.
_RACES = (errors.UniqueViolation, errors.DuplicateTable, errors.DuplicateObject)
#: Each of the things that are made may be made by somebody else at the same time, once.
_TRIES = 2 * len(_CREATE)
#: Adds nothing, and is refused to who may add nothing; the sequence has rights of its own.
_MAY_WRITE = "INSERT INTO indexes (path, version, timestamp) SELECT path, version, timestamp FROM indexes WHERE false"
_MAY_COUNT = "SELECT has_sequence_privilege(pg_get_serial_sequence('indexes', 'id'), 'USAGE, UPDATE')"

#: libpq gives no code for what went wrong with a connection, only words.
_BY_WORDS: Sequence[tuple[str, str]] = (
    ("password authentication failed", "User, Password: the server does not accept them"),
    ("no password supplied", "Password: the server wants one"),
    ("pg_hba.conf", "User, Database, Params sslmode: the pg_hba.conf of the server does not let them in like this"),
    (r"role \".*\" does not exist", "User: the server does not know the user"),
    (r"database \".*\" does not exist", "Database: there is no such database; it has to be made"),
    ("permission denied", "User: may not use the database, or make, read or add to the table indexes"),
    ("certificate|SSL|sslmode|sslrootcert", "Params sslmode, sslrootcert: {}"),
    ("could not translate host name|failed to resolve", "Host: the name can't be resolved"),
    ("too many clients|too many connections", "Host: the server has too many connections"),
    ("read-only transaction", "Host: the server takes no changes: {}"),
    ("is starting up|is shutting down|server closed the connection", "Host, Port: {}"),
    ("[Cc]onnection refused|timeout expired|No route|unreachable|No such file|timed out", "Host, Port: {}"),
    ("unrecognized configuration parameter|invalid .*value|invalid connection option", "Params: {}"),
)
#: What may be over soon, at start.
_AWAY = re.compile(
    "[Cc]onnection refused|Connection reset|No route|unreachable|No such file|is starting up|is shutting down"
    "|server closed the connection|too many clients|too many connections|could not translate host name"
    "|failed to resolve"
)


class PostgresDialect:
    """See L{athens_tx.index.sql.IDialect}."""

    module = "psycopg"
    name = "postgres"
    table = TABLE
    harmless = "ON CONFLICT DO NOTHING"
    limit = LIMIT
    errors = (psycopg.Error, OSError)

    def __init__(self, settings: Postgres, environ: Mapping[str, str]) -> None:
        """
        @param environ: its C{PG...} variables say what the settings leave open.
        @raise ConfigError: the settings make no sense.
        """
        self._options: dict[str, Any] = _options(settings, environ)

    def connect(self) -> Any:
        """See L{IDriver.connect}; behind a pool of connections, prepared statements are somebody else's."""
        return psycopg.connect(**self._options, autocommit=True, prepare_threshold=None)

    def cut(self, connection: Any) -> None:
        """See L{IDriver.cut}."""
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    def lost(self, error: BaseException) -> bool:
        """See L{IDriver.lost}."""
        if isinstance(error, OSError | psycopg.InterfaceError):
            return True
        if not isinstance(error, psycopg.OperationalError):
            return False
        return error.sqlstate is None or isinstance(error, errors.AdminShutdown | errors.CrashShutdown)

    def duplicate(self, error: BaseException) -> bool:
        """See L{IDialect.duplicate}."""
        return isinstance(error, errors.UniqueViolation)

    def refused(self, error: BaseException) -> bool:
        """See L{IDialect.refused}."""
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError)

    def away(self, error: BaseException) -> bool:
        """See L{IDialect.away}."""
        return isinstance(error, psycopg.OperationalError) and _AWAY.search(str(error)) is not None

    def prepare(self, connection: Any) -> Sequence[str]:
        """See L{IDialect.prepare}."""
        for last in range(1 - _TRIES, 1):
            try:
                for name, statement in _CREATE.items():
                    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
                    if not found[0]:
                        connection.execute(statement)
            except _RACES:
                if not last:
                    raise
            else:
                break
        connection.execute(_MAY_WRITE)
        if connection.execute(_MAY_COUNT).fetchone()[0] is False:
            raise errors.InsufficientPrivilege("permission denied for the sequence of the table indexes")
        return ()

    def describe(self, error: BaseException) -> str:
        """See L{IDialect.describe}."""
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        if state is None and isinstance(error, psycopg.DataError):
            return "a text that the database can't hold"
        return f"error {state} of the database" if state else "the connection was lost or can't be made"

    def problem(self, error: BaseException) -> str:
        """See L{IDialect.problem}."""
        # In front of the last "failed: " stands which server it was, of which there may be several.
        said = " ".join(str(error).split())
        text = re.sub(r"^.*? failed: ", "", said)
        text = re.sub(r"^(FATAL|ERROR): +", "", text)
        for words, setting in _BY_WORDS:
            if re.search(words, said):
                return f"{TABLE}.{setting.format(text)}"
        return f"{TABLE}: {text}"


def _options(settings: Postgres, environ: Mapping[str, str]) -> dict[str, Any]:
    """@return: the parameters of the connection."""
    known = {each.keyword.decode(): (each.envvar or b"").decode() for each in pq.Conninfo.get_defaults()}
    given = {name: value for name, value in settings.params.items() if value and name not in _GO_ONLY}
    for name in given:
        if name in _OWN:
            raise ConfigError([f"{TABLE}.Params {name}: has a setting of its own"])
        if not _PARAMETER.fullmatch(name) or name == "sslinline":
            raise ConfigError([f"{TABLE}.Params: there is no parameter {name!r}"])
    if given.get("sslmode", "prefer") not in _SSL_MODES:
        raise ConfigError([f"{TABLE}.Params sslmode: must be one of {', '.join(_SSL_MODES)}"])
    options: dict[str, Any] = {name: value for name, value in given.items() if name in known}
    options |= {"host": settings.host, "port": str(settings.port), "user": settings.user, "dbname": settings.database}
    if settings.password:
        options["password"] = settings.password
    for name, variable in known.items():
        if variable and environ.get(variable):
            options.setdefault(name, environ[variable])
    limit = seconds(f"{TABLE}.Params", "connect_timeout", options.get("connect_timeout", "")) or LIMIT
    options["connect_timeout"] = str(max(2, min(int(limit), int(LIMIT))))
    options["client_encoding"] = "UTF8"
    options.setdefault("application_name", "athens-tx")
    # Any other name is a parameter of the session, as in Athens' driver; ours come last, and so they count.
    session = {name: value for name, value in given.items() if name not in known}
    session |= {"TimeZone": "UTC", "DateStyle": "ISO"}
    settled = (f"-c {name}={_escaped(value)}" for name, value in session.items())
    options["options"] = " ".join(filter(None, (options.get("options"), *settled)))
    return options


def _escaped(value: str) -> str:
    """@return: a value for the C{options} of libpq, which end at a space."""
    return re.sub(r"([\\\s])", r"\\\1", value)
