"""One suite over every index: see L{tests.contract.index_backends}."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList
from zope.interface.verify import verifyObject

from athens_tx.errors import NotSupported
from athens_tx.interfaces import IIndex, IndexLine
from athens_tx.module.version import ModuleVersion as MV
from tests.contract.index_backends import BACKENDS

reactor: Any = _reactor
START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

on_all = pytest.mark.parametrize("backend", sorted(BACKENDS), indirect=True)
on_lines = pytest.mark.parametrize("backend", sorted(n for n in BACKENDS if BACKENDS[n].remembers), indirect=True)
on_sql = pytest.mark.parametrize("backend", sorted(n for n in BACKENDS if BACKENDS[n].outlives), indirect=True)


class Times:
    """A clock that goes on by a step at each look."""

    def __init__(self, step: timedelta = SECOND) -> None:
        self.now, self.step = START, step

    def __call__(self) -> datetime:
        now, self.now = self.now, self.now + self.step
        return now


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    made = BACKENDS[request.param](reactor, tmp_path)
    yield made
    if made.outlives:
        made.database.drop()


@pytest_twisted.async_yield_fixture
async def make(backend: Any) -> AsyncIterator[Callable[..., Any]]:
    """Makes indexes over the test's own place, and starts them."""
    made = []

    async def one(*arguments: Any, **settings: Any) -> Any:
        index = backend.index(*arguments, **settings)
        made.append(index)
        index.startService()
        await getattr(index, "ready", None) if hasattr(index, "ready") else None
        return index

    yield lambda *arguments, **settings: Deferred.fromCoroutine(one(*arguments, **settings))
    for index in made:
        if index.running:
            await stop(index)


async def stop(index: Any) -> None:
    stopped = index.stopService()
    if stopped is not None:
        await stopped


async def read(index: Any, since: datetime | None = None, limit: int = 100_000) -> list[IndexLine]:
    return [line async for page in index.lines(since, limit) for line in page]


async def versions(index: Any, since: datetime | None = None, limit: int = 100_000) -> list[str]:
    return [line.version for line in await read(index, since, limit)]


async def fill(index: Any, count: int, path: str = "example.com/a") -> None:
    for number in range(count):
        await index.add(MV(path, f"v1.{number}.0"))


@on_all
@pytest_twisted.ensureDeferred
async def test_it_keeps_to_the_interface_and_takes_every_version(make: Any) -> None:
    index = await make()
    assert verifyObject(IIndex, index)
    assert await read(index) == []
    await index.check()
    await fill(index, 3)
    assert len(await read(index)) in (0, 3)


@on_lines
@pytest_twisted.ensureDeferred
async def test_lines_come_in_order_cut_by_since_and_limit(make: Any) -> None:
    index = await make(Times())
    await fill(index, 10)
    assert await versions(index) == [f"v1.{number}.0" for number in range(10)]
    assert await versions(index, None, 3) == ["v1.0.0", "v1.1.0", "v1.2.0"]
    assert await versions(index, START + 8 * SECOND) == ["v1.8.0", "v1.9.0"]  # inclusive
    assert await versions(index, START + 8.5 * SECOND) == ["v1.9.0"]
    assert await versions(index, START + timedelta(days=1)) == []
    assert await read(index, None, 1) == [IndexLine("example.com/a", "v1.0.0", START)]


@on_lines
@pytest_twisted.ensureDeferred
async def test_since_is_a_moment_whatever_its_zone_and_its_fraction(make: Any) -> None:
    index = await make(Times(timedelta(microseconds=250_001)))
    await fill(index, 5)
    east, west = timezone(timedelta(hours=9)), timezone(timedelta(hours=-3, minutes=-30))
    for zone in (UTC, east, west):
        since = (START + timedelta(microseconds=500_002)).astimezone(zone)
        assert await versions(index, since) == ["v1.2.0", "v1.3.0", "v1.4.0"]
        assert await versions(index, since + timedelta(microseconds=1)) == ["v1.3.0", "v1.4.0"]
    assert (await read(index))[2].time == START + timedelta(microseconds=500_002)


@on_lines
@pytest.mark.parametrize("year", [1, 1969, 1970])
@pytest_twisted.ensureDeferred
async def test_a_since_before_everything_is_the_beginning(make: Any, year: int) -> None:
    index = await make(Times())
    await fill(index, 2)
    assert await versions(index, datetime(year, 1, 1, tzinfo=UTC)) == ["v1.0.0", "v1.1.0"]


