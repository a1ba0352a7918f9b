"""What C{athens-tx index rebuild} does, given the rooms plugged together."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from twisted.internet.task import deferLater

from athens_tx.errors import AthensError, ConfigError, IndexUnavailable, InvalidModule, StorageUnavailable
from athens_tx.interfaces import Filled, IFillable
from athens_tx.module.path import check_path
from athens_tx.module.version import ModuleVersion, is_canonical
from athens_tx.progress import Pages, shown

if TYPE_CHECKING:
    from athens_tx.config import Config
    from athens_tx.service import Assembly

T = TypeVar("T")

#: Module versions that a page of the catalog has.
PAGE = 1000
#: Seconds before a storage or an index in trouble is asked again.
PAUSES = (1.0, 3.0, 9.0)
#: Versions that the JSON document lists; all are counted.
LISTED = 10_000
#: Why something gets no line: only the first is a failure.
NOT_HELD = "the index can't hold it"
NO_VERSION = "is no version of a module: passed over"


def why_not_rebuild(config: Config) -> list[str]:
    """@return: the settings with which there is nothing to rebuild, one line each."""
    problems = []
    if config.index_type in ("", "none", "memory"):
        problems.append(f"IndexType is {config.index_type or 'none'}: there is no index that outlives this command")
    if config.storage_type == "memory":
        problems.append("StorageType is memory: this command finds nothing in it")
    return problems


@attrs.define
class Tally:
    """How many versions were seen: that got a line, that had one, that can't have one, and that are none."""

    added: int = 0
    there: int = 0
    refused: int = 0
    passed_over: int = 0


class Rebuild:
    """
    Walks through a storage and sees to it that every version has its line; may begin anew at any time.

    @ivar tally: what came of it so far.
    """

    def __init__(self, assembly: Assembly, tell: Callable[[ModuleVersion, str], None]) -> None:
        """
        @param tell: is given what gets no line, and why.
        @raise ConfigError: the index can't be filled.
        """
        if not IFillable.providedBy(assembly.index):
            raise ConfigError(["IndexType: this index can't be rebuilt"])
        self.tally = Tally()
        self._index: Any = assembly.index
        self._storage = assembly.storage
        self._reactor = assembly.reactor
        self._tell = tell

    async def run(self, passed: Callable[[], None]) -> None:
        """
        @param passed: called after each page.
        @raise AthensError: it can't go on.
        """
        token, pages = "", Pages()
        while True:
            page, token = await self._again(lambda token=token: self._storage.catalog(token, PAGE))
            pages.turn(page, token)
            await self._fill(page)
            passed()
            if not token:
                return

    async def _fill(self, page: Sequence[ModuleVersion]) -> None:
        versions = [mv for mv in page if _is_version(mv)]
        for mv in page:
            if not _is_version(mv):  # a folder of somebody else's that looks like one to the storage
                self.tally.passed_over += 1
                self._tell(mv, NO_VERSION)
        filled: Filled = await self._again(lambda: self._index.fill(versions))
        self.tally.added += filled.added
        self.tally.there += filled.there
        self.tally.refused += len(filled.refused)
        for mv in filled.refused:
            self._tell(mv, NOT_HELD)

    async def _again(self, ask: Callable[..., Awaitable[T]]) -> T:
        """@return: what C{ask} gives, some time, although somebody may be in trouble now."""
        for pause in PAUSES:
            try:
                return await ask()
            except (IndexUnavailable, StorageUnavailable):
                await deferLater(self._reactor, pause * random.uniform(0.75, 1.25), lambda: None)  # noqa: S311
        return await ask()


async def rebuild_index(assembly: Assembly, as_json: bool) -> int:
    """@return: 0 if all that is stored is in the index now, else 1."""
    failures: list[dict[str, str]] = []

    def tell(mv: ModuleVersion, why: str) -> None:
        if not as_json:
            click.echo(shown(f"{mv}: {why}"), file=sys.stderr)
        elif why is NOT_HELD and len(failures) < LISTED:
            failures.append({"module": mv.path, "version": mv.version, "error": why})

    rebuild = Rebuild(assembly, tell)
    tally, started, stopped = rebuild.tally, assembly.reactor.seconds(), "it was cut short"
    console = Console(stderr=True)
    columns = (TextColumn("indexing"), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
            bar = progress.add_task("")
            await rebuild.run(lambda: progress.update(bar, description=f"{tally.added} added, {tally.there} there"))
        stopped = ""
    except AthensError as error:
        stopped = f"{error}: {error.detail}" if error.detail else str(error)
    finally:
        _summary(tally, max(assembly.reactor.seconds() - started, 0.001), stopped, failures, as_json)
    return 1 if stopped or tally.refused else 0


def _is_version(mv: ModuleVersion) -> bool:
    try:
        check_path(mv.path)
    except InvalidModule:
        return False
    return is_canonical(mv.version)


def _summary(tally: Tally, seconds: float, stopped: str, failures: Sequence[Any], as_json: bool) -> None:
    rate = (tally.added + tally.there + tally.refused) / seconds
    if as_json:
        state = {"complete": not stopped, "stopped": stopped, **attrs.asdict(tally)}
        rates = {"seconds": round(seconds, 3), "versions_per_second": round(rate, 3)}
        click.echo(json.dumps({**state, **rates, "failures": failures}, indent=2))
        return
    if stopped:
        click.echo(f"athens-tx: {stopped}; run it again to go on", err=True)
    counts = f"{tally.added} versions added, {tally.there} there already, {tally.refused} refused"
    click.echo(f"{counts}; {seconds:.1f} s ({rate:.0f} versions/s)")
