"""
A process that saves a large zip in MongoDB and reads it slowly, as L{tests.storage.big_zip}; C{URL DATABASE BYTES}.

Prints how many KiB of memory it had at most before and afterwards, how often the source was paused, and the seconds.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings
from tests.storage.big_zip import peak, round_trip


async def main(reactor: Any, url: str, database: str, length: str) -> None:
    """Once with a few chunks, to have everything loaded, and then large."""
    storage = MongoStorage(reactor, Settings(url, database=database))
    storage.startService()
    await storage.ready
    await round_trip(reactor, storage, "v1.0.0", 8 << 20)
    before, begun = peak(), time.monotonic()
    pauses = await round_trip(reactor, storage, "v1.0.1", int(length))
    print(before, peak(), pauses, time.monotonic() - begun)
    await storage.stopService()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
