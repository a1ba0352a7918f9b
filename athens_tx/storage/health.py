"""What is known of how a remote store does, by all who ask it, and what of it goes into the log."""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from athens_tx.errors import StorageUnavailable

#: Seconds in which refusals of one kind are told once.
QUIET = 300.0


class Health:
    """
    Tells when a store gets into trouble (the network, or a server that can't do its work) and when that is over; what
    it refuses is told for itself: a store that is read but may not be written does not come and go.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, name: str) -> None:
        """@param name: of the backend, for messages."""
        self.name = name
        self._clock = clock
        self._in_trouble: bool | None = None  # not known before the first answer: until then, who starts it tells
        self._told: dict[Hashable, float] = {}

    @property
    def in_trouble(self) -> bool:
        """Whether it failed the last time, having worked before."""
        return bool(self._in_trouble)

    def fails(self, error: StorageUnavailable) -> None:
        """Log C{error} if it is the first since the store worked."""
        if self._in_trouble is False:
            self._in_trouble = True
            self.log.error("storage is in trouble: {reason}", reason=str(error), detail=error.detail)

    def refuses(self, error: StorageUnavailable, kind: Hashable) -> None:
        """Log C{error} if none of this kind, such as a status, was told just now."""
        now = self._clock.seconds()
        if self._in_trouble is None or now < self._told.get(kind, now):
            return
        self._told[kind] = now + QUIET
        self.log.error("storage refuses: {reason}", reason=str(error), detail=error.detail)

    def works(self) -> None:
        """It has answered."""
        was, self._in_trouble = self._in_trouble, False
        if was:
            self.log.info("{name} storage works again", name=self.name)
