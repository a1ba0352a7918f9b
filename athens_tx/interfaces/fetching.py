"""What is asked of those who get versions from where they come from, and who prove them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType

import attrs
from zope.interface import Interface

from athens_tx.module.version import ModuleVersion


@attrs.frozen
class VersionFiles:
    """The two small files of a version, known before its zip is."""

    mv: ModuleVersion
    info: bytes
    mod: bytes


@attrs.frozen
class FetchedVersion:
    """
    A version that lies in its staging directory, complete and verified by the one who fetched it.

    A context manager: whatever happens, the staging directory is gone afterwards.
    @ivar mv: its version is canonical.
    @ivar zip: path of the module zip, inside the staging directory.
    @ivar origin: C{"go"} or C{"upstream"}, for the log.
    """

    mv: ModuleVersion
    info: bytes
    mod: bytes
    zip: Path
    origin: str
    discard: Callable[[], Awaitable[None]]

    async def __aenter__(self) -> FetchedVersion:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.discard()


class IFetcher(Interface):
    """Gets a version from where it comes from."""

    async def fetch(mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        """
        @param mv: its version may be a query (a branch, a tag, C{v1}, C{latest}), already checked to be a harmless one.
        @param known: told the two small files, at most once and before the result, if they are known (and verified)
            earlier than the zip.
        @raise NotFound, FetchTimeout, UpstreamForbidden, UpstreamUnreachable, RateLimited, BadUpstream,
            ChecksumMismatch, FetchFailed, Overloaded: see L{athens_tx.errors}.
        """


@attrs.frozen
class Listing:
    """
    What is known of a module where it comes from.

    @ivar versions: tagged versions in ascending semver order, without pseudo-versions and retracted ones.
    @ivar latest: the version that C{@latest} means; may be a pseudo-version.
    @ivar time: its time, RFC 3339 in UTC with C{Z}.
    @ivar origin: who said so: C{upstream}, C{go}, or C{memory} for what was remembered; empty where it is not known.
    """

    versions: Sequence[str]
    latest: str
    time: str
    origin: str = ""


class ILister(Interface):
    """Asks for the versions of a module where it comes from."""

    async def listing(path: str) -> Listing:
        """
        @param path: the module path, unescaped and already checked.
        @raise NotFound: there is no such module; L{RepositoryGone} if the repository's server said so in as many words.
        """


class IChecksumDatabase(Interface):
    """A checksum database whose answers are proven against its signed tree before they are believed."""

    async def checksums(mv: ModuleVersion) -> Checksums:
        """
        @raise NotFound: the database does not know the version.
        @raise ChecksumMismatch: the database contradicts itself or its signature is wrong.
        @raise FetchFailed: it can't be reached, with the subclasses of it.
        """


@attrs.frozen
class Checksums:
    """The C{h1:} hashes of a module zip and of its go.mod."""

    zip: str
    mod: str
