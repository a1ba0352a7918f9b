"""Saves that have begun and of which no line came: compares them with the storage, which knows how they ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from athens_tx.errors import IndexUnavailable, NotSupported, StorageUnavailable
from athens_tx.index.intents import LONG_AGO
from athens_tx.index.keeper import Keeper
from athens_tx.module.version import ModuleVersion

#: Seconds between two looks for saves of which nothing is known.
EVERY = 15.0
#: Seconds that a storage may take beyond the limit of a save, to end what nobody waits for any more.
GRACE = 30.0


class Unfinished:
    """
    @param exists: asks the storage.
    @param limit: seconds that a save may take.
    @param add: writes a line.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        keeper: Keeper,
        exists: Callable[[ModuleVersion], Awaitable[bool]],
        limit: float,
        add: Callable[[ModuleVersion], Awaitable[None]],
    ) -> None:
        self._reactor = reactor
        self._keeper = keeper
        self._exists = exists
        self._limit = limit + GRACE
        self._add = add

    async def run(self) -> None:
        """For ever, now and then: see what became of those that are due."""
        while True:
            try:
                await self.look()
            except CancelledError:
                raise
            except (StorageUnavailable, IndexUnavailable) as error:
                self.log.debug("what became of some saves is not known yet: {reason}", reason=str(error))
            except Exception:
                self.log.failure("looking after saves without a line failed")
            await deferLater(self._reactor, EVERY, lambda: None)

    async def look(self) -> None:
        """Those of dead processes are due at once, those of this one when they can't be under way any more."""
        now = self._reactor.seconds()
        for mv, since in await self._keeper.begun(now - self._limit):
            if await self._stored(mv):
                self.log.info("{mv} was stored without a line in the index: it gets one", mv=str(mv))
                await self._add(mv)
            elif since == LONG_AGO:
                await self._keeper.begin(mv)  # its last bytes may be on their way
            else:
                await self._keeper.settle(mv, since)

    async def _stored(self, mv: ModuleVersion) -> bool:
        try:
            return await self._exists(mv)
        except (StorageUnavailable, IndexUnavailable):
            raise
        except NotSupported:
            return False
