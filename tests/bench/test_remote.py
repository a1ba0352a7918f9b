"""The measuring of remote stores measures; here over a few versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.__main__ import main
from tests.support.servers import SERVERS


@pytest.fixture(autouse=True)
def installed() -> None:
    """The servers have to be there."""
    for name in ("s3", "minio", "gcs"):
        lacking = SERVERS[name].program.lacking()
        if lacking is not None:
            pytest.skip(lacking)


def test_lists_are_counted(capsys: Any) -> None:
    assert main(["remote", "listing", "--versions", "30"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"s3", "minio"}
    for steps in figures.values():
        assert {name: step["versions"] for name, step in steps.items()} == {
            "plant 30 1000": 30,
            "list": 30,
            "catalog 100": 30,
            "catalog 1000": 30,
        }
        assert [step["requests"] for step in steps.values()] == [90, 1, 1, 1]


def test_copies_are_timed(capsys: Any) -> None:
    assert main(["remote", "copy", "--copied", "5", "--kib", "20"]) == 0
    copies = json.loads(capsys.readouterr().out)["copy"]
    told = [(copy["ends"], copy["copied"], copy["there"], copy["failed"]) for copy in copies]
    assert told == [("disk to s3", 5, 0, 0), ("s3 to gcp", 5, 0, 0), ("s3 to gcp", 0, 5, 0)]
    assert copies[0]["versions_per_second"] > 0
