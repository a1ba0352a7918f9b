"""The answers of the download protocol, from storage, the stash and the lister."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from athens_tx.cache.expiring import ExpiringCache
from athens_tx.errors import AthensError, Elsewhere, NotFound, RepositoryGone, StorageUnavailable, UpstreamForbidden
from athens_tx.interfaces import (
    Answer,
    IDownloadModes,
    ILinks,
    ILister,
    IProtocol,
    IStorage,
    IZip,
    Listing,
    VersionFiles,
    ZipAnswer,
    ZipLink,
)
from athens_tx.module.version import ModuleVersion, is_canonical, is_prerelease, is_pseudo, sort_key
from athens_tx.stash import Stash, Stashed

T = TypeVar("T")

#: Bytes that the remembered failures, and the remembered queries, may have.
LIMIT = 16 * 1024 * 1024


def best(versions: Sequence[str]) -> str | None:
    """@return: what C{@latest} means by go's rule: the highest release, else pre-release, else pseudo-version."""
    return max(versions, key=lambda v: (not is_pseudo(v), not is_prerelease(v), sort_key(v)), default=None)


@implementer(IProtocol)
class Protocol:
    """
    @param links: what gives links to the zips of C{storage}, if clients are to fetch them there.
    @param network_mode: C{strict}, C{offline} or C{fallback}.
    @param listed: whether a list may name a version of a module (the filter's say).
    @param admit: L{IGate.admit}, asked for the canonical version of a query; for what was requested, the caller asked.
    @param not_found_ttl: seconds for which a version that does not exist is not looked for again.
    @param query_ttl: seconds for which the canonical version of a query (a branch, C{v1}) is remembered.
    @param looked_up: told the kind of file and whether storage had it, for metrics.
    """

    def __init__(
        self,
        *,
        storage: IStorage,
        stash: Stash,
        lister: ILister,
        modes: IDownloadModes,
        clock: IReactorTime,
        network_mode: str,
        listed: Callable[[str, str], bool],
        admit: Callable[[str, str | None], Awaitable[None]],
        not_found_ttl: float,
        query_ttl: float,
        links: ILinks | None = None,
        looked_up: Callable[[str, bool], None] = lambda kind, hit: None,
    ) -> None:
        self._storage = storage
        self._links = links
        self._stash = stash
        self._lister = lister
        self._modes = modes
        self._network_mode = network_mode
        self._listed = listed
        self._admit = admit
        self._looked_up = looked_up
        self._missing: ExpiringCache[ModuleVersion, AthensError] = ExpiringCache(clock, not_found_ttl, LIMIT)
        self._queries: ExpiringCache[ModuleVersion, ModuleVersion] = ExpiringCache(clock, query_ttl, LIMIT)

    # -- lists

    async def list(self, path: str, *, fetch: bool = True) -> Answer:
        """@return: see L{IProtocol.list}: upstream's versions in their order, then those that only storage has."""
        if not self._may_ask(fetch):
            return self._list_answer(path, await self._stored_versions(path), "storage")
        stored, listing = await self._both(path)
        if isinstance(listing, Listing):
            there = set(listing.versions)
            here = [version for version in stored if not is_pseudo(version) and version not in there]
            return self._list_answer(path, [*listing.versions, *here], listing.origin)
        if isinstance(listing, RepositoryGone) and stored:
            releases = [version for version in stored if not is_pseudo(version)]
            return self._list_answer(path, releases or stored, "storage")
        if self._network_mode == "fallback" and not isinstance(listing, RepositoryGone):
            return self._list_answer(path, stored, "storage")
        raise listing.afresh()

    async def latest(self, path: str, *, fetch: bool = True) -> Answer:
        """@return: see L{IProtocol.latest}."""
        if not self._may_ask(fetch):
            return await self._latest_stored(path, NotFound(f"{path}: no version is stored"))
        try:
            listing = await self._lister.listing(path)
        except AthensError as error:
            if self._network_mode != "fallback":
                raise
            return await self._latest_stored(path, error)
        if self._listed(path, listing.latest):
            return Answer(_latest(listing.latest, listing.time), listing.origin)
        other = best([version for version in listing.versions if self._listed(path, version)])
        if other is None:
            raise NotFound(f"{path}: the filter leaves no version")
        info = await self.info(ModuleVersion(path, other))
        return Answer(_latest(other, _time(info.body)), info.source)

    def _may_ask(self, fetch: bool) -> bool:
        return fetch and self._network_mode != "offline"

    async def _both(self, path: str) -> tuple[Sequence[str], Listing | AthensError]:
        """Ask storage and upstream at the same time; only storage's failure is one of the whole."""

        async def listing() -> Listing | AthensError:
            try:
                return await self._lister.listing(path)
            except AthensError as error:
                return error

        asked = Deferred.fromCoroutine(listing())
        try:
            stored = await self._stored_versions(path)
        except BaseException:
            asked.addErrback(lambda failure: None)
            asked.cancel()
            raise
        return stored, await asked

    async def _stored_versions(self, path: str) -> Sequence[str]:
        return sorted(await self._storage.list(path), key=sort_key)

    async def _latest_stored(self, path: str, absent: AthensError) -> Answer:
        version = best([v for v in await self._storage.list(path) if self._listed(path, v)])
        if version is None:
            raise absent
        return Answer(_latest(version, _time(await self._storage.info(ModuleVersion(path, version)))), "storage")

    def _list_answer(self, path: str, versions: Sequence[str], source: str) -> Answer:
        return Answer("\n".join(v for v in versions if self._listed(path, v)).encode(), source)

    # -- the files of a version

    async def info(self, mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: see L{IProtocol.info}."""
        return await self._small_file(mv, fetch, "info", self._storage.info, lambda files: files.info)

    async def mod(self, mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: see L{IProtocol.mod}."""
        return await self._small_file(mv, fetch, "gomod", self._storage.mod, lambda files: files.mod)

    async def zip(
        self, mv: ModuleVersion, *, fetch: bool = True, link: bool = False, whole: bool = True
    ) -> ZipAnswer | ZipLink:
        """@return: see L{IProtocol.zip}; a version that had to be fetched is stored when this answers."""
        find: Callable[[ModuleVersion], Awaitable[IZip | str]] = partial(self._storage.zip, whole=whole)
        if link and self._links is not None:
            find = self._links.link
        stored = await self._read(mv, "zip", find)
        if stored is not None:
            return _zip_answer(stored, "storage")
        if is_canonical(mv.version):
            stashed = await self._miss(mv, fetch, self._stash.whole)
        else:  # whoever is refused the meaning of a query is told before it is all there, and it is remembered
            stashed = await self._miss(mv, fetch, self._stash.files)
            await self._stash.whole(stashed.files.mv)
        try:
            found = await find(stashed.files.mv)
        except NotFound as error:  # it was said to be there just now: no reason for the client to look elsewhere
            raise StorageUnavailable(f"{stashed.files.mv} is stored and can't be found", retry_after=5) from error
        return _zip_answer(found, stashed.source)

    async def _small_file(
        self,
        mv: ModuleVersion,
        fetch: bool,
        kind: str,
        read: Callable[[ModuleVersion], Awaitable[bytes]],
        pick: Callable[[VersionFiles], bytes],
    ) -> Answer:
        stored = await self._read(mv, kind, read)
        if stored is not None:
            return Answer(stored, "storage")
        stashed = await self._miss(mv, fetch, self._stash.files)
        return Answer(pick(stashed.files), stashed.source)

    async def _read(self, mv: ModuleVersion, kind: str, read: Callable[[ModuleVersion], Awaitable[T]]) -> T | None:
        """@return: what storage has under C{mv}, or under what it was found to stand for lately; else C{None}."""
        found = self._queries.get(mv) or (mv if is_canonical(mv.version) else None)
        result = None
        if found is not None:
            if found != mv:
                await self._admit(found.path, found.version)
            try:
                result = await read(found)
            except NotFound:
                self._queries.forget(mv)
        self._looked_up(kind, result is not None)
        return result

    async def _miss(
        self, mv: ModuleVersion, fetch: bool, stash: Callable[[ModuleVersion], Awaitable[Stashed]]
    ) -> Stashed:
        if not self._may_ask(fetch):
            raise NotFound(f"{mv}: not stored here")
        rule = self._modes.rule(mv.path)
        if rule.mode == "none":
            raise NotFound(f"{mv}: not stored here, and the download mode is none")
        missing = self._missing.get(mv)
        if rule.mode in ("async", "async_redirect") and missing is None:
            self._stash.start(mv)
        if rule.mode in ("redirect", "async_redirect"):
            raise Elsewhere(rule.url, 301)
        if rule.mode == "async":
            raise NotFound(f"{mv}: not stored yet, it is being fetched")
        if missing is not None:
            raise missing.afresh()
        try:
            stashed = await stash(mv)
        except (NotFound, UpstreamForbidden) as error:
            self._missing.put(mv, error.afresh(), 500 + len(str(mv)) + len(str(error)) + len(error.detail))
            raise
        if stashed.files.mv != mv:
            self._queries.put(mv, stashed.files.mv, 300 + 2 * len(str(mv)))
            await self._admit(mv.path, stashed.files.mv.version)
        return stashed


def _zip_answer(found: IZip | str, source: str) -> ZipAnswer | ZipLink:
    return ZipLink(found, source) if isinstance(found, str) else ZipAnswer(found, source)


def _latest(version: str, time: str) -> bytes:
    """Athens' answer to C{@latest}: go's old RevInfo, of which only two fields are filled."""
    fields = {"Origin": None, "Name": "", "Short": "", "Version": version, "Time": time, "Tags": None}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _time(info: bytes) -> str:
    try:
        return str(json.loads(info)["Time"])
    except (ValueError, KeyError, TypeError):
        return "0001-01-01T00:00:00Z"  # what go writes for a time that it does not know
