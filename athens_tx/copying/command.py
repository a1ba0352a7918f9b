"""What C{athens-tx copy} does once it is known which stores are meant, and what it says of it."""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import click

from athens_tx.backends import Backends
from athens_tx.copying.copier import Copier, Stopped, Tally
from athens_tx.copying.ends import End, open_ends
from athens_tx.errors import AthensError
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import each, shown

#: Failures that the JSON document lists; all are counted.
LISTED = 10_000
#: Threads for each version under way (a store on disk reads in one and writes in another), and those for all else.
THREADS = 2
SPARE_THREADS = 10

_MIB = 1024 * 1024


@attrs.frozen
class Wishes:
    """How to copy: see the options of the command."""

    parallel: int
    verify: bool
    dry_run: bool
    as_json: bool


class _Report:
    """Says what happens: text as it comes, JSON in the end."""

    def __init__(self, ends: tuple[End, End], wishes: Wishes) -> None:
        self._ends = ends
        self._wishes = wishes
        self._failures: list[dict[str, str]] = []

    def failed(self, mv: ModuleVersion, error: AthensError) -> None:
        """This version is not copied."""
        text = f"{error}: {error.detail}" if error.detail else str(error)
        if not self._wishes.as_json:
            click.echo(shown(f"{mv}: {text}"), file=sys.stderr)  # err=True would go past the bar, and into it
        elif len(self._failures) < LISTED:
            self._failures.append({"module": mv.path, "version": mv.version, "error": text})

    def summary(self, tally: Tally, seconds: float, stopped: str) -> None:
        """@param stopped: why the end of the walk was not reached; empty if it was."""
        versions = (tally.copied + tally.there) / seconds
        mib = tally.bytes / _MIB / seconds
        if self._wishes.as_json:
            numbers = {
                **attrs.asdict(tally),
                "seconds": round(seconds, 3),
                "versions_per_second": round(versions, 3),
                "mib_per_second": round(mib, 3),
            }
            names = {end.side.lower(): {"name": end.name, "type": end.kind} for end in self._ends}
            state = {"dry_run": self._wishes.dry_run, "complete": not stopped, "stopped": stopped}
            click.echo(json.dumps({**names, **state, **numbers, "failures": self._failures}, indent=2))
            return
        if stopped:
            click.echo(f"athens-tx: {shown(stopped)}; run it again to go on", err=True)
        if self._wishes.dry_run:
            click.echo(f"{tally.copied} versions to copy, {tally.there} there already, {tally.failed} failed")
            return
        click.echo(
            f"{tally.copied} versions copied, {tally.there} there already, {tally.failed} failed; "
            f"{tally.bytes / _MIB:.1f} MiB in {seconds:.1f} s ({versions:.1f} versions/s, {mib:.1f} MiB/s)"
        )


async def copy_store(reactor: Any, backends: Backends, ends: tuple[End, End], wishes: Wishes) -> int:
    """
    Copy all that is in the first store and not yet in the second.

    @return: 0 if all is there now, else 1.
    @raise ConfigError: a store can't be used.
    """
    reactor.suggestThreadPoolSize(SPARE_THREADS + THREADS * wishes.parallel)
    source, target = await open_ends(backends, ends)
    report = _Report(ends, wishes)
    copier = Copier(
        reactor,
        source,
        target,
        failed=report.failed,
        dry_run=wishes.dry_run,
        verify=wishes.verify,
        go_get_dir=ends[0].config.go_get_dir,
    )
    tally, started = copier.tally, reactor.seconds()

    def note() -> str:
        return f"{tally.bytes / _MIB:.1f} MiB" + (f", {tally.failed} failed" if tally.failed else "")

    stopped = "the copy was cut short"
    try:
        await each(
            copier.versions(),
            copier.copy,
            "looking" if wishes.dry_run else "copying",
            quiet=wishes.as_json,
            parallel=wishes.parallel,
            note=note,
            stopping=copier.stop,
        )
        stopped = ""
    except Stopped as error:
        stopped = f"{error}: {error.detail}" if error.detail else str(error)
    finally:
        report.summary(tally, max(reactor.seconds() - started, 0.001), stopped)
    return 1 if stopped or tally.failed else 0
