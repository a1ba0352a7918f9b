"""What storages are asked for, and what object stores are that some of them are made of."""

from __future__ import annotations

from collections.abc import Sequence

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

    async def zip(mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """
        @param whole: C{False} where at most a part will be wanted: a remote store is asked for no byte that is not.
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

    async def open(key: str, *, whole: bool = True) -> IZip:
        """
        @param whole: see L{IStorage.zip}.
        @return: an object as a stream, of which the first bytes may be on their way already if C{whole}.
        @raise NotFound: there is none.
        """

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
