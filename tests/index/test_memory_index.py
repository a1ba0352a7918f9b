"""The indexes that need no server."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from athens_tx.index.memory import MemoryIndex, NoIndex
from athens_tx.interfaces import IIndex, IndexLine
from athens_tx.module.version import ModuleVersion

START = datetime(2026, 1, 1, tzinfo=UTC)


class Times:
    """A clock that goes on by a second at each look, unless told otherwise."""

    def __init__(self) -> None:
        self.now, self.step = START, timedelta(seconds=1)

    def __call__(self) -> datetime:
        now, self.now = self.now, self.now + self.step
        return now


async def read(index: MemoryIndex | NoIndex, since: datetime | None, limit: int) -> list[IndexLine]:
    return [line async for page in index.lines(since, limit) for line in page]


async def versions(index: MemoryIndex, since: datetime | None, limit: int = 100) -> list[str]:
    return [line.version for line in await read(index, since, limit)]


@pytest.mark.parametrize("make", [MemoryIndex, NoIndex])
def test_keeps_to_the_interface(make: type) -> None:
    assert verifyObject(IIndex, make())


@pytest_twisted.ensureDeferred
async def test_lines_come_in_order_cut_by_since_and_limit() -> None:
    index = MemoryIndex(Times())
    assert await versions(index, None) == []
    for number in range(10):
        await index.add(ModuleVersion("example.com/a", f"v1.{number}.0"))
    assert await versions(index, None, 3) == ["v1.0.0", "v1.1.0", "v1.2.0"]
    assert await versions(index, START + timedelta(seconds=8)) == ["v1.8.0", "v1.9.0"]  # inclusive
    assert await versions(index, START + timedelta(seconds=8.5)) == ["v1.9.0"]
    assert await versions(index, START + timedelta(days=1)) == []
    assert await read(index, None, 1) == [IndexLine("example.com/a", "v1.0.0", START)]
    await index.check()


@pytest_twisted.ensureDeferred
async def test_adding_again_adds_nothing_and_ties_keep_their_order() -> None:
    times = Times()
    times.step = timedelta(0)
    index = MemoryIndex(times)
    for version in ("v1.2.0", "v1.1.0", "v1.2.0"):
        await index.add(ModuleVersion("example.com/a", version))
    assert await versions(index, START) == ["v1.2.0", "v1.1.0"]


@pytest_twisted.ensureDeferred
async def test_it_is_bounded_and_the_oldest_lines_go(logged: list[LogEvent]) -> None:
    index = MemoryIndex(Times(), limit=200)
    for number in range(1000):
        await index.add(ModuleVersion("example.com/a", f"v1.{number}.0"))
        assert len(await versions(index, None, 2000)) == min(number + 1, 199 + number % 2)
    assert (await versions(index, None))[0] == "v1.800.0"
    assert [event["log_level"].name for event in logged] == ["warn"]  # once
    await index.add(ModuleVersion("example.com/a", "v1.0.0"))  # no longer known
    assert (await versions(index, None, 2000))[-1] == "v1.0.0"


@pytest_twisted.ensureDeferred
async def test_a_clock_that_goes_back_leaves_the_order() -> None:
    times = Times()
    times.step = timedelta(seconds=-1)
    index = MemoryIndex(times)
    for version in ("v1.0.0", "v1.1.0"):
        await index.add(ModuleVersion("example.com/a", version))
    assert await versions(index, START) == ["v1.0.0", "v1.1.0"]


@pytest_twisted.ensureDeferred
async def test_no_index_takes_all_and_gives_nothing() -> None:
    index = NoIndex()
    await index.add(ModuleVersion("example.com/a", "v1.0.0"))
    assert await read(index, None, 10) == []
    await index.check()
