"""The contract's stores behind an athens-tx that offers its disk storage as external storage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.external import ExternalStorage
from tests.support.external import ExternalServer

TIMEOUT = 20.0


class Served(ExternalStorage):
    """An external storage with a server of its own."""

    def __init__(self, reactor: Any, server: ExternalServer, url: str = "") -> None:
        self.server = server
        server.listen()
        super().__init__(reactor, url or server.url, {}, TIMEOUT)

    def startService(self) -> None:
        """The disk first."""

        async def ready() -> None:
            await self.server.open()
            ExternalStorage.startService(self)
            await self.ready

        self.ready = Deferred.fromCoroutine(ready())

    def stopService(self) -> Deferred[None]:
        """The server last."""

        async def stop() -> None:
            await ExternalStorage.stopService(self)
            await self.server.stop()

        return Deferred.fromCoroutine(stop())


class ExternalDisk:
    """L{ExternalStorage} over an athens-tx with a L{DiskStorage}, which is what lies in the store."""

    raw = True
    atomic = True
    bad_tokens = ("nonsense", "|", "a|", "|v1.0.0", "../x|v1.0.0", "a|../..", "a|b/c", "a\0|v1.0.0")
    #: Characters that no name on the wire has: C{!} stands for a capital, and the rest of a path is ASCII.
    unspeakable = "!é"

    def __init__(self, reactor: Any, path: Path) -> None:
        from tests.contract.storage_backends import Disk  # which has us in its table

        self._reactor = reactor
        self._path = path
        self._disk = Disk(reactor, path)
        self._servers = 0

    def storage(self) -> Served:
        self._servers += 1
        staging = self._path / f"staging-{self._servers}"
        staging.mkdir()
        return Served(self._reactor, ExternalServer(self._reactor, self._disk.root, staging))

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        return self._disk.files(mv)

    def keys(self) -> Mapping[str, bytes]:
        return self._disk.keys()

    def put(self, key: str, data: bytes) -> None:
        self._disk.put(key, data)

    def drop(self, key: str) -> None:
        self._disk.drop(key)

    def spoil(self, key: str) -> None:
        self._disk.spoil(key)

    def token(self, mv: ModuleVersion) -> str:
        return self._disk.token(mv)
