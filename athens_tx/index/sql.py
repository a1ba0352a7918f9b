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
from twisted.internet.task import deferLater
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
#: Seconds to connect and to make the table, and for any other call unless the settings want more; and those between two
#: tries to connect.
START_LIMIT = 10.0
START_PAUSE = 0.5
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
        Make the table, if there is none, and see that it may be read and written; blocks.

        @return: what is to be warned of, one line each.
        """

    def away(self, error: BaseException) -> bool:
        """@return: whether an error at start is one that may be over soon: nobody listens yet, or not for us."""

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
        self._reactor = reactor
        self._dialect = dialect
        self._connections = Connections(reactor, dialect)

    async def connect(self) -> None:
        """
        Make the table, if there is none; where the database is away for a moment, wait for it.

        @raise ConfigError: it can't be used.
        """
        end, problem = self._reactor.seconds() + START_LIMIT, ""
        while True:
            try:
                left = max(0.1, end - self._reactor.seconds())
                warnings = await self._connections.run(self._dialect.prepare, left)
                break
            except Late as late:
                line = f"{self._dialect.table}.Host, Port: no answer of the database within {START_LIMIT:g} s"
                raise ConfigError([problem or line]) from late
            except Exception as error:
                problem = self._dialect.problem(error)
                if not self._dialect.away(error) or end - self._reactor.seconds() < START_PAUSE:
                    raise ConfigError([problem]) from error
            await deferLater(self._reactor, START_PAUSE, lambda: None)
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
        unique = list({(line.path, line.version): line for line in reversed(lines)}.values())[::-1]  # its first time
        for start in range(0, len(unique), BATCH):
            await self._write_batch(unique[start : start + BATCH], refused)
        return refused

    async def _write_batch(self, lines: Sequence[IndexLine], refused: list[IndexLine]) -> None:
        statement = f"{_INSERT.format(', '.join(['(%s, %s, %s)'] * len(lines)))} {self._dialect.harmless}"
        values = [value for line in lines for value in (line.path, line.version, _naive(line.time))]
        trouble = await self._run("add", partial(self._insert, statement=statement, values=values))
        if trouble is None:
            return
        duplicate = self._dialect.duplicate(trouble)
        if len(lines) > 1 and duplicate:
            there = await self.known([ModuleVersion(line.path, line.version) for line in lines])
            new = [line for line in lines if ModuleVersion(line.path, line.version) not in there]
            if len(new) < len(lines):
                if new:
                    await self._write_batch(new, refused)
                return
        if len(lines) > 1:
            middle = len(lines) // 2
            await self._write_batch(lines[:middle], refused)
            await self._write_batch(lines[middle:], refused)
        elif not duplicate:
            reason, mv = self._dialect.describe(trouble), f"{lines[0].path}@{lines[0].version}"
            self.log.error("{name}: the index can't hold {mv}: {reason}", name=self.name, mv=mv, reason=reason)
            refused.extend(lines)

    def _insert(self, connection: Any, statement: str, values: Sequence[Any]) -> Exception | None:
        """@return: why the database takes none of the lines, now and for ever: the connection is as good as before."""
        try:
            _do(connection, statement, values)
        except Exception as error:
            if self._dialect.duplicate(error) or self._dialect.refused(error):
                return error
            raise
        return None

    async def known(self, versions: Collection[ModuleVersion]) -> set[ModuleVersion]:
        """
        @param versions: at most L{PAGE}.
        @return: those of them that have a line.
        """
        if not versions:
            return set()
        statement = _KNOWN.format(", ".join(["(%s, %s)"] * len(versions)))
        values = [value for mv in versions for value in (mv.path, mv.version)]
        rows = await self._run("look up", partial(_query, statement=statement, values=values))
        return {ModuleVersion(path, version) for path, version in rows}

    async def pages(self, since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """Read lines, some at a time, each page by a statement of its own: see L{IIndex.lines}."""
        first = max(EPOCH, since or EPOCH)
        after = Cursor(first, -1)
        while limit > 0:
            wanted = min(limit, PAGE)
            values = (_naive(after.time), _naive(after.time), after.id, wanted)
            rows = await self._run("read", partial(_query, statement=_PAGE, values=values), reading=True)
            if not rows:
                return
            yield [IndexLine(path, version, time.replace(tzinfo=UTC)) for _, path, version, time in rows]
            if len(rows) < wanted:
                return
            limit -= len(rows)
            after = Cursor(rows[-1][3].replace(tzinfo=UTC), rows[-1][0])

    async def _run(self, what: str, work: Callable[[Any], T], *, reading: bool = False) -> T:
        name, limit = self.name, self._dialect.limit
        try:
            return await (self._connections.read if reading else self._connections.run)(work, limit)
        except Late as late:
            message = f"{name}: {what}: the database did not answer within {limit:g} s"
            raise IndexUnavailable(message, detail=f"look at {self._dialect.table}", retry_after=10) from late
        except Exception as error:
            if not isinstance(error, self._dialect.errors):
                raise
            detail = self._dialect.problem(error)
            message = f"{name}: {what}: {self._dialect.describe(error)}"
            raise IndexUnavailable(message, detail=detail, retry_after=10) from error


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
