"""A large zip takes no more memory on disk than a small one. C{ATHENS_TX_BIG_ZIP_MB} says how many MiB."""

from __future__ import annotations

import json
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
    command = [sys.executable, "-m", "tests.storage.remote_child", "big", str(MIB << 20)]
    kept = {"ATHENS_STORAGE_TYPE": "disk", "ATHENS_DISK_STORAGE_ROOT": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=TOP, env={**os.environ, **kept}, capture_output=True, text=True, check=False)
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    grown = (figures["after"] - figures["before"]) / 1024
    with capsys.disabled():
        print(f" [{MIB} MiB: {grown:.1f} MiB more, {figures}]", end="")
    assert grown < 12
    assert figures["pauses"]
