"""
A process that saves and deletes until it is killed: C{python -m tests.storage.saver ROOT SEED}.

Some directories are left as a torn save of Athens would leave them, so that healing is killed too.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from athens_tx.errors import NotFound
from athens_tx.module.version import ModuleVersion
from tests.storage.disks import save, started

VERSIONS = [
    ModuleVersion(f"example.com/{name}", f"v1.0.{patch}") for name in ("Aa", "aa/v2", "b") for patch in range(5)
]


async def work(storage: Any, root: Path, chance: random.Random) -> None:
    """Save what is absent, delete what is there, for ever."""
    while True:
        mv = chance.choice(VERSIONS)
        try:
            await storage.delete(mv)
        except NotFound:
            if chance.random() < 0.3:
                tear(root / mv.path / mv.version, mv, chance)
            await save(storage, mv, chance.randrange(1 << 30))


def tear(directory: Path, mv: ModuleVersion, chance: random.Random) -> None:
    """Lay one or two files there. Another worker may have just saved: what is there stays."""
    try:
        directory.mkdir(parents=True)
        for name in chance.sample((f"{mv.version}.info", "go.mod", "source.zip"), chance.randint(1, 2)):
            with (directory / name).open("x") as file:
                file.write("torn")
    except (FileExistsError, FileNotFoundError):
        pass


async def main(reactor: Any, root: str, seed: str) -> None:
    """Say C{ready}, and begin."""
    storage = await started(reactor, Path(root))
    print("ready", flush=True)
    chances = [random.Random(f"{seed} {worker}") for worker in range(4)]
    await gatherResults([Deferred.fromCoroutine(work(storage, Path(root), chance)) for chance in chances])


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
