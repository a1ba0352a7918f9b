"""
Versions kept in MongoDB, in the layout of Athens, which may use the same database at the same time.

A version is a document C{module, version, mod, info}, and a file of GridFS, see L{athens_tx.storage.gridfs}. The file
is there first, the document comes last, and its unique index decides who of several was first. A document of ours has
the C{_id} of its file: nobody gets the files of two saves together. What Athens has left half done is absent.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from bson.objectid import ObjectId
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, succeed
from twisted.logger import Logger
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import BadUpstream, InvalidRequest, NotFound, StorageUnavailable
from athens_tx.interfaces import IFindsIncomplete, IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gridfs import GridFS, StoredFile, Upload, filename, read_file, until
from athens_tx.storage.layout import check_files, check_limit, check_names, check_path, is_listed
from athens_tx.storage.mongo_collection import Collection, Document
from athens_tx.storage.mongo_documents import FILES, NAMES_ONLY, Found, check_document, choose, version_of
from athens_tx.storage.mongo_pool import both
from athens_tx.storage.mongo_start import Opened, Settings, open_database
from athens_tx.storage.mongo_sweep import YOUNGEST, Sweeper

#: How many documents a page of the catalog looks at, at once.
_PAGE = 1000
#: How many bytes of both small files fit into a document of 16 MiB.
_DOCUMENT = (16 << 20) - (64 << 10)
#: How often a save tries against others who write the same version at the same time.
_TRIES = 5
#: Seconds for L{MongoStorage.check}, and for what is still to be done at the end.
_CHECK_LIMIT = 5.0
_END_LIMIT = 5.0


@implementer(IStorage, IFindsIncomplete)
class MongoStorage(Service):
    """
    A storage in a MongoDB database.

    @ivar ready: fires when the database was found good; fails with L{ConfigError}. Set by C{startService}.
    """

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, wall: Callable[[], float] = time.time) -> None:
        """
        @param reactor: has a thread pool and a clock.
        @param wall: seconds since 1970.
        """
        self.ready: Deferred[None] = succeed(None)
        self._reactor = reactor
        self._settings = settings
        self._wall = wall
        self._opened: Opened | None = None
        self._sweeper: Sweeper | None = None
        self._tasks: set[Deferred[None]] = set()

    def startService(self) -> None:
        """Connect, make the indexes, and begin to remove what is left of saves that were interrupted."""
        super().startService()
        self.ready = Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        self._opened = await open_database(self._reactor, self._settings, self._wall)
        self._sweeper = Sweeper(self._reactor, self._modules, self._grid, self._settings.stash_limit, self._wall)
        self._sweeper.start()

    def stopService(self) -> Deferred[None]:
        """Finish what was begun, within a limit, and close the connections."""
        super().stopService()
        self.ready.addErrback(lambda failure: None)
        self.ready.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()
        tasks = DeferredList([until(task) for task in self._tasks], consumeErrors=True)
        with suppress(TimeoutError):
            await tasks.addTimeout(_END_LIMIT, self._reactor)
        if self._opened is not None:
            await self._opened.pool.close()

    @property
    def _database(self) -> Opened:
        if self._opened is None:
            raise StorageUnavailable("mongo storage: not connected yet")
        return self._opened

    @property
    def _modules(self) -> Collection:
        return self._database.modules

    @property
    def _grid(self) -> GridFS:
        return self._database.grid

    # What there is

    async def _look(self, what: str, mv: ModuleVersion, *, sure: bool = False) -> Found:
        """
        Look for the document and the file, in the time of one round trip (two, where Athens' file is new to us).

        @param sure: take no file for the document's that may be of somebody who is about to insert one of his own.
        """
        check_names(mv)
        name = filename(mv)
        documents, named = await both(
            self._modules.find(what, {"module": mv.path, "version": mv.version}),
            self._grid.named(what, [name]),
        )
        document = documents[0] if documents else None
        if document is not None:
            check_document(mv, document)
        files, chosen = await self._file_of(what, mv, document, named.get(name, ()), sure)
        if document is not None and not self._belongs(document, chosen):
            named = await self._grid.named(what, [name])
            files, chosen = await self._file_of(what, mv, document, named.get(name, ()), sure)
        return Found(document, chosen, files)

    def _belongs(self, document: Document, file: StoredFile | None) -> bool:
        """@return: whether the file of the document's own save can't have come after the files were looked for."""
        return file is not None and (file.id == document["_id"] or not self._is_new(document["_id"]))

    def _is_new(self, id: Any) -> bool:
        """@return: whether what has this C{_id} may be of a save that is not over yet."""
        if not isinstance(id, ObjectId):
            return True
        age: float = self._wall() - id.generation_time.timestamp()
        return age < max(YOUNGEST, 2 * self._settings.stash_limit)

    async def _file_of(
        self, what: str, mv: ModuleVersion, document: Document | None, documents: Sequence[Document], sure: bool
    ) -> tuple[Sequence[StoredFile], StoredFile | None]:
        """@return: all files, and the one that belongs to the document, if it is whole."""
        files = [read_file(one) for one in documents]
        mine = document["_id"] if document is not None else None
        chosen = choose(document, mv, [one for one in files if not sure or one.owner is None or one.id == mine])
        if chosen is not None and chosen.id not in await self._grid.whole(what, [chosen]):
            chosen = None
        return files, chosen

    async def _stored(self, what: str, mv: ModuleVersion) -> tuple[Document, StoredFile]:
        found = await self._look(f"{what} {mv}", mv)
        if not found.complete or found.document is None or found.file is None:
            raise NotFound(f"{mv} is not stored")
        return found.document, found.file

    async def _complete(self, what: str, documents: Sequence[Document]) -> builtins.list[ModuleVersion]:
        """@return: of these documents, the versions that are complete, in one query (two, as in L{_look})."""
        versions = [version_of(document) for document in documents]
        names = sorted({filename(mv) for mv in versions if mv is not None})
        named = await self._grid.named(what, names) if names else {}
        chosen: dict[int, StoredFile] = {}
        for index, (mv, document) in enumerate(zip(versions, documents, strict=True)):
            try:
                file = choose(document, mv, [read_file(one) for one in named.get(filename(mv), ())]) if mv else None
            except StorageUnavailable as error:
                self.log.warn("{mv} is left out: {reason}", mv=mv, reason=str(error), detail=error.detail)
                continue
            if file is not None:
                chosen[index] = file
        whole = await self._grid.whole(what, chosen.values())
        return [mv for index, mv in enumerate(versions) if mv and index in chosen and chosen[index].id in whole]

    async def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}; two queries."""
        check_path(path)
        what = f"listing {path}"
        documents = await self._modules.find(what, {"module": path, **FILES}, projection=NAMES_ONLY)
        wanted = [one for one in documents if (mv := version_of(one)) is not None and is_listed(mv.version)]
        return sorted({mv.version for mv in await self._complete(what, wanted)})

    async def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        document, _ = await self._stored("info", mv)
        return bytes(document["info"])

    async def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        document, _ = await self._stored("mod", mv)
        return bytes(document["mod"])

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """See L{IStorage.zip}."""
        _, file = await self._stored("zip", mv)
        return self._grid.open(file)

    async def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}."""
        return (await self._look(f"exists {mv}", mv)).complete

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """See L{IStorage.catalog}; in the order of C{_id}, the last of which is the token, as Athens has it."""
        check_limit(limit)
        if token and not re.fullmatch(r"[0-9a-fA-F]{24}", token):
            raise InvalidRequest("the token of the catalog is not one that it gave")
        after = ObjectId(token or "0" * 24)
        page: dict[ModuleVersion, ObjectId] = {}
        while len(page) <= limit:
            wanted = {"_id": {"$gt": after}, **FILES}
            size = min(limit + 1 - len(page), _PAGE)
            options = {"sort": {"_id": 1}, "projection": NAMES_ONLY, "limit": size}
            documents = await self._modules.find("catalog", wanted, **options)
            complete = set(await self._complete("catalog", documents))
            for document in documents:
                mv = version_of(document)
                if mv is not None and mv in complete:
                    page.setdefault(mv, document["_id"])
            if len(documents) < size:
                break
            after = documents[-1]["_id"]
        found = builtins.list(page)[:limit]
        return found, str(page[found[-1]]) if len(page) > limit else ""

    async def incomplete(self) -> Sequence[ModuleVersion]:
        """See L{IFindsIncomplete.incomplete}; Athens' files without a document do not tell whose they are."""
        found: set[ModuleVersion] = set()
        async for page in self._modules.pages("incomplete", {}, projection={**NAMES_ONLY, "info": 1, "mod": 1}):
            good = [one for one in page if all(one.get(name) and isinstance(one[name], bytes) for name in FILES)]
            complete = set(await self._complete("incomplete", good))
            found.update(mv for mv in map(version_of, page) if mv is not None and mv not in complete)
        found.update(await Sweeper(self._reactor, self._modules, self._grid, 0, self._wall).files_alone())
        return sorted(found, key=str)

    async def check(self) -> None:
        """Read something."""
        await self._modules.look(min(_CHECK_LIMIT, self._settings.limit), patient=False)

    # Saving and deleting

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """See L{IStorage.save}."""
        what = f"saving {mv}"
        try:
            check_names(mv)
            check_files(mv, info, mod)
            if len(info) + len(mod) > _DOCUMENT:
                raise BadUpstream(f"{mv} has {len(info) + len(mod)} bytes of .info and go.mod: more than MongoDB takes")
            found = await self._look(what, mv)
            if not found.complete:
                await self._make_way(what, mv, found)
        except BaseException:
            zip.stopProducing()
            raise
        if found.complete:
            zip.stopProducing()
            return
        upload = self._grid.upload(mv, zip)
        try:
            await upload.run()
        except BaseException as error:
            await self._cleaned(mv, upload, error)
            raise
        document = {"_id": upload.id, "module": mv.path, "version": mv.version, "mod": mod, "info": info}
        await self._in_background(self._publish(what, mv, document, upload, found))

    async def _make_way(self, what: str, mv: ModuleVersion, found: Found) -> None:
        """
        Take away what there is of an incomplete version: with our file its document would be a version of two halves,
        and Athens takes a file of the same name for ours. It inserts its document before its file, so one without a
        document is not on its way; one of ours may be.
        """
        if found.document is not None:
            await self._modules.delete(what, {"_id": found.document["_id"]})
        for file in await self._belonging(what, mv, found.files):
            if file.owner is None:
                await self._grid.remove(what, file.id)

    async def _publish(self, what: str, mv: ModuleVersion, document: Document, upload: Upload, found: Found) -> None:
        """Insert the document, unless somebody else's version is complete by now."""
        try:
            for _ in range(_TRIES):
                if await self._modules.insert(what, [document]):
                    break
                found = await self._look(what, mv, sure=True)
                if found.document is not None and found.document["_id"] == upload.id:
                    break  # it was sent twice
                if found.complete:
                    await upload.undo()
                    return
                await self._make_way(what, mv, found)
            else:
                raise StorageUnavailable(f"mongo storage: {what}: others write it at the same time", retry_after=10)
            if not await self._grid.files.first(what, {"_id": upload.id}, limit=1, projection={"_id": 1}):
                await self._modules.delete(what, {"_id": upload.id})
                raise StorageUnavailable(f"mongo storage: {what}: it was deleted at the same time", retry_after=10)
        except StorageUnavailable as error:
            await self._cleaned(mv, upload, error)
            raise
        await self._remove_others(what, mv, found.files, upload.id)

    async def _remove_others(self, what: str, mv: ModuleVersion, files: Iterable[StoredFile], kept: ObjectId) -> None:
        """Remove what earlier saves have left; if that fails the version is saved all the same."""
        try:
            for file in await self._belonging(what, mv, files):
                if file.id != kept:
                    await self._grid.remove(what, file.id)
        except StorageUnavailable as error:
            self.log.warn("{what}: old files are left: {reason}", what=what, reason=str(error), detail=error.detail)

    async def _cleaned(self, mv: ModuleVersion, upload: Upload, error: BaseException) -> None:
        """Remove what was sent. Who was told that the store is in trouble does not wait for the same again."""
        done = self._in_background(self._undo(mv, upload))
        if not isinstance(error, StorageUnavailable):
            await done

    async def _undo(self, mv: ModuleVersion, upload: Upload) -> None:
        try:
            document = await self._modules.first(f"saving {mv}", {"_id": upload.id}, limit=1)
            if not document:
                await upload.undo()
        except StorageUnavailable as error:
            self.log.warn(
                "what was sent of {mv} is left in the store: {reason}; it is removed later",
                mv=mv,
                reason=str(error),
                detail=error.detail,
            )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> Deferred[None]:
        """@return: fires when C{work} is done, which goes on if nobody waits for it any more."""
        task = Deferred.fromCoroutine(work)
        self._tasks.add(task)
        waiter: Deferred[None] = until(task)
        task.addBoth(lambda _: self._tasks.discard(task))
        return waiter

    async def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        check_names(mv)
        what = f"deleting {mv}"
        documents, named = await both(
            self._modules.find(what, {"module": mv.path, "version": mv.version}, projection=NAMES_ONLY),
            self._grid.files.find(what, {"filename": filename(mv)}, projection={"metadata": 1, "filename": 1}),
        )
        if documents:
            await self._modules.delete(what, {"_id": {"$in": [document["_id"] for document in documents]}})
        files = [read_file({"length": 0, "chunkSize": 1, **one}) for one in named]
        theirs = {file.id for file in (choose(document, mv, files) for document in documents) if file is not None}
        gone = [
            file
            for file in await self._belonging(what, mv, files)
            if file.id in theirs or file.owner is None or not self._is_new(file.id)  # which somebody may be saving
        ]
        for file in gone:
            await self._grid.remove(what, file.id)
        if not documents and not gone:
            raise NotFound(f"{mv} is not stored")

    async def _belonging(self, what: str, mv: ModuleVersion, files: Iterable[StoredFile]) -> builtins.list[StoredFile]:
        """
        @return: the files that are of this version. One of Athens is not, if there is another module whose file would
            have the same name, as C{a_b/c} for C{a/b_c}, and that has no file of its own.
        """
        files = list(files)
        ours = [file for file in files if file.owner == mv]
        nobodys = [file for file in files if file.owner is None]
        if not nobodys:
            return ours
        like = "^" + "[/_]".join(re.escape(part) for part in re.split("[/_]", mv.path)) + "$"
        wanted = {"module": {"$regex": like}, "version": mv.version}
        owners = {file.owner for file in files} | {file.id for file in files}
        for other in await self._modules.find(what, wanted, projection=NAMES_ONLY):
            if other["_id"] not in owners and version_of(other) not in (mv, *owners):
                return ours
        return ours + nobodys