@on_lines
@pytest.mark.parametrize("year", [2027, 2039, 2107, 9999])
@pytest_twisted.ensureDeferred
async def test_a_since_behind_everything_gives_nothing(make: Any, year: int) -> None:
    index = await make(Times())
    await fill(index, 2)
    assert await versions(index, datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == []


@on_lines
@pytest_twisted.ensureDeferred
async def test_adding_again_changes_nothing(make: Any) -> None:
    index = await make(Times())
    await fill(index, 2)
    before = await read(index)
    await fill(index, 2)
    assert await read(index) == before
    await fill(index, 3)
    assert [line.time for line in await read(index)][:2] == [line.time for line in before]
    assert await versions(index) == ["v1.0.0", "v1.1.0", "v1.2.0"]


@on_lines
@pytest_twisted.ensureDeferred
async def test_ties_keep_their_order_and_a_clock_that_goes_back_leaves_it(make: Any) -> None:
    for step in (timedelta(0), timedelta(seconds=-1)):
        index = await make(Times(step))
        for number in (3, 1, 2):
            await index.add(MV(f"example.com/{step.days}", f"v1.{number}.0"))
        found = [line.version for line in await read(index) if line.path == f"example.com/{step.days}"]
        assert found == ["v1.3.0", "v1.1.0", "v1.2.0"]


@on_lines
@pytest_twisted.ensureDeferred
async def test_a_client_that_pages_by_since_and_limit_sees_every_line(make: Any) -> None:
    """A clock that stands still is no reason for lines of the same time, of which a page could be full."""
    index = await make(Times(timedelta(0)))
    await fill(index, 50)
    for limit in (2, 7, 49, 50, 51):
        seen: list[str] = []
        since = None
        while True:
            page = await read(index, since, limit)
            seen += [line.version for line in page if line.version not in seen]
            if len(page) < limit or page[-1].time == since:
                break
            since = page[-1].time
        assert seen == [f"v1.{number}.0" for number in range(50)]


@on_lines
@pytest_twisted.ensureDeferred
async def test_names_that_differ_in_case_are_different(make: Any) -> None:
    index = await make()
    names = ["github.com/Azure/x", "github.com/azure/x", "github.com/AZURE/x"]
    for name in names:
        await index.add(MV(name, "v1.0.0"))
        await index.add(MV(name, "v1.0.0-RC1"))
        await index.add(MV(name, "v1.0.0-rc1"))
    assert [line.path for line in await read(index)][::3] == names
    assert len(await read(index)) == 9


@on_lines
@pytest_twisted.ensureDeferred
async def test_all_kinds_of_names(make: Any) -> None:
    index = await make()
    odd = [
        MV("gopkg.in/yaml.v3", "v3.0.1"),
        MV("example.com/~tilde/a_b%s", "v1.0.0+incompatible"),
        MV('example.com/it\'s "quoted" \\', "v0.0.0-20240102030405-0123456789ab"),
        MV("example.com/" + "x" * 243, "v1.0.0-" + "y" * 248),
        MV("example.com/\u00e9\u4e16", "v1.0.0"),
    ]
    for mv in odd:
        await index.add(mv)
    assert [MV(line.path, line.version) for line in await read(index)] == odd


@on_lines
@pytest_twisted.ensureDeferred
async def test_many_at_once_and_each_once(make: Any) -> None:
    index, other = await make(), await make()
    both = [index, other] if index.__class__.__name__ != "MemoryIndex" else [index, index]
    adds = [
        Deferred.fromCoroutine(each.add(MV(f"example.com/{number % 10}", f"v1.{number // 10}.0")))
        for number in range(200)
        for each in both
    ]
    assert all(good for good, _ in await DeferredList(adds, consumeErrors=True))
    for each in both:
        await each.check()
        await read(each)  # waits for what it has on its way
    found = await read(index)
    assert len(found) == len({(line.path, line.version) for line in found}) == 200
    assert found == sorted(found, key=lambda line: line.time)


@on_lines
@pytest_twisted.ensureDeferred
async def test_a_long_index_comes_in_pages(make: Any) -> None:
    index = await make()
    adds = [Deferred.fromCoroutine(index.add(MV("example.com/a", f"v1.{n}.0"))) for n in range(2500)]
    await DeferredList(adds)
    sizes = [len(page) async for page in index.lines(None, 100_000)]
    assert sizes == [1000, 1000, 500]
    assert [len(page) async for page in index.lines(None, 2000)] == [1000, 1000]
    assert await versions(index) == [f"v1.{number}.0" for number in range(2500)]


@on_sql
@pytest_twisted.ensureDeferred
async def test_a_name_that_is_too_long_fails_its_line_only(make: Any) -> None:
    index = await make()
    for mv in (MV("example.com/" + "x" * 244, "v1.0.0"), MV("example.com/a", "v1.0.0-" + "y" * 249)):
        with pytest.raises(NotSupported, match="255"):
            await index.add(mv)
    await fill(index, 1)
    assert await versions(index) == ["v1.0.0"]


@on_sql
@pytest_twisted.ensureDeferred
async def test_a_line_that_the_database_refuses_keeps_no_other_from_it(make: Any, logged: list[dict[str, Any]]) -> None:
    index = await make()
    bad = MV("example.com/\U0001f600" if index._table.name == "mysql" else "example.com/a\0b", "v1.0.0")
    adds = [index.add(mv) for mv in (MV("example.com/1", "v1.0.0"), bad, MV("example.com/2", "v1.0.0"))]
    await DeferredList([Deferred.fromCoroutine(add) for add in adds])
    assert [line.path for line in await read(index)] == ["example.com/1", "example.com/2"]
    assert len([event for event in logged if event["log_level"].name == "error"]) == 1


@on_sql
@pytest_twisted.ensureDeferred
async def test_a_line_with_half_a_character_fails_itself_only(make: Any) -> None:
    index = await make()
    bad = MV("example.com/\ud800", "v1.0.0")
    with pytest.raises(NotSupported):
        await index.add(bad)
    assert list((await index.fill([bad, MV("example.com/a", "v1.0.0")])).refused) == [bad]
    assert await versions(index) == ["v1.0.0"]


@pytest.mark.parametrize("backend", ["mysql"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_filling_says_what_a_table_without_case_does_not_take(make: Any, backend: Any) -> None:
    for statement in backend.athens:
        backend.database.execute(statement)
    index = await make()
    given = [MV("github.com/Azure/x", "v1.0.0"), MV("github.com/azure/x", "v1.0.0"), MV("github.com/b/x", "v1.0.0")]
    for added, there in ((2, 0), (0, 2)):
        filled = await index.fill(given)
        assert (filled.added, filled.there, list(filled.refused)) == (added, there, given[1:2])


@on_sql
@pytest_twisted.ensureDeferred
async def test_lines_outlive_the_process(make: Any, backend: Any) -> None:
    index = await make(Times())
    await fill(index, 3)
    before = await read(index)
    await stop(index)
    assert list(backend.journal.iterdir()) == []
    assert await read(await make()) == before


@on_sql
@pytest_twisted.ensureDeferred
async def test_rows_are_utc_wherever_the_server_is(make: Any, backend: Any) -> None:
    """Both servers have a session in +09:00 unless it is told otherwise."""
    index = await make(Times(timedelta(microseconds=123_456)))
    await fill(index, 2)
    await read(index)
    times = backend.database.execute("SELECT CAST(timestamp AS CHAR(26)) FROM indexes ORDER BY id")
    zone = timedelta(hours=9) if backend.server.name == "mariadb" else timedelta(0)  # which shows it in the session's
    expected = [START + zone, START + zone + timedelta(microseconds=123_456)]
    assert [datetime.fromisoformat(text.strip()).replace(tzinfo=UTC) for (text,) in times] == expected


@on_sql
@pytest_twisted.ensureDeferred
async def test_the_table_and_the_rows_of_athens_are_read_and_added_to(make: Any, backend: Any) -> None:
    """Athens in a process in UTC writes its time as text; ties keep the order of insertion, at the limit too."""
    for statement in backend.athens:
        backend.database.execute(statement)
    before = backend.database.execute(backend.tables)
    for number, time in enumerate(["08:00:00.5", "08:00:00.5", "08:00:00.5", "07:00:00.123456"]):
        if backend.server.name == "mariadb":  # the session of execute is in +09:00
            time = f"{int(time[:2]) + 9}{time[2:]}"
        backend.database.execute(
            "INSERT INTO indexes (path, version, timestamp) VALUES (%s, %s, %s)",
            "example.com/a",
            f"v1.{number}.0",
            f"2025-11-20 {time}",
        )
    index = await make(Times())
    await fill(index, 5)
    assert backend.database.execute(backend.tables) == before or backend.server.name == "mariadb"
    assert await versions(index) == ["v1.3.0", "v1.0.0", "v1.1.0", "v1.2.0", "v1.4.0"]
    lines = await read(index)
    assert [line.time.isoformat() for line in lines[:2]] == [
        "2025-11-20T07:00:00.123456+00:00",
        "2025-11-20T08:00:00.500000+00:00",
    ]
    assert await versions(index, lines[1].time, 2) == ["v1.0.0", "v1.1.0"]
    assert lines[-1].time > START


@on_sql
@pytest_twisted.ensureDeferred
async def test_many_start_at_once(make: Any, backend: Any) -> None:
    made = [backend.index() for _ in range(8)]
    for index in made:
        index.startService()
    ready = await DeferredList([index.ready for index in made], consumeErrors=True)
    for index in made:
        await stop(index)
    assert [result for good, result in ready if not good] == []


@on_sql
@pytest_twisted.ensureDeferred
async def test_filling_adds_what_is_missing_and_leaves_what_is_there(make: Any) -> None:
    index = await make(Times())
    await fill(index, 3)
    before = await read(index)
    given = [MV("example.com/a", f"v1.{number}.0") for number in (4, 1, 3)]
    long = MV("x" * 256, "v1.0.0")
    filled = await index.fill([*given, long])
    assert (filled.added, filled.there, list(filled.refused)) == (2, 1, [long])
    assert (await read(index))[:3] == before
    assert await versions(index, before[-1].time + timedelta(microseconds=1)) == ["v1.4.0", "v1.3.0"]
    filled = await index.fill(given)
    assert (filled.added, filled.there) == (0, 3)
    assert (await index.fill([])).added == 0
