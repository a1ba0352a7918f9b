"""Locks in Azure Blob Storage, as Athens has them: the lease of C{lease/path@version} in the storage's container."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import uuid4

from twisted.internet.task import deferLater
from zope.interface import implementer

from athens_tx.config.backends import AzureBlob
from athens_tx.errors import LockLost, LockUnavailable
from athens_tx.http_client import Response
from athens_tx.interfaces import ILock, ILocks, StoredObject
from athens_tx.singleflight.objects import Pauses, Sweeper, started, told_as_lock
from athens_tx.storage.azure_trouble import described, error_code
from athens_tx.storage.azureblob import AzureObjects
from athens_tx.storage.azureblob_start import azureblob_objects
from athens_tx.storage.parts import Part

#: What the names of the blobs begin with.
PREFIX = "lease/"
#: Seconds that a lock lives without being renewed; Athens' own, and the least that Azure allows.
LEASE = 15.0
#: Seconds for one operation.
LIMIT = 5.0

_DATA = b"\x01"


@implementer(ILocks)
class AzureBlobLocks:
    """The locks of one daemon."""

    def __init__(self, reactor: Any, objects: AzureObjects) -> None:
        """@param objects: not connected; closed by L{close}."""
        self.reactor = reactor
        self.objects = objects
        self._sweeper = Sweeper(reactor, objects, PREFIX, self._remove)

    async def connect(self) -> None:
        """See L{ILocks.connect}: once the whole of what a lock needs."""
        await started(self.reactor, "azureblob", self._connect())
        self._sweeper.start()

    async def _connect(self) -> None:
        await self.objects.connect()
        lock = self.lock(f"athens-tx-probe@{uuid4().hex}")
        await lock.take()
        await lock.renew()
        await lock.release()
        with told_as_lock("azureblob"):
            await self.objects.remove(lock.blob)

    async def close(self) -> None:
        """See L{ILocks.close}."""
        self._sweeper.stop()
        await self.objects.close()

    async def check(self) -> None:
        """See L{ILocks.check}."""
        with told_as_lock("azureblob"):
            await self.objects.page(PREFIX, "", 1)

    def lock(self, name: str) -> AzureBlobLock:
        """See L{ILocks.lock}."""
        return AzureBlobLock(self, name)

    async def sweep(self) -> None:
        """Remove old blobs that nobody has leased; Athens keeps them for ever."""
        await self._sweeper.sweep()

    async def _remove(self, stored: StoredObject) -> None:
        """
        Remove a blob, unless it is leased, or was written meanwhile by one who wants it: Athens fails where its blob is
        gone between its write and its lease.
        """
        headers = {"If-Match": f'"{stored.tag}"'}
        await self.objects.send(
            f"delete {stored.key}", "DELETE", stored.key, {}, headers=headers, expect=(202, 404, 409, 412)
        )


@implementer(ILock)
class AzureBlobLock:
    """
    One who wants a lock.

    @ivar blob: its name.
    """

    lease = LEASE

    def __init__(self, locks: AzureBlobLocks, name: str) -> None:
        self.blob = f"{PREFIX}{name}"
        self._locks = locks
        self._id = str(uuid4())
        self._pauses = Pauses()
        self._written = self._held = self._unsure = False

    async def take(self) -> bool:
        """See L{ILock.take}."""
        if not self._written:
            await self._write()
        self._unsure = True
        answer = await self._acquire()
        if answer.status == 404:  # it was an old one, and removed
            await self._write()
            answer = await self._acquire()
        if answer.status == 404:
            self._unsure = False
            raise self._trouble("take", answer)
        self._unsure, self._held = False, answer.status == 201
        return self._held

    async def _write(self) -> None:
        """Make the blob. Who is first to lease it then has the lock, also where an old lease could be renewed."""
        part = Part(0, 0, (_DATA,), len(_DATA), True)
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        with told_as_lock("azureblob"):
            await self._locks.objects.send(
                f"put {self.blob}", "PUT", self.blob, {}, headers=headers, body=part, expect=(201, 412)
            )
        self._written = True

    async def _acquire(self) -> Response:
        headers = {"x-ms-lease-duration": f"{LEASE:.0f}", "x-ms-proposed-lease-id": self._id}
        return await self._lease("acquire", headers, (201, 404, 409))

    async def _lease(self, action: str, headers: Mapping[str, str], expect: Collection[int]) -> Response:
        sent = {"x-ms-lease-action": action, **headers}
        with told_as_lock("azureblob"):
            return await self._locks.objects.send(
                f"{action} {self.blob}", "PUT", self.blob, {"comp": "lease"}, headers=sent, expect=expect
            )

    def _trouble(self, what: str, answer: Response) -> LockUnavailable:
        text = f"azureblob lock: {what} {self.blob}: status {answer.status} {error_code(answer)}"
        return LockUnavailable(text.rstrip(), detail=described(answer), retry_after=10)

    async def changed(self, seconds: float) -> None:
        """See L{ILock.changed}: nobody tells."""
        await deferLater(self._locks.reactor, min(seconds, self._pauses.next()))

    async def renew(self) -> bool:
        """See L{ILock.renew}."""
        answer = await self._lease("renew", {"x-ms-lease-id": self._id}, (200, 404, 409, 412))
        return answer.status == 200

    async def release(self) -> None:
        """See L{ILock.release}."""
        held, unsure = self._held, self._unsure
        self._held = self._unsure = False
        if not held and not unsure:
            return
        answer = await self._lease("release", {"x-ms-lease-id": self._id}, (200, 404, 409, 412))
        if held and answer.status != 200:
            raise LockLost("azureblob lock: it was not ours any more")


def azureblob_locks(reactor: Any, table: AzureBlob, environ: Mapping[str, str]) -> AzureBlobLocks:
    """
    @param table: the settings of the storage.
    @param environ: see L{azureblob_objects}.
    """
    return AzureBlobLocks(reactor, azureblob_objects(reactor, table, environ, timeout=LIMIT))
