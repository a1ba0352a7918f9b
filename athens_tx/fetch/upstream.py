"""
Fetching and listing by the download protocol, from one upstream proxy, without a go command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults
from zope.interface import implementer

from athens_tx.errors import (
    BadUpstream,
    ChecksumMismatch,
    FetchFailed,
    InvalidModule,
    NotFound,
)
from athens_tx.fetch.proxy_files import MAX_LIST, ProxyFiles
from athens_tx.fetch.workdir import WorkDirectory, remove_tree
from athens_tx.http_client import AnswerCut, BodyTooLong
from athens_tx.interfaces import (
    Checksums,
    FetchedVersion,
    IChecksumDatabase,
    IFetcher,
    ILister,
    Listing,
    VersionFiles,
)
from athens_tx.module.gomod import MAX_GO_MOD, check_mod, is_retracted, retractions, synthesize, unretracted
from athens_tx.module.hashes import hash_mod
from athens_tx.module.info import MAX_INFO, check_info
from athens_tx.module.path import check_path, check_version_query
from athens_tx.module.pattern import matches_any
from athens_tx.module.version import (
    ModuleVersion,
    check_path_major,
    is_canonical,
    is_incompatible,
    is_prerelease,
    is_pseudo,
    is_semver,
    sort_key,
)
from athens_tx.module.zipcheck import inspect_zip

T = TypeVar("T")

#: How often a file is asked for until it comes whole.
_TRIES = 3
_NO_TIME = "0001-01-01T00:00:00Z"
_PSEUDO_TIME = re.compile(r"[-.]([0-9]{14})-[0-9A-Za-z]+(?:\+incompatible)?\Z")


def _together(*work: Coroutine[Any, Any, Any]) -> Deferred[list[Any]]:
    """@return: fires with all results; at the first failure, or when cancelled, the rest is cancelled."""
    running = [Deferred.fromCoroutine(each) for each in work]
    everything = gatherResults(running, consumeErrors=True)

    def stop(failure: Any) -> Any:
        for each in running:
            each.cancel()
        failure.trap(FirstError)
        return failure.value.subFailure

    return everything.addErrback(stop)


@implementer(IFetcher)
class UpstreamFetcher:
    """See L{IFetcher}. C{known} is called as soon as the C{.info} and a verified C{.mod} are there."""

    def __init__(
        self,
        files: ProxyFiles,
        work: WorkDirectory,
        *,
        max_zip_size: int,
        checksums: IChecksumDatabase | None,
        no_sumdb: Sequence[str],
    ) -> None:
        """
        @param checksums: what every version is compared with; C{None} for C{GOSUMDB=off}.
        @param no_sumdb: patterns of the modules that it is not asked for.
        """
        self._files = files
        self._work = work
        self._max_zip_size = max_zip_size
        self._checksums = checksums
        self._no_sumdb = no_sumdb

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        """See L{IFetcher.fetch}."""
        check_path(mv.path)
        check_version_query(mv.version)
        stage: Path = await self._files.in_thread(self._work.stage)

        async def discard() -> None:
            await self._files.in_thread(remove_tree, stage)

        try:
            files, zip = await self._version(mv, known, stage)
        except BaseException:
            await discard()
            raise
        return FetchedVersion(files.mv, files.info, files.mod, zip, "upstream", discard)

    async def _version(
        self, mv: ModuleVersion, known: Callable[[VersionFiles], None], stage: Path
    ) -> tuple[VersionFiles, Path]:
        info: bytes | None = None
        if not _is_exact(mv):
            info = await self._whole(lambda: self._info(mv))
            mv = ModuleVersion(mv.path, check_info(info, mv))
        (files, sums), zip = await _together(
            self._small(mv, info, known), self._whole(lambda: self._download(mv, stage / "zip"))
        )
        for left in range(_TRIES - 1, -1, -1):
            try:
                found = await self._files.in_thread(inspect_zip, zip, mv, files.mod, self._max_zip_size)
                break
            except BadUpstream:
                if not left:
                    raise
            zip = await self._whole(lambda left=left: self._download(mv, stage / f"zip{left}"))  # type: ignore[misc]
        if sums is not None and sums.zip != found:
            raise _mismatch(mv, "zip", found, sums.zip)
        return files, zip

    async def _small(
        self, mv: ModuleVersion, info: bytes | None, known: Callable[[VersionFiles], None]
    ) -> tuple[VersionFiles, Checksums | None]:
        """@return: the two small files, verified and told, and what the checksum database has."""

        async def the_info() -> bytes:
            return info if info is not None else await self._whole(lambda: self._info(mv))

        info, mod, sums = await _together(the_info(), self._whole(lambda: self._mod(mv)), self._sums(mv))
        if sums is not None and sums.mod != hash_mod(mod):
            raise _mismatch(mv, "go.mod", hash_mod(mod), sums.mod)
        files = VersionFiles(mv, info, mod)
        known(files)
        return files, sums

    async def _info(self, mv: ModuleVersion) -> bytes:
        info = await self._files.read(mv.path, ".info", mv.version, limit=MAX_INFO)
        check_info(info, mv)
        return info

    async def _mod(self, mv: ModuleVersion) -> bytes:
        mod = await self._files.read(mv.path, ".mod", mv.version, limit=MAX_GO_MOD)
        check_mod(mod)
        return mod

    async def _download(self, mv: ModuleVersion, target: Path) -> Path:
        await self._files.save(mv.path, mv.version, target, limit=self._max_zip_size)
        return target

    async def _sums(self, mv: ModuleVersion) -> Checksums | None:
        if self._checksums is None or matches_any(self._no_sumdb, mv.path):
            return None
        return await self._checksums.checksums(mv)

    async def _whole(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again for what came broken; give up what is refused."""
        for _ in range(_TRIES - 1):
            try:
                return await ask()
            except (ChecksumMismatch, BodyTooLong):
                raise
            except (AnswerCut, BadUpstream):
                pass
        return await ask()


