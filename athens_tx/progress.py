"""Work on many versions, some at once, with a bar on a terminal: for the commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.python.failure import Failure

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion

#: Versions that are worked on at once.
PARALLEL = 4

#: A walk through as many versions as there are.
Walk = AsyncGenerator[ModuleVersion, None]


#: Pages without a version that may follow each other.
EMPTY_PAGES = 10_000


def shown(text: str) -> str:
    """@return: C{text} on one line, with escapes for what would forge lines, turn them around or can't be encoded."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class Pages:
    """Sees that a walk through the pages of a catalog comes to an end."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._empty = 0

    def turn(self, page: Sequence[ModuleVersion], token: str) -> None:
        """
        @param token: of the page that follows C{page}.
        @raise StorageUnavailable: the walk goes in circles, or nowhere.
        """
        self._empty = 0 if page else self._empty + 1
        if token and hash(token) in self._seen:
            raise StorageUnavailable("the catalog goes round in circles: a token came twice")
        if self._empty > EMPTY_PAGES:
            raise StorageUnavailable(f"the catalog leads nowhere: {EMPTY_PAGES} empty pages in a row")
        self._seen.add(hash(token))


async def each(
    versions: Walk,
    work: Callable[[ModuleVersion], Awaitable[None]],
    what: str,
    *,
    quiet: bool,
    total: int | None = None,
    parallel: int = PARALLEL,
    note: Callable[[], str] = lambda: "",
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """
    Work on some versions at once. The first failure cancels what is under way, and so does who cancels this; nothing is
    under way any more when it ends.

    @param versions: are taken as they are worked on, so they need not fit into memory.
    @param total: how many they are, if that is known.
    @param what: the word in front of the bar; C{note} gives what stands behind it.
    @param stopping: called once before all is cancelled, for work that would take the cancelling for a failure of its
        own and try again.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, note="")

        async def one(mv: ModuleVersion) -> None:
            progress.update(bar, description=escape(shown(str(mv))))
            await work(mv)
            progress.update(bar, advance=1, note=note())

        try:
            await _in_parallel(versions, one, parallel, stopping)
        finally:
            await versions.aclose()


async def walk(versions: Iterable[ModuleVersion]) -> Walk:
    """@return: those that are known already, for L{each}."""
    for mv in versions:
        yield mv


class _Team(Deferred[None]):
    """
    Fires when the last worker is over.

    To cancel it cancels them, each once at most: what a worker tidies up then must not be cut short.
    """

    def __init__(self, workers: Sequence[Deferred[None]], stopping: Callable[[], None]) -> None:
        super().__init__()
        self._workers = workers
        self._left = len(workers)
        self._stopping: Callable[[], None] | None = stopping
        for worker in workers:
            worker.addBoth(self._over)

    def _over(self, _: object) -> None:
        self._left -= 1
        if not self._left:
            self.callback(None)

    def cancel(self) -> None:
        """Cancel the workers."""
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping()
            for worker in self._workers:
                worker.cancel()


async def _in_parallel(
    versions: Walk,
    work: Callable[[ModuleVersion], Awaitable[None]],
    parallel: int,
    stopping: Callable[[], None],
) -> None:
    turn = DeferredLock()
    failures: list[Failure] = []
    team: _Team | None = None

    async def worker() -> None:
        while not failures:
            async with turn:  # a walk can't be asked for the next one before it has given this one
                try:
                    mv = await versions.__anext__()
                except StopAsyncIteration:
                    return
            await work(mv)

    def failed(failure: Failure) -> None:
        failures.append(failure)
        if team is not None:
            team.cancel()

    team = _Team([Deferred.fromCoroutine(worker()).addErrback(failed) for _ in range(parallel)], stopping)
    if failures:
        team.cancel()
    await team
    told = [failure for failure in failures if not failure.check(CancelledError)]
    if failures:
        (told or failures)[0].raiseException()
