"""The validation hook: a service of the organisation that is asked whether a version may be served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from athens_tx.cache.expiring import ExpiringCache
from athens_tx.errors import AthensError, HookFailed, Refused
from athens_tx.module.version import ModuleVersion
from athens_tx.singleflight.waiters import Waiters

#: Bytes of an answer's text that go to the log.
LOGGED = 1024

#: Bytes of an answer that are read at all; nobody parses it.
ANSWER_LIMIT = 64 * 1024

#: Bytes that all remembered permissions may have, about 30000 of them.
CACHE_LIMIT = 8 * 1024 * 1024


class HookAnswer(Protocol):
    """What is looked at of an answer, see L{athens_tx.http_client.Response}."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def body(self) -> bytes:
        """The whole body."""


class HookClient(Protocol):
    """What is needed of an HTTP client, see L{athens_tx.http_client.HttpClient}."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109  the name is the client's
        limit: int = 1024 * 1024,
        follow_redirects: bool = False,
    ) -> HookAnswer:
        """Ask once; a failure is an L{AthensError}."""


class ValidatorHook:
    """
    Asks the hook, and only 200 is a yes.

    Permissions, and nothing else, may be remembered for a while. Then simultaneous questions about one version are one
    call as well; a client that leaves stops waiting, and the call goes on for the others.
    """

    log = Logger()

    def __init__(
        self, client: HookClient, url: str, clock: IReactorTime, *, timeout: float = 10.0, cache_ttl: float = 0.0
    ) -> None:
        """
        @param url: C{ValidatorHook}.
        @param timeout: seconds for a call, to the end of its answer.
        @param cache_ttl: seconds that a yes is remembered; 0 asks each time, as Athens does.
        """
        self._client = client
        self._url = url
        self._timeout = timeout
        self._remember = cache_ttl > 0
        self._permitted: ExpiringCache[ModuleVersion, bool] = ExpiringCache(clock, cache_ttl, CACHE_LIMIT)
        self._asking: dict[ModuleVersion, Waiters[None]] = {}

    async def check(self, path: str, version: str) -> None:
        """
        @raise Refused: the hook says no (403).
        @raise HookFailed: it says something else, nothing in time, or can't be reached.
        """
        mv = ModuleVersion(path, version)
        if not self._remember:
            await self._ask(mv)
        elif not self._permitted.get(mv):
            await self._ask_together(mv)

    def _ask_together(self, mv: ModuleVersion) -> Deferred[None]:
        waiters = self._asking.get(mv)
        if waiters is None:
            waiters = self._asking[mv] = Waiters()
            Deferred.fromCoroutine(self._ask(mv)).addBoth(self._land, mv)
        return waiters.wait()

    def _land(self, result: Failure | None, mv: ModuleVersion) -> None:
        if result is None:
            self._permitted.put(mv, True, 150 + len(mv.path) + len(mv.version))
        self._asking.pop(mv).land(result)

    async def _ask(self, mv: ModuleVersion) -> None:
        question = json.dumps({"Module": mv.path, "Version": mv.version}, separators=(",", ":"), ensure_ascii=False)
        try:
            answer = await self._client.request(
                "POST",
                self._url,
                headers={"Content-Type": "application/json"},
                data=question.encode(),
                timeout=self._timeout,
                limit=ANSWER_LIMIT,
                follow_redirects=False,  # a POST that is redirected becomes a GET, and the page it ends at is no answer
            )
        except AthensError as error:
            self.log.error("the validator hook failed for {mv}: {reason}", mv=str(mv), reason=str(error))
            raise HookFailed(f"the validator hook gave no answer on {mv}", detail=f"{error} {error.detail}") from error
        self._judge(mv, answer)

    def _judge(self, mv: ModuleVersion, answer: HookAnswer) -> None:
        text = answer.body[:LOGGED].decode(errors="replace").strip()
        if text:
            self.log.warn("the validator hook says of {mv}: {text}", mv=str(mv), text=text, status=answer.status)
        if answer.status == 403:
            raise Refused(f"the validator hook refuses {mv}")
        if answer.status != 200:
            self.log.error("the validator hook answered {status} for {mv}", status=answer.status, mv=str(mv))
            raise HookFailed(f"the validator hook gave no clear answer on {mv}", detail=f"status {answer.status}")
