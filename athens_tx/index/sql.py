"""
The lines of an index in a table of an SQL database, that of Athens: what is the same for every kind of database.

Times are written and read as UTC without a zone, in a session that is in UTC: Athens' rows are off by its own zone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import attrs
from twisted.logger import Logger

from athens_tx.errors import ConfigError, IndexUnavailable
from athens_tx.index.pool import Connections, IDriver, Late
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion

T = TypeVar("T")

#: Characters that a path or a version may have in the table.
LONGEST_NAME = 255
#: Lines that are read or written by one statement.
PAGE = 1000
BATCH = 500
#: Seconds to connect and to make the table, and for any other call unless the settings want more.
START_LIMIT = 10.0
LIMIT = 10.0

#: As Athens has it for a C{since} that is missing; MySQL's zero dates are before it.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_INSERT = "INSERT INTO indexes (path, version, timestamp) VALUES {}"
_KNOWN = "SELECT path, version FROM indexes WHERE (path, version) IN ({})"
_PAGE = (
    "SELECT id, path, version, timestamp FROM indexes"
    " WHERE timestamp >= %s AND (timestamp > %s OR id > %s) ORDER BY timestamp, id LIMIT %s"
)


class IDialect(IDriver, Protocol):
    """
    What one kind of database has of its own.

    @ivar name: C{mysql}, for messages; C{table}: that of the settings, C{Index.MySQL}.
    @ivar limit: seconds for a call.
    @ivar errors: what its module raises.
    @ivar harmless: what stands behind an C{INSERT} to pass over versions that are there; may be empty.
    """

    name: str
    table: str
    limit: float
    harmless: str
    errors: tuple[type[Exception], ...]

    def prepare(self, connection: Any) -> Sequence[str]:
        """
        Make the table, if there is none; blocks.

        @return: what is to be warned of, one line each.
        """

    def duplicate(self, error: BaseException) -> bool:
        """@return: whether a version was there, and so none of the same statement was added."""

    def refused(self, error: BaseException) -> bool:
        """@return: whether it is the line that the database does not take, now and for ever."""

    def problem(self, error: BaseException) -> str:
        """@return: what is wrong with which setting, one line, of an error at start."""

    def describe(self, error: BaseException) -> str:
        """@return: an error in few words, without a host or a value of a line."""


@attrs.frozen
class Cursor:
    """Where to go on: behind the line of this time and id."""

    time: datetime
    id: int


class LineTable:
    """The table C{indexes} of one database."""

    log = Logger()

    def __init__(self, reactor: Any, dialect: IDialect) -> None:
        self.name = dialect.name
        self._dialect = dialect
        self._connections = Connections(reactor, dialect)

    async def connect(self) -> None:
        """
        Make the table, if there is none.

        @raise ConfigError: it can't be used.
        """
        try:
            warnings = await self._connections.run(self._dialect.prepare, START_LIMIT)
        except Late as late:
            table = self._dialect.table
            raise ConfigError([f"{table}.Host, Port: no answer of the database within {START_LIMIT:g} s"]) from late
        except Exception as error:
            raise ConfigError([self._dialect.problem(error)]) from error
        for warning in warnings:
            self.log.warn("{name}: {warning}", name=self.name, warning=warning)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def check(self) -> None:
        """@raise IndexUnavailable: the database does not answer, or has no table."""
        await self._run("check", lambda connection: _query(connection, "SELECT 1 FROM indexes LIMIT 1", ()))

    async def write(self, lines: Sequence[IndexLine]) -> Sequence[IndexLine]:
        """
        Add lines; a version that is there keeps its line.

        @return: those that the database does not take, now and for ever.
        @raise IndexUnavailable: some are written perhaps; all may be written again.
        """
        refused: list[IndexLine] = []
        for start in range(0, len(lines), BATCH):
            await self._write_batch(lines[start : start + BATCH], refused)
        return refused

    async def _write_batch(self, lines: Sequence[IndexLine], refused: list[IndexLine]) -> None:
        statement = f"{_INSERT.format(', '.join(['(%s, %s, %s)'] * len(lines)))} {self._dialect.harmless}"
        values = [value for line in lines for value in (line.path, line.version, _naive(line.time))]
        try:
            await self._run("add", lambda connection: _do(connection, statement, values), refusable=True)
        except (_Refused, _Duplicate) as error:
            if len(lines) == 1:
                if isinstance(error, _Duplicate):
                    return
                reason = str(error)
                mv = f"{lines[0].path}@{lines[0].version}"
                self.log.error("{name}: the index can't hold {mv}: {reason}", name=self.name, mv=mv, reason=reason)
                refused.extend(lines)
                return
            middle = len(lines) // 2
            await self._write_batch(lines[:middle], refused)
            await self._write_batch(lines[middle:], refused)

    async def known(self, versions: Collection[ModuleVersion]) -> set[ModuleVersion]:
        """
        @param versions: at most L{PAGE}.
        @return: those of them that have a line.
        """
        if not versions:
            return set()
        statement = _KNOWN.format(", ".join(["(%s, %s)"] * len(versions)))
        values = [value for mv in versions for value in (mv.path, mv.version)]
        rows = await self._run("look up", lambda connection: _query(connection, statement, values))
        return {ModuleVersion(path, version) for path, version in rows}

    async def pages(self, since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """Read lines, some at a time, each page by a statement of its own: see L{IIndex.lines}."""
        first = max(EPOCH, since or EPOCH)
        after = Cursor(first, -1)
        while limit > 0:
            wanted = min(limit, PAGE)
            values = (_naive(after.time), _naive(after.time), after.id, wanted)
            rows = await self._run("read", partial(_query, statement=_PAGE, values=values))
            if not rows:
                return
            yield [IndexLine(path, version, time.replace(tzinfo=UTC)) for _, path, version, time in rows]
            if len(rows) < wanted:
                return
            limit -= len(rows)
            after = Cursor(rows[-1][3].replace(tzinfo=UTC), rows[-1][0])

    async def _run(self, what: str, work: Callable[[Any], T], *, refusable: bool = False) -> T:
        name, limit = self.name, self._dialect.limit
        try:
            return await self._connections.run(work, limit)
        except Late as late:
            message = f"{name}: {what}: the database did not answer within {limit:g} s"
            raise IndexUnavailable(message, detail=f"look at {self._dialect.table}", retry_after=10) from late
        except Exception as error:
            if refusable and self._dialect.duplicate(error):
                raise _Duplicate from error
            if refusable and self._dialect.refused(error):
                raise _Refused(self._dialect.describe(error)) from error
            if not isinstance(error, self._dialect.errors):
                raise
            detail = self._dialect.problem(error)
            message = f"{name}: {what}: {self._dialect.describe(error)}"
            raise IndexUnavailable(message, detail=detail, retry_after=10) from error


class _Duplicate(Exception):
    """A version is there already."""


class _Refused(Exception):
    """The database takes something not now and never."""


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)


def _do(connection: Any, statement: str, values: Sequence[Any]) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(statement, values)
    finally:
        cursor.close()


def _query(connection: Any, statement: str, values: Sequence[Any]) -> list[Any]:
    cursor = connection.cursor()
    try:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
    finally:
        cursor.close()
