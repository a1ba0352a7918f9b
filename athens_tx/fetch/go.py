"""
Fetching and listing by the go command: what it does when it goes to the repositories itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from athens_tx.errors import BadUpstream, FetchFailed, InvalidModule
from athens_tx.fetch.environment import GoEnvironment
from athens_tx.fetch.modcache import ModCache
from athens_tx.fetch.outcome import Scrubber
from athens_tx.fetch.process import Finished, ProcessRunner
from athens_tx.fetch.workdir import WorkDirectory, remove_tree
from athens_tx.interfaces import FetchedVersion, IFetcher, ILister, Listing, VersionFiles
from athens_tx.module.path import check_path, check_version_query
from athens_tx.module.version import ModuleVersion, is_canonical

_MAX_INFO = 1024 * 1024
_MAX_MOD = 16 * 1024 * 1024
_NO_TIME = "0001-01-01T00:00:00Z"


class Go:
    """Runs one go command for one question, in directories that go away with it."""

    def __init__(
        self,
        reactor: Any,
        runner: ProcessRunner,
        program: str,
        environment: GoEnvironment,
        work: WorkDirectory,
        cache: ModCache,
        scrubber: Scrubber,
        *,
        behind_proxies: bool = False,
    ) -> None:
        """
        @param program: the absolute path of go.
        @param behind_proxies: whether C{GOPROXY} names a proxy, which go must not be given the module by; it is still
            asked for the checksum database.
        """
        self._reactor = reactor
        self._runner = runner
        self._program = program
        self._environment = environment
        self._work = work
        self._cache = cache
        self._behind_proxies = behind_proxies
        self.scrubber = scrubber

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call what blocks."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)

    async def stage(self) -> Path:
        """@return: a new directory with C{work}, to run in, and C{tmp}."""

        def make() -> Path:
            stage = self._work.stage()
            (stage / "work").mkdir()
            (stage / "tmp").mkdir()
            return stage

        stage: Path = await self.in_thread(make)
        return stage

    async def discard(self, stage: Path) -> None:
        """Remove what L{stage} made, and all that go has put there."""
        await self.in_thread(remove_tree, stage)

    def use_cache(self) -> Any:
        """A context to run go in, and to take what it fetched out of the module cache."""
        return self._cache.use()

    async def run(self, stage: Path, path: str, *arguments: str, limit: float) -> Finished:
        """
        @param path: the module asked for.
        @param arguments: for go; the last names a module and a version.
        """
        if arguments[-1].startswith("-"):  # nothing that was checked does; go would take it for a flag
            raise InvalidModule("a module path that begins with a dash can't be asked for")
        override = {"GONOPROXY": path} if self._behind_proxies else {}
        env = self._environment.build(stage / "tmp", **override)
        try:
            return await self._runner.run(
                [self._program, *arguments], env, limit_seconds=limit, cwd=stage / "work", stdout_limit=16 * 1024 * 1024
            )
        except FetchFailed as error:
            error.detail = self.scrubber.detail(error.detail)
            raise


def _object(stdout: bytes) -> Mapping[str, Any] | None:
    """@return: the JSON object that go printed, its names in small letters; C{None} if it is none."""
    try:
        found = json.loads(stdout)
    except ValueError:
        return None
    return {str(name).lower(): value for name, value in found.items()} if isinstance(found, dict) else None


@implementer(IFetcher)
class GoFetcher:
    """C{go mod download -json}: see L{IFetcher}. The two small files are not known before the zip."""

    def __init__(self, go: Go, *, limit_seconds: float, max_zip_size: int) -> None:
        self._go = go
        self._limit = limit_seconds
        self._max_zip_size = max_zip_size

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        """See L{IFetcher.fetch}."""
        check_path(mv.path)
        check_version_query(mv.version)
        stage = await self._go.stage()
        try:
            async with self._go.use_cache():
                found = await self._download(stage, mv)
                info, mod, zip = await self._go.in_thread(self._take, found, stage)
            version = str(found.get("version", ""))
            if not is_canonical(version) or _version_of(info) != version:
                raise BadUpstream(f"{mv}: go gave a version that is none", detail=f"{version[:200]!r} {info[:500]!r}")
        except BaseException:
            await self._go.discard(stage)
            raise
        return FetchedVersion(ModuleVersion(mv.path, version), info, mod, zip, "go", lambda: self._go.discard(stage))

    async def _download(self, stage: Path, mv: ModuleVersion) -> Mapping[str, Any]:
        done = await self._go.run(stage, mv.path, "mod", "download", "-json", str(mv), limit=self._limit)
        found = _object(done.stdout)
        scrubber = self._go.scrubber
        if found is None:
            if done.status != 0:
                raise scrubber.failure(done.stderr, f"exit status {done.status}: {done.stderr}", subject=str(mv))
            raise FetchFailed(f"{mv}: go printed something that is no answer", detail=scrubber.detail(done.stderr))
        if done.status != 0 or found.get("error"):
            said = str(found.get("error") or done.stderr)
            raise scrubber.failure(said, f"exit status {done.status}: {said}\n{done.stderr}", subject=str(mv))
        return found

    def _take(self, found: Mapping[str, Any], stage: Path) -> tuple[bytes, bytes, Path]:
        """Read the small files, and make the zip ours. In a thread."""
        try:
            info = _read(found.get("info"), _MAX_INFO)
            mod = _read(found.get("gomod"), _MAX_MOD)
            source, zip = str(found.get("zip") or ""), stage / "zip"
            if os.path.getsize(source) > self._max_zip_size:
                raise BadUpstream(f"the module zip has more than {self._max_zip_size} bytes (MaxZipSize)")
            try:
                os.link(source, zip)
            except OSError:
                shutil.copyfile(source, zip)
        except OSError as error:
            raise FetchFailed("what go fetched can't be read", detail=str(error)) from error
        return info, mod, zip


def _read(path: Any, limit: int) -> bytes:
    with open(str(path or ""), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BadUpstream(f"a file of the version has more than {limit} bytes")
    return content


def _version_of(info: bytes) -> str:
    return str((_object(info) or {}).get("version", ""))


@implementer(ILister)
class GoLister:
    """C{go list -m -versions -json}: see L{ILister}."""

    def __init__(self, go: Go, *, limit_seconds: float) -> None:
        self._go = go
        self._limit = limit_seconds

    async def listing(self, path: str) -> Listing:
        """See L{ILister.listing}."""
        check_path(path)
        stage = await self._go.stage()
        try:
            async with self._go.use_cache():
                done = await self._go.run(
                    stage, path, "list", "-m", "-versions", "-json", f"{path}@latest", limit=self._limit
                )
        finally:
            await self._go.discard(stage)
        scrubber = self._go.scrubber
        if done.status != 0:
            raise scrubber.failure(done.stderr, f"exit status {done.status}: {done.stderr}", subject=path)
        found = _object(done.stdout)
        if found is None or not isinstance(found.get("versions") or [], list) or not found.get("version"):
            raise FetchFailed(f"{path}: go printed something that is no answer", detail=scrubber.detail(done.stderr))
        versions = tuple(str(version) for version in found.get("versions") or ())
        return Listing(versions, str(found["version"]), str(found.get("time") or _NO_TIME))
