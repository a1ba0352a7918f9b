"""kill -9 at random moments of saving, deleting and healing. C{ATHENS_TX_KILLS} says how often."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.storage.disks import is_whole, leftovers, save, started
from tests.storage.saver import VERSIONS

KILLS = int(os.environ.get("ATHENS_TX_KILLS", "12"))
TOP = Path(__file__).parents[2]


def run_and_kill(root: Path, seed: int, seconds: float) -> None:
    """Let a saver work for so long, then kill it."""
    command = [sys.executable, "-m", "tests.storage.saver", str(root), str(seed)]
    saver = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP)
    try:
        assert saver.stdout is not None
        assert saver.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):  # it would end by itself only by an error
            saver.wait(seconds)
    finally:
        saver.kill()
        saver.communicate()


async def look(root: Path) -> tuple[int, int]:
    """@return: how many versions are whole, and how many are absent; any other would fail."""
    storage = await started(reactor, root)
    assert leftovers(root) == []
    found = [await is_whole(storage, mv) for mv in VERSIONS]
    whole = [mv for mv, there in zip(VERSIONS, found, strict=True) if there]
    assert set((await storage.catalog("", 1000))[0]) == set(whole)
    for path in {mv.path for mv in VERSIONS}:
        assert set(await storage.list(path)) == {mv.version for mv in whole if mv.path == path}
    await storage.stopService()
    return len(whole), len(VERSIONS) - len(whole)


@pytest.mark.timeout(60 + 10 * KILLS)
@pytest_twisted.ensureDeferred
async def test_after_kill_9_each_version_is_whole_or_absent(tmp_path: Path, capsys: Any) -> None:
    chance = random.Random()
    whole = absent = 0
    for _ in range(KILLS):
        seed = chance.randrange(1 << 30)
        run_and_kill(tmp_path, seed, chance.uniform(0.0, 0.4))
        there, not_there = await look(tmp_path)
        whole, absent = whole + there, absent + not_there
    storage = await started(reactor, tmp_path)
    for mv in VERSIONS:
        await save(storage, mv)
    assert [await is_whole(storage, mv) for mv in VERSIONS] == [True] * len(VERSIONS)
    for mv in VERSIONS:
        assert len(os.listdir(tmp_path / mv.path / mv.version)) == 3
    await storage.stopService()
    assert leftovers(tmp_path) == []
    assert set(os.listdir(tmp_path / ".athens-tx-staging")) <= {"lock"}
    with capsys.disabled():
        print(f" [{KILLS} kills: {whole} versions seen whole, {absent} absent, none torn]", end="")
