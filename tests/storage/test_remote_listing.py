"""Modules of more versions than a page of the store holds, in few requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread

from athens_tx.module.version import ModuleVersion
from tests.support.faults import FaultProxy
from tests.support.stores import KINDS, Store

reactor: Any = _reactor
PATH = "example.com/many"
#: So many that three pages of a thousand keys do not hold them.
VERSIONS = [ModuleVersion(PATH, f"v1.{number // 50}.{number % 50}") for number in range(1_050)]
#: What stands before and behind them in a listing.
BESIDE = [ModuleVersion("example.com/man", "v1.0.0"), ModuleVersion(f"{PATH}/v2", "v2.0.0")]


def plant(store: Store) -> None:
    """Put all of them there, past the storage."""

    def put(mv: ModuleVersion) -> None:
        for key, data in zip(store.raw.files(mv), (b"{}", b"module x\n", b"PK"), strict=True):
            store.raw.put(key, data)

    put(BESIDE[0])  # makes what has to be made
    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(put, [*VERSIONS, *BESIDE[1:]]))) == len(VERSIONS) + 1


@pytest_twisted.async_yield_fixture
async def store(request: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the parameter names, with L{VERSIONS}."""
    store = await Store(reactor, request.param, tmp_path / "store").open()
    await deferToThread(plant, store)
    yield store
    await store.close()


@pytest_twisted.async_yield_fixture
async def proxy(store: Store) -> AsyncIterator[FaultProxy]:
    """What counts the requests."""
    proxy = FaultProxy(reactor, store.port, http=store.http)
    yield proxy
    await proxy.stop()


@pytest.mark.parametrize("store", KINDS, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_thousand_versions_are_listed_and_walked_through_in_few_requests(
    store: Store, proxy: FaultProxy
) -> None:
    opened = await store.storage(proxy.port)
    await opened.alone()
    storage, before = opened.storage, proxy.count()
    assert sorted(await storage.list(PATH)) == sorted(mv.version for mv in VERSIONS)
    assert proxy.count() - before <= 4

    for size, most in ((1000, 8), (100, 15)):
        before, found, token = proxy.count(), [], ""
        while True:
            page, token = await storage.catalog(token, size)
            assert len(page) <= size
            found += page
            if not token:
                break
        assert sorted(found, key=str) == sorted([*VERSIONS, *BESIDE], key=str)
        assert proxy.count() - before <= most, size
    await opened.close()
