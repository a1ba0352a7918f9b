"""What C{athens-tx verify} does, given the rooms plugged together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from athens_tx.commands import catalog, tell
from athens_tx.errors import AthensError, ChecksumMismatch, ConfigError, NotFound
from athens_tx.inspection import inspected
from athens_tx.module.pattern import matches_any
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import Walk, each

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
    report = _Report(checksums, as_json)

    async def verify(mv: ModuleVersion) -> None:
        result: dict[str, Any] = {"module": mv.path, "version": mv.version}
        try:
            async with inspected(assembly.reactor, assembly.storage, mv, assembly.config.go_get_dir) as found:
                result["sum"] = found.sum
            if checksums:
                result |= await _compare(assembly, mv, found.sum)
        except AthensError as error:
            result["error"] = str(error)
        report.ended(mv, result)

    async def wanted() -> Walk:
        if versions:
            for mv in sorted(versions, key=lambda mv: (mv.path, mv.version)):
                report.expect(mv)
                yield mv
        else:
            async for mv in catalog(assembly.storage):
                report.expect(mv)
                yield mv

    await each(wanted(), verify, "verifying", quiet=as_json, total=len(versions) or None)
    if not versions and assembly.incomplete is not None:
        for mv in await assembly.incomplete.incomplete():
            report.tell(
                {"module": mv.path, "version": mv.version, "error": "incomplete: one of its files is missing or empty"}
            )
    return report.finish()


class _Report:
    """Prints the results in the order of the walk, each as soon as those before it are there."""

    def __init__(self, checksums: bool, as_json: bool) -> None:
        self._checksums = checksums
        self._as_json = as_json
        self._expected: deque[ModuleVersion] = deque()
        self._ended: dict[ModuleVersion, dict[str, Any]] = {}
        self._counted: Counter[str] = Counter()

    def expect(self, mv: ModuleVersion) -> None:
        """This is the next one."""
        self._expected.append(mv)

    def ended(self, mv: ModuleVersion, result: dict[str, Any]) -> None:
        """This is its result."""
        self._ended[mv] = result
        while self._expected and self._expected[0] in self._ended:
            self.tell(self._ended.pop(self._expected.popleft()))

    def tell(self, result: dict[str, Any]) -> None:
        """Count it, and print it if it is worth a line."""
        self._counted.update(result.keys())
        trouble = [result[name] for name in ("error", "unchecked", "not_compared") if name in result]
        if self._as_json or (trouble and trouble != [_KEPT_OUT]):
            text = f"{result['module']}@{result['version']}: {' '.join(trouble)}"
            tell(result, text, self._as_json, bad=True)

    def finish(self) -> int:
        """@return: the exit code."""
        broken, unchecked, apart = (self._counted[name] for name in ("error", "unchecked", "not_compared"))
        if not self._as_json:
            compared = f", {unchecked} could not be checked, {apart} not compared" if self._checksums else ""
            click.echo(f"{self._counted['module']} versions verified, {broken} broken{compared}")
        return BROKEN if broken else UNCHECKED if unchecked else 0


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
