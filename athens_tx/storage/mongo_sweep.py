"""
What is left in GridFS of saves that were killed: chunks without a file, and files of ours without a version.

Nobody is served any of it. It is looked for in the background, slowly, and only among what is old enough to be of a
save that has ended, and young enough that somebody may have left it lately.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from bson.objectid import ObjectId
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gridfs import GridFS
from athens_tx.storage.mongo_collection import Collection, Document

#: Seconds: the youngest and the oldest that are looked at, the pause between two pages, and between two sweeps.
YOUNGEST = 3600.0
OLDEST = 30 * 86400.0
_PAUSE = 0.2
_INTERVAL = 6 * 3600.0
#: How many entries a page has.
_PAGE = 1000


class Sweeper:
    """Sweeps when it is started, and every few hours."""

    log = Logger()

    def __init__(
        self, reactor: Any, modules: Collection, grid: GridFS, stash_limit: float, wall: Callable[[], float]
    ) -> None:
        """
        @param stash_limit: seconds that a save takes at most.
        @param wall: seconds since 1970.
        """
        self._wall = wall
        self._reactor = reactor
        self._modules = modules
        self._grid = grid
        self._youngest = max(YOUNGEST, 2 * stash_limit)
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stop(self) -> None:
        """Leave the rest for another time."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while True:
            try:
                chunks, files = await self.sweep_chunks(), await self.sweep_files()
                if chunks or files:
                    text = "removed {files} files and the chunks of {chunks} more that interrupted saves have left"
                    self.log.info(text, files=files, chunks=chunks)
            except StorageUnavailable as error:
                self.log.warn("what is left of old saves stays: {reason}", reason=str(error), detail=error.detail)
            await deferLater(self._reactor, _INTERVAL, lambda: None)

    def _bounds(self) -> tuple[ObjectId, ObjectId]:
        now = self._wall()
        oldest, youngest = (datetime.fromtimestamp(max(0.0, now - age), UTC) for age in (OLDEST, self._youngest))
        return ObjectId.from_datetime(oldest), ObjectId.from_datetime(youngest)

    async def sweep_chunks(self) -> int:
        """@return: of how many files without a document the chunks were removed."""
        removed = 0
        after, end = self._bounds()
        while True:
            page = await self._grid.chunks.first(
                "sweeping",
                {"files_id": {"$gt": after, "$lt": end}},
                limit=_PAGE,
                sort={"files_id": 1},
                projection={"_id": 0, "files_id": 1},
            )
            ids = sorted({one["files_id"] for one in page})
            known = {
                one["_id"] for one in await self._grid.files.find("sweeping", {"_id": {"$in": ids}}, projection=_ID)
            }
            for id in ids:
                if id not in known:
                    await self._grid.chunks.delete("sweeping", {"files_id": id})
                    removed += 1
            if len(page) < _PAGE:
                return removed
            after = ids[-1]
            await deferLater(self._reactor, _PAUSE, lambda: None)

    async def sweep_files(self) -> int:
        """@return: how many files of ours were removed that belong to no version."""
        removed = 0
        after, end = self._bounds()
        async for page, versions in self._pages({"$gt": after, "$lt": end}):
            for file in page:
                document = versions.get(_owner(file))
                if document is None or (document != file["_id"] and await self._has_its_own(document)):
                    await self._grid.remove("sweeping", file["_id"])
                    removed += 1
            await deferLater(self._reactor, _PAUSE, lambda: None)
        return removed

    async def _has_its_own(self, document: Any) -> bool:
        """@return: whether there is a file of the same save as a document."""
        return bool(await self._grid.files.first("sweeping", {"_id": document}, limit=1, projection=_ID))

    async def files_alone(self) -> list[ModuleVersion]:
        """@return: the versions of which there is a file of ours and no document."""
        found = []
        async for page, versions in self._pages({"$gt": ObjectId("0" * 24)}):
            found += [_owner(file) for file in page if _owner(file) not in versions]
        return found

    async def _pages(self, ids: Document) -> AsyncIterator[tuple[list[Document], dict[ModuleVersion, Any]]]:
        """@return: files of ours by their C{_id}, and the C{_id}s of the documents of their versions."""
        end = {name: value for name, value in ids.items() if name != "$gt"}
        after = ids["$gt"]
        while True:
            page = await self._grid.files.first(
                "sweeping",
                {"_id": {"$gt": after, **end}, "metadata.module": {"$type": 2}, "metadata.version": {"$type": 2}},
                limit=_PAGE // 4,
                sort={"_id": 1},
                projection={"metadata": 1},
            )
            if not page:
                return
            pairs = [{"module": _owner(file).path, "version": _owner(file).version} for file in page]
            documents = await self._modules.find("sweeping", {"$or": pairs}, projection={"module": 1, "version": 1})
            told = [one for one in documents if isinstance(one["module"], str) and isinstance(one["version"], str)]
            yield page, {ModuleVersion(one["module"], one["version"]): one["_id"] for one in told}
            after = page[-1]["_id"]


_ID = {"_id": 1}


def _owner(file: Document) -> ModuleVersion:
    return ModuleVersion(file["metadata"]["module"], file["metadata"]["version"])
