"""
The connections to a MongoDB server, or to the primary of a replica set, and the commands that go over them.

A command has its connection for itself. Each is safe to send again (inserts bring their own C{_id}), so one that was
cut, or sent to a server that is no longer the primary, is tried again within its limit.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from bson.errors import BSONError
from pymongo.errors import AutoReconnect, NotPrimaryError, PyMongoError
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.mongo_auth import Denied
from athens_tx.storage.mongo_link import Dialer, Link, named
from athens_tx.storage.mongo_trouble import (
    PASSING,
    SILENT,
    UNCONNECTED,
    Passing,
    Unreachable,
    denied,
    described,
    judged,
    reason,
    shown,
    trouble,
    unavailable,
    unfit,
)
from athens_tx.storage.mongo_url import Host

#: Seconds between two looks for a server.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0

T = TypeVar("T")
U = TypeVar("U")

Find = Callable[[], Awaitable[Sequence[Host]]]


class Pool:
    """
    Gives connections to commands.

    @ivar closed: whether nothing more can be done with it.
    @ivar in_set: whether the server belongs to a replica set; known once there was a connection.
    """

    log = Logger()

    def __init__(self, dialer: Dialer, find: Find, limit: float, chance: Callable[[], float] = random.random) -> None:
        """
        @param find: gives the servers that the settings name.
        @param limit: seconds for a command with all its attempts.
        """
        target = dialer.target
        self.in_set = False
        self.limit = min(limit, target.call_limit or limit)
        self._dialer = dialer
        self._reactor = dialer.reactor
        self._find = find
        self._chance = chance
        self._size = target.pool_size
        self._several = bool(target.replica_set)
        self._named: Sequence[Host] = ()
        self._primary: Host | None = None
        self._idle: list[Link] = []
        self._dialing: set[Deferred[Any]] = set()
        self._open = 0
        self._waiting: deque[Deferred[Link | None]] = deque()
        self._down_since: float | None = None
        self._worked = False
        self.closed = False

    async def command(
        self,
        what: str,
        database: str,
        command: Mapping[str, Any],
        documents: Mapping[str, Sequence[Any]] | None = None,
        *,
        limit: float | None = None,
        patient: bool = True,
    ) -> Any:
        """
        @param what: the operation and what it is about, for messages.
        @param limit: seconds, if not the usual.
        @param patient: whether to wait for a server to come back.
        @raise Refusal: the server says no.
        @raise AccessDenied: the user may not do this.
        @raise StorageUnavailable: the server can't be reached, or does not answer in time.
        """
        now = self._reactor.seconds
        begun = now()
        limit = self.limit if limit is None else limit
        selection = min(self._selection() if patient else 0.0, limit)
        pause = _FIRST_PAUSE
        tries = 0
        while True:
            tries += 1
            attempt = Deferred.fromCoroutine(self._attempt(database, command, documents))
            try:
                reply = await attempt.addTimeout(max(0.001, begun + limit - now()), self._reactor)
                self._works()
                return judged(what, reply)
            except TimeoutError:
                self._drop_idle()  # they may lead to the same silence
                raise self._told(unavailable(what, f"no answer within {limit:g} s", SILENT)) from None
            except Denied as error:
                raise self._told(denied(what, "the server refuses the user", str(error))) from None
            except (AutoReconnect, Unreachable, Passing) as error:
                wait = min(_LONGEST_PAUSE, pause) * (0.5 + 0.5 * self._chance())
                if isinstance(error, AutoReconnect) and tries == 1:
                    wait = 0.0  # one that lay idle had died
                end = selection if isinstance(error, Unreachable) else limit
                if self.closed or now() + wait - begun > end:
                    raise self._told(unavailable(what, *described(error))) from None
                pause *= 2
            except (PyMongoError, BSONError) as error:
                raise self._told(unavailable(what, "the answer can't be read", str(error))) from None
            await deferLater(self._reactor, wait, lambda: None)

    def _selection(self) -> float:
        """@return: how long to look for a server: not at all while everybody knows that there is none."""
        said = self._dialer.target.selection
        usual = said if said is not None else 20.0 if self._several else 5.0
        if self._down_since is not None and self._reactor.seconds() - self._down_since > usual:
            return 0.0
        return usual

    async def _attempt(self, database: str, command: Mapping[str, Any], documents: Any) -> Any:
        link = await self._take()
        try:
            reply = await link.run(database, command, documents)
        except BaseException as error:
            self._lose(link)
            if isinstance(error, NotPrimaryError):
                self._drop_idle()
            raise
        self._give(link)
        code = trouble(reply)
        if code in PASSING:
            self._drop_idle()
            raise Passing(reply)
        return reply

    async def _take(self) -> Link:
        """@return: a connection of one's own."""
        while self._idle:
            link = self._idle.pop()
            if link.alive:
                return link
            self._open -= 1
        if self._open >= self._size:
            told: Deferred[Link | None] = Deferred(self._waiting.remove)
            self._waiting.append(told)
            given = await told
            if given is not None:
                return given  # it was counted for us
        else:
            self._open += 1
        try:
            return await self._connect()
        except BaseException:
            self._open -= 1
            self._pass_on()
            raise

    def _give(self, link: Link) -> None:
        """Take a connection back."""
        if self.closed or not link.alive:
            self._lose(link)
        elif self._waiting:
            self._waiting.popleft().callback(link)
        else:
            self._idle.append(link)

    def _lose(self, link: Link) -> None:
        link.abort()
        self._open -= 1
        self._pass_on()

    def _pass_on(self) -> None:
        """Let the next one make the connection that may be made now."""
        if self._waiting and self._open < self._size:
            self._open += 1
            self._waiting.popleft().callback(None)

    def _drop_idle(self) -> None:
        """Trust no connection that was made before, nor what was known of the servers."""
        self._primary = None
        idle, self._idle = self._idle, []
        for link in idle:
            self._lose(link)

    async def _connect(self) -> Link:
        """@return: a connection to the server that takes writes, logged in."""
        if self.closed:
            raise Unreachable("the daemon is stopping")
        if not self._named or self._primary is None:
            self._named = await self._find()
            self._several = self._several or len(self._named) > 1
        ahead = deque([self._primary] if self._primary is not None else [])
        ahead.extend(self._named)
        seen: set[Host] = set()
        why: list[str] = []
        while ahead:
            host = ahead.popleft()
            if host in seen:
                continue
            seen.add(host)
            try:
                link, hello = await self._greeted(host)
            except UNCONNECTED as error:
                why.append(f"{shown(host)}: {reason(error)}")
                continue
            if self._fits(hello):
                self._primary = host
                return await self._logged_in(link, hello)
            link.abort()
            why.append(f"{shown(host)}: {unfit(hello, self._dialer.target.replica_set)}")
            ahead.extendleft([named(hello["primary"])] if hello.get("primary") else [])
            ahead.extend(named(other) for other in hello.get("hosts", ()))
        self._primary = None
        raise Unreachable("; ".join(why))

    async def _greeted(self, host: Host) -> tuple[Link, Any]:
        limit = min(self._dialer.target.connect_limit, self.limit)
        dialing = Deferred.fromCoroutine(self._dialer.connect(host, limit))
        self._dialing.add(dialing)
        try:
            return await dialing.addTimeout(limit, self._reactor)
        finally:
            self._dialing.discard(dialing)

    async def _logged_in(self, link: Link, hello: Any) -> Link:
        try:
            await self._dialer.login.prove(link, hello.get("saslSupportedMechs"))
        except (KeyError, ValueError, TypeError) as error:
            link.abort()
            raise Denied(f"the server's part of the login is not what it should be: {error!r}") from error
        except BaseException:
            link.abort()
            raise
        return link

    def _fits(self, hello: Any) -> bool:
        target = self._dialer.target
        if not hello.get("ok") or (target.replica_set and hello.get("setName") != target.replica_set):
            return False
        self.in_set = bool(hello.get("setName")) or hello.get("msg") == "isdbgrid"
        return bool(hello.get("ismaster") or hello.get("isWritablePrimary") or target.direct)

    def _told(self, error: StorageUnavailable) -> StorageUnavailable:
        """@return: C{error}, logged if it is the first since all was well."""
        if self._down_since is None and not self.closed:
            self._down_since = self._reactor.seconds()
            if self._worked:  # before it did, who starts it tells
                self.log.error("storage is in trouble: {reason}", reason=str(error), detail=error.detail)
        return error

    def _works(self) -> None:
        if self._down_since is not None and self._worked:
            self.log.info("mongo storage works again")
        self._down_since, self._worked = None, True

    async def close(self) -> None:
        """Cut every connection; what is under way fails."""
        self.closed = True
        self._drop_idle()
        while self._waiting:
            self._waiting.popleft().errback(Unreachable("the daemon is stopping"))
        for dialing in list(self._dialing):
            dialing.cancel()
        await self._dialer.links.close()

    @property
    def write_concern(self) -> Mapping[str, Any]:
        """What a command that writes says: as the settings have it, else C{majority} where there is one to ask."""
        said = self._dialer.target.write_concern
        concern: dict[str, Any] = dict(said) if said is not None else {"w": "majority"} if self.in_set else {}
        if concern.get("w") == "majority":
            concern.setdefault("wtimeout", int(self.limit * 900))
        return {"writeConcern": concern} if concern else {}

    @property
    def read_concern(self) -> Mapping[str, Any]:
        """What a command that reads says."""
        level = self._dialer.target.read_concern
        return {"readConcern": {"level": level}} if level else {}


async def both(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Run two at the same time. If one fails the other is cancelled."""
    one, other = Deferred.fromCoroutine(first), Deferred.fromCoroutine(second)
    try:
        return await one, await other
    except BaseException:
        for running in (one, other):
            running.addErrback(lambda failure: None)
            running.cancel()
        raise
