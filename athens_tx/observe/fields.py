"""
From an event of C{twisted.logger} to the fields of a log line, by the names that Athens gives them.

A value may be anything, also hostile: what comes out is bounded and safe to write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from math import isfinite
from typing import Any

from twisted.logger import LogEvent
from twisted.python.failure import Failure

from athens_tx.errors import AthensError, http_status

#: How much of one value, of the message and of a traceback is written, in characters.
VALUE_LIMIT = 2048
MESSAGE_LIMIT = 8192
TRACEBACK_LIMIT = 16384
#: How many items of a list or a mapping are written, and how deep they may lie.
ITEMS_LIMIT = 64
DEPTH_LIMIT = 4

#: How many texts without secrets are kept, and how long they may be.
CACHE_ENTRIES, CACHE_LENGTH = 1024, 100

#: A value of a field, as C{json.dumps} takes it.
Value = Any

# What the web says by the names of Python, and Athens by names with a hyphen.
_NAMES = {
    "http_method": "http-method",
    "http_path": "http-path",
    "http_status": "http-status",
    "request_id": "request-id",
    "ms": "duration-ms",
    "tcp_port": "tcpPort",
    "unix_socket": "unixSocket",
}
# Keys that the wrappers for the logging of old put into an event, known by the last one.
_LEGACY = frozenset({"message", "time", "system", "format", "failure", "why", "printed", "logLevel", "isError"})
_LARGEST = 1 << 63


class Fields:
    """Turns events into fields. C{redact} is asked about every text."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        # Most lines are those of requests, and most of their values are those of the line before.
        self._short = lru_cache(CACHE_ENTRIES)(redact)

    def of(self, event: LogEvent) -> dict[str, Value]:
        """
        @return: the event's own values by their names, with what a failure adds: C{kind} (the status of it, in words)
            and C{detail}, which only the administrator may see.
        """
        found: dict[str, Value] = {}
        legacy = "isError" in event
        for key, value in event.items():
            if key[:4] == "log_" or key[:1] == "_" or (legacy and key in _LEGACY):
                continue
            if key == "mv":
                module, _, version = spoken(value).rpartition("@")
                found.setdefault("module", self.value(module))
                found.setdefault("version", self.value(version))
            elif key == "detail" and not value:
                continue
            else:
                name = _NAMES.get(key) or self.text(key, VALUE_LIMIT)
                found[name] = self.text(value, VALUE_LIMIT) if type(value) is str else self.value(value)
        if "http-status" in found:
            found["http-status"] = str(found["http-status"])
        failure = event.get("log_failure")
        if failure is not None:
            self._blame(getattr(failure, "value", None), found)
        return found

    def _blame(self, error: object, found: dict[str, Value]) -> None:
        """Say what kind of failure it was, unless the event said so itself."""
        if isinstance(error, AthensError):
            found.setdefault("kind", HTTPStatus(http_status(error)).phrase)
            if error.detail:
                found.setdefault("detail", self.value(error.detail))

    def text(self, text: str, limit: int) -> str:
        """@return: C{text} without secrets, C{limit} characters of it at most."""
        if len(text) <= CACHE_LENGTH <= limit:
            return self._short(text)
        if len(text) > 4 * limit:
            text = text[: 4 * limit]  # a secret that this cut in two lies beyond the cut that follows
        text = self._redact(text)
        return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more)"

    def value(self, value: object, depth: int = 0) -> Value:
        """@return: C{value} as something that JSON can say."""
        if type(value) is str:
            return self.text(value, VALUE_LIMIT)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if -_LARGEST <= value < _LARGEST else f"an integer of {value.bit_length()} bits"
        if isinstance(value, float):
            return round(float(value), 6) if isfinite(value) else str(float(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self.text(bytes(value[: 4 * VALUE_LIMIT]).decode("utf-8", "backslashreplace"), VALUE_LIMIT)
        if isinstance(value, datetime):
            return value.isoformat()
        if depth < DEPTH_LIMIT and type(value) in (list, tuple, set, frozenset, dict):
            return self._container(value, depth + 1)
        return self.text(spoken(value), VALUE_LIMIT)

    def _container(self, value: Any, depth: int) -> Value:
        items = iter(value.items() if isinstance(value, Mapping) else value)
        shown = [item for item, _ in zip(items, range(ITEMS_LIMIT), strict=False)]
        if isinstance(value, Mapping):
            return {str(self.value(key, DEPTH_LIMIT)): self.value(item, depth) for key, item in shown}
        more = [f"({len(value) - ITEMS_LIMIT} more)"] if len(value) > ITEMS_LIMIT else []
        return [self.value(item, depth) for item in shown] + more

    def traceback(self, event: LogEvent) -> str:
        """@return: how the failure of C{event} came about, the last part of it where it is long; empty without one."""
        failure = event.get("log_failure")
        if failure is None:
            return ""
        try:
            text = failure.getTraceback() if isinstance(failure, Failure) else spoken(failure)
        except Exception as error:  # the exception's own __str__, for one, may do anything
            text = f"a traceback that can't be shown: {type(error).__name__}"
        text = self._redact(text[-4 * TRACEBACK_LIMIT :]).strip("\n")
        return text if len(text) <= TRACEBACK_LIMIT else "...\n" + text[-TRACEBACK_LIMIT:]


def spoken(value: object) -> str:
    """@return: C{str(value)}, whatever that does."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that can't be shown>"


# What could end a line, move the cursor or turn the writing round, and halves of characters that no encoding knows.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def one_line(text: str) -> str:
    """@return: C{text} with the characters escaped that would leave the line or confuse a terminal."""
    return _UNSAFE.sub(_escaped, text)


def _json_escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def json_line(document: str) -> str:
    """@return: a JSON document of one line with the same characters escaped as JSON does it; halves are replaced."""
    return document if document.isascii() and "\x7f" not in document else _UNSAFE.sub(_json_escaped, document)
