"""Load on one URL, by wrk where it is installed, else by a small client of our own."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import time
from urllib.parse import urlsplit

import attrs

#: What is said where wrk is missing.
WITHOUT_WRK = (
    "wrk is not installed (Debian: apt-get install wrk): a built-in client makes the load. It is slower than a fast "
    "server, so its figures are a lower bound; compare them only with each other."
)


class LoadError(Exception):
    """The server did not answer as it should, so that a figure would mean nothing."""


@attrs.frozen
class Figure:
    """What one measurement gave: requests a second, and the median and the 99th percentile of the time they took."""

    rate: float
    median_ms: float
    p99_ms: float


def has_wrk() -> bool:
    """@return: whether wrk is there."""
    return shutil.which("wrk") is not None


def measure(url: str, *, connections: int, seconds: float, wrk: bool) -> Figure:
    """
    Ask for C{url} for some seconds over C{connections} kept-alive connections, from one thread.

    @raise LoadError: an answer was not 200, or a connection broke.
    """
    if wrk:
        return _by_wrk(url, connections, seconds)
    return asyncio.run(_by_ourselves(url, connections, seconds))


def _by_wrk(url: str, connections: int, seconds: float) -> Figure:
    whole = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "5s", "--latency", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=whole + 30)
    if done.returncode:
        raise LoadError(f"wrk on {url}: {(done.stderr or done.stdout).strip()}")
    return parse_wrk(done.stdout, url)


def parse_wrk(text: str, url: str) -> Figure:
    """@return: the figure that wrk printed."""
    for trouble in (r"Non-2xx or 3xx responses: (\d+)", r"(Socket errors: .*)"):
        found = re.search(trouble, text)
        if found:
            raise LoadError(f"{url}: {found[0].strip()}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None:
        raise LoadError(f"wrk on {url} printed no rate")
    return Figure(float(rate[1]), _latency(text, "50"), _latency(text, "99"))


def _latency(text: str, percent: str) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    if found is None:
        raise LoadError("wrk printed no latencies")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}[found[2]]


class _Asking(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, request: bytes, until: float, taken: list[float]) -> None:
        self._request, self._until, self._taken = request, until, taken
        self._buffer = bytearray()
        self._began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = re.search(rb"\ncontent-length:\s*(\d+)", head)
        if head[9:12] != b"200" or length is None:
            self._end(LoadError(f"not an answer with 200 and a length: {head[:80]!r}"))
            return
        if len(self._buffer) < end + 4 + int(length[1]):
            return
        self._buffer.clear()
        now = time.perf_counter()
        self._taken.append(now - self._began)
        if now < self._until:
            self._ask()
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(LoadError(f"a connection was lost: {exc or 'closed by the server'}"))


async def _by_ourselves(url: str, connections: int, seconds: float) -> Figure:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise LoadError(f"{url}: the built-in client speaks http only; install wrk")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    asking: list[_Asking] = []
    try:
        async with asyncio.timeout(seconds + 30):
            for _ in range(connections):
                _, one = await loop.create_connection(
                    lambda: _Asking(request, began + seconds, taken), parts.hostname, parts.port or 80
                )
                asking.append(one)
            await asyncio.gather(*(one.done for one in asking))
    except (OSError, TimeoutError) as error:
        raise LoadError(f"{url}: {error or 'no answer in time'}") from error
    finally:
        for one in asking:
            one.done.cancel()
    rate = len(taken) / (time.perf_counter() - began)
    taken.sort()
    return Figure(rate, statistics.median(taken) * 1000, taken[int(len(taken) * 0.99)] * 1000)
