"""What is computed from many bytes is computed in a thread, so that nobody else has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")

#: Bytes of which something is computed at once: that takes about a millisecond at most.
SMALL = 64 * 1024


async def computed(reactor: Any, compute: Callable[[], T], size: int) -> T:
    """
    @param reactor: has a thread pool.
    @param size: of what C{compute} has to look at, which nobody else uses meanwhile; in bytes.
    @return: what C{compute} gives; raise what it raises.
    """
    if size <= SMALL:
        return compute()
    return await deferToThreadPool(reactor, reactor.getThreadPool(), compute)
