"""An HTTP client that is connected to a checksum log and to nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred

from athens_tx.errors import UpstreamUnreachable
from tests.support.checksum_log import ChecksumLog


@attrs.frozen
class Reply:
    """What came of it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.Factory(dict)

    def header(self, name: str) -> str | None:
        """Names are given as the code under test writes them."""
        return self.headers.get(name)


class LogClient:
    """
    Answers below the URL C{base}; all other servers can't be reached.

    @ivar asked: the URLs, in order.
    @ivar replies: by the end of a URL, instead of the log's.
    @ivar hold: what each request waits for.
    @ivar held: what requests wait for by the end of their URL.
    """

    def __init__(self, log: ChecksumLog, base: str = "") -> None:
        self.log = log
        self.base = base or f"https://{log.name}"
        self.asked: list[str] = []
        self.sent: list[Mapping[str, str]] = []
        self.replies: dict[str, Reply | Exception | Callable[[], Reply]] = {}
        self.hold: Deferred[None] | None = None
        self.held: dict[str, Deferred[None]] = {}

    def count(self, end: str = "") -> int:
        """@return: how many URLs asked for had this end."""
        return sum(url.endswith(end) for url in self.asked)

    @property
    def often(self) -> list[str]:
        """What was asked for more than once."""
        return [url for url, count in Counter(self.asked).items() if count > 1]

    async def get_bytes(
        self,
        url: str,
        *,
        limit: int,
        timeout: float,  # noqa: ASYNC109
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """As the real one."""
        self.asked.append(url)
        self.sent.append(headers or {})
        hold = next((hold for end, hold in self.held.items() if url.endswith(end)), self.hold)
        if hold is not None:
            held: Deferred[None] = Deferred()
            hold.chainDeferred(held)
            await held
        for end, reply in self.replies.items():
            if url.endswith(end):
                if isinstance(reply, Exception):
                    raise reply
                return reply() if callable(reply) else reply
        if not url.startswith(self.base + "/"):
            raise UpstreamUnreachable("the server can't be connected", detail=url)
        body = self.log.answer(url.removeprefix(self.base + "/"))
        return Reply(404, b"not found: no such thing\n") if body is None else Reply(200, body, {"ETag": '"1"'})


def small_log(size: int, name: str = "sum.example.test", salt: str = "") -> ChecksumLog:
    """@return: a log of the modules C{a.example/m0}, C{a.example/m1}, ... at C{v1.0.0}."""
    log = ChecksumLog(name)
    grow(log, size, salt)
    return log


def grow(log: ChecksumLog, size: int, salt: str = "") -> None:
    """Add what a log of C{size} records lacks."""
    for number in range(len(log), size):
        log.add(f"a.example/m{number}", "v1.0.0", f"h1:zip{number}{salt}", f"h1:mod{number}{salt}")
