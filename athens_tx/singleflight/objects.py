"""What the locks have in common that are objects of the storage: waits without news, trouble, and old objects."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from athens_tx.errors import AthensError, ConfigError, LockUnavailable, StorageUnavailable
from athens_tx.interfaces import IObjects, StoredObject
from athens_tx.starting import in_time

#: Seconds that the start waits for the store.
START_LIMIT = 12.0
#: Seconds after which nobody wants an object any more that is a lock: longer than anybody works or waits.
ABANDONED = 24 * 3600.0
#: Seconds between two looks for such objects, more or less.
SWEEP = 6 * 3600.0
#: Seconds before the first.
FIRST_SWEEP = 60.0

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 1.0


class Pauses:
    """How long one waits who is told nothing: longer each time, and not when all others look."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._pause = _FIRST_PAUSE

    def next(self) -> float:
        """@return: seconds."""
        pause, self._pause = self._pause, min(_LONGEST_PAUSE, 1.25 * self._pause)
        return pause * (0.75 + 0.5 * self._chance())


@contextmanager
def told_as_lock(name: str) -> Iterator[None]:
    """Around the use of the storage C{name}: its trouble is that of the lock."""
    try:
        yield
    except StorageUnavailable as error:
        text = str(error).removeprefix(f"{name} storage: ")
        raise LockUnavailable(
            f"{name} lock: {text}", detail=error.detail, retry_after=error.retry_after or 10
        ) from None


async def started(reactor: Any, kind: str, starting: Coroutine[Any, Any, None]) -> None:
    """Wait for a start of the lock service C{kind}, and raise L{ConfigError} where it fails."""
    place, advice = f"SingleFlightType {kind}", "it must be allowed to read, write and delete"
    try:
        await in_time(reactor, starting, place, advice, START_LIMIT)
    except LockUnavailable as error:
        line = ": ".join(filter(None, (place, str(error), error.detail, advice)))
        raise ConfigError([" ".join(line.split())]) from None


class Sweeper:
    """Removes the objects that are locks and that nobody wants any more, now and then."""

    log = Logger()

    def __init__(
        self, reactor: Any, objects: IObjects, prefix: str, remove: Callable[[StoredObject], Awaitable[None]]
    ) -> None:
        """
        @param prefix: of their keys.
        @param remove: removes one if it is still the same, and nobody holds it.
        """
        self._reactor = reactor
        self._objects = objects
        self._prefix = prefix
        self._remove = remove
        self._sweeping: Deferred[None] | None = None

    def start(self) -> None:
        """Go to work, until L{stop}."""
        self._sweeping = Deferred.fromCoroutine(self._sweep())
        self._sweeping.addErrback(lambda _: None)

    def stop(self) -> None:
        """Harmless at any moment."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        pause = FIRST_SWEEP
        while True:
            await deferLater(self._reactor, pause * random.uniform(0.5, 1.5))  # noqa: S311  no secret
            try:
                await self.sweep()
            except AthensError as error:
                self.log.info("old locks stay: {reason}", reason=str(error), detail=error.detail)
            except Exception:
                self.log.failure("old locks stay")
            pause = SWEEP

    async def sweep(self) -> None:
        """Remove them now."""
        cursor = ""
        while True:
            page = await self._objects.page(self._prefix, cursor, self._objects.largest_page)
            for stored in page.objects:
                if stored.age > ABANDONED:
                    await self._remove(stored)
            cursor = page.cursor
            if not cursor:
                return
