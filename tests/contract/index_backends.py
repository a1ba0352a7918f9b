"""
The indexes that keep to the contract, one line each in L{BACKENDS}.

A backend's entry is a class that makes its index, and may lay hands on the rows, past the index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from athens_tx.config.backends import MySQL
from athens_tx.config.backends import Postgres as PostgresTable
from athens_tx.index.journal import Journal
from athens_tx.index.journaled import JournaledIndex
from athens_tx.index.memory import MemoryIndex, NoIndex
from athens_tx.index.mysql import MySqlDialect
from athens_tx.index.postgres import PostgresDialect
from athens_tx.index.sql import LineTable
from tests.support import servers
from tests.support.servers_process import HOST
from tests.support.servers_sql import PASSWORD, USER

Now = Callable[[], datetime]


def present() -> datetime:
    """@return: the time."""
    return datetime.now(UTC)


class Nothing:
    """L{NoIndex}."""

    remembers = False
    outlives = False

    def __init__(self, reactor: Any, path: Path) -> None:
        pass

    def index(self, now: Now = present) -> Any:
        return NoIndex()


class Memory(Nothing):
    """L{MemoryIndex}."""

    remembers = True

    def index(self, now: Now = present) -> Any:
        return MemoryIndex(now)


class Sql:
    """
    What the databases share.

    @ivar database: of this test alone.
    """

    remembers = True
    outlives = True

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.journal = path / "journal"
        self.server = self.find()
        self.database = self.server.database()

    def find(self) -> Any:
        raise NotImplementedError

    def dialect(self, **settings: Any) -> Any:
        """@return: how to reach the database; with these settings, where they say something else."""
        raise NotImplementedError

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        where = {"host": HOST, "port": self.server.port, "user": USER, "password": PASSWORD}
        return {**where, "database": self.database.name, **given}

    def index(self, now: Now = present, **settings: Any) -> Any:
        """@return: a new one, not started, over the same database."""
        table = LineTable(self.reactor, self.dialect(**settings))
        return JournaledIndex(self.reactor, table, Journal(self.journal), now=now)


class Mysql(Sql):
    """C{mysql} over MariaDB."""

    #: Athens' own statement, with the type that the server makes of it.
    athens = (
        "CREATE TABLE IF NOT EXISTS indexes(id INT AUTO_INCREMENT PRIMARY KEY COMMENT 'Unique identifier for a module"
        " line', path VARCHAR(255) NOT NULL COMMENT 'Import path of the module', version VARCHAR(255) NOT NULL COMMENT"
        " 'Module version', timestamp TIMESTAMP(6) COMMENT 'Date and time when the module was first created',"
        " INDEX (timestamp), UNIQUE INDEX idx_module_version (path, version)) CHARACTER SET utf8",
    )
    tables = "SHOW CREATE TABLE indexes"

    def find(self) -> Any:
        return servers.mariadb()

    def dialect(self, **settings: Any) -> Any:
        return MySqlDialect(MySQL(**self.settings(settings)))


class Postgres(Sql):
    """C{postgres}."""

    athens = (
        "CREATE TABLE IF NOT EXISTS indexes(id SERIAL PRIMARY KEY, path VARCHAR(255) NOT NULL, version VARCHAR(255)"
        " NOT NULL, timestamp timestamp NOT NULL)",
        "CREATE INDEX IF NOT EXISTS idx_timestamp ON indexes (timestamp)",
        "CREATE UNIQUE INDEX IF NOT EXISTS idx_module_version ON indexes (path, version)",
    )
    tables = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'indexes' ORDER BY 1"

    def find(self) -> Any:
        return servers.postgres()

    def dialect(self, *, environ: Mapping[str, str] | None = None, **settings: Any) -> Any:
        return PostgresDialect(PostgresTable(**self.settings(settings)), environ or {})


BACKENDS: Mapping[str, Any] = {"memory": Memory, "mysql": Mysql, "none": Nothing, "postgres": Postgres}
