"""What C{athens-tx fetch} and C{catalog} do, given the rooms plugged together."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from athens_tx.errors import AthensError, Elsewhere, InvalidModule
from athens_tx.interfaces import IStorage
from athens_tx.module.path import check_path, check_version_query
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import Pages, Walk, each, shown, walk

if TYPE_CHECKING:
    from athens_tx.config import Config
    from athens_tx.service import Assembly
    from athens_tx.stash import Stashed

#: Module versions that a page of the catalog has.
PAGE = 1000


def parse_versions(arguments: Iterable[str]) -> tuple[list[ModuleVersion], list[str]]:
    """
    @param arguments: C{path@version} each, as the go command writes it.
    @return: those, and what is wrong with the others, one line each.
    """
    versions, problems = [], []
    for argument in arguments:
        path, at, version = argument.rpartition("@")
        try:
            if not at:
                raise InvalidModule(f"{argument}: module@version is wanted, such as {argument}@latest")
            check_path(path)
            check_version_query(version)
        except InvalidModule as error:
            problems.append(str(error))
        else:
            versions.append(ModuleVersion(path, version))
    return versions, problems


def why_not_fetch(config: Config) -> list[str]:
    """@return: the settings with which fetching makes no sense, one line each."""
    problems = []
    if config.network_mode == "offline":
        problems.append("NetworkMode is offline: nothing may be fetched")
    if config.storage_type == "memory":
        problems.append("StorageType is memory: nothing of what is fetched would remain when this command ends")
    return problems


async def fetch_versions(assembly: Assembly, versions: Sequence[ModuleVersion], as_json: bool) -> int:
    """@return: 0 if all are in storage now, 1 if one failed or is not admitted."""
    results: list[dict[str, Any]] = []

    async def fetch(mv: ModuleVersion) -> None:
        try:
            stashed = await _admitted(assembly, mv)
            results.append({"module": mv.path, "version": stashed.files.mv.version, "source": stashed.source})
        except AthensError as error:
            results.append({"module": mv.path, "version": mv.version, "error": str(error)})
        except Elsewhere:
            text = "the filter sends clients to GlobalEndpoint for it"
            results.append({"module": mv.path, "version": mv.version, "error": text})

    await each(walk(versions), fetch, "fetching", quiet=as_json, total=len(versions))
    for result in in_order(results):
        text = f"{result['module']}@{result['version']}"
        tell(result, f"{text}: {result['error']}" if "error" in result else text, as_json, bad="error" in result)
    return int(any("error" in result for result in results))


async def _admitted(assembly: Assembly, mv: ModuleVersion) -> Stashed:
    """@raise Refused, Elsewhere: what the gate says of C{mv}, or of the version that it means."""
    admit = assembly.gate.admit
    await admit(mv.path, mv.version)
    stashed = await assembly.stash.whole(mv)
    if stashed.files.mv != mv:  # perhaps it was stored before the rules were as they are
        await admit(mv.path, stashed.files.mv.version)
    return stashed


async def print_catalog(assembly: Assembly, as_json: bool) -> int:
    """Print all that is stored, as it is read."""
    async for mv in catalog(assembly.storage):
        tell({"module": mv.path, "version": mv.version}, str(mv), as_json)
    return 0


async def catalog(storage: IStorage) -> Walk:
    """Walk the whole catalog of a storage, page by page."""
    token, pages = "", Pages()
    while True:
        versions, token = await storage.catalog(token, PAGE)
        pages.turn(versions, token)
        for mv in versions:
            yield mv
        if not token:
            return


def in_order(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """@return: by module and version."""
    return sorted(results, key=lambda result: (result["module"], result["version"]))


def tell(result: dict[str, Any], text: str, as_json: bool, *, bad: bool = False) -> None:
    """One line: of JSON on standard output, or of text, on standard error if it is bad news."""
    if as_json:
        click.echo(json.dumps(result))
    elif bad:
        click.echo(shown(text), file=sys.stderr)  # err=True would go past the bar, and into it
    else:
        click.echo(shown(text))
