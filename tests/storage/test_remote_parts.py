"""Of a zip that is far away no more comes than is wanted of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from tests.contract.zips import whole
from tests.support.faults import FaultProxy
from tests.support.stores import REMOTE, Store

reactor: Any = _reactor
MV = ModuleVersion("example.com/Far", "v1.0.0")
ZIP = random.Random("far").randbytes(3 << 20)
#: Bytes of an answer that is no zip, and of what a store gives at once: a chunk of GridFS, or a little more.
LITTLE, CHUNK = 16 << 10, 300 << 10


@pytest_twisted.async_yield_fixture
async def store(request: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the parameter names."""
    store = await Store(reactor, request.param, tmp_path / "store").open()
    yield store
    await store.close()


@pytest.mark.parametrize("store", REMOTE, indirect=True)
@pytest_twisted.ensureDeferred
async def test_the_length_of_a_zip_or_a_part_is_all_that_comes(store: Store) -> None:
    proxy = FaultProxy(reactor, store.port, http=store.http)
    opened = await store.storage(proxy.port)
    storage = opened.storage
    try:
        await storage.save(MV, b"{}", b"module example.com/Far\n", BytesZip(ZIP))
        await whole(await storage.zip(MV))  # whatever has to be learned of the server is known
        await opened.alone()

        down, connections, before = proxy.down, proxy.connections, proxy.count()
        body = await storage.zip(MV, whole=False)
        assert body.length == len(ZIP)
        body.stopProducing()
        assert proxy.down - down < LITTLE
        assert proxy.count() - before <= 1

        down, before = proxy.down, proxy.count()
        part = (await storage.zip(MV, whole=False)).part(1_000_000, 1000)
        assert await whole(part) == ZIP[1_000_000:1_001_000]
        assert proxy.down - down < (LITTLE if store.http else CHUNK)
        assert proxy.count() - before <= 2
        assert proxy.connections == connections  # none was cut
    finally:
        await opened.close()
        await proxy.stop()
