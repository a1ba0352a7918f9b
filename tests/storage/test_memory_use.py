"""A large zip takes no more memory than a small one. C{ATHENS_TX_BIG_ZIP_MB} says how many MiB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MIB = int(os.environ.get("ATHENS_TX_BIG_ZIP_MB", "256"))
TOP = Path(__file__).parents[2]


@pytest.mark.timeout(120 + MIB)
def test_a_large_zip_enters_and_leaves_in_little_memory(tmp_path: Path, capsys: Any) -> None:
    if shutil.disk_usage(tmp_path).free < (MIB + 64) << 20:
        pytest.skip(f"LARGE ZIPS ARE NOT TESTED: fewer than {MIB} MiB are free")
    command = [sys.executable, "-m", "tests.storage.big_zip", str(tmp_path), str(MIB << 20)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    before, after, pauses = map(int, done.stdout.split())
    with capsys.disabled():
        print(f" [{MIB} MiB: {(after - before) / 1024:.1f} MiB more, source paused {pauses} times]", end="")
    assert after - before < 12 * 1024
    assert pauses
