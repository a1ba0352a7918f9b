"""
A process that works with the store that its environment names, as a daemon would.

    python -m tests.storage.remote_child big BYTES            save a zip and read it slowly
    python -m tests.storage.remote_child parallel N BYTES     save N at once from slow sources, and read them slowly
    python -m tests.storage.remote_child save SEED            save until it is killed

The first two print a JSON document: KiB of memory at most C{before} and C{after} it, C{pauses} of the sources, and
C{seconds} of the saving and of the reading.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from tests.storage.interrupted import BATCH, content, versions
from tests.storage.remote_zips import MadeZip, SlowReader
from tests.support.opening import open_storage

#: Bytes of what is saved first, to have everything loaded.
WARM_UP = 256 << 10


def memory(name: str) -> int:
    """@return: a line of C{/proc/self/status}, in KiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


async def save(reactor: Any, storage: Any, mv: ModuleVersion, length: int, wait: float = 0.0) -> MadeZip:
    """Save a version; @return: its source."""
    source = MadeZip(reactor, length, wait)
    await storage.save(mv, b'{"Version": "%s"}' % mv.version.encode(), f"module {mv.path}\n".encode(), source)
    return source


async def read(reactor: Any, storage: Any, mv: ModuleVersion, source: MadeZip, wait: float = 0.0001) -> None:
    """Read a zip, and compare."""
    body = await storage.zip(mv)
    reader = SlowReader(reactor, body, wait)
    await body.startProducing(reader)
    assert (reader.length, reader.crc) == (source.length, source.crc)


async def big(reactor: Any, storage: Any, length: str) -> dict[str, Any]:
    """One after the other."""
    times: list[float] = []
    before = 0
    pauses = 0
    for version, size in (("v1.0.0", WARM_UP), ("v1.0.1", int(length))):
        before = memory("VmHWM")
        mv = ModuleVersion("example.com/big", version)
        times = [time.monotonic()]
        source = await save(reactor, storage, mv, size)
        times.append(time.monotonic())
        await read(reactor, storage, mv, source)
        times.append(time.monotonic())
        pauses = source.pauses
        await storage.delete(mv)
    return told(before, pauses, times)


async def parallel(reactor: Any, storage: Any, count: str, length: str) -> dict[str, Any]:
    """All at once."""
    first = ModuleVersion("example.com/many", "v0.0.1")
    await read(reactor, storage, first, await save(reactor, storage, first, WARM_UP))
    before = memory("VmHWM")
    mvs = [ModuleVersion("example.com/many", f"v1.{number}.0") for number in range(int(count))]
    times = [time.monotonic()]
    saving = [Deferred.fromCoroutine(save(reactor, storage, mv, int(length), 0.002)) for mv in mvs]
    sources = await gatherResults(saving)
    times.append(time.monotonic())
    pairs = zip(mvs, sources, strict=True)
    await gatherResults([Deferred.fromCoroutine(read(reactor, storage, mv, source, 0.002)) for mv, source in pairs])
    times.append(time.monotonic())
    for mv in (first, *mvs):
        await storage.delete(mv)
    return told(before, sum(source.pauses for source in sources), times)


def told(before: int, pauses: int, times: list[float]) -> dict[str, Any]:
    """@return: the figures."""
    seconds = [round(end - begin, 2) for begin, end in itertools.pairwise(times)]
    return {"before": before, "after": memory("VmHWM"), "pauses": pauses, "seconds": seconds}


async def save_for_ever(reactor: Any, storage: Any, seed: str) -> None:
    """Say which version is begun and which is done, each in a line."""
    wanted = versions(int(seed))

    async def worker() -> None:
        for mv, salt in wanted:
            print("begun", mv.version, salt, flush=True)
            info, mod, zip = content(mv, salt)
            await storage.save(mv, info, mod, BytesZip(zip))
            print("done", mv.version, salt, flush=True)

    print("ready", flush=True)
    await gatherResults([Deferred.fromCoroutine(worker()) for _ in range(BATCH)])


VERBS: dict[str, Any] = {"big": big, "parallel": parallel, "save": save_for_ever}


async def main(reactor: Any, verb: str, *arguments: str) -> None:
    """Open the store, do it, and close the store."""
    opened = await open_storage(reactor, os.environ)
    figures = await VERBS[verb](reactor, opened.storage, *arguments)
    print(json.dumps(figures))
    await opened.close()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
