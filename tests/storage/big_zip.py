"""
A process that saves a large zip and reads it slowly: C{python -m tests.storage.big_zip ROOT BYTES}.

Prints how many KiB of memory it had at most before and afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import react
from zope.interface import implementer

from athens_tx.interfaces import IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import CHUNK
from tests.storage.disks import started


@implementer(IZip)
class FastZip:
    """Makes its bytes as fast as it is let; it is never asked whether there is room."""

    def __init__(self, reactor: Any, length: int) -> None:
        self.length = length
        self.pauses = 0
        self._reactor = reactor
        self._left = length
        self._paused = False

    def part(self, start: int, length: int) -> FastZip:
        raise NotImplementedError

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._finished: Deferred[None] = Deferred()
        self._produce()
        return self._finished

    def _produce(self) -> None:
        if self._paused:
            return
        if not self._left:
            self._finished.callback(None)
            return
        size = min(self._left, 64 * 1024)
        self._left -= size
        self._consumer.write(bytes(size))
        self._reactor.callLater(0, self._produce)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._produce()

    def stopProducing(self) -> None:
        raise NotImplementedError


@implementer(IConsumer)
class Slow:
    """Wants a pause after each piece, and drops it a few turns of the reactor later."""

    def __init__(self, reactor: Any, body: Any) -> None:
        self.length = 0
        self._reactor = reactor
        self._body = body

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        assert len(data) <= CHUNK
        self.length += len(data)
        self._body.pauseProducing()
        self._reactor.callLater(0.0001, lambda kept: self._body.resumeProducing(), data)


def peak() -> int:
    """@return: C{VmHWM}: that of getrusage comes from before the exec, and may be that of pytest."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


async def round_trip(reactor: Any, storage: Any, version: str, length: int) -> int:
    """@return: how often the source was paused."""
    mv = ModuleVersion("example.com/big", version)
    source = FastZip(reactor, length)
    await storage.save(mv, b"{}", b"module example.com/big\n", source)
    body = await storage.zip(mv)
    sink = Slow(reactor, body)
    await body.startProducing(sink)
    assert sink.length == body.length == length
    return source.pauses


async def main(reactor: Any, root: str, length: str) -> None:
    """Once small, to have everything loaded, and then large."""
    storage = await started(reactor, Path(root))
    await round_trip(reactor, storage, "v1.0.0", 4 * CHUNK)
    before = peak()
    pauses = await round_trip(reactor, storage, "v1.0.1", int(length))
    print(before, peak(), pauses)
    await storage.stopService()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
