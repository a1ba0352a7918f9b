"""The reactor's own health."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import Clock

from athens_tx.observe.metrics import Metrics
from athens_tx.observe.reactor import INTERVAL, ReactorWatch
from tests.observe.test_metrics import value


def test_a_reactor_that_is_blocked_is_seen():
    metrics, clock = Metrics(), Clock()
    watch = ReactorWatch(clock, metrics)
    watch.startService()
    clock.advance(INTERVAL)
    assert watch.lag == 0.0
    clock.advance(INTERVAL + 0.3)
    assert abs(watch.lag - 0.3) < 1e-9
    assert value(metrics, "athens_reactor_lag_seconds_bucket", le="0.25") == 1
    assert value(metrics, "athens_reactor_lag_seconds_count") == 2
    assert abs((value(metrics, "athens_reactor_lag_latest_seconds") or 0) - 0.3) < 1e-9
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_it_can_be_stopped_without_having_been_started():
    ReactorWatch(Clock(), Metrics()).stopService()


def test_the_threads_are_counted():
    metrics = Metrics()
    ReactorWatch(reactor, metrics)
    assert value(metrics, "athens_threads_limit") == reactor.getThreadPool().max
    assert value(metrics, "athens_threads_busy") == 0
    assert value(metrics, "athens_threads_queue") == 0
    assert (value(metrics, "athens_threads") or 0) >= 0


def test_a_clock_has_no_threads_to_count():
    metrics = Metrics()
    ReactorWatch(Clock(), metrics)
    assert value(metrics, "athens_threads") is None
