"""What an SQL index does when its database is away, silent or odd: no save waits, and no line is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList

from athens_tx.errors import IndexUnavailable
from athens_tx.index import journaled, pool, sql
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion as MV
from tests.index.conftest import until
from tests.support import servers
from tests.support.faults import FaultProxy

reactor: Any = _reactor
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with shorter waits."""
    monkeypatch.setattr(journaled, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(journaled, "LONGEST_PAUSE", 0.2)


async def started(index: Any) -> Any:
    index.startService()
    await index.ready
    return index


async def read(index: Any) -> list[IndexLine]:
    return [line async for page in index.lines(None, 100_000) for line in page]


async def versions(index: Any) -> list[str]:
    return [line.version for line in await read(index)]


async def add(index: Any, *numbers: int) -> float:
    """@return: how long the slowest one took."""
    slowest = 0.0
    for number in numbers:
        before = reactor.seconds()
        await index.add(MV("example.com/a", f"v1.{number}.0"))
        slowest = max(slowest, reactor.seconds() - before)
    return slowest


def said(logged: list[dict[str, Any]], level: str) -> list[str]:
    return [str(event["log_format"]) for event in logged if event["log_level"].name == level]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_delays_no_save_and_gets_its_lines_later(
    indexes: Make, proxy: FaultProxy, backend: Any, logged: list[dict[str, Any]]
) -> None:
    index = await started(indexes())
    await add(index, 0)
    assert await versions(index) == ["v1.0.0"]
    proxy.refuse()
    proxy.cut()
    assert await add(index, *range(1, 40)) < 1.0
    await index.check()  # the daemon is of use without it
    assert index.lag_lines() == 39
    before = reactor.seconds()
    with pytest.raises(
        IndexUnavailable, match=backend.server.name[:4] if backend.server.name == "postgres" else "mysql"
    ):
        await read(index)
    assert reactor.seconds() - before < 5
    await until(lambda: index.trouble)
    assert 0 < index.lag_seconds() < 60
    proxy.accept()
    await until(lambda: not index.lag_lines())
    lines = await read(index)
    assert [line.version for line in lines] == [f"v1.{number}.0" for number in range(40)]
    assert index.lag_seconds() == 0
    assert len(said(logged, "warn")) == 1  # once, however often it was tried
    assert said(logged, "error") == []


@pytest_twisted.ensureDeferred
async def test_the_time_of_a_line_is_that_of_its_save(indexes: Make, proxy: FaultProxy) -> None:
    index = await started(indexes())
    proxy.refuse()
    proxy.cut()
    before = index._now()
    await add(index, 1)
    after = index._now()
    await until(lambda: index.trouble)
    proxy.accept()
    await until(lambda: not index.lag_lines())
    [line] = await read(index)
    assert before <= line.time <= after


@pytest_twisted.ensureDeferred
async def test_lines_that_wait_outlive_the_process(indexes: Make, proxy: FaultProxy) -> None:
    first = await started(indexes())
    proxy.refuse()
    proxy.cut()
    await add(first, *range(5))
    await until(lambda: first.trouble)
    before = reactor.seconds()
    await first.stopService()
    assert reactor.seconds() - before < 6
    proxy.accept()
    second = await started(indexes())
    await until(lambda: not second.lag_lines())
    assert await versions(second) == [f"v1.{number}.0" for number in range(5)]


@pytest_twisted.ensureDeferred
async def test_lines_of_a_dead_process_are_taken_over_while_another_runs(
    indexes: Make, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "ADOPT_EVERY", 0.1)
    living, dying = await started(indexes()), await started(indexes())
    await add(living, 1)
    proxy.refuse()
    proxy.cut()
    await add(dying, 2, 3)
    await until(lambda: dying.trouble)
    await dying.stopService()
    proxy.accept()
    await until(lambda: living.lag_lines() == 0 and len(list(living._keeper._journal._folder.iterdir())) == 1)
    assert sorted(await versions(living)) == ["v1.1.0", "v1.2.0", "v1.3.0"]


@pytest_twisted.ensureDeferred
async def test_a_black_hole_ends_every_call_in_time(
    indexes: Make, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "THREADS", 1)  # the one that has a connection
    index = indexes()
    index._table._dialect.limit = 1.0
    await started(index)
    await add(index, 1)
    assert await versions(index) == ["v1.1.0"]
    proxy.frozen = True
    before = reactor.seconds()
    with pytest.raises(IndexUnavailable, match="did not answer within 1 s"):
        await index._table.check()
    await until(lambda: not index._table._connections._calls, 3)  # the thread is free, though nothing came
    for _ in range(8):
        with pytest.raises(IndexUnavailable):
            await read(index)
    assert reactor.seconds() - before < 16
    assert await add(index, 2) < 1.0
    proxy.frozen = False
    await until(lambda: not index.lag_lines())
    assert await versions(index) == ["v1.1.0", "v1.2.0"]


@pytest_twisted.ensureDeferred
async def test_the_end_does_not_wait_for_a_black_hole(indexes: Make, proxy: FaultProxy) -> None:
    index = await started(indexes())
    await add(index, 1)
    await read(index)
    proxy.frozen = True
    reading = Deferred.fromCoroutine(read(index))
    before = reactor.seconds()
    await index.stopService()
    assert reactor.seconds() - before < 6
    with pytest.raises(IndexUnavailable):
        await reading


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_lost_long_ago_is_no_trouble(
    indexes: Make, proxy: FaultProxy, logged: list[dict[str, Any]]
) -> None:
    index = await started(indexes())
    for number in range(4):
        await add(index, number)
        assert len(await versions(index)) == number + 1
        proxy.cut()
        await until(lambda: not proxy.open)
    await index._table.check()
    assert said(logged, "warn") == []


@pytest_twisted.ensureDeferred
async def test_a_table_that_is_gone_is_trouble_until_it_is_back(indexes: Make, backend: Any) -> None:
    index = await started(indexes())
    await add(index, 1)
    await read(index)
    backend.database.execute("ALTER TABLE indexes RENAME TO elsewhere")
    await add(index, 2)
    with pytest.raises(IndexUnavailable) as caught:
        await index._table.check()
    assert "example.com" not in str(caught.value)
    await until(lambda: index.trouble)
    backend.database.execute("ALTER TABLE elsewhere RENAME TO indexes")
    await until(lambda: not index.lag_lines())
    assert await versions(index) == ["v1.1.0", "v1.2.0"]


@pytest_twisted.ensureDeferred
async def test_a_page_that_fails_in_the_middle_is_an_error(
    indexes: Make, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PAGE", 10)
    index = await started(indexes())
    await add(index, *range(25))
    pages = index.lines(None, 1000)
    assert len(await anext(pages)) == 10
    proxy.refuse()
    proxy.cut()
    with pytest.raises(IndexUnavailable):
        await anext(pages)


@pytest_twisted.ensureDeferred
async def test_those_who_read_leave_a_connection_to_who_writes(
    indexes: Make, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = await started(indexes())
    table, holding, free = index._table, threading.Semaphore(0), threading.Event()

    def slow(connection: Any) -> None:
        holding.release()
        free.wait(10)

    readers = [Deferred.fromCoroutine(table._connections.read(slow, 10.0)) for _ in range(10)]
    await until(lambda: holding.acquire(blocking=False))
    try:
        await add(index, 1)
        await until(lambda: not index.lag_lines(), 3)
        table._dialect.limit = 0.2
        before = reactor.seconds()
        with pytest.raises(IndexUnavailable, match=r"did not answer within 0\.2 s"):
            await read(index)
        assert reactor.seconds() - before < 2
        left = Deferred.fromCoroutine(read(index))
        left.cancel()
        with pytest.raises(CancelledError):
            await left
    finally:
        free.set()
    await DeferredList(readers)
    table._dialect.limit = 10.0
    assert await versions(index) == ["v1.1.0"]


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_given_up_while_it_connects_again_does_nothing(
    indexes: Make, backend: Any, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "THREADS", 1)
    index = indexes()
    await started(index)
    connections, done = index._table._connections, []
    connect, connecting, free = connections._driver.connect, threading.Event(), threading.Event()

    def slowly() -> Any:
        connecting.set()
        free.wait(10)
        return connect()

    def work(link: Any) -> None:
        cursor = link.cursor()
        cursor.execute("SELECT 1")
        done.append(cursor.fetchall())

    await connections.run(work, 5.0)
    proxy.cut()
    await until(lambda: not proxy.open)
    monkeypatch.setattr(connections._driver, "connect", slowly)
    running = connections.run(work, 0.5)
    await until(connecting.is_set)
    with pytest.raises(pool.Late):
        await running
    monkeypatch.setattr(connections._driver, "connect", connect)
    free.set()
    await until(lambda: not connections._calls)
    assert len(done) == 1


@pytest_twisted.ensureDeferred
async def test_lines_that_are_there_cost_two_questions_and_no_connection(
    indexes: Make, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "THREADS", 1)
    index = await started(indexes())
    lines = [IndexLine("example.com/a", f"v1.{number}.0", index._now()) for number in range(1000)]
    await index._table.write(lines[::2])
    connections = proxy.connections
    statements = []
    run = index._table._connections.run
    index._table._connections.run = lambda *args: statements.append(1) or run(*args)
    assert await index._table.write([*lines, *lines]) == []
    assert len(statements) <= 6
    assert proxy.connections == connections
    assert len(await read(index)) == 1000


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
@pytest_twisted.ensureDeferred
async def test_the_server_itself_ends_and_comes_back(name: str, tmp_path: Path) -> None:
    from tests.contract.index_backends import BACKENDS

    server = servers.own(name, tmp_path / "server")
    try:
        kind = BACKENDS["mysql" if name == "mariadb" else name]

        class Own(kind):  # type: ignore[misc,valid-type]
            def find(self) -> Any:
                return server

        index = await started(Own(reactor, tmp_path).index())
        await add(index, 1)
        assert await versions(index) == ["v1.1.0"]
        server.kill()
        assert await add(index, 2, 3) < 1.0
        await until(lambda: index.trouble)
        server.start()
        await until(lambda: not index.lag_lines(), 20)
        server.end()
        server.start()
        assert await versions(index) == ["v1.1.0", "v1.2.0", "v1.3.0"]
        await index.stopService()
    finally:
        server.stop()
