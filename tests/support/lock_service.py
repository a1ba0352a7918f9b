"""A lock service in memory, that several "daemons" of one test share: leases on a clock, and trouble on demand."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.interfaces import ILock, ILocks


@attrs.define(eq=False)
class LockService:
    """
    @ivar away: it can't be asked.
    @ivar tells: whether who waits is told of a release.
    @ivar takes: how often somebody tried to get a lock.
    @ivar renewals: how often a lock was renewed.
    """

    clock: Clock
    lease: float = 30.0
    away: bool = False
    tells: bool = True
    takes: int = 0
    renewals: int = 0
    holders: dict[str, tuple[object, float]] = attrs.Factory(dict)
    waiting: list[tuple[str, Deferred[None]]] = attrs.Factory(list)

    def daemon(self) -> ServiceLocks:
        """@return: the locks of one more daemon."""
        return ServiceLocks(self)

    def holder(self, name: str) -> object | None:
        """@return: who holds a lock now."""
        holder, ends = self.holders.get(name, (None, 0.0))
        return holder if ends > self.clock.seconds() else None

    def answers(self) -> None:
        """@raise LockUnavailable: it is away."""
        if self.away:
            raise LockUnavailable("lock service: away")

    def told(self, name: str) -> None:
        """Wake who waits for a lock."""
        for entry in [entry for entry in self.waiting if entry[0] == name]:
            self.waiting.remove(entry)
            entry[1].callback(None)


@implementer(ILocks)
@attrs.define(eq=False)
class ServiceLocks:
    """What one daemon has of it; C{closed} when it was told to let go."""

    service: LockService
    closed: bool = False

    async def connect(self) -> None:
        if self.service.away:
            raise ConfigError(["SingleFlight.Test: away"])

    async def close(self) -> None:
        self.closed = True

    async def check(self) -> None:
        self.service.answers()

    def lock(self, name: str) -> ServiceLock:
        return ServiceLock(self.service, name)


@implementer(ILock)
class ServiceLock:
    """One who wants a lock."""

    def __init__(self, service: LockService, name: str) -> None:
        self._service = service
        self._name = name
        self._held = False
        self.lease = service.lease

    async def take(self) -> bool:
        service = self._service
        service.takes += 1
        service.answers()
        if service.holder(self._name) is None:
            service.holders[self._name] = (self, service.clock.seconds() + self.lease)
            self._held = True
        return service.holder(self._name) is self

    async def changed(self, seconds: float) -> None:
        service = self._service
        service.answers()
        if not service.tells:
            await deferLater(service.clock, seconds)
            return
        waiter: Deferred[None] = Deferred(lambda _: service.waiting.remove(entry))
        entry = (self._name, waiter)
        service.waiting.append(entry)
        await waiter.addTimeout(seconds, service.clock, onTimeoutCancel=lambda result, seconds: None)

    async def renew(self) -> bool:
        service = self._service
        service.renewals += 1
        service.answers()
        if service.holder(self._name) is not self:
            return False
        service.holders[self._name] = (self, service.clock.seconds() + self.lease)
        return True

    async def release(self) -> None:
        service = self._service
        service.answers()
        if not self._held:
            return
        self._held = False
        if service.holder(self._name) is not self:
            raise LockLost("lock service: not held")
        del service.holders[self._name]
        service.told(self._name)
