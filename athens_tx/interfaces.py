"""
The map of the house: what one room may ask of another, and nothing else.

Every C{async} method may be implemented by anything that returns an awaitable. Errors are those of L{athens_tx.errors}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

import attrs
from twisted.web.iweb import IBodyProducer
from zope.interface import Attribute, Interface

from athens_tx.module.version import ModuleVersion


class IZip(IBodyProducer):
    """
    The bytes of a module zip on their way; never all in memory.

    Opens what it reads only in C{startProducing}, so one that is never started costs nothing but must still be told
    C{stopProducing}, because a remote store may hold an answer open for it.
    """

    length: int = Attribute("how many bytes will come; always known, may be 0")

    def part(start: int, length: int) -> IZip:
        """
        @param start: offset of the first byte, C{0 <= start}.
        @param length: how many, C{start + length <= self.length}.
        @return: only these bytes, for a Range request; takes the place of this one, which must not be started then.
        """


class IStorage(Interface):
    """
    Where versions are kept. The three files of a version appear together or not at all.

    A backend is also an C{IService}: C{startService} must have connected (a Deferred it keeps in C{ready}, see
    L{athens_tx.service}) and raise or fail with a L{ConfigError} that names the setting to look at.
    A store in trouble raises L{StorageUnavailable}, never L{NotFound}: a 404 would start a fetch.
    A module path or version that could leave the root, is empty or holds NUL or a backslash, raises L{InvalidModule}.
    """

    async def list(path: str) -> Sequence[str]:
        """
        @param path: the module path, unescaped.
        @return: the complete versions stored, in no order; empty when there are none, never L{NotFound}.
        """

    async def info(mv: ModuleVersion) -> bytes:
        """
        @return: the C{.info} document, UTF-8 JSON, byte for byte as it was saved; at most 1 MiB.
        @raise NotFound: the version is not stored, or not completely. A store where files are objects of their own,
            each a round trip away, is asked for this file alone: it may give one of a version that L{exists},
            L{list} and L{catalog} do not show because another file is missing. The same goes for L{mod} and L{zip}.
        """

    async def mod(mv: ModuleVersion) -> bytes:
        """
        @return: the go.mod file, byte for byte as it was saved; at most 16 MiB.
        @raise NotFound: see L{info}.
        """

    async def zip(mv: ModuleVersion) -> IZip:
        """
        @return: the module zip, not started.
        @raise NotFound: see L{info}.
        """

    async def exists(mv: ModuleVersion) -> bool:
        """@return: whether all three files are there."""

    async def save(mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """
        Keep a version, all of it or none of it, whenever the program or the machine stops.

        Saving a complete version again changes nothing (the C{zip} is not read then); an incomplete one is healed.
        @param zip: not started, of known C{length}; a failure or a wrong number of bytes fails the save.
        """

    async def delete(mv: ModuleVersion) -> None:
        """
        Forget a version, also an incomplete one.

        @raise NotFound: nothing of it is stored.
        """

    async def catalog(token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """
        @param token: empty for the first page, then what the page before gave.
        @param limit: how many at most, C{>= 1}.
        @return: complete versions, each once over all pages, and the next token, empty after the last page.
        @raise InvalidRequest: the token is none of ours.
        @raise NotSupported: this kind of storage has no catalog.
        """

    async def check() -> None:
        """Look whether the store works, for readiness: as cheap as possible, but for real. Raise what is wrong."""


class IFindsIncomplete(Interface):
    """What a storage may offer besides L{IStorage}, for those who look after it."""

    async def incomplete() -> Sequence[ModuleVersion]:
        """
        Look through everything, for as long as that takes.

        @return: the versions of which something is there, but not all; those that others are saving now may be among
            them. Nobody is served them, and the next save of each heals it.
        """


class ILinks(Interface):
    """What a storage may offer besides L{IStorage}: clients fetch module zips from the store itself."""

    async def link(mv: ModuleVersion) -> str:
        """
        Look whether the zip is there, in one round trip, and sign.

        @return: a URL, ASCII, good for some minutes, from which anybody can GET the module zip. It is a secret: for the
            client, and for no log.
        @raise NotFound: see L{IStorage.zip}.
        """


@attrs.frozen
class StoredObject:
    """
    What the listing of an object store says of one object.

    @ivar tag: another one whenever the bytes are others: an ETag or a generation.
    @ivar size: in bytes.
    @ivar age: seconds since it was written; 0 where that is not known.
    """

    key: str
    tag: str
    size: int
    age: float


@attrs.frozen
class ObjectPage:
    """
    Some objects, in the order of the UTF-8 bytes of their keys.

    @ivar cursor: where to go on; empty after the last page.
    """

    objects: Sequence[StoredObject]
    cursor: str


class IObjects(Interface):
    """
    The objects of one bucket or container, as L{athens_tx.storage.objects} makes a storage of them.

    An object appears whole or not at all. All raise L{StorageUnavailable}; what may be asked again is tried again.
    """

    keyed: bool = Attribute("whether a key is a cursor, that goes on with the key behind it")
    largest_page: int = Attribute("how many objects a page has at most")

    async def connect() -> None:
        """Look whether the store can be used. Raise L{ConfigError}, one line, naming the setting to look at."""

    async def close() -> None:
        """Let go of everything, once what is under way is done or given up."""

    async def page(prefix: str, cursor: str, limit: int) -> ObjectPage:
        """
        @param cursor: empty for the beginning.
        @param limit: at most so many objects, C{>= 1}.
        @raise InvalidRequest: the store does not know the cursor.
        """

    async def get(key: str, limit: int) -> bytes:
        """@return: an object of at most C{limit} bytes; raise L{NotFound}."""

    async def open(key: str) -> IZip:
        """@return: an object as a stream, of which the first bytes may be on their way already; raise L{NotFound}."""

    async def put(key: str, data: bytes, content_type: str) -> None:
        """Write a small object, whatever is there."""

    async def upload(key: str, body: IBodyProducer, content_type: str, replacing: str) -> bool:
        """
        Write an object of any size, in bounded memory.

        @param body: not started; a failure of it, or a wrong number of bytes (L{BadUpstream}), leaves nothing behind.
        @param replacing: the tag of the object that may be replaced; empty if there must be none.
        @return: whether these bytes are there now; C{False} if somebody else was faster and wrote others.
        """

    async def remove(key: str, tag: str = "") -> bool:
        """
        Remove an object, if it is there.

        @param tag: only as long as it is this one, where the store can see to that.
        @return: C{False} if it is another one by now.
        """

    async def sweep(age: float) -> None:
        """Remove what uploads that were never finished have left, if they are older than C{age} seconds."""

    async def link(key: str) -> str:
        """@return: a URL, good for some minutes, with which anybody can GET the object."""


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


class ISingleFlight(Interface):
    """
    Across everything that shares the lock, one piece of work at a time for one version as requested.

    An C{IService} as well, for what has a connection.
    """

    def run(mv: ModuleVersion, work: Callable[[], Awaitable[ModuleVersion]]) -> Awaitable[ModuleVersion]:
        """
        Run C{work}, or wait for the one who runs it already.

        A waiter is never failed merely because somebody else holds the lock, has an awaitable of its own, and leaves
        nothing but itself when it is cancelled: the work goes on.
        @return: the canonical version, which is in storage now.
        """

    async def check() -> None:
        """Look whether the lock works, for readiness. Raise what is wrong."""


class ILock(Interface):
    """
    One who wants the lock of one name: first a place in the queue, where there is one, then the lock.

    Used by one, once: C{take} until it is C{True}, then C{renew} now and then, and C{release} in any case.
    """

    lease: float = Attribute("seconds after which the lock of a holder that does not renew it is free")

    async def take() -> bool:
        """
        Try to get the lock, in few round trips, without waiting for its holder.

        @return: whether it is ours now.
        @raise LockUnavailable: the lock service can't be asked; it may be tried again.
        """

    async def changed(seconds: float) -> None:
        """
        Wait until it may be worth while to L{take} again, as the service tells where it can, but at most C{seconds}.

        @raise LockUnavailable: as L{take}.
        """

    async def renew() -> bool:
        """
        Let the lease begin anew.

        @return: C{False} if the lock is not ours any more.
        @raise LockUnavailable: nobody knows.
        """

    async def release() -> None:
        """
        Give up the lock, or the place in the queue; harmless at any moment.

        @raise LockLost: it was taken, and is not ours any more.
        @raise LockUnavailable: it ends with its lease.
        """


class ILocks(Interface):
    """A lock service, shared with others; L{athens_tx.singleflight.locked} makes an L{ISingleFlight} of it."""

    async def connect() -> None:
        """Look whether it can be used. Raise L{ConfigError}, one line, naming the setting to look at."""

    async def close() -> None:
        """Let go of everything; what is held is released as far as that goes at once."""

    async def check() -> None:
        """Look whether it works, for readiness. Raise what is wrong."""

    def lock(name: str) -> ILock:
        """@param name: C{path@version} as requested, unescaped: what Athens calls the lock too."""


@attrs.frozen
class IndexLine:
    """One line of the index: when a version was first stored here. C{time} is aware, in UTC."""

    path: str
    version: str
    time: datetime


class IIndex(Interface):
    """When each version was stored. An C{IService} as well."""

    async def add(mv: ModuleVersion) -> None:
        """
        Note that C{mv} is stored now; adding it again changes nothing. Waits for no other machine.

        @raise IndexUnavailable: the line is lost.
        @raise NotSupported: the index can't hold such a line.
        """

    def lines(since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """
        Read lines, in the order of time, ties in the order they were added. To be closed by who does not take them all.

        @param since: the earliest time wanted, inclusive; C{None} is the beginning.
        @param limit: how many at most, C{>= 1}.
        @return: some lines at a time, none of them empty; what is not taken is not in memory.
        @raise IndexUnavailable: at any moment.
        """

    async def check() -> None:
        """Look whether the index takes lines, for readiness. Raise what is wrong."""


class ILagging(Interface):
    """What an index offers besides L{IIndex}, if lines are on their way to it for a while."""

    lost: int = Attribute("how many lines found no room on their way")

    def lag_lines() -> int:
        """@return: how many lines are on their way."""

    def lag_seconds() -> float:
        """@return: how long the oldest of them is; 0 if there is none."""


@attrs.frozen
class Filled:
    """
    What became of some versions.

    @ivar added: how many got a line; C{there}: had one.
    @ivar refused: those that can't have one.
    """

    added: int
    there: int
    refused: Sequence[ModuleVersion]


class IFillable(Interface):
    """What an index offers besides L{IIndex}, if it outlives the process."""

    async def fill(versions: Sequence[ModuleVersion]) -> Filled:
        """
        See to it that stored versions have a line: those that have none get one of the present time, in this order.

        @param versions: at most 1000.
        @raise IndexUnavailable: some are added perhaps; all may be given again.
        """


@attrs.frozen
class Answer:
    """
    An answer of the download protocol that fits into memory.

    @ivar source: where it came from, for the request log: C{memory}, C{storage}, C{upstream} or C{go}.
    """

    body: bytes
    source: str


@attrs.frozen
class ZipAnswer:
    """A module zip as an answer, not started. C{source} as in L{Answer}."""

    body: IZip
    source: str


@attrs.frozen
class ZipLink:
    """Where the client finds a module zip: a URL that is a secret, see L{ILinks}. C{source} as in L{Answer}."""

    url: str = attrs.field(repr=False)
    source: str


class IProtocol(Interface):
    """
    The five questions of the download protocol, for values that are decoded and checked.

    @param fetch: C{False} where the client sent C{Disable-Module-Fetch: true}: answer from storage or C{NotFound}.
    @raise Elsewhere: the download mode of the module says to redirect.
    """

    async def list(path: str, *, fetch: bool = True) -> Answer:
        """@return: versions, joined by newlines, without a final one."""

    async def latest(path: str, *, fetch: bool = True) -> Answer:
        """@return: a JSON object with C{Version} and C{Time} as Athens gives it, ended by a newline."""

    async def info(mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: the C{.info} document of a version or a query."""

    async def mod(mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: the go.mod of a version or a query."""

    async def zip(mv: ModuleVersion, *, fetch: bool = True, link: bool = False) -> ZipAnswer | ZipLink:
        """
        @param link: whether the client can be sent to the store for the bytes; a L{ZipLink} is given only then.
        @return: the module zip of a version or a query.
        """


class IGate(Interface):
    """The organisation's say: the filter file and the validator hook."""

    def listed(path: str, version: str) -> bool:
        """@return: whether a list may name C{version}; C{False} only with C{FilterLists = true}. No hook is asked."""

    async def admit(path: str, version: str | None) -> None:
        """
        Let a request pass: as it was asked, before storage is looked at, and what a query turned out to mean, before
        anything of it is answered or stored.

        @param version: C{None} for list and latest, which no hook is asked for.
        @raise Refused: the filter excludes it, or the hook says no.
        @raise Elsewhere: the filter says that clients ask another server directly (303).
        @raise HookFailed: the hook gave no clear answer.
        """


class IDownloadModes(Interface):
    """What to do with a version that is not stored."""

    def rule(path: str) -> DownloadRule:
        """@param path: the module path, unescaped."""


@attrs.frozen
class DownloadRule:
    """C{mode} is C{sync}, C{async}, C{none}, C{redirect} or C{async_redirect}; C{url} is set for the two redirects."""

    mode: str
    url: str


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
