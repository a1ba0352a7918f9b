"""The timing of locks, and of a fleet, over one kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import SERVERS


def run(module: str, *arguments: str) -> str:
    """It has a reactor of its own, so it is a process of its own."""
    lacking = SERVERS["redis"].program.lacking() or SERVERS["s3"].program.lacking()
    if lacking:
        pytest.skip(lacking)
    command = [sys.executable, "-m", module, *arguments, "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_locks() -> None:
    figures = json.loads(run("bench.locks", "redis", "--rounds", "5"))["redis"]
    assert len(figures) == 8
    assert all(value > 0 for value in figures.values())


def test_the_fleet() -> None:
    rows = json.loads(run("bench.fleet", "redis", "--versions", "6", "--clients", "6", "--each", "3", "--lease", "2"))
    assert [row["round"] for row in rows] == ["quiet", "restarted, its locks forgotten"]
    assert {(row["versions"], row["errors"], row["broken"], row["stored twice"]) for row in rows} == {
        ("6", "0", "0", "0")
    }
