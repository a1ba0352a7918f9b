"""
How a remote store is asked: every call limited, tried again with jitter where that is safe, and its trouble told in one
voice, once when it begins and once when it is over.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from athens_tx.errors import AthensError, BadUpstream, FetchTimeout, StorageUnavailable, UpstreamUnreachable
from athens_tx.http_client import BodyTooLong, ClientClosed, HttpClient, OpenResponse, Response
from athens_tx.storage.health import Health

T = TypeVar("T", Response, OpenResponse)
U = TypeVar("U")

#: How often something is tried.
ATTEMPTS = 5
#: Answers after which waiting helps.
PASSING = frozenset((408, 429, 500, 502, 503, 504))
#: Seconds between two attempts: at most twice as many each time, up to the last.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
#: How often it is after an attempt that took all its time.
AFTER_TIMEOUT = 1
#: Seconds for one attempt of a small call, and for the headers of a large answer.
ATTEMPT_LIMIT = 20.0
#: The same for the one attempt that there is while the store is in trouble.
TROUBLE_LIMIT = 10.0
#: Answers that may mean that the credentials are not good any more.
REFUSALS = frozenset((400, 401, 403))
#: Bytes a second of a body that is sent in one attempt, on top of that.
SLOWEST = 64 * 1024
#: Seconds without a byte of a body.
IDLE_LIMIT = 60.0
#: Seconds that anything gets, though there are none left.
_LEAST = 0.001
#: Part of the limit of a call that must be left for another attempt; a second is enough for any.
_USEFUL = 0.1


@attrs.frozen
class Request:
    """One attempt: signed, so it is made anew for the next one."""

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    data: bytes | IBodyProducer | None = None


Make = Callable[[], Awaitable[Request]]


def client(reactor: Any, environ: Mapping[str, str], limit: float) -> HttpClient:
    """
    @param environ: see L{HttpClient}.
    @param limit: of L{Calls}, which counts it for each call, knowing how much there is to send.
    @return: what L{Calls} to a store that takes many at once are made with.
    """
    return HttpClient(reactor, environ, connections_per_host=64, connect_timeout=10.0, header_timeout=limit)


class Calls:
    """
    The requests of one store. All of them can be made twice: they read, write what is named by its bytes or under a
    condition, or remove.

    @ivar reactor: provides C{IReactorTime}.
    @ivar health: of the store.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        http: HttpClient,
        name: str,
        *,
        limit: float,
        describe: Callable[[Response], str] = lambda response: "",
        renew: Callable[[Request, Response], bool] = lambda request, response: False,
        chance: Callable[[], float] = random.random,
        health: Health | None = None,
    ) -> None:
        """
        @param name: of the backend, for messages.
        @param limit: seconds for a call with all its attempts.
        @param describe: what an answer that tells of trouble says of it, in few words, and what to check; for the log.
        @param renew: told of a request that was refused with 400, 401 or 403, and how; whether it may help to make it
            anew, once.
        @param health: of the store, where others ask it too.
        """
        self.reactor = reactor
        self.name = name
        self.http = http
        self._limit = limit
        self._describe = describe
        self._renew = renew
        self._chance = chance
        self.health = health or Health(reactor, name)

    async def small(
        self,
        what: str,
        make: Make,
        *,
        expect: Collection[int],
        limit: int = 1 << 20,
        patient: bool = False,
        failed: Callable[[Response], bool] = lambda response: False,
    ) -> Response:
        """
        Ask for an answer that fits into memory.

        @param what: the operation and the key, for messages.
        @param expect: the statuses that the caller wants to see.
        @param limit: the most bytes of the answer.
        @param patient: the store may need long for it: one attempt may take all the time there is.
        @param failed: whether an answer with one of these statuses tells of trouble all the same, that may pass.
        @raise StorageUnavailable: any other status, or no answer.
        """

        async def attempt(request: Request, seconds: float) -> Response:
            url, headers, data = request.url, request.headers, request.data
            answer = await self.http.request(
                request.method, url, headers=headers, data=data, timeout=seconds, limit=limit
            )
            if answer.status not in expect:
                raise _Unexpected(answer)
            if failed(answer):
                raise _Unexpected(answer, passing=True)
            return answer

        return await self._tried(what, make, attempt, self._limit if patient else None)

    async def open(self, what: str, make: Make, *, expect: Collection[int]) -> OpenResponse:
        """Ask for an answer whose body is taken as a stream; as L{small} otherwise."""

        async def attempt(request: Request, seconds: float) -> OpenResponse:
            url, headers = request.url, request.headers
            end = self.reactor.seconds() + seconds
            answer = await self.http.open(request.method, url, headers=headers, data=request.data, timeout=seconds)
            if answer.status in expect:
                return answer
            body = await self._within(end - self.reactor.seconds(), answer.read(limit=1 << 20, idle=seconds))
            raise _Unexpected(Response(answer.status, answer.headers, body, answer.url))

        return await self._tried(what, make, attempt)

    async def words(self, what: str, answer: OpenResponse) -> bytes:
        """@return: the body of an answer of L{open} that is no object but says why there is none."""
        try:
            return await self._within(ATTEMPT_LIMIT, answer.read(limit=64 * 1024, idle=ATTEMPT_LIMIT))
        except AthensError as trouble:
            raise self._told(what, trouble) from None

    async def _tried(
        self,
        what: str,
        make: Make,
        attempt: Callable[[Request, float], Awaitable[T]],
        seconds: float | None = None,
    ) -> T:
        """@param seconds: for one attempt; C{None}: few."""
        attempts, usual = (1, TROUBLE_LIMIT) if self.health.in_trouble else (ATTEMPTS, ATTEMPT_LIMIT)
        seconds = usual if seconds is None else seconds
        end = self.reactor.seconds() + self._limit
        pause = FIRST_PAUSE
        renewed = False
        while True:
            attempts -= 1
            request = await self._made(what, make, end - self.reactor.seconds())
            most = seconds + getattr(request.data, "length", 0) / SLOWEST
            try:
                response = await attempt(request, max(_LEAST, min(most, end - self.reactor.seconds())))
                self.health.works()
                return response
            except (_Unexpected, UpstreamUnreachable, FetchTimeout) as trouble:
                if not renewed and isinstance(trouble, _Unexpected) and trouble.response.status in REFUSALS:
                    renewed = self._renew(request, trouble.response)
                    if renewed:
                        continue
                if isinstance(trouble, FetchTimeout):
                    attempts = min(attempts, AFTER_TIMEOUT)
                wait = self._pause(trouble, pause)
                # An attempt that has no time would only hide what this one met.
                last = end - min(1.0, self._limit * _USEFUL)
                if attempts <= 0 or wait is None or self.reactor.seconds() + wait >= last:
                    raise self._told(what, trouble) from None
            except BadUpstream as trouble:
                raise self._told(what, trouble) from None
            self.log.debug("{name}: {what}: trying again in {wait:.2f} s", name=self.name, what=what, wait=wait)
            await deferLater(self.reactor, wait, lambda: None)
            pause *= 2

    async def _made(self, what: str, make: Make, seconds: float) -> Request:
        """@return: a request; those who make it may have to wait for credentials."""
        try:
            return await self._within(seconds, make())
        except (StorageUnavailable, FetchTimeout) as trouble:
            raise self._told(what, trouble) from None

    async def _within(self, seconds: float, work: Awaitable[U]) -> U:
        """Wait, but not for ever."""

        async def working() -> U:
            return await work

        try:
            return await Deferred.fromCoroutine(working()).addTimeout(max(_LEAST, seconds), self.reactor)
        except DeferredTimeout:
            raise FetchTimeout(f"not done within {seconds:.0f} s") from None

    def _pause(self, trouble: Exception, pause: float) -> float | None:
        """@return: how long to wait before the next attempt; C{None} where none would help."""
        if isinstance(trouble, ClientClosed):
            return None
        wait = min(LONGEST_PAUSE, pause) * (0.5 + 0.5 * self._chance())
        if isinstance(trouble, _Unexpected):
            if not trouble.passing:
                return None
            said = trouble.response.header("Retry-After") or ""
            if said.isascii() and said.isdigit():
                wait = max(wait, min(LONGEST_PAUSE, float(said[:4])))
        return wait

    def _told(self, what: str, trouble: AthensError | _Unexpected) -> StorageUnavailable:
        """@return: the trouble as the program knows it."""
        if isinstance(trouble, _Unexpected):
            return self.unwanted(what, trouble.response, passing=trouble.passing)
        if isinstance(trouble, BadUpstream):
            said = "larger than expected" if isinstance(trouble, BodyTooLong) else str(trouble)
            error = StorageUnavailable(f"{self.name} storage: {what}: {said}", detail=trouble.detail)
            self.health.refuses(error, type(trouble).__name__)
            return error
        error = StorageUnavailable(
            f"{self.name} storage: {what}: {trouble}", detail=trouble.detail, retry_after=trouble.retry_after or 10
        )
        if not isinstance(trouble, ClientClosed):
            self.health.fails(error)
        return error

    def unwanted(self, what: str, response: Response, *, passing: bool = False) -> StorageUnavailable:
        """
        @param passing: whether waiting helps.
        @return: what an answer that nobody wants comes to.
        """
        status = response.status
        error = StorageUnavailable(
            f"{self.name} storage: {what}: status {status}",
            detail=self._describe(response),
            retry_after=10 if passing else None,
        )
        if passing or status >= 500:
            self.health.fails(error)
        else:
            self.health.refuses(error, status)
        return error


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """
    Do C{work} though the one who waits is cancelled: a write that the store has already got may happen or not, and
    should not happen at some later moment.
    """
    outcome: list[T | Failure] = []
    waiting: Deferred[None] = Deferred()

    def ended(result: T | Failure) -> None:
        outcome.append(result)  # not left in the Deferred, whose failure can't be awaited while it calls us
        waiting.callback(None)

    Deferred.fromCoroutine(work).addBoth(ended)
    while not outcome:
        waiting = Deferred()
        with suppress(CancelledError):
            await waiting
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


class _Unexpected(Exception):
    """An answer that nobody wants."""

    def __init__(self, response: Response, *, passing: bool = False) -> None:
        super().__init__(response.status)
        self.response = response
        self.passing = passing or response.status in PASSING
