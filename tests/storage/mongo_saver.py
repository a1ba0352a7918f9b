"""
A process that saves and deletes in MongoDB until it is killed, as L{tests.storage.saver}; C{URL DATABASE SEED}.

Some versions are left as an interrupted save of Athens would leave them, so that healing is killed too.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from typing import Any

import gridfs
import pymongo
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gridfs import filename
from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings
from tests.storage.disks import save
from tests.storage.saver import VERSIONS


async def work(storage: Any, database: Any, chance: random.Random) -> None:
    """Save what is absent, delete what is there, for ever."""
    while True:
        mv = chance.choice(VERSIONS)
        try:
            await storage.delete(mv)
        except NotFound:
            if chance.random() < 0.3:
                tear(database, mv, chance)
            with suppress(StorageUnavailable):  # another worker deletes it at the same time
                await save(storage, mv, chance.randrange(1 << 30))


def tear(database: Any, mv: ModuleVersion, chance: random.Random) -> None:
    """Lay a document or a file there, as Athens."""
    if chance.random() < 0.5:
        gridfs.GridFS(database).put(b"torn", filename=filename(mv))
    else:
        with suppress(pymongo.errors.DuplicateKeyError):
            database.modules.insert_one({"module": mv.path, "version": mv.version, "info": b"torn"})


async def main(reactor: Any, url: str, database: str, seed: str) -> None:
    """Say C{ready}, and begin."""
    storage = MongoStorage(reactor, Settings(url, database=database))
    storage.startService()
    await storage.ready
    raw = pymongo.MongoClient(url)[database]
    print("ready", flush=True)
    chances = [random.Random(f"{seed} {worker}") for worker in range(4)]
    await gatherResults([Deferred.fromCoroutine(work(storage, raw, chance)) for chance in chances])


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
