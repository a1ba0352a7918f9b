"""
Three daemons, one store, one lock service of each kind: each version is fetched once, whoever dies meanwhile.

C{ATHENS_TX_FLEET=full} has 100 versions and 300 clients instead of a few, locks that live as long as they do by
default, and a Redis that does not come back; C{VERSIONS,CLIENTS,EACH} chooses numbers.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.support.fleet import Fleet, size
from tests.support.fleet_figures import Figures, table
from tests.support.fleet_services import QUICK, SERVICES

SIZE = size()
LARGE = "ATHENS_TX_FLEET" in os.environ


@pytest_twisted.async_yield_fixture
async def fleet(request: Any, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Over the service that the parameter names."""
    made = Fleet(reactor, tmp_path, SERVICES[request.param](reactor, tmp_path, SIZE.lease), SIZE)
    try:
        yield await made.open()
    finally:
        await made.close()


def shown(figures: Figures) -> None:
    print(table([figures.row()]), dict(figures.retries), dict(figures.remarks), sep="\n")


@pytest.mark.slow
@pytest.mark.timeout(1800 if LARGE else 120)
@pytest.mark.parametrize("fleet", SERVICES if LARGE else QUICK, indirect=True)
@pytest_twisted.ensureDeferred
async def test_each_version_is_fetched_once(fleet: Fleet) -> None:
    quiet = await fleet.quiet("quiet")
    shown(quiet)
    assert (quiet.errors, quiet.broken, quiet.retries, quiet.remarks) == ([], [], {}, {})
    assert set(quiet.fetches.values()) == set(quiet.saves.values()) == {1}

    troubled = await fleet.troubled("troubled")
    shown(troubled)
    assert (troubled.errors, troubled.broken) == ([], [])
    assert len(troubled.fetches) == SIZE.versions
    assert max(len(troubled.needless), len(troubled.stored_twice)) <= troubled.waits.results["unlocked"]

    assert await fleet.verify() == f"{2 * SIZE.versions} versions verified, 0 broken"
    assert not await fleet.left(limit=3 + fleet.lease)
