"""What C{athens-tx verify} does, given the rooms plugged together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.threads import deferToThreadPool

from athens_tx.commands import catalog, each, in_order, tell
from athens_tx.errors import AthensError, ChecksumMismatch, ConfigError, NotFound
from athens_tx.module.info import check_info
from athens_tx.module.pattern import matches_any
from athens_tx.module.version import ModuleVersion
from athens_tx.module.zipcheck import inspect_zip
from athens_tx.storage.sink import FileSink, pour

if TYPE_CHECKING:
    from athens_tx.service import Assembly

#: Exit codes beside 0.
BROKEN = 1
UNCHECKED = 3

_KEPT_OUT = "GONOSUMDB, GOPRIVATE or NoSumPatterns keep it from the checksum database"


async def verify_versions(
    assembly: Assembly, *, versions: Sequence[ModuleVersion], checksums: bool, as_json: bool
) -> int:
    """
    Read what is stored as a client would, and look whether it is what it claims to be.

    @param versions: empty for all, and then also for what is incomplete.
    @param checksums: ask the checksum database too.
    @return: 0 if all is well, L{BROKEN} if something is broken or absent, else L{UNCHECKED} if the checksum database
        could not be asked.
    @raise ConfigError: there is no checksum database.
    """
    if checksums and assembly.checksums is None:
        raise ConfigError(["GOSUMDB is off (GoBinaryEnvVars): there is nothing that --checksums could compare with"])
    results: list[dict[str, Any]] = []

    async def verify(mv: ModuleVersion) -> None:
        result: dict[str, Any] = {"module": mv.path, "version": mv.version}
        try:
            result["sum"] = await _hash(assembly, mv)
            if checksums:
                result |= await _compare(assembly, mv, result["sum"])
        except AthensError as error:
            result["error"] = str(error)
        results.append(result)

    wanted = versions or [mv async for mv in catalog(assembly.storage)]
    await each(wanted, verify, "verifying", quiet=as_json)
    if not versions and assembly.incomplete is not None:
        text = "incomplete: one of its files is missing or empty"
        found = await assembly.incomplete.incomplete()
        results += [{"module": mv.path, "version": mv.version, "error": text} for mv in found]
    return _report(results, checksums, as_json)


def _report(results: Sequence[dict[str, Any]], checksums: bool, as_json: bool) -> int:
    """@return: the exit code."""
    for result in in_order(results):
        trouble = [result[name] for name in ("error", "unchecked", "not_compared") if name in result]
        if as_json or (trouble and trouble != [_KEPT_OUT]):
            text = f"{result['module']}@{result['version']}: {' '.join(trouble)}"
            tell(result, text, as_json, bad=True)
    broken, unchecked, apart = (
        sum(name in result for result in results) for name in ("error", "unchecked", "not_compared")
    )
    if not as_json:
        compared = f", {unchecked} could not be checked, {apart} not compared" if checksums else ""
        click.echo(f"{len(results)} versions verified, {broken} broken{compared}")
    return BROKEN if broken else UNCHECKED if unchecked else 0


async def _hash(assembly: Assembly, mv: ModuleVersion) -> str:
    """
    @return: the C{h1:} hash of the stored zip.
    @raise AthensError: one of the three files is absent or is not what it should be.
    """
    storage, reactor = assembly.storage, assembly.reactor
    info, mod = await storage.info(mv), await storage.mod(mv)
    check_info(info, mv)
    body = await storage.zip(mv)
    with tempfile.TemporaryDirectory(prefix="athens-tx-verify-", dir=_parent(assembly.config.go_get_dir)) as folder:
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


def _parent(go_get_dir: str) -> str | None:
    # GoGetDir is made when something is fetched: without it, the system's own place will do.
    return go_get_dir if os.path.isdir(go_get_dir) else None


async def _compare(assembly: Assembly, mv: ModuleVersion, found: str) -> dict[str, str]:
    """
    @param found: the hash of the stored zip.
    @return: nothing if it is that of the checksum database; C{not_compared} with the reason if that does not know the
        version, or is not to be told of it; C{unchecked} if it gave no answer.
    @raise ChecksumMismatch: the checksum database has another one.
    """
    fetching, database = assembly.fetching, assembly.checksums
    assert fetching is not None
    assert database is not None
    if matches_any(fetching.rules.no_sumdb, mv.path):
        return {"not_compared": _KEPT_OUT}
    try:
        expected = (await database.checksums(mv)).zip
    except ChecksumMismatch:
        raise
    except AthensError as error:
        # Offline, what is not kept here is not found either: that says nothing of the database.
        unknown = isinstance(error, NotFound) and assembly.config.network_mode != "offline"
        return {"not_compared" if unknown else "unchecked": str(error)}
    if found != expected:
        raise ChecksumMismatch(f"the zip has {found}, the checksum database says {expected}")
    return {}
