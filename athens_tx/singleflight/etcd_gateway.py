"""
The way to etcd: its JSON gateway, at whichever of the servers answers.

Keys are base64, numbers of 64 bits are strings, and what is zero or false is not there at all.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.errors import FetchFailed, FetchTimeout, LockUnavailable
from athens_tx.http_client import AnswerCut, HttpClient, OpenResponse
from athens_tx.singleflight.etcd_servers import EtcdServer

#: Seconds for one server, and for all of them.
ATTEMPT_LIMIT = 5.0
CALL_LIMIT = 10.0
#: Seconds after which a watch that says nothing is made anew: nobody knows whether it is still heard.
WATCH_LIMIT = 60.0
#: Bytes of an answer.
_LONGEST = 1 << 20

#: Codes of gRPC.
NOT_FOUND = 5
EXISTS = 9
_INVALID, _DENIED, _EXHAUSTED, _UNAUTHENTICATED = 3, 7, 8, 16
#: What is said of a token that is good no more; after it, asking with a new one helps.
_OLD_TOKEN = ("invalid auth token", "revision of auth store is old")


def key(text: str) -> str:
    """@return: a key, as it is written in a message."""
    return b64encode(text.encode()).decode()


class EtcdRefused(Exception):
    """
    etcd has understood, and says no.

    @ivar code: of gRPC.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    def described(self) -> tuple[str, str]:
        """@return: the refusal for a client, and for the log with what to look at."""
        text = str(self)
        if self.code in (_INVALID, _UNAUTHENTICATED) and ("auth" in text or "user name" in text):
            return "the login was refused", f"{text}; check user and password in SingleFlight.Etcd.Endpoints"
        if "authentication is not enabled" in text:
            return "the server wants no login", "remove user and password from SingleFlight.Etcd.Endpoints"
        if self.code == _DENIED:
            return "the user is not allowed to do this", f"{text}; it must read and write all keys"
        if self.code == _EXHAUSTED:
            return "the server takes nothing more", f"{text}; look at its quota and its alarms"
        return "the server refuses", text


class NoServer(LockUnavailable):
    """None of the servers can be asked now."""


class _Passing(Exception):
    """
    This server can't answer now; the text says why. Another one may.

    @ivar cut: whether the connection broke.
    @ivar strange: whether it is no etcd, by its answer.
    """

    def __init__(self, text: str, *, cut: bool = False, strange: bool = False) -> None:
        super().__init__(text)
        self.cut = cut
        self.strange = strange


@attrs.frozen
class Answer:
    """
    @ivar first: whether it was asked only once: if not, an earlier attempt may have done it already.
    """

    document: Mapping[str, Any]
    first: bool

    @property
    def revision(self) -> int:
        """That of the store."""
        return int(self.document["header"]["revision"])


