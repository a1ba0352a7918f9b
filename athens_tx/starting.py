"""How long a start waits for what it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.task import deferLater

from athens_tx.errors import ConfigError

T = TypeVar("T")

#: Seconds that a start waits for a store.
START_LIMIT = 25.0
#: Seconds that a start waits for a lock service that is away, and between two attempts.
PATIENCE = 10.0
PAUSE = 0.5


class Away(ConfigError):
    """Nobody answers; it may only be starting, too."""


async def patiently(reactor: Any, attempt: Callable[[], Awaitable[T]]) -> T:
    """
    Start what may have to wait for a server.

    @param attempt: raises L{Away} where another attempt may help; it is to be harmless to call it again then.
    @raise ConfigError: it can't be started, or nobody answered for L{PATIENCE}.
    """
    end = reactor.seconds() + PATIENCE
    while True:
        try:
            return await attempt()
        except Away:
            if reactor.seconds() + PAUSE > end:
                raise
        await deferLater(reactor, PAUSE)


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
