"""A metered storage is the storage behind it, counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from athens_tx.errors import NotFound
from athens_tx.interfaces import ILinks, IStorage
from athens_tx.module.version import ModuleVersion
from athens_tx.observe.metrics import Metrics
from athens_tx.observe.storage import MeteredStorage
from athens_tx.storage.memory import MemoryStorage

MV = ModuleVersion("rsc.io/quote", "v1.5.2")

# Each method with what it is given.
CALLS = {
    "list": ("rsc.io/quote",),
    "info": (MV,),
    "mod": (MV,),
    "zip": (MV,),
    "exists": (MV,),
    "save": (MV, b"{}", b"module rsc.io/quote\n", object()),
    "delete": (MV,),
    "catalog": ("", 7),
    "check": (),
    "link": (MV,),
}


class Noting(Metrics):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, float]] = []

    def storage_operation(self, operation: str, result: str, seconds: float) -> None:
        super().storage_operation(operation, result, seconds)
        self.told.append((operation, result, seconds))


@implementer(IStorage, ILinks)
class Behind:
    """A storage whose answers are given by the test, and which notes how it was asked."""

    def __init__(self) -> None:
        self.answer: Deferred[Any] = Deferred()
        self.asked: list[tuple[Any, ...]] = []

    def _asked(self, name: str, *args: Any) -> Deferred[Any]:
        self.asked.append((name, *args))
        return self.answer

    async def list(self, path: str) -> Sequence[str]:
        return await self._asked("list", path)

    async def info(self, mv: ModuleVersion) -> bytes:
        return await self._asked("info", mv)

    async def mod(self, mv: ModuleVersion) -> bytes:
        return await self._asked("mod", mv)

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> Any:
        self.whole = whole
        return await self._asked("zip", mv)

    async def exists(self, mv: ModuleVersion) -> bool:
        return await self._asked("exists", mv)

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: Any) -> None:
        return await self._asked("save", mv, info, mod, zip)

    async def delete(self, mv: ModuleVersion) -> None:
        return await self._asked("delete", mv)

    async def catalog(self, token: str, limit: int) -> Any:
        return await self._asked("catalog", token, limit)

    async def check(self) -> None:
        return await self._asked("check")

    async def link(self, mv: ModuleVersion) -> str:
        return await self._asked("link", mv)


@pytest.fixture
def behind():
    return Behind()


def test_it_keeps_to_the_interface(behind):
    assert verifyObject(IStorage, MeteredStorage(behind, Metrics(), Clock()))


def test_every_method_of_the_interfaces_is_here():
    assert set(CALLS) == {*IStorage.names(), *ILinks.names()}


def test_it_passes_on_how_much_of_a_zip_is_wanted(behind):
    behind.answer.callback("zip")
    metered = MeteredStorage(behind, Metrics(), Clock())
    SynchronousTestCase().successResultOf(Deferred.fromCoroutine(metered.zip(MV, whole=False)))
    assert behind.whole is False


def test_it_gives_links_only_where_the_storage_behind_it_does(behind):
    assert verifyObject(ILinks, MeteredStorage(behind, Metrics(), Clock()))
    assert ILinks(MeteredStorage(MemoryStorage(1), Metrics(), Clock()), None) is None


@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_is_asked_is_passed_on_and_timed(behind, name):
    metrics, clock = Noting(), Clock()
    storage = MeteredStorage(behind, metrics, clock)
    asking = Deferred.fromCoroutine(getattr(storage, name)(*CALLS[name]))
    assert behind.asked == [(name, *CALLS[name])]
    clock.advance(0.25)
    given = object()
    behind.answer.callback(given)
    answer = SynchronousTestCase().successResultOf(asking)
    assert answer is (None if name in ("save", "delete", "check") else given)
    assert metrics.told == [(name, "success", 0.25)]


@pytest_twisted.ensureDeferred
async def test_a_failure_is_passed_on_and_counted_by_its_name(behind):
    metrics = Noting()
    error = NotFound("rsc.io/quote@v1.5.2: not stored")
    behind.answer.errback(error)
    with pytest.raises(NotFound) as caught:
        await MeteredStorage(behind, metrics, Clock()).info(MV)
    assert caught.value is error
    assert metrics.told == [("info", "NotFound", 0.0)]


def test_who_stops_waiting_is_counted_as_cancelled(behind):
    metrics = Noting()
    asking = Deferred.fromCoroutine(MeteredStorage(behind, metrics, Clock()).info(MV))
    asking.cancel()
    SynchronousTestCase().failureResultOf(asking, CancelledError)
    assert metrics.told == [("info", "cancelled", 0.0)]


def test_a_clock_that_is_set_back_takes_no_time_away(behind):
    class Back(Clock):
        def seconds(self) -> float:
            self.rightNow -= 1.0
            return self.rightNow

    metrics = Noting()
    asking = Deferred.fromCoroutine(MeteredStorage(behind, metrics, Back()).info(MV))
    behind.answer.callback(b"{}")
    SynchronousTestCase().successResultOf(asking)
    assert metrics.told == [("info", "success", 0.0)]
