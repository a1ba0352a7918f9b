"""What the commands print, and how they walk."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from athens_tx.commands import catalog, tell
from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion

EVIL = "ex.com/\x1b[2J\n1 versions verified\u202e\ud800"


@pytest.mark.parametrize("bad", [False, True])
def test_a_name_forges_no_line(capsys: pytest.CaptureFixture[str], bad: bool) -> None:
    tell({}, EVIL, False, bad=bad)
    (text,) = filter(None, capsys.readouterr())
    assert text == "ex.com/\\x1b[2J\\n1 versions verified\\u202e\\ud800\n"


def test_json_has_escapes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    tell({"module": EVIL}, EVIL, True)
    text = capsys.readouterr().out
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text) == {"module": EVIL}


@pytest_twisted.ensureDeferred
async def test_a_catalog_in_circles_ends() -> None:
    class Circle:
        async def catalog(self, token: str, limit: int) -> Any:
            return [ModuleVersion("example.com/a", "v1.0.0")], "a" if token != "a" else "b"

    walk = catalog(Circle())  # type: ignore[arg-type]
    assert [await anext(walk) for _ in range(2)] == [ModuleVersion("example.com/a", "v1.0.0")] * 2
    with pytest.raises(StorageUnavailable, match="circles"):
        await anext(walk)
