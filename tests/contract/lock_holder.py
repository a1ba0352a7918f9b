"""A daemon that takes one lock, says so, and works until it is killed; C{python -m tests.contract.lock_holder NAME}."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.locked import LockedSingleFlight
from tests.contract.lock_backends import locks


async def main(reactor: Any) -> None:
    """Hold it."""
    mv = ModuleVersion(*sys.argv[1].split("@"))

    async def exists(_: ModuleVersion) -> bool:
        return False

    async def work() -> ModuleVersion:
        print("held", flush=True)
        return await Deferred()

    flight = LockedSingleFlight(reactor, locks(reactor, os.environ), exists=exists, limit=60.0)
    flight.startService()
    await flight.ready
    await flight.run(mv, work)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