def _is_exact(mv: ModuleVersion) -> bool:
    """@return: whether C{mv} names a version that the upstream must have under this very name."""
    try:
        check_path_major(mv.path, mv.version)
    except InvalidModule:
        return False
    return is_canonical(mv.version)


def _mismatch(mv: ModuleVersion, what: str, found: str, expected: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{mv}: checksum mismatch: the {what} from upstream is not the one that the checksum database knows",
        detail=f"upstream {found}, checksum database {expected}",
    )


@implementer(ILister)
class UpstreamLister:
    """See L{ILister}. Answers what C{go list -m -versions -json MODULE@latest} says through the same proxy."""

    def __init__(self, files: ProxyFiles) -> None:
        self._files = files

    async def listing(self, path: str) -> Listing:
        """See L{ILister.listing}."""
        check_path(path)
        listed = await self._files.read(path, "@v/list", limit=MAX_LIST)
        versions, names = await self._files.in_thread(_parse_list, listed)
        retracted = await self._retracted(path, versions, names)
        versions = await self._files.in_thread(unretracted, versions, retracted)
        latest = await self._latest(path, versions, names)
        if latest is None or is_retracted(latest, retracted):
            raise NotFound(f"{path}: no matching versions for query latest")
        mv = ModuleVersion(path, latest)
        info = await self._files.read(path, ".info", latest, limit=MAX_INFO)
        return Listing(versions, check_info(info, mv), _time(info))

    async def _retracted(
        self, path: str, versions: Sequence[str], names: Sequence[Sequence[str]]
    ) -> Sequence[tuple[str, str]]:
        """@return: the retracted ranges; those of the highest version count, be it retracted itself or not."""
        try:
            latest = await self._latest(path, versions, names)
            if latest is None:
                return ()
            mod = await self._files.read(path, ".mod", latest, limit=MAX_GO_MOD)
            found: Sequence[tuple[str, str]] = await self._files.in_thread(retractions, mod)
            return found
        except (FetchFailed, NotFound):
            if versions:
                raise
            return ()  # as go has it: without tags, what can't be read retracts nothing

    async def _latest(self, path: str, versions: Sequence[str], names: Sequence[Sequence[str]]) -> str | None:
        """@return: the highest release, or else prerelease, or else what C{@latest} says; C{None} if nothing."""
        eligible = await self._eligible(path, versions)
        releases = [version for version in eligible if not is_prerelease(version)]
        if releases or eligible:
            return (releases or eligible)[-1]
        try:
            info = await self._files.read(path, "@latest", limit=MAX_INFO)
        except NotFound:
            return _youngest(names)
        return check_info(info, ModuleVersion(path, "latest"))

    async def _eligible(self, path: str, versions: Sequence[str]) -> Sequence[str]:
        """
        @return: C{versions} without the C{+incompatible} ones if the highest of the others has a go.mod: its author
            knows of modules then.
        """
        compatible = [version for version in versions if not is_incompatible(version)]
        if not compatible or len(compatible) == len(versions):
            return versions
        mod = await self._files.read(path, ".mod", compatible[-1], limit=MAX_GO_MOD)
        return versions if mod == synthesize(path) else compatible


def _parse_list(listed: bytes) -> tuple[list[str], list[list[str]]]:
    """@return: the versions of a list without pseudo-versions, in order; and the words of each line with a version."""
    lines = listed.decode("utf-8", "replace").splitlines()
    names = [words for line in lines if (words := line.split()) and is_semver(words[0])]
    return sorted((words[0] for words in names if not is_pseudo(words[0])), key=sort_key), names


def _youngest(names: Sequence[Sequence[str]]) -> str | None:
    """@return: of the lines of a list, the version with the latest time, in the line or in a pseudo-version."""
    best, found = datetime.min.replace(tzinfo=UTC), None
    for words in names:
        time = _parsed(words[1]) if len(words) > 1 else _pseudo_time(words[0])
        if time is not None and time > best:
            best, found = time, words[0]
    return found


def _pseudo_time(version: str) -> datetime | None:
    stamp = _PSEUDO_TIME.search(version) if is_pseudo(version) else None
    try:
        return datetime.strptime(stamp[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC) if stamp else None
    except ValueError:
        return None


def _parsed(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def _time(info: bytes) -> str:
    """@return: the time of an C{.info} that was checked, in UTC."""
    found = {name.lower(): value for name, value in json.loads(info).items()}.get("time")
    time = _parsed(found) if isinstance(found, str) else None
    if time is None:
        return _NO_TIME
    try:
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # the first hours of the year 1, east of Greenwich
        return _NO_TIME
