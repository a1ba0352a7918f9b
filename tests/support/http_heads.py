"""Tells the requests on a kept connection apart: heads, bodies by Content-Length or in chunks, and where they end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

import attrs

_END_OF_HEAD = b"\r\n\r\n"
_LONGEST_HEAD = 1 << 18


@attrs.frozen
class Head:
    """
    The beginning of a request.

    @ivar headers: by their names in small letters; of those of one name, the last.
    @ivar raw: as it was sent.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    raw: bytes = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@attrs.frozen
class Body:
    """Some of a body as it was sent: what says how long the chunks are is part of it."""

    raw: bytes


@attrs.frozen
class End:
    """A request was whole."""


class _State(Enum):
    HEAD = 1
    BODY = 2
    SIZE = 3
    CHUNK = 4
    TRAILER = 5


class RequestReader:
    """Takes what a client sends, in whatever pieces."""

    def __init__(self) -> None:
        self._buffer = b""
        self._state = _State.HEAD
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Head | Body | End]:
        """
        @return: what begins, goes on and ends with these bytes.
        @raise ValueError: this is not HTTP/1.
        """
        self._buffer += data
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> Head | Body | End | None:
        if self._state is _State.HEAD:
            return self._head()
        if self._state is _State.BODY:
            if self._left:
                return self._some()
            self._state = _State.HEAD
            return End()
        if self._state is _State.CHUNK:
            if self._left:
                return self._some()
            self._state = _State.SIZE
        return self._line()

    def _some(self) -> Body | None:
        piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(piece)
        return Body(piece) if piece else None

    def _line(self) -> Body | None:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return None
        self._buffer = rest
        if self._state is _State.SIZE:
            size = int(line.partition(b";")[0], 16)
            self._state, self._left = (_State.CHUNK, size + 2) if size else (_State.TRAILER, 0)
        elif not line:
            self._state = _State.BODY  # of which nothing is left
        return Body(line + found)

    def _head(self) -> Head | None:
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise ValueError("a head without an end")
            return None
        raw, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
        first, *lines = raw[:end].decode("latin-1").split("\r\n")
        method, target, _protocol = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._state = _State.SIZE
        else:
            self._state, self._left = _State.BODY, int(headers.get("content-length", 0))
        return Head(method, target, headers, raw)
