"""Brings versions from one store into another, one at a time; L{athens_tx.progress.each} calls it for many at once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.copying.ends import FROM, TO
from athens_tx.errors import AlreadyStored, AthensError, BadUpstream, NotSupported, StorageUnavailable
from athens_tx.inspection import Inspected, inspected
from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.progress import Pages, Walk
from athens_tx.storage.body import FileZip

T = TypeVar("T")

#: Module versions that a page of the catalog has.
PAGE = 1000
#: Seconds before a store in trouble is asked again; and how long it may want us to wait.
PAUSES = (1.0, 3.0, 9.0)
LONGEST_PAUSE = 60.0
#: So many versions in a row that a store in trouble kept from being copied end the copy.
ROW = 20


class Stopped(AthensError):
    """There is no point in going on."""


@attrs.define
class Tally:
    """What came of the versions. C{bytes} are those of what was copied; with C{dry_run} C{copied} would be."""

    copied: int = 0
    there: int = 0
    failed: int = 0
    bytes: int = 0


@implementer(IBodyProducer)
class _Reading:
    """
    A zip on its way.

    @ivar failed: whether it was the reading of it that failed.
    """

    def __init__(self, zip: IZip) -> None:
        self.length = zip.length
        self.failed = False
        self._zip = zip

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        produced: Deferred[None] = self._zip.startProducing(consumer)
        return produced.addErrback(self._note)

    def _note(self, failure: Failure) -> Failure:
        self.failed = failure.check(CancelledError) is None
        return failure

    def pauseProducing(self) -> None:
        self._zip.pauseProducing()

    def resumeProducing(self) -> None:
        self._zip.resumeProducing()

    def stopProducing(self) -> None:
        self._zip.stopProducing()


@contextmanager
def _blamed(side: Callable[[], str]) -> Iterator[None]:
    """Say of an error whose it is."""
    try:
        yield
    except AthensError as error:
        told = error.afresh()
        told.args = (f"{side()}: {error}",)
        raise told from error


class Copier:
    """
    @ivar tally: what came of the versions so far.
    """

    def __init__(
        self,
        reactor: Any,
        source: IStorage,
        target: IStorage,
        *,
        failed: Callable[[ModuleVersion, AthensError], None],
        dry_run: bool = False,
        verify: bool = False,
        go_get_dir: str = "",
    ) -> None:
        """
        @param failed: told of each version that is not copied, and why.
        @param dry_run: only look what there is to be done.
        @param verify: check what is copied before, read it back and compare; also what is there already.
        @param go_get_dir: where large temporary files have their place.
        """
        self.tally = Tally()
        self._reactor = reactor
        self._source = source
        self._target = target
        self._failed = failed
        self._dry_run = dry_run
        self._verify = verify
        self._go_get_dir = go_get_dir
        self._row = 0
        self._stopping = False

    def stop(self) -> None:
        """Try nothing again: it is all being cancelled."""
        self._stopping = True

    async def versions(self) -> Walk:
        """
        Walk through the source, a page at a time.

        @raise Stopped: it can't be walked through, or not any more.
        """
        token, more, pages = "", True, Pages()
        while more:
            try:
                with _blamed(lambda: FROM):
                    page, token = await self._again(partial(self._source.catalog, token, PAGE))
                    pages.turn(page, token)
            except NotSupported as error:
                raise Stopped(f"{error}: what is in it can't be found out") from error
            except AthensError as error:
                raise Stopped(str(error), detail=error.detail) from error
            for mv in page:
                yield mv
            more = bool(token)

    async def copy(self, mv: ModuleVersion) -> None:
        """
        Bring one version over. That it can't be done is no failure of this, but told and counted.

        @raise Stopped: one failed after the other.
        """
        try:
            size = await self._again(partial(self._bring, mv))
        except AthensError as error:
            self.tally.failed += 1
            self._failed(mv, error)
            self._count_row(error)
            return
        self._row = 0
        if size is None:
            self.tally.there += 1
        else:
            self.tally.copied += 1
            self.tally.bytes += size

    def _count_row(self, error: AthensError) -> None:
        """A version can be broken by itself; a store that is in trouble all the time is another matter."""
        if isinstance(error, StorageUnavailable):
            self._row += 1
            if self._row >= ROW:
                raise Stopped(f"{ROW} versions failed one after the other, the last one because of {error}")

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """@return: what C{ask} gives, some time, although a store may be in trouble now."""
        for pause in PAUSES:
            try:
                return await ask()
            except StorageUnavailable as error:
                if self._stopping:
                    raise CancelledError from error
                wait = max(pause * random.uniform(0.75, 1.25), min(error.retry_after or 0, LONGEST_PAUSE))  # noqa: S311
            await deferLater(self._reactor, wait)
        return await ask()

    async def _bring(self, mv: ModuleVersion) -> int | None:
        """@return: how many bytes were copied; C{None} if the version was there."""
        with _blamed(lambda: TO):
            there = await self._target.exists(mv)
        if self._dry_run:
            return None if there else 0
        if self._verify:
            return await self._bring_verified(mv, there)
        if there:
            return None
        with _blamed(lambda: FROM):
            info, mod = await self._source.info(mv), await self._source.mod(mv)
            zip = await self._source.zip(mv)
        return await self._save(mv, info, mod, _Reading(zip))

    async def _save(self, mv: ModuleVersion, info: bytes, mod: bytes, body: _Reading) -> int | None:
        try:
            with _blamed(lambda: FROM if body.failed else TO):
                await self._target.save(mv, info, mod, body)
        except AlreadyStored:  # somebody was faster
            return None
        return len(info) + len(mod) + body.length

    async def _bring_verified(self, mv: ModuleVersion, there: bool) -> int | None:
        """@raise BadUpstream: what is at the source is broken, or what is at the target is something else."""
        size = None
        async with AsyncExitStack() as stack:
            with _blamed(lambda: FROM):
                found = await stack.enter_async_context(self._inspected(self._source, mv))
            if not there:
                zip = FileZip(self._reactor, found.zip, found.size)
                size = await self._save(mv, found.info, found.mod, _Reading(zip))
        with _blamed(lambda: TO):
            async with self._inspected(self._target, mv) as copy:
                if copy.sum != found.sum:
                    raise BadUpstream(f"the zip there has {copy.sum}, the one of {FROM} {found.sum}")
                # What somebody else has stored there may have been described in other words.
                if size is not None and (copy.info, copy.mod) != (found.info, found.mod):
                    raise BadUpstream(f"the .info or the go.mod there is not the one of {FROM}")
        return size

    def _inspected(self, storage: IStorage, mv: ModuleVersion) -> AbstractAsyncContextManager[Inspected]:
        return inspected(self._reactor, storage, mv, self._go_get_dir)
