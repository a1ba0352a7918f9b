"""How long a start waits for what it needs."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut

from athens_tx.errors import ConfigError

T = TypeVar("T")

#: Seconds that a start waits for a store.
START_LIMIT = 25.0


async def in_time(
    reactor: Any, start: Coroutine[Any, Any, T], place: str, advice: str = "", limit: float | None = None
) -> T:
    """
    Wait for C{start}, but not for ever.

    @param place: the settings to look at; C{advice} says what for.
    @param limit: seconds; L{START_LIMIT} if it is not given.
    @raise ConfigError: it took too long.
    """
    seconds = START_LIMIT if limit is None else limit
    try:
        return await Deferred.fromCoroutine(start).addTimeout(seconds, reactor)
    except TimedOut:
        line = ": ".join(filter(None, (place, f"no answer within {seconds:g} s", advice)))
        raise ConfigError([line]) from None
