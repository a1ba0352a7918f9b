"""
Remote stores take and give large zips in little memory. C{ATHENS_TX_BIG_ZIP_MB} says how many MiB the largest has.

What is measured is a process of its own, after it has saved and read a small zip.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.support.processes import run
from tests.support.stores import REMOTE, Store

MIB = int(os.environ.get("ATHENS_TX_BIG_ZIP_MB", "64"))
TOP = Path(__file__).parents[2]
#: Saves at once, and the MiB of each, which are more than one part.
MANY, EACH = 20, min(30, max(9, MIB // 8))
#: MiB that a process may grow for one zip, and for many.
ONE_LIMIT, LIMIT = 24.0, 64.0


@pytest_twisted.async_yield_fixture
async def store(request: Any, tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the parameter names, with room for what the tests lay there."""
    if shutil.disk_usage(tmp_path).free < (4 * max(MIB, MANY * EACH)) << 20:
        pytest.skip(f"LARGE ZIPS ARE NOT TESTED: fewer than {4 * max(MIB, MANY * EACH)} MiB are free")
    store = await Store(reactor, request.param, tmp_path / "store").open()
    yield store
    await store.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


async def measured(store: Store, *arguments: str) -> tuple[float, dict[str, Any]]:
    """@return: by how many MiB the process grew, or the one that serves C{external}; and all that was measured."""
    keeper = store.keeper
    if keeper is not None:
        await measured_here(store, "big", str(1 << 20))
        keeper.forget_peak()
        before = keeper.peak_rss()
    figures = await measured_here(store, *arguments)
    grown = (figures["after"] - figures["before"]) / 1024
    if keeper is not None:
        figures["keeper"] = (keeper.peak_rss() - before) / 1048576
        grown = max(grown, figures["keeper"])
    return grown, figures


async def measured_here(store: Store, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.storage.remote_child", *arguments]
    done = (await run(reactor, command, store.environment(), cwd=TOP, limit=60 + 4 * max(MIB, MANY * EACH))).check()
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.timeout(90 + 4 * MIB)
@pytest.mark.parametrize("store", REMOTE, indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_large_zip_enters_and_leaves_in_little_memory(store: Store, capsys: Any) -> None:
    grown, figures = await measured(store, "big", str(MIB << 20))
    with capsys.disabled():
        print(f" [{MIB} MiB: {grown:.1f} MiB more, {figures}]", end="")
    assert grown < ONE_LIMIT
    assert figures["pauses"]


@pytest.mark.timeout(90 + 4 * MANY * EACH)
@pytest.mark.parametrize("store", REMOTE, indirect=True)
@pytest_twisted.ensureDeferred
async def test_many_zips_at_once_take_no_more(store: Store, capsys: Any) -> None:
    grown, figures = await measured(store, "parallel", str(MANY), str(EACH << 20))
    with capsys.disabled():
        print(f" [{MANY} of {EACH} MiB at once: {grown:.1f} MiB more, {figures}]", end="")
    assert grown < LIMIT
    assert figures["pauses"]
