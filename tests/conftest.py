"""What pytest forgives and trial would not is taken back here."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, formatEvent, globalLogPublisher


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[dict[str, Any]]]:
    """
    The events logged during the test. A critical one (an unhandled error in a Deferred is one) fails the test, and so
    does a delayed call that it leaves; a test that expects a logged failure empties the list.
    """
    from twisted.internet import reactor

    events: list[dict[str, Any]] = []
    before = {id(call) for call in reactor.getDelayedCalls()}  # type: ignore[attr-defined]
    globalLogPublisher.addObserver(events.append)
    yield events
    gc.collect()  # an unhandled error in a Deferred is logged when the Deferred is collected
    globalLogPublisher.removeObserver(events.append)
    assert not [formatEvent(event) for event in events if event["log_level"] is LogLevel.critical]
    left = [call for call in reactor.getDelayedCalls() if id(call) not in before]  # type: ignore[attr-defined]
    assert not left, left
