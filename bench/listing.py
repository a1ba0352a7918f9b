"""
One step of L{bench.remote}, over the store that the environment names: C{python -m bench.listing STEP ARGUMENTS}.

    plant VERSIONS EACH    put objects there, past the storage, EACH versions of a module
    list                   list the first module
    catalog SIZE           walk through the catalog with pages of SIZE

Prints a JSON document: how many C{versions}, in how many C{seconds}, with how many C{requests}, and by how many KiB the
process C{grew} at most.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from athens_tx.module.version import ModuleVersion
from tests.support.opening import open_storage

#: Puts at once.
PARALLEL = 32


def module(number: int) -> str:
    """@return: the path of the module with this number."""
    return f"bench.example/many/module{number:04d}"


class Counted:
    """The requests of a storage over objects."""

    def __init__(self, storage: Any) -> None:
        self.count = 0
        http = storage._objects._calls.http
        self._request = http.request
        http.request = self._counted

    async def _counted(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        return await self._request(*arguments, **named)


def memory(name: str) -> int:
    """@return: a line of C{/proc/self/status}, in KiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def forget_peak() -> None:
    """Begin C{VmHWM} anew."""
    Path("/proc/self/clear_refs").write_text("5")


async def plant(reactor: Any, storage: Any, versions: str, each: str) -> int:
    """Put the three objects of each version, the zip of which is a few bytes."""
    wanted = (
        (module(number // int(each)), f"v1.{number % int(each) // 10}.{number % 10}") for number in range(int(versions))
    )

    async def work() -> None:
        for mv in wanted:
            keys = storage._layout.files(ModuleVersion(*mv))
            for key, data in zip(keys, (b'{"Version": "%s"}' % mv[1].encode(), b"module x\n", b"PK"), strict=True):
                await storage._objects.put(key, data, "application/octet-stream")

    await gatherResults([Deferred.fromCoroutine(work()) for _ in range(PARALLEL)])
    return int(versions)


async def list_one(reactor: Any, storage: Any) -> int:
    """List a module."""
    return len(await storage.list(module(0)))


async def catalog(reactor: Any, storage: Any, size: str) -> int:
    """Walk through all of it; nothing is kept but the number."""
    found, token = 0, ""
    while True:
        page, token = await storage.catalog(token, int(size))
        found += len(page)
        if not token:
            return found


STEPS: dict[str, Any] = {"plant": plant, "list": list_one, "catalog": catalog}


async def main(reactor: Any, step: str, *arguments: str) -> None:
    """Measure one step."""
    opened = await open_storage(reactor, os.environ)
    await opened.alone()
    requests = Counted(opened.storage)
    forget_peak()
    before, begun = memory("VmRSS"), reactor.seconds()
    found = await STEPS[step](reactor, opened.storage, *arguments)
    figures = {
        "versions": found,
        "requests": requests.count,
        "seconds": round(reactor.seconds() - begun, 3),
        "grew": memory("VmHWM") - before,
    }
    print(json.dumps(figures))
    await opened.close()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
