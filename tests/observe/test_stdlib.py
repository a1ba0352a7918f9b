"""What libraries say by logging and warnings arrives as events."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.logger import LogLevel, formatEvent

from athens_tx.observe.stdlib import EventHandler, bridge


@contextmanager
def bridged() -> Iterator[list[dict[str, Any]]]:
    """The events that come over the bridge; everything is as it was afterwards."""
    root, shown = logging.getLogger(), warnings.showwarning
    before = (list(root.handlers), root.level)
    seen: list[dict[str, Any]] = []
    undo = bridge(seen.append)
    yield seen
    undo()
    assert (list(root.handlers), root.level) == before
    assert warnings.showwarning is shown


def record(level: int, text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("some.library", level, "x.py", 1, text, args, None)


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (logging.INFO, LogLevel.info),
        (logging.INFO + 5, LogLevel.info),
        (logging.WARNING, LogLevel.warn),
        (logging.ERROR, LogLevel.error),
        (logging.CRITICAL, LogLevel.critical),
    ],
)
def test_a_record_becomes_an_event(number, level):
    with bridged() as events:
        logging.getLogger("some.library").log(number, "read %d of {braces}", 7)
    [event] = events
    assert event["log_level"] is level
    assert event["log_namespace"] == "some.library"
    assert formatEvent(event) == "read 7 of {braces}"
    assert event["log_time"] > 1e9
    assert "log_failure" not in event


def test_libraries_are_not_heard_below_info():
    with bridged() as events:
        logging.getLogger("botocore").debug("signed headers")
        assert not logging.getLogger("botocore").isEnabledFor(logging.DEBUG)  # so nothing is even put together
    assert events == []


def test_a_record_with_a_traceback_has_a_failure():
    with bridged() as events:
        try:
            raise ValueError("x")
        except ValueError:
            logging.getLogger("some.library").exception("failed")
        logging.getLogger("some.library").error("none", exc_info=True)
    assert isinstance(events[0]["log_failure"].value, ValueError)
    assert "log_failure" not in events[1]


def test_a_record_that_does_not_fit_its_arguments_is_shown_as_it_is():
    events: list[dict[str, Any]] = []
    EventHandler(events.append).emit(record(logging.ERROR, "%d of %d", "one"))
    assert formatEvent(events[0]) == "%d of %d"


def test_a_record_below_info_that_reaches_the_handler_is_for_debugging():
    events: list[dict[str, Any]] = []
    EventHandler(events.append).emit(record(logging.DEBUG, "low"))
    assert events[0]["log_level"] is LogLevel.debug


def test_a_warning_becomes_an_event():
    with bridged() as events:
        warnings.showwarning(DeprecationWarning("old {way}"), DeprecationWarning, "x.py", 1)
    assert formatEvent(events[0]) == "DeprecationWarning: old {way}"
    assert events[0]["log_level"] is LogLevel.warn


def test_a_warning_for_a_file_goes_there(monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args: asked.append(args[4]))
    out = io.StringIO()
    with bridged() as events:
        warnings.showwarning("into a file", UserWarning, "x.py", 1, file=out)
    assert (events, asked) == ([], [out])


def test_undoing_leaves_a_later_owner_of_warnings_alone(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    undo = bridge([].append)
    monkeypatch.setattr(warnings, "showwarning", print)
    undo()
    assert warnings.showwarning is print
