"""
Where log events go: an observer of C{twisted.logger} that writes one line for each, in the formats of Athens.

It never raises, whatever an event holds and whatever becomes of the stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from athens_tx.observe.fields import Fields
from athens_tx.observe.formats import level_of, make_format
from athens_tx.observe.redact import Redactor

_LEVELS: dict[str, object] = {
    "trace": LogLevel.debug,
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "fatal": LogLevel.error,
    "panic": LogLevel.error,
}
_WEIGHT: dict[object, int] = {
    LogLevel.debug: 0,
    LogLevel.info: 1,
    LogLevel.warn: 2,
    LogLevel.error: 3,
    LogLevel.critical: 4,
}
_CHATTER = ("twisted.", "log_legacy")


def parse_level(name: str) -> object:
    """
    @param name: C{trace}, C{debug}, C{info}, C{warn}, C{warning}, C{error}, C{fatal} or C{panic}, in any case.
    @return: the constant of C{twisted.logger.LogLevel}.
    @raise ValueError: it is none of them.
    """
    try:
        return _LEVELS[name.strip().lower()]
    except KeyError:
        raise ValueError(f"no log level {name!r}: {', '.join(_LEVELS)}") from None


@implementer(ILogObserver)
class LogObserver:
    """
    Writes events to a stream, those that weigh enough.

    @ivar lost: how many lines could not be written; a full disk or a closed pipe stops no daemon.
    """

    def __init__(self, stream: TextIO, line: Callable[[LogEvent], str], level: str) -> None:
        self._stream = stream
        self._line = line
        self._least = _WEIGHT[parse_level(level)]
        self._lock = threading.Lock()
        self._writer: int | None = None
        self.lost = 0

    def set_level(self, level: str) -> None:
        """
        Write events of C{level} and above from now on.

        @raise ValueError: no such level; nothing changes.
        """
        self._least = _WEIGHT[parse_level(level)]

    def __call__(self, event: LogEvent) -> None:
        try:
            if _weight(event) >= self._least:
                self._write(self._line(event))
        except Exception:
            # Nothing may be said about it here: what is said comes back. Whoever reads the metrics sees the number.
            self.lost += 1

    def _write(self, line: str) -> None:
        """Write C{line} at once. Threads log too, and so does a stream that has been turned into a logger."""
        here = threading.get_ident()
        if self._writer == here:
            return
        with self._lock:
            self._writer = here
            try:
                try:
                    self._stream.write(line)
                except UnicodeEncodeError:  # a stream of another encoding than UTF-8
                    self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
                self._stream.flush()
            finally:
                self._writer = None


def _weight(event: LogEvent) -> int:
    """@return: what an event weighs; Twisted's own word on itself, each port and factory is for debugging."""
    level = level_of(event)
    if level is LogLevel.info and str(event.get("log_namespace", "")).startswith(_CHATTER):
        return 0
    return _WEIGHT[level]


def make_observer(
    stream: TextIO,
    *,
    level: str,
    log_format: str,
    cloud_runtime: str,
    is_tty: bool,
    secrets: Iterable[str] = (),
) -> LogObserver:
    """
    @param stream: the real standard output, not what twistd puts in its place (that is a logger).
    @param level: the least level to write, as in L{parse_level}.
    @param log_format: C{plain}, C{json}, or empty, which is C{plain}.
    @param cloud_runtime: C{GCP} overrides C{log_format}.
    @param is_tty: whether C{plain} may use colours.
    @param secrets: passwords and tokens that no line may show.
    @raise ValueError: no such level or format.
    """
    fields = Fields(Redactor(secrets))
    line = make_format(fields, log_format=log_format, cloud_runtime=cloud_runtime, colours=is_tty)
    return LogObserver(stream, line, level)
