"""A plain HTTP client for tests: no pool, so nothing stays behind, and big bodies are only counted."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers


@attrs.frozen
class Reply:
    """
    What a server answered.

    @ivar size: bytes of the body that came.
    @ivar whole: whether the body ended where the server said it would.
    @ivar body: empty where it was only counted.
    @ivar sha256: of the body.
    """

    status: int
    headers: dict[str, str]
    size: int
    whole: bool
    body: bytes
    sha256: str

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


class _Body(Protocol):
    def __init__(self, done: Deferred[bool], keep: bool) -> None:
        self._done = done
        self._keep = keep
        self.parts: list[bytes] = []
        self.size = 0
        self.digest = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)
        self.digest.update(data)
        if self._keep:
            self.parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._done.callback(reason.check(ResponseDone, PotentialDataLoss) is not None)


async def request(
    reactor: Any,
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    keep: bool = True,
) -> Reply:
    """
    Ask once; redirects are not followed.

    @param keep: whether to keep the body or only to count it.
    """
    agent = Agent(reactor, connectTimeout=30)
    wanted = Headers({name.encode(): [value.encode()] for name, value in (headers or {}).items()})
    response = await agent.request(method.encode(), url.encode(), wanted)
    done: Deferred[bool] = Deferred()
    body = _Body(done, keep)
    response.deliverBody(body)
    whole = await done
    received = {
        name.decode().lower(): values[0].decode("latin-1") for name, values in response.headers.getAllRawHeaders()
    }
    return Reply(response.code, received, body.size, whole, b"".join(body.parts), body.digest.hexdigest())
