"""What C{athens-tx fetch}, C{catalog} and C{verify} do, given the rooms plugged together."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.threads import deferToThreadPool

from athens_tx.errors import AthensError, ChecksumMismatch, InvalidModule
from athens_tx.interfaces import IStorage
from athens_tx.module.info import check_info
from athens_tx.module.path import check_path, check_version_query
from athens_tx.module.pattern import matches_any
from athens_tx.module.version import ModuleVersion
from athens_tx.module.zipcheck import inspect_zip
from athens_tx.storage.sink import FileSink, pour

if TYPE_CHECKING:
    from athens_tx.service import Assembly

#: Module versions that a page of the catalog has.
PAGE = 1000
#: Versions that are worked on at once.
PARALLEL = 4


def parse_versions(arguments: Iterable[str]) -> list[ModuleVersion]:
    """
    @param arguments: C{path@version} each, as the go command writes it.
    @raise InvalidModule: one of them is none.
    """
    versions = []
    for argument in arguments:
        path, at, version = argument.rpartition("@")
        if not at:
            raise InvalidModule(f"{argument}: module@version is wanted, such as {argument}@latest")
        check_path(path)
        check_version_query(version)
        versions.append(ModuleVersion(path, version))
    return versions


async def fetch_versions(assembly: Assembly, arguments: Sequence[str], as_json: bool) -> int:
    """@return: 0 if all are in storage now, 1 if one failed."""
    results: list[dict[str, Any]] = []

    async def fetch(mv: ModuleVersion) -> None:
        try:
            stashed = await assembly.stash.whole(mv)
            results.append({"module": mv.path, "version": stashed.files.mv.version, "source": stashed.source})
        except AthensError as error:
            results.append({"module": mv.path, "version": mv.version, "error": str(error)})

    await _each(parse_versions(arguments), fetch, "fetching", quiet=as_json)
    for result in sorted(results, key=lambda result: (result["module"], result["version"])):
        text = f"{result['module']}@{result['version']}"
        _tell(result, f"{text}: {result['error']}" if "error" in result else text, as_json, bad="error" in result)
    return int(any("error" in result for result in results))


async def print_catalog(assembly: Assembly, as_json: bool) -> int:
    """Print all that is stored, as it is read."""
    async for mv in catalog(assembly.storage):
        _tell({"module": mv.path, "version": mv.version}, str(mv), as_json)
    return 0


async def verify_versions(assembly: Assembly, arguments: Sequence[str], checksums: bool, as_json: bool) -> int:
    """
    Read what is stored as a client would, and look whether it is what it claims to be.

    @param checksums: ask the checksum database too.
    @return: 0 if all is well, 1 if something is broken or absent.
    """
    wanted = parse_versions(arguments) or [mv async for mv in catalog(assembly.storage)]
    results: list[dict[str, Any]] = []

    async def verify(mv: ModuleVersion) -> None:
        result: dict[str, Any] = {"module": mv.path, "version": mv.version}
        try:
            result["sum"] = await _hash(assembly, mv)
            if checksums:
                await _compare(assembly, mv, result["sum"])
        except AthensError as error:
            result["error"] = str(error)
        results.append(result)

    await _each(wanted, verify, "verifying", quiet=as_json)
    broken = [result for result in results if "error" in result]
    for result in sorted(results if as_json else broken, key=lambda result: (result["module"], result["version"])):
        text = f"{result['module']}@{result['version']}: {result.get('error')}"
        _tell(result, text, as_json, bad="error" in result)
    if not as_json:
        click.echo(f"{len(results)} versions verified, {len(broken)} broken")
    return int(bool(broken))


async def catalog(storage: IStorage) -> AsyncIterator[ModuleVersion]:
    """Walk the whole catalog of a storage, page by page."""
    token = ""
    while True:
        versions, token = await storage.catalog(token, PAGE)
        for mv in versions:
            yield mv
        if not token:
            return


async def _hash(assembly: Assembly, mv: ModuleVersion) -> str:
    """
    @return: the C{h1:} hash of the stored zip.
    @raise AthensError: one of the three files is absent or is not what it should be.
    """
    storage, reactor = assembly.storage, assembly.reactor
    info, mod = await storage.info(mv), await storage.mod(mv)
    check_info(info, mv)
    body = await storage.zip(mv)
    with tempfile.TemporaryDirectory(prefix="athens-tx-verify-", dir=assembly.config.go_get_dir or None) as folder:
        path = Path(folder) / "source.zip"
        sink = FileSink(reactor, path)
        try:
            await pour(body, sink)
            await sink.finish(sync=False)
        except BaseException:
            await sink.abort()
            raise
        pool = reactor.getThreadPool()
        digest: str = await deferToThreadPool(reactor, pool, inspect_zip, path, mv, mod)
    return digest


async def _compare(assembly: Assembly, mv: ModuleVersion, found: str) -> None:
    """
    @param found: the hash of the stored zip.
    @raise ChecksumMismatch: the checksum database has another one.
    """
    fetching, database = assembly.fetching, assembly.checksums
    if database is None or fetching is None or matches_any(fetching.rules.no_sumdb, mv.path):
        return
    expected = (await database.checksums(mv)).zip
    if found != expected:
        raise ChecksumMismatch(f"the zip has {found}, the checksum database says {expected}")


async def _each(
    versions: Sequence[ModuleVersion], work: Callable[[ModuleVersion], Awaitable[None]], what: str, *, quiet: bool
) -> None:
    """Work on some versions at once, with a bar on a terminal."""
    semaphore = DeferredSemaphore(PARALLEL)
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(versions))

        async def one(mv: ModuleVersion) -> None:
            async with semaphore:
                progress.update(bar, description=str(mv))
                await work(mv)
                progress.advance(bar)

        await gatherResults([Deferred.fromCoroutine(one(mv)) for mv in versions], consumeErrors=True)


def _tell(result: dict[str, Any], text: str, as_json: bool, *, bad: bool = False) -> None:
    """One line: of JSON on standard output, or of text, on standard error if it is bad news."""
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(text, err=bad)
