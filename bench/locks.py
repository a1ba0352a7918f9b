"""
What the locks of a fleet cost: C{python -m bench.locks [KIND...]}.

Two daemons' single flights over the servers of the tests. One holds the lock of a version, the other waits for it: how
long after the first is done does the second go on? Where the version is stored then, from the storage; where it is not,
with the lock; and after an Athens has released it, which tells nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from athens_tx.errors import NotFound
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.locked import LockedSingleFlight
from tests.contract.lock_backends import BACKENDS, LockBackend, locks
from tests.support import servers

LEASE = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit."""
    parser = argparse.ArgumentParser(prog="python -m bench.locks", description="What the locks of a fleet cost.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(BACKENDS)} [all]")
    parser.add_argument("--rounds", type=int, default=100, help="waits for each figure [100]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, options)))


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="athens-bench-") as work:
        servers.session.begin(Path(work))
        try:
            for kind in options.kinds or BACKENDS:
                pair = _Pair(reactor, BACKENDS[kind](LEASE))
                try:
                    found[kind] = await pair.measure(options.rounds)
                finally:
                    await pair.close()
                print(f"{kind}: {found[kind]}", file=sys.stderr)
        finally:
            servers.session.end()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    names = list(next(iter(found.values())))
    print("| " + " | ".join(["ms", *names]) + " |")
    print("|" + "---|" * (len(names) + 1))
    for kind, figures in found.items():
        print("| " + " | ".join([kind, *(f"{figures[name]:g}" for name in names)]) + " |")


class _Pair:
    """Two daemons, as far as their locks go, and a storage."""

    def __init__(self, reactor: Any, backend: LockBackend) -> None:
        self._reactor = reactor
        self._backend = backend
        self._stored: set[ModuleVersion] = set()
        self._flights = [
            LockedSingleFlight(reactor, locks(reactor, backend.environ), exists=self._exists, limit=60.0)
            for _ in range(2)
        ]
        for flight in self._flights:
            flight.startService()

    async def _exists(self, mv: ModuleVersion) -> bool:
        return mv in self._stored

    async def close(self) -> None:
        for flight in self._flights:
            await flight.stopService()

    async def measure(self, rounds: int) -> dict[str, float]:
        """@return: milliseconds by name."""
        for flight in self._flights:
            await flight.ready
        few = max(3, rounds // 10)
        return {
            **_figures("alone", [await self._alone() for _ in range(rounds)]),
            **_figures("stored", [await self._after(self._store) for _ in range(rounds)]),
            **_figures("given up", [await self._after(self._give_up) for _ in range(rounds)]),
            **_figures("left by Athens", [await self._after_athens() for _ in range(few)]),
        }

    async def _alone(self) -> float:
        """@return: seconds for a version that nobody else wants, with work that takes no time."""
        begun, mv = self._reactor.seconds(), _version()
        await self._flights[0].run(mv, lambda: self._store(mv))
        return float(self._reactor.seconds() - begun)

    async def _store(self, mv: ModuleVersion) -> ModuleVersion:
        self._stored.add(mv)
        return mv

    async def _give_up(self, mv: ModuleVersion) -> ModuleVersion:
        raise NotFound(f"{mv}: not now")

    async def _after(self, end: Callable[[ModuleVersion], Awaitable[ModuleVersion]]) -> float:
        """@return: seconds from the end of the first one's work until the second goes on."""
        mv, began, go = _version(), Deferred[None](), Deferred[None]()

        async def work() -> ModuleVersion:
            began.callback(None)
            await go
            return await end(mv)

        first = self._flights[0].run(mv, work)
        first.addErrback(lambda failure: failure.trap(NotFound))
        await began
        second = self._flights[1].run(mv, lambda: self._store(mv))
        await deferLater(self._reactor, 0.1)
        done = self._reactor.seconds()
        go.callback(None)
        await second
        took = self._reactor.seconds() - done
        await first
        return float(took)

    async def _after_athens(self) -> float:
        """@return: seconds from the release of somebody who tells nobody until we go on."""
        mv = _version()
        token = self._backend.take(str(mv))
        waiting = self._flights[0].run(mv, lambda: self._store(mv))
        await deferLater(self._reactor, random.uniform(0.5, 2.5))  # at no particular moment between two looks
        done = self._reactor.seconds()
        self._backend.release(str(mv), token)
        await waiting
        return float(self._reactor.seconds() - done)


def _version() -> ModuleVersion:
    return ModuleVersion(f"example.com/bench-{os.urandom(6).hex()}", "v1.0.0")


def _figures(name: str, seconds: Sequence[float]) -> dict[str, float]:
    times = sorted(1000 * each for each in seconds)
    return {
        f"{name}, median": round(statistics.median(times), 1),
        f"{name}, 95 %": round(times[int(len(times) * 0.95)], 1),
    }


if __name__ == "__main__":
    main()
