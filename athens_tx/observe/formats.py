"""The three forms of a log line: C{plain}, C{json} and that of Google's cloud. Each makes text of an event."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent

from athens_tx.observe.fields import MESSAGE_LIMIT, Fields, json_line, one_line

#: What the level of an event is called.
LEVEL_NAMES: dict[object, str] = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARN",
    LogLevel.error: "ERROR",
    LogLevel.critical: "ERROR",
}

_COLOURS = {"DEBUG": "\x1b[37m", "INFO": "\x1b[36m", "WARN": "\x1b[33m", "ERROR": "\x1b[31m"}
_KEY_COLOUR = "\x1b[35m"
_PLAIN_COLOUR = "\x1b[0m"

_REQUEST = ("http-method", "http-path", "request-id")
# Fields that a client fills: a blank in one of them could pass for the beginning of the next field of a plain line.
_FOREIGN = frozenset({*_REQUEST, "module", "version"})
# Fields that are sentences, by which messages end.
_SENTENCES = frozenset({"error", "problem", "warning"})

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def _message(event: LogEvent, fields: Fields) -> str:
    form = event.get("log_format")
    # A form without a place to fill in is the message: the line of a request, of which there are many.
    if type(form) is str and "{" not in form and "}" not in form and "log_flattened" not in event:
        return fields.text(form, MESSAGE_LIMIT)
    return fields.text(formatEvent(event), MESSAGE_LIMIT)


def _when(event: LogEvent) -> float:
    when = event.get("log_time")
    return when if isinstance(when, float) and 0 <= when < 1e11 else time.time()


def level_of(event: LogEvent) -> object:
    """@return: the level of an event, a constant of L{LogLevel}; that of an event without one is info."""
    level = event.get("log_level")
    return level if isinstance(level, type(LogLevel.info)) and level in LEVEL_NAMES else LogLevel.info


def level_name(event: LogEvent) -> str:
    """@return: the name of an event's level as Athens has it."""
    return LEVEL_NAMES[level_of(event)]


class Plain:
    """
    C{LEVEL[3:04PM]: message<TAB>key=value key=value }, keys sorted, in local time.

    A traceback follows in lines of its own, each of them indented.
    """

    def __init__(self, fields: Fields, *, colours: bool) -> None:
        self._fields = fields
        self._colours = colours
        self._key = lru_cache(256)(self._painted)
        self._minute: tuple[int, str] = (-1, "")

    def __call__(self, event: LogEvent) -> str:
        level = level_name(event)
        message = one_line(_message(event, self._fields))
        found = self._fields.of(event)
        said = [
            f"{self._key(key)}={_plain(found[key], key)} " for key in sorted(found) if not _ends(message, found, key)
        ]
        pairs = "".join(said)
        if self._colours:
            level = f"{_COLOURS[level]}{level}{_PLAIN_COLOUR}"
        line = f"{level}[{self._clock(_when(event))}]: {message}\t{pairs}\n"
        traceback = self._fields.traceback(event)
        if traceback:
            line += "".join([f"    {one_line(part)}\n" for part in traceback.split("\n")])
        return line

    def _painted(self, key: str) -> str:
        key = one_line(key)
        return f"{_KEY_COLOUR}{key}{_PLAIN_COLOUR}" if self._colours else key

    def _clock(self, when: float) -> str:
        minute = int(when // 60)
        if minute != self._minute[0]:
            local = time.localtime(when)
            half = "AM" if local.tm_hour < 12 else "PM"
            self._minute = (minute, f"{local.tm_hour % 12 or 12}:{local.tm_min:02d}{half}")
        return self._minute[1]


def _ends(message: str, found: dict[str, Any], key: str) -> bool:
    """Whether a message ends with the sentence of a field, so that nobody needs to read it twice."""
    return key in _SENTENCES and isinstance(found[key], str) and message.endswith(one_line(found[key]))


def _plain(value: Any, key: str) -> str:
    """@return: a value as Athens prints it: lists as C{[a b]}."""
    if isinstance(value, str):
        text = one_line(value)
        return text.replace(" ", "\\x20") if key in _FOREIGN else text
    if type(value) in (int, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{' '.join([_plain(item, '') for item in value])}]"
    if isinstance(value, dict):
        pairs = [f"{one_line(name)}:{_plain(item, '')}" for name, item in value.items()]
        return f"map[{' '.join(pairs)}]"
    return _dumps(value)


class Json:
    """One JSON object a line: time, level and message, the fields of the request, then the others sorted."""

    def __init__(
        self, fields: Fields, *, time_key: str, level_key: str, message_key: str, levels: dict[str, str]
    ) -> None:
        """@param levels: other names for the levels, C{WARN} for one."""
        self._fields = fields
        self._time_key, self._level_key, self._message_key = time_key, level_key, message_key
        self._taken = {time_key, level_key, message_key, "traceback"}
        self._levels = levels
        self._second: tuple[int, str] = (-1, "")

    def __call__(self, event: LogEvent) -> str:
        level = level_name(event)
        line: dict[str, Any] = {
            self._time_key: self._clock(_when(event)),
            self._level_key: self._levels.get(level, level),
            self._message_key: _message(event, self._fields),
        }
        found = self._fields.of(event)
        for key in _REQUEST:
            if key in found:
                line[key] = found.pop(key)
        for key in sorted(found):
            line[f"fields.{key}" if key in self._taken else key] = found[key]
        traceback = self._fields.traceback(event)
        if traceback:
            line["traceback"] = traceback
        return json_line(_dumps(line)) + "\n"

    def _clock(self, when: float) -> str:
        second = int(when)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)))
        return self._second[1]


def make_format(fields: Fields, *, log_format: str, cloud_runtime: str, colours: bool) -> Callable[[LogEvent], str]:
    """
    @param log_format: C{plain}, C{json}, or empty, which is C{plain}.
    @param cloud_runtime: C{GCP} decides alone; anything else changes nothing.
    @param colours: paint the levels and keys of C{plain}, for a terminal.
    @raise ValueError: no such format.
    """
    if cloud_runtime == "GCP":
        names = {"WARN": "WARNING"}
        return Json(fields, time_key="timestamp", level_key="severity", message_key="message", levels=names)
    if log_format == "json":
        return Json(fields, time_key="time", level_key="level", message_key="msg", levels={})
    if log_format in ("", "plain"):
        return Plain(fields, colours=colours)
    raise ValueError(f"no log format {log_format!r}: plain or json")
