"""What holds for all tests of the locks."""

from __future__ import annotations

import pytest

from athens_tx import starting


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait for who is away, unless the test says so."""
    monkeypatch.setattr(starting, "PATIENCE", 0.0)
