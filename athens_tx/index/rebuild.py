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

from athens_tx.errors import AthensError, ConfigError, IndexUnavailable, StorageUnavailable
from athens_tx.interfaces import Filled, IFillable
from athens_tx.module.version import ModuleVersion

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
    """How many versions were seen: those that got a line, that had one, and that can't have one."""

    added: int = 0
    there: int = 0
    refused: int = 0


class Rebuild:
    """
    Walks through a storage and sees to it that every version has its line; may begin anew at any time.

    @ivar tally: what came of it so far.
    """

    def __init__(self, assembly: Assembly, refused: Callable[[ModuleVersion], None]) -> None:
        """@raise ConfigError: the index can't be filled."""
        if not IFillable.providedBy(assembly.index):
            raise ConfigError(["IndexType: this index can't be rebuilt"])
        self.tally = Tally()
        self._index: Any = assembly.index
        self._storage = assembly.storage
        self._reactor = assembly.reactor
        self._refused = refused

    async def run(self, passed: Callable[[], None]) -> None:
        """
        @param passed: called after each page.
        @raise AthensError: it can't go on.
        """
        token, more = "", True
        while more:
            page, token = await self._again(lambda token=token: self._storage.catalog(token, PAGE))
            filled: Filled = await self._again(lambda page=page: self._index.fill(page))
            self.tally.added += filled.added
            self.tally.there += filled.there
            self.tally.refused += len(filled.refused)
            for mv in filled.refused:
                self._refused(mv)
            passed()
            more = bool(token)

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
    refused: list[ModuleVersion] = []

    def tell(mv: ModuleVersion) -> None:
        if not as_json:
            click.echo(f"{mv}: the index can't hold it", file=sys.stderr)
        elif len(refused) < LISTED:
            refused.append(mv)

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
        _summary(tally, max(assembly.reactor.seconds() - started, 0.001), stopped, refused, as_json)
    return 1 if stopped or tally.refused else 0


def _summary(tally: Tally, seconds: float, stopped: str, refused: Sequence[ModuleVersion], as_json: bool) -> None:
    rate = (tally.added + tally.there + tally.refused) / seconds
    if as_json:
        failures = [{"module": mv.path, "version": mv.version, "error": "the index can't hold it"} for mv in refused]
        state = {"complete": not stopped, "stopped": stopped, **attrs.asdict(tally)}
        rates = {"seconds": round(seconds, 3), "versions_per_second": round(rate, 3)}
        click.echo(json.dumps({**state, **rates, "failures": failures}, indent=2))
        return
    if stopped:
        click.echo(f"athens-tx: {stopped}; run it again to go on", err=True)
    counts = f"{tally.added} versions added, {tally.there} there already, {tally.refused} refused"
    click.echo(f"{counts}; {seconds:.1f} s ({rate:.0f} versions/s)")
