"""
Zips in GridFS, bucket C{fs}: a document in C{fs.files} for each, and its bytes in C{fs.chunks}.

A file is written as Go's driver writes it, with C{metadata: {module, version}} besides: Athens' file names are the same
for C{a/b_c} and C{a_b/c}. The chunks come first, so what has a document is whole, but for what Athens leaves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
from bson.int64 import Int64
from bson.objectid import ObjectId
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.web.iweb import IBodyProducer

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gridfs_zip import GridZip
from athens_tx.storage.mongo_collection import NAMES, Collection, Document
from athens_tx.storage.mongo_pool import Pool
from athens_tx.storage.parts import Part, Parts

T = TypeVar("T")

#: Bytes of a chunk, as every driver has it.
CHUNK_SIZE = 255 * 1024
#: How many chunks a save sends at once; one, where many save at the same time.
CHUNKS = 4
_MANY = 8
#: How many batches may be on their way to the server, whoever sends them: each is in memory three times.
_BATCHES = 4
#: Bytes that all zips that are read may have read ahead.
_AHEAD = 32 << 20
#: How many whole files of Athens are remembered.
_KNOWN = 50_000


def filename(mv: ModuleVersion) -> str:
    """@return: the name of a version's file. Others may have the same."""
    return f"{mv.path.replace('/', '_')}_{mv.version}.zip"


