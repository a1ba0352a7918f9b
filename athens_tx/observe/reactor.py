"""What the reactor says of its own health: how late it is, and how busy its threads are."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service

from athens_tx.observe.metrics import Metrics

#: Seconds between two looks at the clock.
INTERVAL = 1.0

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class ReactorWatch(Service):
    """
    Measures how late a timed call comes; one that is late means that something blocks the reactor.

    @ivar lag: how late the latest one came, in seconds.
    """

    name = "reactor watch"

    def __init__(self, reactor: Any, metrics: Metrics) -> None:
        """@param reactor: an C{IReactorTime} and C{IReactorThreads}, or a C{Clock}, which has no threads to look at."""
        self._reactor = reactor
        self._call: Any = None
        self._expected = 0.0
        self.lag = 0.0
        self._observe = metrics.histogram("athens_reactor_lag_seconds", "Lateness of timed calls.", _BOUNDS)
        metrics.gauge("athens_reactor_lag_latest_seconds", "Lateness of the latest timed call.", lambda: self.lag)
        if hasattr(reactor, "getThreadPool"):
            pool = reactor.getThreadPool
            metrics.gauge("athens_threads", "Threads for work that would block.", lambda: len(pool().threads))
            metrics.gauge("athens_threads_busy", "Threads at work.", lambda: len(pool().working))
            metrics.gauge("athens_threads_limit", "Threads at most.", lambda: pool().max)
            metrics.gauge("athens_threads_queue", "Work that waits for a thread.", lambda: pool().q.qsize())

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._again()

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _again(self) -> None:
        self._expected = self._reactor.seconds() + INTERVAL
        self._call = self._reactor.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        self.lag = max(0.0, self._reactor.seconds() - self._expected)
        self._observe(self.lag)
        self._again()
