"""A map that forgets: what is old, and what was used least lately when it grows too large."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ExpiringCache(Generic[K, V]):
    """
    @param clock: tells the time.
    @param ttl: how many seconds an entry is good for; 0 turns the cache off.
    @param limit: how many bytes all entries may have by the sizes that L{put} was told.
    """

    def __init__(self, clock: IReactorTime, ttl: float, limit: int) -> None:
        self._clock = clock
        self._ttl = ttl
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[K, tuple[float, int, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """@return: the value if it is there and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock.seconds() - entry[0] >= self._ttl:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return entry[2]

    def put(self, key: K, value: V, size: int) -> None:
        """
        Keep C{value} from now on.

        @param size: bytes that it costs, about; a value larger than the whole cache is not kept.
        """
        self.forget(key)
        if self._ttl <= 0 or size > self._limit:
            return
        self._entries[key] = (self._clock.seconds(), size, value)
        self._size += size
        while self._size > self._limit:
            self.forget(next(iter(self._entries)))

    def forget(self, key: K) -> None:
        """Drop an entry; harmless if there is none."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry[1]

    def __len__(self) -> int:
        return len(self._entries)
