"""The timing of a long index times a short one."""

from __future__ import annotations

import json

import pytest

from bench.index import SERVERS, main


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_it_finds_figures(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = SERVERS[kind].program.lacking()
    if lacking:
        pytest.skip(lacking)
    assert main([kind, "--lines", "3000", "--limit", "1500", "--rounds", "3", "--json"]) == 0
    [figures] = json.loads(capsys.readouterr().out).values()
    assert all(value > 0 for value in figures.values())
