"""Versions kept in memory, for tests and for trying out: bounded in bytes, gone at the end of the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip, MemorySink, pour
from athens_tx.storage.layout import (
    check_files,
    check_limit,
    check_names,
    check_path,
    is_listed,
    order,
    parse_token,
    token_of,
)

#: What a version costs besides its bytes, so that many small ones are bounded too.
OVERHEAD = 1024


@attrs.frozen
class _Stored:
    info: bytes
    mod: bytes
    zip: bytes

    @property
    def size(self) -> int:
        return len(self.info) + len(self.mod) + len(self.zip) + OVERHEAD


@implementer(IStorage)
class MemoryStorage(Service):
    """
    A storage of at most C{limit} bytes.

    A build must go on when the memory is full, and nothing here outlives a restart anyway: the versions that were not
    read for the longest time make room for a new one. Only one that is too large by itself is refused. What is being
    saved counts: a save waits for the others until there is room. What makes room while it is read stays until then.
    """

    log = Logger()

    def __init__(self, limit: int) -> None:
        self.ready: Deferred[None] = succeed(None)
        self._limit = limit
        self._versions: OrderedDict[ModuleVersion, _Stored] = OrderedDict()
        self._used = 0  # by what is stored
        self._reserved = 0  # by what is being saved
        self._waiting: list[Deferred[None]] = []
        self._warned = False

    async def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}."""
        check_path(path)
        return [mv.version for mv in self._versions if mv.path == path and is_listed(mv.version)]

    def _read(self, mv: ModuleVersion) -> _Stored:
        check_names(mv)
        if mv not in self._versions:
            raise NotFound(f"{mv} is not stored")
        self._versions.move_to_end(mv)
        return self._versions[mv]

    async def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        return self._read(mv).info

    async def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        return self._read(mv).mod

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """See L{IStorage.zip}."""
        return BytesZip(self._read(mv).zip)

    async def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}."""
        check_names(mv)
        return mv in self._versions

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """
        See L{IStorage.save}.

        @raise StorageUnavailable: this version alone is larger than the limit.
        """
        size = len(info) + len(mod) + zip.length + OVERHEAD
        try:
            check_names(mv)
            check_files(mv, info, mod)
            if size > self._limit:
                raise StorageUnavailable(f"{mv} needs {size} bytes, more than MemoryStorageLimit = {self._limit}")
            while mv not in self._versions and not self._make_room(size):
                await self._until_room()
            if mv in self._versions:
                zip.stopProducing()
                return
        except BaseException:
            zip.stopProducing()
            raise
        self._reserved += size
        try:
            sink = MemorySink(zip.length)
            await pour(zip, sink)
            if mv not in self._versions:  # else somebody was faster
                self._versions[mv] = _Stored(info, mod, sink.value())
                self._used += size
        finally:
            self._reserved -= size
            self._tell_waiting()

    def _make_room(self, size: int) -> bool:
        if self._reserved + size > self._limit:
            return False
        while self._used + self._reserved + size > self._limit:
            mv, stored = self._versions.popitem(last=False)
            self._used -= stored.size
            if not self._warned:
                self._warned = True
                self.log.warn(
                    "MemoryStorageLimit = {limit} is reached: from now on the versions not read for the longest time"
                    " make room, first {mv}",
                    limit=self._limit,
                    mv=mv,
                )
            self.log.debug("dropped {mv} ({size} bytes) from memory", mv=mv, size=stored.size)
        return True

    def _until_room(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting.copy():
            if not waiter.called:  # one may cancel the next
                waiter.callback(None)

    async def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        self._used -= self._read(mv).size
        del self._versions[mv]

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """See L{IStorage.catalog}."""
        check_limit(limit)
        after = parse_token(token)
        rest = sorted((mv for mv in self._versions if order(mv) > after), key=order)
        page = rest[:limit]
        return page, token_of(page[-1]) if len(rest) > limit else ""

    async def check(self) -> None:
        """Memory always works."""
