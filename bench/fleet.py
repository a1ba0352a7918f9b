"""
What a fleet fetches and how long its clients wait: C{python -m bench.fleet [SERVICE...]}.

Three daemons over one store and one lock service, of each kind; 300 clients ask for 20 of 100 versions that nobody has
yet. Once in peace, and once with a daemon killed and the lock service in trouble; see L{tests.support.fleet}.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support import servers
from tests.support.fleet import FULL, Fleet, Size
from tests.support.fleet_figures import Figures, table
from tests.support.fleet_services import SERVICES


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and exit."""
    options = _parser().parse_args(arguments)
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description="One fetch across a fleet.")
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"{', '.join(SERVICES)} [all]")
    parser.add_argument("--versions", type=int, default=FULL.versions, help=f"[{FULL.versions}]")
    parser.add_argument("--clients", type=int, default=FULL.clients, help=f"[{FULL.clients}]")
    parser.add_argument("--each", type=int, default=FULL.each, help=f"versions a client asks for [{FULL.each}]")
    parser.add_argument("--lease", type=int, default=0, help="seconds, where that can be set [the default ones]")
    parser.add_argument("--json", action="store_true", help="print JSON, with all waits")
    return parser


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    size = Size(options.versions, options.clients, options.each, lease=options.lease)
    rows = []
    for name in options.services or SERVICES:
        with tempfile.TemporaryDirectory(prefix="athens-bench-") as work:
            servers.session.begin(Path(work) / "servers")
            try:
                for round_, figures in (await _measure(reactor, Path(work), name, size)).items():
                    rows.append({"locks": name, "round": round_, **figures.row()})
                    _tell(name, round_, figures)
                    if options.json:
                        rows[-1]["waits"] = dict(sorted(figures.waits.buckets.items()))
            finally:
                servers.session.end()
    print(json.dumps(rows, indent=2) if options.json else table(rows))


async def _measure(reactor: Any, work: Path, name: str, size: Size) -> dict[str, Figures]:
    fleet = Fleet(reactor, work, SERVICES[name](reactor, work, size.lease), size)
    stopped = reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(fleet.close()))
    try:
        await fleet.open()
        found = {"quiet": await fleet.quiet("quiet"), SERVICES[name].trouble: await fleet.troubled("troubled")}
        print(f"{name}: {await fleet.verify()}; locks left: {await fleet.left(fleet.lease + 3)}", file=sys.stderr)
    finally:
        reactor.removeSystemEventTrigger(stopped)
        await fleet.close()
    return found


def _tell(name: str, round_: str, figures: Figures) -> None:
    """Say what is no figure."""
    wrong = [*figures.errors[:5], *figures.broken[:5]]
    print(f"{name}, {round_}: asked again for {dict(figures.retries)}", *wrong, sep="\n  ", file=sys.stderr)
    for remark, count in figures.remarks.most_common():
        print(f"  {count} x {remark}", file=sys.stderr)
    print(f"  waits: {dict(sorted(figures.waits.buckets.items()))}", file=sys.stderr)


if __name__ == "__main__":
    main()
