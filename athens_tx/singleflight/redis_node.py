"""
A Redis server that is kept in reach: one connection for commands, one that hears of released locks.

The second is there all the time, and so is what shows first that the server was away.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ConnectionError, ResponseError

from athens_tx.singleflight.redis_link import Link, Script
from athens_tx.singleflight.redis_trouble import TROUBLE, Unusable, described, is_no_longer_master
from athens_tx.singleflight.waiters import Waiters

#: Where releases are told, with the name of the lock; nothing that Athens knows.
CHANNEL = b"athens-tx:released"
#: Seconds between two looks whether the server behind the silent connection still lives.
PING_EVERY = 10.0
#: Seconds for which nobody takes a lock when the server was away, so that holders come first, if it has forgotten them.
GRACE = 1.0
#: Seconds between two attempts to connect, the first and the longest: some of the latter fit into L{GRACE}.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 0.4


class Node:
    """One server, or whoever takes its place."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        dial: Callable[[], Awaitable[Link]],
        heard: Callable[[bytes], None],
        back: Callable[[], Awaitable[None]],
        away: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param dial: makes a connection; raises one of L{TROUBLE}.
        @param heard: told the name of each lock that was released.
        @param back: called when the server was away and is back.
        @param away: called now and then while it is away.
        """
        self._reactor = reactor
        self._dial = dial
        self._heard = heard
        self._back = back
        self._away = away
        self._commands: Link | None = None
        self._ear: Link | None = None
        self._connecting: Waiters[Link] | None = None
        self._dialling: Deferred[None] | None = None
        self._listening: Deferred[None] | None = None
        self._takes_from = 0.0
        self._mute = False

    def settled(self) -> bool:
        """
        @return: whether new locks may be taken: holders that the server forgot have had the time to say so.
        @raise Unusable: the server is away.
        """
        if self._ear is None or not self._ear.alive:
            raise Unusable("the server is away")
        return bool(self._reactor.seconds() >= self._takes_from)

    async def connect(self, *, new: bool = True) -> None:
        """
        Connect for the first time; raise one of L{TROUBLE}.

        @param new: C{False} if it takes the place of another one, whose locks may not all be known to it.
        """
        await self._link()
        self._takes_from = 0.0 if new else self._reactor.seconds() + GRACE
        ear = await self._listen()
        self._listening = Deferred.fromCoroutine(self._keep(ear))
        self._listening.addErrback(self._broken)

    async def close(self) -> None:
        """Cut both connections, and make no new ones."""
        for working in (self._listening, self._dialling):
            if working is not None:
                working.cancel()
        self.drop()

    def drop(self) -> None:
        """Cut both connections; they are made anew."""
        for link in (self._commands, self._ear):
            if link is not None:
                link.abort()

    async def ask(self, *command: str | bytes | int) -> Any:
        """@return: the answer to a command; raise one of L{TROUBLE}."""
        return await self._asked(lambda link: link.ask(*command))

    async def run(
        self, script: Script, key: bytes, *arguments: str | bytes | int, asking: bool = False, taking: bool = False
    ) -> Any:
        """
        @param taking: whether it takes a lock: only where L{settled}, also of a server that has just been found.
        @return: what a script of one key gives, 0 if no lock may be taken yet; raise one of L{TROUBLE}.
        """
        return await self._asked(lambda link: link.run(script, key, *arguments, asking=asking), taking)

    async def _asked(self, ask: Callable[[Link], Awaitable[Any]], taking: bool = False) -> Any:
        if taking and not self.settled():
            return 0
        link = await self._link()
        if taking and not self.settled():
            return 0
        try:
            return await ask(link)
        except ResponseError as error:
            if is_no_longer_master(error):
                self.drop()
            raise
        except TimeoutError:
            self.drop()  # whoever is the server meanwhile
            raise

    # -- the connection for commands

    async def _link(self) -> Link:
        if self._commands is not None and self._commands.alive:
            return self._commands
        if self._connecting is None:
            self._connecting = Waiters()
            waiter = self._connecting.wait()
            self._dialling = Deferred.fromCoroutine(self._redial(self._connecting))
            return await waiter
        return await self._connecting.wait()

    async def _redial(self, waiting: Waiters[Link]) -> None:
        try:
            link = await self._dial()
            if self._commands is not None:  # the other connection may not have noticed yet that the server was away
                self._takes_from = self._reactor.seconds() + GRACE
            self._commands = link
            result: Link | Failure = self._commands
        except CancelledError:
            result = Failure(ConnectionError("closed"))
        except Exception:
            result = Failure()
        self._connecting = None
        waiting.land(result)

    # -- the connection that listens

    async def _listen(self) -> Link:
        link = await self._dial()
        link.heard = self._heard
        try:
            await link.ask("SUBSCRIBE", CHANNEL)
        except ResponseError as error:
            if not self._mute:
                self._mute = True
                text = "redis lock: no word of released locks, so they are looked for once a second: {reason}"
                self.log.warn(text, reason=described(error)[0], detail="the user needs the permission &athens-tx:*")
        except BaseException:
            link.abort()
            raise
        self._ear = link
        return link

    async def _keep(self, link: Link) -> None:
        """Look after the connection that listens, for ever."""
        while True:
            try:
                await self._until_lost(link)
            except TROUBLE:
                self.drop()
            self.log.warn("redis lock: the connection to the server is lost")
            link = await self._again()
            self._takes_from = self._reactor.seconds() + GRACE
            if self._commands is not None and not self._commands.alive:
                self._commands = None
            self.log.info("redis lock: the server is back")
            try:
                await self._back()
            except TROUBLE:
                link.abort()

    async def _until_lost(self, link: Link) -> None:
        while link.alive:
            pause = link.ended().addTimeout(PING_EVERY, self._reactor, onTimeoutCancel=lambda result, seconds: None)
            await pause
            if link.alive:
                await link.ask("PING")

    async def _again(self) -> Link:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._listen()
            except TROUBLE as error:
                self.log.debug("redis lock: the server is still away: {reason}", reason=described(error)[0])
            self._away()
            await deferLater(self._reactor, pause * random.uniform(0.75, 1.25))  # noqa: S311  no secret
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("redis lock: nobody listens any more", failure)
