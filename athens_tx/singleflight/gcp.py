"""
Locks in Google Cloud Storage: an object of ours, where Athens has no lock at all and sees nothing of ours.

Whoever makes the object has the lock, until he removes it or has not written it for its lease, by the clock of the
store.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.config.backends import Gcp
from athens_tx.errors import LockLost, StorageUnavailable
from athens_tx.http_client import Response
from athens_tx.interfaces import ILock, ILocks, StoredObject
from athens_tx.singleflight.objects import Pauses, Sweeper, started, told_as_lock
from athens_tx.storage.gcp import GcpObjects
from athens_tx.storage.gcp_bucket import Bucket, absent, encoded, md5, reason
from athens_tx.storage.gcp_start import gcp_objects
from athens_tx.storage.gcp_upload import insert

#: What the keys of the locks begin and end with: nothing that is a file of a version.
PREFIX = ".athens-tx/locks/"
ENDING = ".lock"
#: Seconds that a lock lives without being renewed.
LEASE = 30.0
#: Seconds for one operation.
LIMIT = 10.0


@implementer(ILocks)
class GcpLocks:
    """
    The locks of one daemon.

    @ivar lease: seconds that the next lock lives without being renewed; the same for all daemons.
    """

    def __init__(self, reactor: Any, objects: GcpObjects) -> None:
        """@param objects: not connected; closed by L{close}."""
        self.reactor = reactor
        self.lease = LEASE
        self._objects = objects
        self._sweeper = Sweeper(reactor, objects, PREFIX, self._remove)

    @property
    def bucket(self) -> Bucket:
        """Where the locks are."""
        return self._objects.bucket

    async def connect(self) -> None:
        """See L{ILocks.connect}: once the whole of what a lock needs."""
        await started(self.reactor, "gcp", self._connect())
        self._sweeper.start()

    async def _connect(self) -> None:
        await self._objects.connect()
        lock = self.lock(f"athens-tx-probe@{secrets.token_hex(8)}")
        await lock.take()
        await lock.renew()
        await lock.release()

    async def close(self) -> None:
        """See L{ILocks.close}."""
        self._sweeper.stop()
        await self._objects.close()

    async def check(self) -> None:
        """See L{ILocks.check}."""
        await self.lock("athens-tx-probe@v0").look()

    def lock(self, name: str) -> GcpLock:
        """See L{ILocks.lock}."""
        return GcpLock(self, name)

    async def _remove(self, stored: StoredObject) -> None:
        await self._objects.remove(stored.key, stored.tag)


@attrs.frozen
class _Known:
    """
    What the store knows of a lock.

    @ivar ours: whether we have it.
    @ivar age: seconds since it was written, at least.
    """

    generation: str
    ours: bool
    age: float


@implementer(ILock)
class GcpLock:
    """One who wants a lock."""

    log = Logger()

    def __init__(self, locks: GcpLocks, name: str) -> None:
        self.lease = locks.lease
        self._locks = locks
        self._key = f"{PREFIX}{name}{ENDING}"
        self._token = secrets.token_hex(16).encode()
        digest = md5()
        digest.update(self._token)
        self._digest = encoded(digest)
        self._pauses = Pauses()
        self._generation = ""  # of our object; empty while we have none
        self._unsure = self._taken = False

    async def take(self) -> bool:
        """See L{ILock.take}."""
        self._unsure = True
        held = await self._take()
        self._unsure = False
        return held

    async def _take(self) -> bool:
        if not self._taken and await self._write("0"):
            return True
        known = await self.look()
        self._taken = known is not None
        if known is None:
            return await self._write("0")
        if known.ours:
            self._generation = known.generation
            return True
        if known.age <= self.lease or not await self._write(known.generation):
            return False
        self.log.info("took over a lock whose holder is gone: {key}", key=self._key)
        return True

    async def changed(self, seconds: float) -> None:
        """See L{ILock.changed}: nobody tells."""
        await deferLater(self._locks.reactor, min(seconds, self._pauses.next()))

    async def renew(self) -> bool:
        """See L{ILock.renew}."""
        if await self._write(self._generation or "0"):
            return True
        known = await self.look()  # an attempt whose answer we did not get may have renewed it
        if known is None or not known.ours:
            return False
        self._generation = known.generation
        return True

    async def release(self) -> None:
        """See L{ILock.release}."""
        held, generation = bool(self._generation), self._generation
        self._generation = ""
        if not held and not self._unsure:
            return
        if held and await self._remove(generation):
            return
        known = await self.look()
        if known is not None and known.ours and await self._remove(known.generation):
            return
        if held:
            raise LockLost("gcp lock: it was not ours any more")

    async def look(self) -> _Known | None:
        """@return: what the store knows; raise L{LockUnavailable}."""
        with told_as_lock("gcp"):
            bucket = self._locks.bucket
            what = f"look at {self._key}"
            url = bucket.object(self._key, fields="generation,md5Hash,updated")
            answer = await bucket.send(what, "GET", url, expect=(200, 404))
            if answer.status == 404:
                gone = absent(self._key, answer.body)
                if isinstance(gone, StorageUnavailable):
                    raise gone
                return None
            document = bucket.read(what, answer)
            try:
                age = _age(answer, str(document["updated"]))
                return _Known(str(document["generation"]), document.get("md5Hash") == self._digest, age)
            except (KeyError, ValueError, TypeError) as error:
                raise bucket.strange(what, type(error).__name__) from None

    async def _write(self, generation: str) -> bool:
        """
        Write our object.

        @param generation: what is to be replaced; C{0} if there must be nothing.
        @return: whether it is there now; if not, we may have written it in an earlier attempt.
        """
        with told_as_lock("gcp"):
            bucket = self._locks.bucket
            condition = {"ifGenerationMatch": generation}
            answer = await insert(bucket, self._key, (self._token,), self._digest, "text/plain", condition)
            if answer.status == 404:
                detail = f"{reason(answer.body)}: look at Storage.GCP.Bucket"
                raise StorageUnavailable(f"gcp storage: put {self._key}: status 404", detail=detail)
            if answer.status == 412:
                return False
            made = bucket.read(f"put {self._key}", answer).get("generation")
            if not made:
                raise bucket.strange(f"put {self._key}", "no generation")
            self._generation = str(made)
            return True

    async def _remove(self, generation: str) -> bool:
        """@return: whether that generation was there."""
        with told_as_lock("gcp"):
            url = self._locks.bucket.object(self._key, generation=generation, ifGenerationMatch=generation)
            answer = await self._locks.bucket.send(f"delete {self._key}", "DELETE", url, expect=(200, 204, 404, 412))
            return answer.status < 300


def _age(answer: Response, updated: str) -> float:
    """@return: seconds between two times of the store's."""
    date, since = answer.header("Date"), datetime.fromisoformat(updated)
    return (parsedate_to_datetime(date) - since).total_seconds() if date else 0.0


def gcp_locks(reactor: Any, table: Gcp, environ: Mapping[str, str]) -> GcpLocks:
    """
    @param table: the settings of the storage.
    @param environ: see L{gcp_objects}.
    """
    return GcpLocks(reactor, gcp_objects(reactor, table, environ, timeout=LIMIT))
