"""A lister that counts and times what is asked of the lister behind it."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from athens_tx.interfaces import ILister, Listing
from athens_tx.observe.metrics import Metrics, outcome


@implementer(ILister)
class MeteredLister:
    """Passes questions on to C{lister}; its listings and failures are those of C{lister}, untouched."""

    def __init__(self, lister: ILister, metrics: Metrics, clock: IReactorTime) -> None:
        self._lister = lister
        self._metrics = metrics
        self._clock = clock

    async def listing(self, path: str) -> Listing:
        """See L{ILister.listing}."""
        began = self._clock.seconds()
        kind, error = "", None
        try:
            listing = await self._lister.listing(path)
            kind = listing.origin
            return listing
        except BaseException as raised:
            kind, error = getattr(raised, "origin", ""), raised
            raise
        finally:
            self._metrics.listing(kind or "unknown", outcome(error), max(0.0, self._clock.seconds() - began))