@attrs.frozen
class StoredFile:
    """
    A document of C{fs.files}.

    @ivar owner: whose it is; C{None} where it does not say so, as Athens' files.
    """

    id: Any
    name: str
    length: int
    chunk_size: int
    uploaded: datetime
    owner: ModuleVersion | None

    @property
    def chunks(self) -> int:
        """How many it should have."""
        return -(-self.length // self.chunk_size)


def read_file(document: Document) -> StoredFile:
    """@raise StorageUnavailable: the document is none of GridFS."""
    length, chunk_size = document.get("length"), document.get("chunkSize")
    uploaded, metadata = document.get("uploadDate"), document.get("metadata")
    if isinstance(length, float) and length.is_integer():
        length = int(length)  # the shell writes such numbers
    if not isinstance(length, int) or not isinstance(chunk_size, int) or length < 0 or chunk_size < 1:
        raise StorageUnavailable(
            "mongo storage: the length of a stored zip can't be read", detail=f"fs.files, _id {document.get('_id')}"
        )
    owner = None
    if isinstance(metadata, Mapping) and "module" in metadata and "version" in metadata:
        owner = ModuleVersion(str(metadata["module"]), str(metadata["version"]))
    if not isinstance(uploaded, datetime):
        uploaded = datetime.min  # the server's have no zone either
    return StoredFile(document["_id"], str(document.get("filename")), length, chunk_size, uploaded, owner)


class GridFS:
    """
    The files of one database.

    @ivar files: C{fs.files}.
    @ivar chunks: C{fs.chunks}.
    """

    log = Logger()

    def __init__(self, pool: Pool, database: str, now: Callable[[], float]) -> None:
        """@param now: seconds since 1970."""
        self.files = Collection(pool, database, "fs.files")
        self.chunks = Collection(pool, database, "fs.chunks")
        self._now = now
        self._sending = DeferredSemaphore(_BATCHES)
        self._uploads = 0
        self._ahead = 0
        self._whole: dict[Any, None] = {}
        self._doubtful: set[Any] = set()

    async def prepare(self, limit: float) -> None:
        """Make the indexes that drivers make."""
        await self.files.index({"filename": 1, "uploadDate": 1}, limit=limit)
        await self.chunks.index({"files_id": 1, "n": 1}, limit=limit, unique=True)

    async def named(self, what: str, names: Sequence[str]) -> Mapping[str, Sequence[Document]]:
        """@return: the documents by file name, the newest first."""
        found: dict[str, list[Document]] = defaultdict(list)
        for start in range(0, len(names), NAMES):
            some = list(names[start : start + NAMES])
            wanted: Document = {"filename": some[0] if len(some) == 1 else {"$in": some}}
            for document in await self.files.find(what, wanted):
                found[document["filename"]].append(document)
        for documents in found.values():
            documents.sort(key=lambda one: (str(one.get("uploadDate")), str(one["_id"])), reverse=True)
        return found

    async def whole(self, what: str, files: Iterable[StoredFile]) -> set[Any]:
        """
        @return: the C{_id}s of the files that have all their chunks. Ours have: the document comes last. Of those of
            others this is looked up once; and of any that could not be read.
        """
        wanted = {file.id: file for file in files}
        known = {
            file.id
            for file in wanted.values()
            if not file.chunks or file.id in self._whole or (file.owner and file.id not in self._doubtful)
        }
        ids = [id for id in wanted if id not in known]
        for start in range(0, len(ids), NAMES):
            counts = await self.chunks.counts(what, "files_id", ids[start : start + NAMES])
            self._remember(id for id, count in counts.items() if count == wanted[id].chunks)
        return known | {id for id in ids if id in self._whole}

    def _remember(self, ids: Iterable[Any]) -> None:
        for id in ids:
            self._whole[id] = None
            self._doubtful.discard(id)
        while len(self._whole) > _KNOWN:
            self._whole.pop(next(iter(self._whole)))

    def open(self, file: StoredFile) -> GridZip:
        """@return: the bytes of a file."""
        return GridZip(self, file, 0, file.length)

    def ahead(self, chunks: int, size: int) -> int:
        """@return: how many of C{chunks} may be read at once by somebody who wants one of them now."""
        spare = max(0, _AHEAD - self._ahead) // size
        return max(1, min(chunks, CHUNKS, (CHUNKS * CHUNK_SIZE) // size, spare))

    def hold(self, size: int) -> None:
        """So many bytes more are held that nobody wants yet; fewer, if C{size} is negative."""
        self._ahead += size

    async def read(self, file: StoredFile, first: int, count: int) -> list[bytes]:
        """
        @return: chunks, each as long as it has to be.
        @raise NotFound: the file was deleted.
        @raise StorageUnavailable: there is no such chunk, or it is too short.
        """
        what = f"reading {file.name}"
        wanted = {"files_id": file.id, "n": {"$gte": first, "$lt": first + count}}
        documents = await self.chunks.first(what, wanted, sort={"n": 1}, limit=count)
        data = [document.get("data") for document in documents]
        for number in range(count):
            size = min(file.chunk_size, file.length - (first + number) * file.chunk_size)
            right = number < len(data) and documents[number]["n"] == first + number
            if not right or not isinstance(data[number], bytes) or len(data[number]) != size:
                if not await self.files.first(what, {"_id": file.id}, limit=1, projection={"_id": 1}):
                    raise NotFound("the zip was deleted meanwhile")
                self._doubtful.add(file.id)
                self._whole.pop(file.id, None)
                raise StorageUnavailable(
                    f"mongo storage: {what}: chunk {first + number} is missing or has a wrong length",
                    detail=f"fs.chunks, files_id {file.id}; the version is fetched anew when it is asked for again",
                )
        return data

    def upload(self, mv: ModuleVersion, body: IBodyProducer) -> Upload:
        """@return: what puts C{body} there."""
        return Upload(self, mv, body)

    async def remove(self, what: str, id: Any) -> None:
        """Remove a file, or what there is of it."""
        await self.files.delete(what, {"_id": id})
        await self.chunks.delete(what, {"files_id": id})

    def begin(self) -> int:
        """@return: how many chunks the new upload may send at once."""
        self._uploads += 1
        return CHUNKS if self._uploads <= _MANY else 1

    def end(self) -> None:
        """An upload is over."""
        self._uploads -= 1

    async def send(self, what: str, documents: Sequence[Document]) -> None:
        """Insert chunks, when it is our turn. One that is there already is ours: we have sent it twice."""
        async with self._sending:
            await self.chunks.insert(what, documents)

    def date(self) -> datetime:
        """@return: the C{uploadDate} of a file that is new."""
        moment = datetime.fromtimestamp(self._now(), UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Upload:
    """
    One zip on its way into the store.

    @ivar id: the C{_id} of the file.
    """

    def __init__(self, grid: GridFS, mv: ModuleVersion, body: IBodyProducer) -> None:
        self.id = ObjectId()
        self._grid = grid
        self._mv = mv
        self._body = body
        self._under_way: Deferred[None] | None = None

    async def run(self) -> None:
        """
        Send all chunks, then the document of the file. When this fails or is cancelled, L{undo} it.

        @raise BadUpstream: the body has not as many bytes as it said.
        """
        what = f"saving {self._mv}"
        parts = Parts(self._body, self._grid.begin() * CHUNK_SIZE)
        try:
            while True:
                part = await parts.next()
                await self._settled(self._send(what, part))
                if part.last:
                    break
            await self._settled(self._finish(what))
        finally:
            parts.stop()
            self._grid.end()

    async def _send(self, what: str, part: Part) -> None:
        data = b"".join(part.pieces)
        first = part.start // CHUNK_SIZE
        documents = [
            {
                "_id": ObjectId(),
                "files_id": self.id,
                "n": first + start // CHUNK_SIZE,
                "data": data[start : start + CHUNK_SIZE],
            }
            for start in range(0, len(data), CHUNK_SIZE)
        ]
        if documents:
            await self._grid.send(what, documents)

    async def _finish(self, what: str) -> None:
        document = {
            "_id": self.id,
            "length": Int64(self._body.length),
            "chunkSize": CHUNK_SIZE,
            "uploadDate": self._grid.date(),
            "filename": filename(self._mv),
            "metadata": {"module": self._mv.path, "version": self._mv.version},
        }
        await self._grid.files.insert(what, [document])

    async def _settled(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for C{work}, which goes on if the waiter is cancelled: the server may be doing it."""
        self._under_way = Deferred.fromCoroutine(work)
        await until(self._under_way)

    async def undo(self) -> None:
        """Remove what was sent, once nothing more is on its way."""
        if self._under_way is not None:
            with suppress(Exception):  # whoever ran it knows
                await until(self._under_way)
            await self._grid.remove(f"removing what is left of {self._mv}", self.id)


def until(work: Deferred[T]) -> Deferred[T]:
    """@return: fires as C{work} does, which nobody cancels by this, and which gives its result to others too."""
    waiter: Deferred[T] = Deferred()

    def keep(result: Any) -> Any:
        waiter.callback(result)  # a failure fails it
        return result

    work.addBoth(keep)
    work.addErrback(lambda failure: None)
    return waiter
