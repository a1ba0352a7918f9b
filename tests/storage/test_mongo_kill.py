"""
Saves in MongoDB that are interrupted at random: the process killed, or the connection cut and refused.

C{ATHENS_TX_KILLS} says how often.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings
from tests.storage.disks import content, is_whole, save
from tests.storage.mongos import opened, until
from tests.storage.saver import VERSIONS
from tests.support import servers
from tests.support.faults import FaultProxy

KILLS = int(os.environ.get("ATHENS_TX_KILLS", "12"))
TOP = Path(__file__).parents[2]


@pytest.fixture
def bucket() -> Any:
    bucket = servers.mongo().bucket()
    yield bucket
    bucket.drop()


def run_and_kill(bucket: Any, seed: int, seconds: float) -> None:
    """Let a saver work for so long, then kill it."""
    command = [sys.executable, "-m", "tests.storage.mongo_saver", bucket.server.endpoint, bucket.name, str(seed)]
    saver = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP)
    try:
        assert saver.stdout is not None
        assert saver.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):  # it would end by itself only by an error
            saver.wait(seconds)
    finally:
        saver.kill()
        saver.communicate()


async def look(storage: Any) -> list[bool]:
    """@return: which versions are whole; any other must be absent for every question."""
    found = [await is_whole(storage, mv) for mv in VERSIONS]
    whole = [mv for mv, there in zip(VERSIONS, found, strict=True) if there]
    assert set((await storage.catalog("", 1000))[0]) == set(whole)
    for path in {mv.path for mv in VERSIONS}:
        assert set(await storage.list(path)) == {mv.version for mv in whole if mv.path == path}
    return found


async def assert_all_can_be_saved(storage: Any, database: Any) -> None:
    for mv in VERSIONS:
        await save(storage, mv)
    assert await look(storage) == [True] * len(VERSIONS)
    assert database.modules.count_documents({}) == len(VERSIONS)


def leftovers(database: Any) -> list[Any]:
    """@return: chunks without a file, and files of ours without a document."""
    files = {file["_id"]: file.get("metadata") for file in database.fs.files.find()}
    documents = {document["_id"] for document in database.modules.find()}
    ours = {id for id, metadata in files.items() if metadata}
    assert documents <= ours
    return sorted({id for id in database.fs.chunks.distinct("files_id") if id not in files} | (ours - documents))


def age(later: float) -> Any:
    """@return: a clock that is late."""
    return lambda: time.time() + later


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest_twisted.ensureDeferred
async def test_after_kill_9_each_version_is_whole_or_absent(bucket: Any, capsys: Any) -> None:
    chance = random.Random()
    whole = absent = 0
    url = bucket.server.endpoint
    for _ in range(KILLS):
        run_and_kill(bucket, chance.randrange(1 << 30), chance.uniform(0.0, 0.4))
        async with opened(url, bucket.name) as storage:
            found = await look(storage)
        whole, absent = whole + sum(found), absent + len(found) - sum(found)
    async with opened(url, bucket.name) as storage:
        await assert_all_can_be_saved(storage, bucket.database)
    two_hours_later = MongoStorage(reactor, Settings(url, database=bucket.name), age(7200.0))
    two_hours_later.startService()
    await two_hours_later.ready
    await until(lambda: leftovers(bucket.database) == [], 20)
    await look(two_hours_later)
    await two_hours_later.stopService()
    with capsys.disabled():
        print(f" [{KILLS} kills: {whole} versions seen whole, {absent} absent, none torn]", end="")


@pytest.mark.timeout(60 + 5 * KILLS)
@pytest_twisted.ensureDeferred
async def test_after_a_cut_each_version_is_whole_or_absent(bucket: Any, capsys: Any) -> None:
    chance = random.Random()
    proxy = FaultProxy(reactor, bucket.server.port, http=False)
    failed = 0
    options = "serverSelectionTimeoutMS=1"
    async with (
        opened(bucket.server.endpoint, bucket.name) as witness,
        opened(f"mongodb://127.0.0.1:{proxy.port}/?{options}", bucket.name, limit=5.0) as storage,
    ):
        for number in range(KILLS):
            mv = VERSIONS[number % len(VERSIONS)]
            with suppress(NotFound):
                await storage.delete(mv)
            size = len(content(mv, number)[2])
            proxy.cut_after(up=chance.randrange(1, size + 3000), outage=True)
            try:
                await save(storage, mv, number)
            except StorageUnavailable:
                failed += 1
            there = await is_whole(witness, mv)
            assert there or failed
            proxy.heal()
            await save(storage, mv, number)
            assert await is_whole(witness, mv)
        await look(witness)
        await assert_all_can_be_saved(storage, bucket.database)
    await proxy.stop()
    with capsys.disabled():
        print(f" [{KILLS} cuts: {failed} saves failed, none torn, all saved in the end]", end="")
