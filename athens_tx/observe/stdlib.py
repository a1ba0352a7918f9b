"""
The logging of others: what libraries say through C{logging} and C{warnings} becomes events of C{twisted.logger}.

(Twisted's C{STDLibLogObserver} goes the other way.)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TextIO

from twisted.logger import ILogObserver, LogLevel
from twisted.python.failure import Failure

#: Below it libraries tell too much: botocore, for one, prints the headers that it signs.
LEAST = logging.INFO


class EventHandler(logging.Handler):
    """Publishes records as events, with the logger's name as the namespace."""

    def __init__(self, observer: ILogObserver) -> None:
        super().__init__(LEAST)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        """Publish one record; what can't be put together is published as it is written in the source."""
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        event = {
            "log_format": "{log_text}",
            "log_text": text,
            "log_time": record.created,
            "log_level": _level(record.levelno),
            "log_namespace": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            event["log_failure"] = Failure(record.exc_info[1], record.exc_info[0], record.exc_info[2])
        self._observer(event)


def _level(number: int) -> object:
    if number >= logging.CRITICAL:
        return LogLevel.critical
    if number >= logging.ERROR:
        return LogLevel.error
    if number >= logging.WARNING:
        return LogLevel.warn
    return LogLevel.info if number >= logging.INFO else LogLevel.debug


def bridge(observer: ILogObserver) -> Callable[[], None]:
    """
    Send what comes through C{logging} and C{warnings} to C{observer}, from L{LEAST} on.

    @param observer: C{globalLogPublisher}, as a rule.
    @return: puts everything back.
    """
    root = logging.getLogger()
    handler = EventHandler(observer)
    level, shown = root.level, warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            shown(message, category, filename, lineno, file, line)
            return
        record = logging.LogRecord("warnings", logging.WARNING, filename, lineno, "%s: %s", (), None)
        record.args = (category.__name__, message)
        handler.emit(record)

    root.addHandler(handler)
    root.setLevel(LEAST)
    warnings.showwarning = show

    def undo() -> None:
        root.removeHandler(handler)
        root.setLevel(level)
        if warnings.showwarning is show:
            warnings.showwarning = shown

    return undo
