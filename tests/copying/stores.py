"""Stores for the tests of copying: filled ones, and one that fails where a test wants it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.iweb import IBodyProducer

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.memory import MemoryStorage


def versions(count: int) -> list[ModuleVersion]:
    """@return: some, of several modules, in the order of the catalog."""
    return [ModuleVersion(f"example.com/m{i // 4}", f"v1.{i % 4}.0") for i in range(count)]


def files(mv: ModuleVersion, more: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """@return: info, mod and zip of a version that is what it claims to be."""
    mod = f"module {mv.path}\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in (("go.mod", mod), ("m.go", b"package m\n" + more)):
            archive.writestr(zipfile.ZipInfo(f"{mv}/{name}"), content)
    info = json.dumps({"Version": mv.version, "Time": "2024-01-01T00:00:00Z"}).encode()
    return info, mod, packed.getvalue()


async def fill(storage: Any, wanted: Sequence[ModuleVersion], more: bytes = b"") -> None:
    """Store versions."""
    for mv in wanted:
        info, mod, zip = files(mv, more)
        await storage.save(mv, info, mod, BytesZip(zip))


class TroubledZip(BytesZip):
    """Fails when it is half over."""

    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__(data)
        self._error = error

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data[: self.length // 2])
        failed: Deferred[None] = Deferred()
        failed.errback(self._error)
        return failed


class Troubled(MemoryStorage):
    """
    A storage in memory with troubles.

    @ivar troubles: the errors of an operation, by its name (C{body} is the reading of a zip), first those of the next
        calls; C{None} is a call that succeeds.
    @ivar always: the error of each call of an operation.
    @ivar held: operations that wait first, and what makes the Deferred to wait for.
    @ivar calls: the operations that were asked for.
    """

    def __init__(self) -> None:
        super().__init__(1 << 30)
        self.troubles: dict[str, list[Exception | None]] = {}
        self.always: dict[str, Exception] = {}
        self.held: dict[str, Callable[[], Deferred[None]]] = {}
        self.calls: list[str] = []

    async def _trouble(self, name: str) -> None:
        self.calls.append(name)
        if name in self.held:
            await self.held[name]()
        waiting = self.troubles.get(name)
        error = waiting.pop(0) if waiting else self.always.get(name)
        if error is not None:
            raise error

    async def info(self, mv: ModuleVersion) -> bytes:
        await self._trouble("info")
        return await super().info(mv)

    async def mod(self, mv: ModuleVersion) -> bytes:
        await self._trouble("mod")
        return await super().mod(mv)

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> Any:
        await self._trouble("zip")
        try:
            await self._trouble("body")
        except Exception as error:
            return TroubledZip(self._read(mv).zip, error)
        return await super().zip(mv)

    async def exists(self, mv: ModuleVersion) -> bool:
        await self._trouble("exists")
        return await super().exists(mv)

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        try:
            await self._trouble("save")
        except BaseException:
            zip.stopProducing()
            raise
        await super().save(mv, info, mod, zip)

    async def catalog(self, token: str, limit: int) -> Any:
        await self._trouble("catalog")
        return await super().catalog(token, limit)
