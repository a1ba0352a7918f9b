"""C{IndexType = "mysql"}: MySQL and MariaDB, with the parameters of the Go driver that Athens has."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.charset import charset_by_name
from pymysql.constants import CR, ER

from athens_tx.config.backends import MySQL
from athens_tx.errors import ConfigError
from athens_tx.index.parameters import seconds
from athens_tx.index.sql import LIMIT

TABLE = "Index.MySQL"

#: Parameters of the Go driver that mean nothing here: times are always read, as UTC; nothing large is ever sent.
_GO_ONLY = frozenset(
    [
        "allowAllFiles",
        "allowCleartextPasswords",
        "allowFallbackToPlaintext",
        "allowNativePasswords",
        "allowOldPasswords",
        "checkConnLiveness",
        "clientFoundRows",
        "columnsWithAlias",
        "compress",
        "connectionAttributes",
        "interpolateParams",
        "loc",
        "maxAllowedPacket",
        "multiStatements",
        "parseTime",
        "rejectReadOnly",
        "serverPubKey",
        "timeTruncate",
    ]
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

_TRUE = frozenset(("true", "TRUE", "True", "1"))
_FALSE = frozenset(("false", "FALSE", "False", "0", ""))

_EXISTS = (
    "SELECT column_name, collation_name FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = 'indexes'"
)
#: Athens' table, with two differences that it does not mind: names that differ in case are different names, and a time
#: is never changed by the server.
_CREATE = """
CREATE TABLE IF NOT EXISTS indexes (
    id INT AUTO_INCREMENT PRIMARY KEY COMMENT 'Unique identifier for a module line',
    path VARCHAR(255) NOT NULL COMMENT 'Import path of the module',
    version VARCHAR(255) NOT NULL COMMENT 'Module version',
    timestamp TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
        COMMENT 'Date and time when the module was first created',
    INDEX (timestamp),
    UNIQUE INDEX idx_module_version (path, version)
) CHARACTER SET utf8 COLLATE utf8_bin
"""

#: What the server says of a line that it will never take: too long, not in the character set, a time it has not.
_REFUSED = frozenset(
    (ER.DATA_TOO_LONG, ER.TRUNCATED_WRONG_VALUE, ER.TRUNCATED_WRONG_VALUE_FOR_FIELD, ER.WARN_DATA_TRUNCATED)
)
_LOST = frozenset((CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, 0, ER.SERVER_SHUTDOWN, 1927, 4031))
#: What may be over soon, at start: nobody listens, hangs up, or has room for us.
_AWAY = frozenset((CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR, ER.CON_COUNT_ERROR, *_LOST))
#: Adds nothing, and is refused to who may add nothing.
_MAY_WRITE = "INSERT INTO indexes (path, version, timestamp) SELECT path, version, timestamp FROM indexes WHERE 1 = 0"
_BY_CODE: Mapping[int, str] = {
    ER.ACCESS_DENIED_ERROR: "User, Password: the server does not accept them",
    1698: "User, Password: the server does not accept them",
    1130: "Host: the server refuses connections of this machine",
    ER.DBACCESS_DENIED_ERROR: "User, Database: the user may not use the database",
    ER.BAD_DB_ERROR: "Database: there is no such database; it has to be made",
    ER.TABLEACCESS_DENIED_ERROR: "User: may not make or use the table indexes",
    ER.OPTION_PREVENTS_STATEMENT: "Host: the server takes no changes: {}",
    CR.CR_SERVER_GONE_ERROR: "Host, Port: the server ended the connection; is it MySQL or MariaDB?",
    CR.CR_SERVER_LOST: "Host, Port: the server ended the connection; is it MySQL or MariaDB?",
    CR.CR_SSL_CONNECTION_ERROR: "Params tls: the server speaks no TLS",
    ER.UNKNOWN_SYSTEM_VARIABLE: "Params: {}",
    ER.WRONG_VALUE_FOR_VAR: "Params: {}",
    ER.WRONG_TYPE_FOR_VAR: "Params: {}",
    ER.PARSE_ERROR: "Params: {}",
    ER.CON_COUNT_ERROR: "Host: the server has too many connections",
}


class MySqlDialect:
    """See L{athens_tx.index.sql.IDialect}."""

    module = "pymysql"
    name = "mysql"
    table = TABLE
    harmless = ""  # ON DUPLICATE KEY UPDATE wants a right that Athens does not need; IGNORE would cut names
    errors = (pymysql.Error, OSError)

    def __init__(self, settings: MySQL) -> None:
        """@raise ConfigError: the settings make no sense."""
        params = dict(settings.params)
        limits = {name: seconds(f"{TABLE}.Params", name, params.pop(name, "")) for name in _LIMITS}
        self.limit = max(LIMIT, limits["readTimeout"] or 0, limits["writeTimeout"] or 0)
        self._options: dict[str, Any] = {
            "user": settings.user,
            # as bytes, or what is not Latin-1 fails
            "password": settings.password.encode(),
            "database": settings.database,
            "connect_timeout": min(limits["timeout"] or LIMIT, LIMIT),
            "read_timeout": limits["readTimeout"] or LIMIT,
            "write_timeout": limits["writeTimeout"] or LIMIT,
            "charset": _charset(params.pop("charset", "")),
            "collation": params.pop("collation", "") or None,
            "autocommit": True,
            **_address(settings),
            **_tls(params.pop("tls", "")),
        }
        self._session = [*_variables(params), "SET time_zone = '+00:00'"]

    def connect(self) -> Any:
        """See L{IDriver.connect}."""
        connection = pymysql.connect(**self._options)
        try:
            with connection.cursor() as cursor:
                for statement in self._session:
                    cursor.execute(statement)
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        return connection

    def cut(self, connection: Any) -> None:
        """See L{IDriver.cut}."""
        if connection._sock is not None:
            connection._sock.shutdown(socket.SHUT_RDWR)

    def lost(self, error: BaseException) -> bool:
        """See L{IDriver.lost}."""
        if isinstance(error, pymysql.InterfaceError | OSError):
            return True
        return isinstance(error, pymysql.OperationalError) and _code(error) in _LOST

    def duplicate(self, error: BaseException) -> bool:
        """See L{IDialect.duplicate}."""
        return _code(error) == int(ER.DUP_ENTRY)

    def refused(self, error: BaseException) -> bool:
        """See L{IDialect.refused}."""
        return isinstance(error, pymysql.DataError) or _code(error) in _REFUSED

    def away(self, error: BaseException) -> bool:
        """See L{IDialect.away}."""
        cause = getattr(error, "original_exception", error)
        if isinstance(cause, ssl.SSLError):
            return False
        return isinstance(error, pymysql.OperationalError) and _code(error) in _AWAY

    def prepare(self, connection: Any) -> Sequence[str]:
        """See L{IDialect.prepare}."""
        with connection.cursor() as cursor:
            cursor.execute(_EXISTS)
            columns = dict(cursor.fetchall())
            if not columns:
                cursor.execute(_CREATE)
            cursor.execute(_MAY_WRITE)
        blind = [name for name in ("path", "version") if str(columns.get(name) or "").endswith("_ci")]
        if not blind:
            return ()
        return [
            f"the table indexes was made with the collation {columns[blind[0]]}, which takes names that differ only in"
            " case for the same: of two such versions only the first is in the index"
        ]

    def describe(self, error: BaseException) -> str:
        """See L{IDialect.describe}."""
        code = _code(error)
        return f"error {code} of the database" if code else "the connection was lost"

    def problem(self, error: BaseException) -> str:
        """See L{IDialect.problem}."""
        code = _code(error)
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in _BY_CODE:
            return f"{TABLE}.{_BY_CODE[code].format(text)}"
        cause = getattr(error, "original_exception", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{TABLE}.Params tls: the certificate of the server is not good: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"{TABLE}.Params tls: {cause.reason or cause.strerror}"
        if isinstance(cause, OSError):
            return f"{TABLE}.Host, Port: the server can't be reached: {cause.strerror or cause}"
        return f"{TABLE}: error {code}: {text}"


_LIMITS = ("timeout", "readTimeout", "writeTimeout")


def _code(error: BaseException) -> int:
    code = error.args[0] if isinstance(error, pymysql.Error) and error.args else 0
    return code if isinstance(code, int) else 0


def _address(settings: MySQL) -> dict[str, Any]:
    if settings.protocol == "tcp":
        return {"host": settings.host.strip("[]"), "port": settings.port}
    if settings.protocol != "unix":
        raise ConfigError([f"{TABLE}.Protocol: {settings.protocol}: tcp or unix is wanted"])
    if not settings.host.startswith("/"):
        raise ConfigError([f"{TABLE}.Host: with Protocol unix the path of the socket is wanted"])
    return {"unix_socket": settings.host}


def _charset(names: str) -> str:
    """@return: the first one of a list that is known here, as the Go driver takes the first that the server knows."""
    for name in filter(None, (name.strip() for name in names.split(","))):
        if charset_by_name(name) is not None:
            return name
    if names:
        raise ConfigError([f"{TABLE}.Params charset: {names} is not known"])
    return "utf8mb4"


def _tls(mode: str) -> dict[str, Any]:
    """@return: what the value of C{tls} means: as in the Go driver, or the path of a file with authorities to trust."""
    if mode in _FALSE:
        return {"ssl_disabled": True}
    if mode == "preferred":
        return {}
    if mode == "skip-verify":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return {"ssl": context}
    if mode in _TRUE:
        return {"ssl": ssl.create_default_context()}
    if "/" not in mode:  # it is not repeated: nobody knows what it was meant for
        wanted = "true, false, skip-verify, preferred, or the path of a PEM file with the authorities to trust"
        raise ConfigError([f"{TABLE}.Params tls: {wanted} is wanted"])
    try:
        return {"ssl": ssl.create_default_context(cafile=mode)}
    except OSError as error:
        reason = error.strerror or "no certificates in PEM"
        raise ConfigError([f"{TABLE}.Params tls: the file can't be read: {reason}"]) from error


def _variables(params: Mapping[str, str]) -> list[str]:
    """@return: statements for the parameters that the Go driver does not know: it sets them as they stand."""
    for name in params:
        if not _VARIABLE.fullmatch(name):
            raise ConfigError([f"{TABLE}.Params: {name!r} is no name of a parameter"])
    return [f"SET {name} = {value}" for name, value in params.items() if name not in _GO_ONLY]
