"""
What pytest forgives and trial would not is taken back here; and which tests run.

C{ATHENS_TX_PUBLIC=1} runs those that ask the public upstream too; C{ATHENS_TX_NO_SKIPS=1} takes a test that is skipped,
for want of something that should be there, for a failed one. C{.ci/run} sets both.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.support import servers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the public upstream in peace unless it was asked for."""
    if os.environ.get("ATHENS_TX_PUBLIC") == "1" or config.getoption("markexpr"):
        return
    public = [item for item in items if item.get_closest_marker("upstream")]
    if public:
        config.hook.pytest_deselected(items=public)
        items[:] = [item for item in items if item not in public]


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage after each test need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """See C{ATHENS_TX_NO_SKIPS}."""
    report = yield
    if report.skipped and os.environ.get("ATHENS_TX_NO_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be missing: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def real_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Those that the tests start live as long as the session."""
    servers.session.begin(tmp_path_factory.getbasetemp() / "servers")
    yield
    servers.session.end()


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
    calls = [call for call in reactor.getDelayedCalls() if id(call) not in before]  # type: ignore[attr-defined]
    left = [call for call in calls if call.getTime() > reactor.seconds()]  # type: ignore[attr-defined]  # not this turn's
    assert not left, left
