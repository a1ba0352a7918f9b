"""What the tests of the SQL indexes share: a database of the test's own, and indexes over it that end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from tests.contract.index_backends import BACKENDS
from tests.support.faults import FaultProxy

reactor: Any = _reactor
SQL = sorted(name for name in BACKENDS if BACKENDS[name].outlives)


@pytest.fixture(params=SQL)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An SQL database, one after the other."""
    made = BACKENDS[request.param](reactor, tmp_path)
    yield made
    made.database.drop()


@pytest_twisted.async_yield_fixture
async def proxy(backend: Any) -> AsyncIterator[FaultProxy]:
    """Stands between the index and its database, if the index is made with its port."""
    made = FaultProxy(reactor, backend.server.port, http=False)
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def indexes(backend: Any, proxy: FaultProxy) -> AsyncIterator[Callable[..., Any]]:
    """Makes indexes, not started, through the proxy; those that run are stopped in the end."""
    made: list[Any] = []

    def make(**settings: Any) -> Any:
        index = backend.index(**{"port": proxy.port, **settings})
        made.append(index)
        return index

    yield make
    for index in made:
        if index.running:
            await index.stopService()


async def until(true: Callable[[], Any], limit: float = 10.0) -> None:
    """Wait for something that another thread or process does; fail when it does not."""
    end = reactor.seconds() + limit
    while not true():
        assert reactor.seconds() < end, "it did not happen"
        await deferLater(reactor, 0.01, lambda: None)