class Gateway:
    """Asks one server after the other until one answers, and stays with it."""

    log = Logger()

    def __init__(self, reactor: Any, http: HttpClient, servers: Sequence[EtcdServer]) -> None:
        """@param http: is closed by L{close}."""
        self._reactor = reactor
        self._http = http
        self._servers = servers
        self._current = 0
        self._attempt = min(ATTEMPT_LIMIT, CALL_LIMIT / len(servers))
        self._token = ""
        self._tokens = DeferredLock()

    async def close(self) -> None:
        """Cut all that is open."""
        await self._http.close()

    async def ask(self, what: str, method: str, message: Mapping[str, Any]) -> Answer:
        """
        @param what: for the error.
        @param method: such as C{kv/txn}; asking it again has to be harmless.
        @raise EtcdRefused: the answer is no.
        @raise LockUnavailable: there is none.
        """
        answer, first = await self._somewhere(what, method, message)
        return Answer(answer, first)

    async def watch(self, what: str, encoded: str, revision: int) -> None:
        """
        Wait until a key is deleted, or until nobody knows any more whether it was.

        @param encoded: see L{key}.
        @param revision: from which on.
        @raise LockUnavailable: there is no watch.
        """
        create = {"key": encoded, "start_revision": str(revision), "filters": ["NOPUT"]}
        server = self._servers[self._current]
        try:
            opened = await self._opened(server, {"create_request": create})
        except (_Passing, EtcdRefused) as trouble:
            raise self._unavailable(what, [f"{server.address}: {trouble}"]) from None
        heard = _Heard()
        receiving = opened.receive(heard, limit=_LONGEST, idle=WATCH_LIMIT)
        heard.enough(receiving)
        try:
            await receiving
        except CancelledError:
            if not heard.over:
                raise
        except FetchTimeout:
            return
        except FetchFailed as error:
            raise self._unavailable(what, [f"{server.address}: {error}"]) from None

    # -- one server after the other

    async def _somewhere(self, what: str, method: str, message: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        end = self._reactor.seconds() + CALL_LIMIT
        troubles: list[str] = []
        again, strange = True, False
        while len(troubles) < len(self._servers):
            place, left = self._current, end - self._reactor.seconds()
            server = self._servers[place]
            if left <= 0:
                break
            try:
                return await self._answer(server, method, message, min(self._attempt, left)), again and not troubles
            except _Passing as trouble:
                if trouble.cut and again:  # a connection that was kept may be an old one
                    again = False
                    continue
                troubles.append(f"{server.address}: {trouble}")
                strange = strange or trouble.strange
                if self._current == place:
                    self._current = (place + 1) % len(self._servers)
                again = True
        raise self._unavailable(what, troubles, LockUnavailable if strange else NoServer)

    def _unavailable(
        self, what: str, troubles: Sequence[str], kind: type[LockUnavailable] = NoServer
    ) -> LockUnavailable:
        return kind(f"etcd lock: {what}: no server answers as it should", detail="; ".join(troubles), retry_after=10)

    async def _answer(
        self, server: EtcdServer, method: str, message: Mapping[str, Any], seconds: float
    ) -> Mapping[str, Any]:
        """Ask one server, and log in where it wants that."""
        token = await self._logged_in(server, seconds, "")
        try:
            return await self._asked(server, method, message, token, seconds)
        except EtcdRefused as refused:
            if not server.user or not str(refused).endswith(_OLD_TOKEN):
                raise
        token = await self._logged_in(server, seconds, token)
        return await self._asked(server, method, message, token, seconds)

    async def _logged_in(self, server: EtcdServer, seconds: float, refused: str) -> str:
        """@param refused: a token that is good no more. @return: one that may be; empty where none is wanted."""
        if not server.user:
            return ""
        async with self._tokens:  # so that many who find the same token refused bring one new one
            if self._token == refused:
                login = {"name": server.user, "password": server.password}
                found = await self._asked(server, "auth/authenticate", login, "", seconds)
                self._token = str(found.get("token", ""))
            return self._token

    async def _asked(
        self, server: EtcdServer, method: str, message: Mapping[str, Any], token: str, seconds: float
    ) -> Mapping[str, Any]:
        try:
            answer = await self._http.request(
                "POST",
                f"{server.url}/v3/{method}",
                headers=_headers(token),
                data=json.dumps(message).encode(),
                timeout=seconds,
                limit=_LONGEST,
            )
        except FetchFailed as error:
            raise _Passing(str(error), cut=isinstance(error, AnswerCut)) from None
        return _read(answer.status, answer.body)

    async def _opened(self, server: EtcdServer, message: Mapping[str, Any]) -> OpenResponse:
        token = await self._logged_in(server, self._attempt, "")
        try:
            opened = await self._http.open(
                "POST",
                f"{server.url}/v3/watch",
                headers=_headers(token),
                data=json.dumps(message).encode(),
                timeout=self._attempt,
            )
            if opened.status == 200:
                return opened
            _read(opened.status, await opened.read(limit=_LONGEST, idle=self._attempt))
        except FetchFailed as error:
            raise _Passing(str(error)) from None
        raise AssertionError("a status that is not 200 is a failure")


def _headers(token: str) -> Mapping[str, str]:
    return {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})


def _read(status: int, body: bytes) -> Mapping[str, Any]:
    """@return: the answer, of a stream the first; raise L{EtcdRefused} or L{_Passing}."""
    try:
        document = json.loads(body.partition(b"\n")[0])
        failed = document.get("error")
        if isinstance(failed, dict):  # in a stream
            document = {"code": failed.get("grpc_code"), "message": failed.get("message")}
        text, code = str(document.get("message") or failed or ""), int(document.get("code") or 0)
    except (ValueError, AttributeError, TypeError, RecursionError):
        text = f"status {status}, not the answer of etcd's JSON gateway for v3"
        raise _Passing(text, strange=status < 500) from None
    if status == 200 and not failed:
        result = document.get("result", document)
        if isinstance(result, dict):
            return result
    if status >= 500 or not code:
        raise _Passing(f"status {status} {text[:200]}".rstrip(), strange=status < 500)
    raise EtcdRefused(code, text[:200])


@implementer(IConsumer)
class _Heard:
    """
    The lines of a watch.

    @ivar over: whether one says that the key is deleted, or that there is no watch any more.
    """

    def __init__(self) -> None:
        self.over = False
        self._rest = b""
        self._receiving: Deferred[int] | None = None

    def enough(self, receiving: Deferred[int]) -> None:
        """Cancel C{receiving} as soon as it is over."""
        self._receiving = receiving
        if self.over:
            receiving.cancel()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Lines are never too many."""

    def unregisterProducer(self) -> None:
        """Nothing to forget."""

    def write(self, data: bytes) -> None:
        """Take what comes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not self.over and any(_is_news(line) for line in lines if line.strip()):
            self.over = True
            if self._receiving is not None:
                self._receiving.cancel()


def _is_news(line: bytes) -> bool:
    try:
        result = json.loads(line)["result"]
        events = result.get("events", ())
        return bool(result.get("canceled")) or any(event.get("type") == "DELETE" for event in events)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return True  # whatever it is, it is worth another look
