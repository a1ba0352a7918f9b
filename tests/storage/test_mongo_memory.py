"""A large zip in MongoDB takes no more memory than a small one. C{ATHENS_TX_BIG_ZIP_MB} says how many MiB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers

MIB = int(os.environ.get("ATHENS_TX_BIG_ZIP_MB", "128"))
TOP = Path(__file__).parents[2]


@pytest.mark.timeout(120 + MIB)
def test_a_large_zip_enters_and_leaves_in_little_memory(tmp_path: Path, capsys: Any) -> None:
    server = servers.own("mongo", tmp_path / "mongo")  # which has it in memory, and gives none back
    try:
        command = [sys.executable, "-m", "tests.storage.mongo_big_zip", server.endpoint, "big", str(MIB << 20)]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    before, after, pauses, seconds = map(float, done.stdout.split())
    with capsys.disabled():
        print(f" [{MIB} MiB in {seconds:.1f} s: {(after - before) / 1024:.1f} MiB more, {pauses:.0f} pauses]", end="")
    assert after - before < 12 * 1024
    assert pauses > MIB / 2
