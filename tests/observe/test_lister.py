"""A metered lister is the lister behind it, counted."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from athens_tx.errors import FetchTimeout, NotFound
from athens_tx.interfaces import ILister, Listing
from athens_tx.observe.lister import MeteredLister
from athens_tx.observe.metrics import Metrics
from tests.observe.test_metrics import value


@implementer(ILister)
class Behind:
    """A lister whose answer is given by the test."""

    def __init__(self) -> None:
        self.answer: Deferred[Listing] = Deferred()

    async def listing(self, path: str) -> Listing:
        assert path == "rsc.io/quote"
        return await self.answer


def test_it_keeps_to_the_interface():
    assert verifyObject(ILister, MeteredLister(Behind(), Metrics(), Clock()))


def test_a_listing_is_passed_on_and_timed():
    behind, metrics, clock = Behind(), Metrics(), Clock()
    asking = Deferred.fromCoroutine(MeteredLister(behind, metrics, clock).listing("rsc.io/quote"))
    clock.advance(1.5)
    listing = Listing(("v1.0.0",), "v1.0.0", "2024-01-01T00:00:00Z", "go")
    behind.answer.callback(listing)
    assert SynchronousTestCase().successResultOf(asking) is listing
    assert value(metrics, "athens_listings_total", kind="go", result="success") == 1
    assert value(metrics, "athens_listing_duration_seconds_sum", kind="go") == 1.5


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (NotFound("x"), "NotFound"),
        (FetchTimeout("x"), "FetchTimeout"),
        (CancelledError(), "cancelled"),
        (RuntimeError(), "error"),
    ],
)
def test_no_failure_passes_for_a_success(error, result):
    behind, metrics = Behind(), Metrics()
    asking = Deferred.fromCoroutine(MeteredLister(behind, metrics, Clock()).listing("rsc.io/quote"))
    behind.answer.errback(error)
    assert SynchronousTestCase().failureResultOf(asking).value is error
    assert value(metrics, "athens_listings_total", kind="unknown", result=result) == 1
    assert value(metrics, "athens_listings_total", kind="unknown", result="success") is None


def test_a_failure_counts_for_the_one_who_was_asked():
    behind, metrics, error = Behind(), Metrics(), NotFound("x")
    error.origin = "upstream"
    asking = Deferred.fromCoroutine(MeteredLister(behind, metrics, Clock()).listing("rsc.io/quote"))
    behind.answer.errback(error)
    SynchronousTestCase().failureResultOf(asking, NotFound)
    assert value(metrics, "athens_listings_total", kind="upstream", result="NotFound") == 1
