"""A storage that counts and times what is asked of the storage behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IBodyProducer
from zope.interface import alsoProvides, implementer

from athens_tx.interfaces import ILinks, IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.observe.metrics import Metrics, outcome

T = TypeVar("T")


@implementer(IStorage)
class MeteredStorage:
    """
    Passes everything on to C{storage}; its results and failures are those of C{storage}, untouched.

    Not a service: the storage behind it is the one to be started and stopped. It provides L{ILinks} where that does.
    """

    def __init__(self, storage: IStorage, metrics: Metrics, clock: IReactorTime) -> None:
        self._storage = storage
        self._metrics = metrics
        self._clock = clock
        if ILinks.providedBy(storage):
            alsoProvides(self, ILinks)

    async def _metered(self, operation: str, work: Awaitable[T]) -> T:
        started = self._clock.seconds()
        error: BaseException | None = None
        try:
            return await work
        except BaseException as raised:
            error = raised
            raise
        finally:
            # A clock that is set back must not take seconds out of a sum.
            seconds = max(0.0, self._clock.seconds() - started)
            self._metrics.storage_operation(operation, outcome(error), seconds)

    async def list(self, path: str) -> Sequence[str]:
        return await self._metered("list", self._storage.list(path))

    async def info(self, mv: ModuleVersion) -> bytes:
        return await self._metered("info", self._storage.info(mv))

    async def mod(self, mv: ModuleVersion) -> bytes:
        return await self._metered("mod", self._storage.mod(mv))

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        return await self._metered("zip", self._storage.zip(mv, whole=whole))

    async def exists(self, mv: ModuleVersion) -> bool:
        return await self._metered("exists", self._storage.exists(mv))

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        await self._metered("save", self._storage.save(mv, info, mod, zip))

    async def delete(self, mv: ModuleVersion) -> None:
        await self._metered("delete", self._storage.delete(mv))

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        return await self._metered("catalog", self._storage.catalog(token, limit))

    async def link(self, mv: ModuleVersion) -> str:
        return await self._metered("link", ILinks(self._storage).link(mv))

    async def check(self) -> None:
        await self._metered("check", self._storage.check())
