"""The backends that are open are closed together."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.backends import Backends
from athens_tx.config import Config
from athens_tx.errors import StorageUnavailable

check = SynchronousTestCase()


class Slow(Service):
    """Takes its time to stop."""

    def __init__(self, said: list[str], name: str) -> None:
        self.end: Deferred[None] = Deferred()
        self._said, self._name = said, name

    def stopService(self) -> Deferred[None]:
        self._said.append(self._name)
        return self.end


def opened(*services: Service) -> Backends:
    backends = Backends(Clock(), {})
    for service in services:
        kinds: Any = {"slow": lambda *_, made=service: made}
        check.successResultOf(Deferred.fromCoroutine(backends.open(kinds, "StorageType", "slow", Config())))
    return backends


def test_none_waits_for_the_farewell_of_another() -> None:
    said: list[str] = []
    storage, index = Slow(said, "storage"), Slow(said, "index")
    backends = opened(storage, Service(), index)
    closing = Deferred.fromCoroutine(backends.close())
    assert said == ["index", "storage"]
    storage.end.callback(None)
    check.assertNoResult(closing)
    index.end.callback(None)
    check.successResultOf(closing)
    check.successResultOf(Deferred.fromCoroutine(backends.close()))
    assert len(said) == 2


def test_one_that_can_not_stop_keeps_no_other_from_it() -> None:
    said: list[str] = []
    storage, index = Slow(said, "storage"), Slow(said, "index")
    closing = Deferred.fromCoroutine(opened(storage, index).close())
    index.end.errback(StorageUnavailable("no"))
    check.assertNoResult(closing)
    storage.end.callback(None)
    check.failureResultOf(closing, StorageUnavailable)


def test_a_close_that_takes_too_long_is_given_up_by_all() -> None:
    said: list[str] = []
    storage, index = Slow(said, "storage"), Slow(said, "index")
    closing = Deferred.fromCoroutine(opened(storage, index).close())
    closing.cancel()
    for slow in (storage, index):
        assert slow.end.called
    check.failureResultOf(closing, CancelledError)
