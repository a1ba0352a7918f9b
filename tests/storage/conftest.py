"""A storage that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from tests.storage.disks import started


@pytest_twisted.async_yield_fixture
async def storage(tmp_path: Path) -> Any:
    """A disk storage whose root is C{tmp_path}."""
    storage = await started(reactor, tmp_path)
    yield storage
    await storage.stopService()
