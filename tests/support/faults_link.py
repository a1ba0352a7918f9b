"""The two ends of a connection through the proxy of L{tests.support.faults}, and the pipes between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

#: What a pipe holds before it stops the one who fills it.
FULL = 1 << 16
#: A throttled pipe passes something on this often, in seconds.
TICK = 0.02


class Weather(Protocol):
    """
    What holds for a pipe at the moment.

    @ivar delay: how many seconds all bytes take.
    @ivar rate: how many bytes a second go through, or nothing.
    @ivar frozen: nothing goes through.
    """

    delay: float
    rate: float | None
    frozen: bool


@implementer(IPushProducer)
class Pipe:
    """One direction: takes bytes from one transport and gives them to another, when the weather lets it."""

    def __init__(self, reactor: Any, weather: Weather, source: Any) -> None:
        """@param source: who is to wait while the pipe is full, if he is known."""
        self._reactor = reactor
        self._weather = weather
        self.source = source
        self._target: Any = None
        self._waiting: deque[tuple[float, bytes | Callable[[], None]]] = deque()
        self._size = 0
        self._full = False
        self._held = False
        self._timer: Any = None

    def connect(self, target: Any) -> None:
        """Have somewhere to put the bytes."""
        self._target = target
        target.registerProducer(self, True)
        self.pump()

    def put(self, item: bytes | Callable[[], None]) -> None:
        """Pass bytes on; or do something when all before it has been passed on."""
        self._waiting.append((self._reactor.seconds() + self._weather.delay, item))
        self._size += len(item) if isinstance(item, bytes) else 0
        self.pump()

    def finish(self) -> None:
        """Close the target when it has all bytes."""
        self.put(self._close)

    def half_close(self) -> None:
        """The same, but the target may go on sending."""
        self.put(self._half_close)

    def stop(self) -> None:
        """Forget what is under way."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pump(self) -> None:
        """Pass on what may go."""
        while self._waiting and not self._stuck():
            due, item = self._waiting[0]
            early = due - self._reactor.seconds()
            if early > 0:
                self._later(early)
            elif isinstance(item, bytes):
                self._pass(due, item)
            else:
                self._waiting.popleft()
                item()
        self._balance()

    def _stuck(self) -> bool:
        return self._target is None or self._held or self._weather.frozen or self._timer is not None

    def _pass(self, due: float, data: bytes) -> None:
        self._waiting.popleft()
        rate = self._weather.rate
        if rate is not None:
            piece, rest = data[: max(1, int(rate * TICK))], data[max(1, int(rate * TICK)) :]
            if rest:
                self._waiting.appendleft((due, rest))
            data = piece
            self._later(len(piece) / rate)
        self._size -= len(data)
        self._target.write(data)

    def _later(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(seconds, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self.pump()

    def _balance(self) -> None:
        full = self._size >= FULL
        if full != self._full:
            self._full = full
            if self.source is not None:
                (self.source.pauseProducing if full else self.source.resumeProducing)()

    def _close(self) -> None:
        self._target.unregisterProducer()
        self._target.loseConnection()

    def _half_close(self) -> None:
        self._target.unregisterProducer()
        self._target.loseWriteConnection()

    def pauseProducing(self) -> None:
        self._held = True

    def resumeProducing(self) -> None:
        self._held = False
        self.pump()

    def stopProducing(self) -> None:
        self.stop()


class _End(TwistedProtocol):
    def __init__(self, made: Callable[[], None], received: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._made = made
        self._received = received
        self._lost = lost

    def connectionMade(self) -> None:
        self._made()

    def dataReceived(self, data: bytes) -> None:
        self._received(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lost()


class Watcher(Protocol):
    """Who decides what becomes of the bytes of a link; nothing is passed on but by it."""

    def from_client(self, link: Link, data: bytes) -> None:
        """The client has sent this."""

    def from_server(self, link: Link, data: bytes) -> None:
        """The server has sent this."""

    def ended(self, link: Link) -> None:
        """Both connections are gone."""


class Link:
    """
    A connection of a client, and the one to the server that belongs to it.

    @ivar client: the protocol of the client's connection.
    @ivar up: the pipe to the server, once the client is there.
    @ivar down: the pipe to the client, once it is there.
    """

    def __init__(self, reactor: Any, weather: Weather, endpoint: Any, watcher: Watcher) -> None:
        """@param endpoint: the server's."""
        self._reactor = reactor
        self._weather = weather
        self._endpoint = endpoint
        self._watcher = watcher
        self._open = 2
        self._over = False
        self._connecting: Any = None
        self.client: Any = _End(self._begin, self._from_client, self._client_lost)
        self._server: Any = _End(self._reached, self._from_server, self._server_lost)
        self.up: Any = None
        self.down: Any = None

    def _begin(self) -> None:
        self.up = Pipe(self._reactor, self._weather, self.client.transport)
        self.down = Pipe(self._reactor, self._weather, None)
        self.down.connect(self.client.transport)
        factory = Factory.forProtocol(lambda: self._server)
        factory.noisy = False
        self._connecting = self._endpoint.connect(factory)
        self._connecting.addErrback(self._not_reached)

    def _reached(self) -> None:
        self.down.source = self._server.transport
        self.up.connect(self._server.transport)

    def _not_reached(self, _reason: Failure) -> None:
        self._server_lost()
        self.cut()

    def _from_client(self, data: bytes) -> None:
        if not self._over:
            self._watcher.from_client(self, data)

    def _from_server(self, data: bytes) -> None:
        if not self._over:
            self._watcher.from_server(self, data)

    def _client_lost(self) -> None:
        self.down.stop()
        self.up.finish()
        self._lost()

    def _server_lost(self) -> None:
        self.up.stop()
        self.down.finish()
        self._lost()

    def _lost(self) -> None:
        self._open -= 1
        if not self._open:
            self.up.stop()
            self.down.stop()
            self._watcher.ended(self)

    def finish(self) -> None:
        """Close both connections when what is under way has been passed on; take nothing more."""
        if not self._over:
            self._over = True
            self.up.finish()
            self.down.finish()

    def half_close(self) -> None:
        """Tell the client that no more comes, when what is under way has been passed on."""
        self.down.half_close()

    def cut(self) -> None:
        """Reset both connections at once; what is under way is lost."""
        self._over = True
        self.up.stop()
        self.down.stop()
        self.client.transport.abortConnection()
        if self._server.transport is not None:
            self._server.transport.abortConnection()
        else:
            self._connecting.cancel()

    def pump(self) -> None:
        """The weather has changed."""
        self.up.pump()
        self.down.pump()
