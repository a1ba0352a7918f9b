"""
The connections to the database of an index: in threads of their own, and each call has an end that a server which says
nothing can't put off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.enterprise import adbapi
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")

#: Connections at most, each with a thread. One of them is never in the hands of who reads, so that writing goes on.
THREADS = 4
#: Seconds that the end waits for calls that were cut.
END_LIMIT = 5.0


class Late(Exception):
    """A call took longer than its limit."""


class IDriver(Protocol):
    """
    How a kind of database is reached; its methods block, and run in threads.

    @ivar module: the DB-API module.
    """

    module: str

    def connect(self) -> Any:
        """@return: a new connection, within a limit of its own, that commits by itself and whose session is in UTC."""

    def cut(self, connection: Any) -> None:
        """Shut the socket, so that who waits for it in another thread gets an error; does not block."""

    def lost(self, error: BaseException) -> bool:
        """@return: whether it was the connection that failed, and a new one may do."""


class _Link(adbapi.Connection):
    """Is not used again after any trouble."""

    _pool: _Pool
    _connection: Any

    def commit(self) -> None:
        """Every statement has committed itself."""

    def rollback(self) -> None:
        """What can't be known to be sound is dropped, without a word to a server that may not listen."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pool.connections.get(self._pool.threadID()) is connection:
            self._pool.disconnect(connection)


class _Pool(adbapi.ConnectionPool):
    connectionFactory = _Link

    def __init__(self, reactor: Any, driver: IDriver) -> None:
        super().__init__(driver.module, cp_reactor=reactor, cp_min=1, cp_max=THREADS, cp_name="index")
        self.dbapi = driver

    def _close(self, conn: Any) -> None:
        with suppress(Exception):  # it may be closed, or broken: it is gone either way
            conn.close()


class _Call:
    """
    One piece of work in a thread.

    @ivar over: fires when no thread is at it any more.
    @ivar expire: gives it up; C{late} calls that.
    """

    def __init__(self, pool: _Pool, driver: IDriver, work: Callable[[Any], Any]) -> None:
        self.over: Deferred[None] = Deferred()
        self.late: Any = None
        self.expire: Callable[[], None] = self.give_up
        self._pool = pool
        self._driver = driver
        self._work = work
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._given_up = False

    def __call__(self, link: Any) -> Any:
        """In a thread."""
        with self._lock:
            if self._given_up:
                raise Late
            self._thread = self._pool.threadID()
        try:
            try:
                return self._work(link)
            except Exception as error:
                if self._given_up or not self._driver.lost(error):
                    raise
            # It may have been lost since the last call, hours ago; all that is asked may be asked again.
            link.reconnect()
            with self._lock:
                if self._given_up:  # while it connected, where nothing could be cut
                    raise Late
            return self._work(link)
        finally:
            with self._lock:
                self._thread = None

    def give_up(self) -> None:
        """Let the thread go free, as soon as that can be."""
        with self._lock:
            self._given_up = True
            connection = None if self._thread is None else self._pool.connections.get(self._thread)
            if connection is not None:
                with suppress(Exception):
                    self._driver.cut(connection)


class Connections:
    """The connections of one index."""

    log = Logger()

    def __init__(self, reactor: Any, driver: IDriver) -> None:
        self._reactor = reactor
        self._driver = driver
        self._pool = _Pool(reactor, driver)
        self._calls: set[_Call] = set()
        self._readers = DeferredSemaphore(max(1, THREADS - 1))

    async def read(self, work: Callable[[Any], T], limit: float) -> T:
        """As L{run}, for those who must leave a connection to who writes; their turn counts for the limit."""
        end = self._reactor.seconds() + limit
        turn = self._readers.acquire()
        late = self._reactor.callLater(limit, turn.cancel)
        try:
            await turn
        except CancelledError:
            if late.active():
                raise
            raise Late(f"no answer within {limit:g} s") from None
        finally:
            if late.active():
                late.cancel()
        try:
            return await self.run(work, max(0.1, end - self._reactor.seconds()))
        finally:
            self._readers.release()

    def run(self, work: Callable[[Any], T], limit: float) -> Deferred[T]:
        """
        @param work: is given a connection, in a thread; may be done twice, if a connection was lost.
        @return: fires with what it gave; fails with what it raised, or with L{Late}. Who cancels it stops waiting.
        """
        call = _Call(self._pool, self._driver, work)
        self._calls.add(call)
        answer: Deferred[T] = Deferred()

        def expire() -> None:
            call.give_up()
            if not answer.called:
                answer.errback(Failure(Late(f"no answer within {limit:g} s")))

        def ended(result: T | Failure) -> None:
            self._calls.discard(call)
            if call.late.active():
                call.late.cancel()
            if not answer.called:
                answer.callback(result)  # a failure fails it
            call.over.callback(None)

        call.expire = expire
        call.late = self._reactor.callLater(limit, expire)
        self._pool.runWithConnection(call).addBoth(ended)
        return answer

    async def close(self) -> None:
        """Cut what is under way, and close all connections."""
        waiting = list(self._calls)
        for call in waiting:
            call.give_up()
        late = self._reactor.callLater(END_LIMIT, partial(_cancel, waiting))
        for call in waiting:
            with suppress(Exception):
                await call.over
            if call.late.active():
                call.late.cancel()
                call.expire()  # its thread is in the hands of others; who waits must not be
        if late.active():
            late.cancel()
        if self._calls:  # asking the name service, perhaps: the pool ends with the reactor, which must not wait now
            self.log.warn("{count} calls to the index have not ended", count=len(self._calls))
        else:
            self._pool.close()


def _cancel(calls: Sequence[_Call]) -> None:
    """Wait for them no longer."""
    for call in calls:
        call.over.cancel()
