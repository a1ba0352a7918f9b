"""
A storage over an object store, where each file of a version is an object of its own.

The C{.info} is written last: L{exists}, lists and the catalog take a version without it, or without any other of its
files, for absent. Zip and go.mod are written before it, in this order, so that until the zip is there nothing can be
read at all.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import alsoProvides, implementer

from athens_tx.errors import AthensError, ConfigError, NotFound, StorageUnavailable
from athens_tx.interfaces import IFindsIncomplete, ILinks, IObjects, IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.keys import INFO, MOD, ZIP, Group, Layout
from athens_tx.storage.layout import (
    INFO_LIMIT,
    MOD_LIMIT,
    check_files,
    check_limit,
    check_names,
    check_path,
    is_listed,
)
from athens_tx.storage.listing import VersionListing

T = TypeVar("T")

#: Seconds after which what an unfinished upload has left is nobody's any more.
ABANDONED = 24 * 3600.0
#: A partial version that is older, in seconds, is not one that somebody is saving at this moment.
FRESH = 60.0
#: Seconds for which the end waits for what is nearly written.
_CLOSING = 5.0
#: Seconds between two looks for what unfinished uploads have left.
_SWEEP = 6 * 3600.0
#: So much longer is the wait where the info is there and something else is not: Athens writes all three at once, and
#: its zip may be large.
_ATHENS = 20
#: Seconds between two looks at what somebody else is saving.
_LOOK = 0.1


@implementer(IStorage, IFindsIncomplete)
class ObjectStorage(Service):
    """
    Versions as objects of C{objects}, with the keys of C{layout}.

    Two who save one version at the same time do not mix their files, as far as the store knows conditions: each file is
    only written where there is none, or in place of the one that was looked at, the zip first, so that one of them is
    first. The other waits until that version is complete. Who finds a part of one that nobody has touched for a while
    takes it over, the zip again first; whoever was at work on it all the same finds other files than he left then, and
    lets them be.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, objects: IObjects, layout: Layout, *, links: bool = False, patience: float = 3.0
    ) -> None:
        """
        @param links: offer L{ILinks}.
        @param patience: seconds for which a part of a version is taken for one that somebody else is saving.
        """
        self.ready: Deferred[None] = Deferred()
        self._reactor = reactor
        self._objects = objects
        self._layout = layout
        self._listing = VersionListing(objects, layout)
        self._patience = patience
        self._connecting: Deferred[None] | None = None
        self._sweeping: Deferred[None] | None = None
        self._finishing: list[Deferred[bool]] = []
        self._given_up: list[tuple[ModuleVersion, Deferred[bool]]] = []
        if links:
            alsoProvides(self, ILinks)

    # -- the service

    def startService(self) -> None:
        """Connect; L{ready} says how that went."""
        super().startService()
        self._connecting = Deferred.fromCoroutine(self._objects.connect())
        self._connecting.addCallbacks(self._connected, self._refused).chainDeferred(self.ready)

    def _connected(self, _: object) -> None:
        self._sweeping = Deferred.fromCoroutine(self._sweep())

    def _refused(self, failure: Failure) -> Failure:
        if failure.check(ConfigError, CancelledError):
            return failure
        self.log.failure("the storage could not be connected", failure)
        return Failure(ConfigError([f"StorageType: the storage can't be connected: {failure.getErrorMessage()}"]))

    async def _sweep(self) -> None:
        while True:
            try:
                await self._objects.sweep(ABANDONED)
            except AthensError as error:  # there may be no right to: nothing depends on it
                self.log.info("leftovers of uploads stay: {reason}", reason=str(error), detail=error.detail)
            await deferLater(self._reactor, _SWEEP, lambda: None)

    def stopService(self) -> Deferred[None]:
        """Disconnect."""
        super().stopService()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sweeping is not None:
            self._sweeping.addErrback(lambda _: None)
            self._sweeping.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        ends = [_ended(writing) for writing in self._finishing]
        ends += [_ended(uploading) for _, uploading in self._given_up]
        with suppress(DeferredTimeout):
            await DeferredList(ends, consumeErrors=True).addTimeout(_CLOSING, self._reactor)
        await self._objects.close()

    async def check(self) -> None:
        """See L{IStorage.check}."""
        await self._objects.page("", "", 1)

    # -- reading

    async def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        return await self._small(mv, INFO, INFO_LIMIT)

    async def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        return await self._small(mv, MOD, MOD_LIMIT)

    async def _small(self, mv: ModuleVersion, index: int, limit: int) -> bytes:
        check_names(mv)
        try:
            data = await self._objects.get(self._layout.files(mv)[index], limit)
        except NotFound:
            raise NotFound(f"{mv} is not stored") from None
        if not data:
            raise NotFound(f"{mv} is not stored")
        return data

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """See L{IStorage.zip}."""
        check_names(mv)
        try:
            return await self._objects.open(self._layout.files(mv)[ZIP], whole=whole)
        except NotFound:
            raise NotFound(f"{mv} is not stored") from None

    async def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}."""
        check_names(mv)
        return (await self._listing.look(mv)).complete

    async def link(self, mv: ModuleVersion) -> str:
        """See L{ILinks.link}."""
        if not await self.exists(mv):
            raise NotFound(f"{mv} is not stored")
        return await self._objects.link(self._layout.files(mv)[ZIP])

    # -- listing

    async def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}."""
        check_path(path)
        groups = self._listing.groups(self._layout.listed(path))
        return [g.mv.version async for g in groups if g.complete and g.mv.path == path and is_listed(g.mv.version)]

    async def incomplete(self) -> Sequence[ModuleVersion]:
        """See L{IFindsIncomplete.incomplete}."""
        return [group.mv async for group in self._listing.groups("") if not group.complete]

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """See L{IStorage.catalog}. In the order of the store's keys."""
        check_limit(limit)
        return await self._listing.catalog(token, limit)

    # -- writing

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """See L{IStorage.save}."""
        try:
            check_names(mv)
            check_files(mv, info, mod)
            while given_up := [uploading for other, uploading in self._given_up if other == mv]:
                await _ended(given_up[0])
            there = await self._leftovers(await self._listing.look(mv))
        except BaseException:
            zip.stopProducing()
            raise
        if there.complete:
            zip.stopProducing()
        else:
            await self._write(there, info, mod, zip)

    async def _leftovers(self, there: Group) -> Group:
        """
        @return: what is there now: a complete version, or a part of one that nobody is saving, without its info, which
            would show what is written next before all of it is there.
        """
        while not there.complete:
            if there.files and all(file.age < FRESH for file in there.files.values()):
                patience = self._patience * (_ATHENS if INFO in there.files else 1)
                there = await self._settled(there, patience)
            info = there.files.get(INFO)
            if info is None or there.complete:
                break
            if await self._objects.remove(info.key, info.tag):
                del there.files[INFO]
                break
            there = await self._listing.look(there.mv)
        return there

    async def _write(self, there: Group, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        mv = there.mv
        key, content_type = self._layout.files(mv)[ZIP], self._layout.types[ZIP]
        ours = await self._uploaded(mv, self._objects.upload(key, zip, content_type, there.tag(ZIP)))
        if ours:
            # Whoever gives up now, it is nearly done, and better ended than begun again.
            ours = await self._finish(there, info, mod)
        if not ours and not (await self._settled(await self._listing.look(mv), self._patience)).complete:
            raise StorageUnavailable(f"{mv}: somebody else began to save it and did not end", retry_after=5)

    def _uploaded(self, mv: ModuleVersion, upload: Coroutine[Any, Any, bool]) -> Deferred[bool]:
        """
        @return: what C{upload} tells. Where it is cancelled too late, so that nobody knows yet whether the zip is going
            to be there, whoever saves C{mv} next waits for its end before he looks.
        """
        uploading = Deferred.fromCoroutine(upload)
        ended = False  # not uploading.called: that of a coroutine is called as soon as it is cancelled

        def give_up(_: Deferred[bool]) -> None:
            uploading.cancel()
            if not ended:
                self._given_up.append((mv, uploading))

        waiter: Deferred[bool] = Deferred(give_up)

        def done(result: bool | Failure) -> None:
            nonlocal ended
            ended = True
            self._given_up = [entry for entry in self._given_up if entry[1] is not uploading]
            if not waiter.called:
                waiter.callback(result)

        uploading.addBoth(done)
        return waiter

    def _finish(self, there: Group, info: bytes, mod: bytes) -> Deferred[bool]:
        """@return: whether go.mod and info are ours too; its cancelling lets the writing go on."""

        async def write() -> bool:
            if not await self._put(there, MOD, mod):
                return False
            if not there.tag(ZIP):
                return await self._put(there, INFO, info)
            # The zip was taken over. An info that is there now is of the one who had it before, and goes with that.
            await self._objects.put(self._layout.files(there.mv)[INFO], info, self._layout.types[INFO])
            return True

        waiter: Deferred[bool] = Deferred()
        writing = Deferred.fromCoroutine(write())
        self._finishing.append(writing)

        def done(result: bool | Failure) -> None:
            self._finishing.remove(writing)
            waiter.callback(result)

        writing.addBoth(done)
        return waiter

    async def _put(self, there: Group, index: int, data: bytes) -> bool:
        """@return: whether a small file is there now with this content; not if somebody has changed it meanwhile."""
        key, content_type = self._layout.files(there.mv)[index], self._layout.types[index]
        return await self._objects.upload(key, BytesZip(data), content_type, there.tag(index))

    async def _settled(self, there: Group, patience: float) -> Group:
        """@return: C{there} once it is complete, or once nobody has touched it for C{patience} seconds."""
        end = self._reactor.seconds() + patience
        while not there.complete and self._reactor.seconds() < end:
            await deferLater(self._reactor, _LOOK, lambda: None)
            now = await self._listing.look(there.mv)
            if _tags(now) != _tags(there):
                end = self._reactor.seconds() + patience
            there = now
        return there

    async def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        check_names(mv)
        there = await self._listing.look(mv)
        if not there.files:
            raise NotFound(f"{mv} is not stored")
        for _, file in sorted(there.files.items()):  # the info first
            if not await self._objects.remove(file.key, file.tag):
                return  # it is being saved again: that one is to stay


def _ended(deferred: Deferred[T]) -> Deferred[None]:
    """@return: fires when C{deferred} does, whose result goes on to those who want it."""
    ended: Deferred[None] = Deferred()

    def tell(result: T | Failure) -> T | Failure:
        ended.callback(None)
        return result

    deferred.addBoth(tell)
    return ended


def _tags(group: Group) -> dict[int, str]:
    return {index: file.tag for index, file in group.files.items()}
