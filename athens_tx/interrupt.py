"""Work that a signal ends in good order, for commands that run on the reactor for a while."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

#: A terminal that is closed (SIGHUP) is no reason to leave children or credentials behind either.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def interruptible(
    reactor: Any, work: Callable[[], Coroutine[Any, Any, int]], clean: Callable[[], Awaitable[None]]
) -> int:
    """
    Run C{work}, which the first of L{SIGNALS} cancels; a second one kills. Signals that are ignored stay so.

    @param clean: waited for when the work is over, however it ended.
    @return: what C{work} gives, or as a shell has it, 128 and the number of the signal.
    """
    caught: list[int] = []
    # Once the reactor runs it has its own handlers in place, which would stop it before anything is cleaned up.
    await deferLater(reactor, 0, lambda: None)
    taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def interrupt(number: int) -> None:
        caught.append(number)
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        working.cancel()

    for number in taken:
        signal.signal(number, lambda number, _: reactor.callFromThread(interrupt, number))
    working: Deferred[int] = Deferred.fromCoroutine(work())
    status = 0
    try:
        status = await working
    except Exception:  # of work that was cancelled, in whatever way it says so
        if not caught:
            raise
    finally:
        await clean()
    return 128 + caught[0] if caught else status
