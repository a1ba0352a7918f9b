"""
A process that saves a large zip in an external storage and reads it slowly, as L{tests.storage.big_zip}: C{URL BYTES}.

Prints how many KiB of memory it had at most before and afterwards, how often the source was paused, and the seconds.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from athens_tx.storage.external import ExternalStorage
from tests.storage.big_zip import peak, round_trip


async def main(reactor: Any, url: str, length: str) -> None:
    """Once with a few chunks, to have everything loaded, and then large."""
    storage = ExternalStorage(reactor, url, {}, 300.0)
    storage.startService()
    await storage.ready
    await round_trip(reactor, storage, "v1.0.0", 8 << 20)
    before, begun = peak(), time.monotonic()
    pauses = await round_trip(reactor, storage, "v1.0.1", int(length))
    print(before, peak(), pauses, time.monotonic() - begun)
    await storage.stopService()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
