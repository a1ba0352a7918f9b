"""A bucket in memory, for what the storage above it makes of its listings, and of calls that end as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.interfaces import IObjects, ObjectPage, StoredObject
from athens_tx.storage.body import BytesZip
from athens_tx.storage.parts import Parts


@implementer(IObjects)
class Bucket:
    """
    Objects, by their keys.

    @ivar ages: seconds, of those that were not written just now.
    @ivar calls: what was asked for.
    @ivar trouble: called before each call, with its words; may raise, or give a Deferred to wait for.
    """

    def __init__(self, *, keyed: bool = True, largest_page: int = 1000) -> None:
        self.keyed = keyed
        self.largest_page = largest_page
        self.objects: dict[str, bytes] = {}
        self.ages: dict[str, float] = {}
        self.calls: list[str] = []
        self.trouble: Callable[[str], Any] = lambda call: None
        self._tags: dict[str, str] = {}

    def lay(self, key: str, data: bytes, age: float = 0.0) -> None:
        """Have an object."""
        self.objects[key] = data
        self.ages[key] = age
        self._tags[key] = f"{len(self.calls)} {len(self._tags)} {data!r}"

    def tag(self, key: str) -> str:
        return self._tags.get(key, "tag") if key in self.objects else ""

    async def _call(self, call: str) -> None:
        self.calls.append(call)
        result = self.trouble(call)
        if isinstance(result, Deferred):
            await result

    async def connect(self) -> None:
        await self._call("connect")

    async def close(self) -> None:
        await self._call("close")

    async def page(self, prefix: str, cursor: str, limit: int) -> ObjectPage:
        await self._call(f"page {prefix}")
        assert limit >= 1
        limit = min(limit, self.largest_page)
        # Where a store has tokens of its own, they are no keys.
        behind = cursor if self.keyed else cursor.removeprefix("token ")
        assert self.keyed or not cursor or cursor.startswith("token ")
        keys = sorted((key for key in self.objects if key.startswith(prefix)), key=str.encode)
        keys = [key for key in keys if key.encode() > behind.encode()]
        page = [StoredObject(key, self.tag(key), len(self.objects[key]), self.ages.get(key, 0)) for key in keys[:limit]]
        cut = len(keys) > limit
        return ObjectPage(page, ("" if self.keyed else "token ") + page[-1].key if cut else "")

    async def get(self, key: str, limit: int) -> bytes:
        await self._call(f"get {key}")
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]

    async def open(self, key: str, *, whole: bool = True) -> Any:
        await self._call(f"open {key}")
        if key not in self.objects:
            raise NotFound(key)
        return BytesZip(self.objects[key])

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await self._call(f"put {key}")
        self.lay(key, data)

    async def upload(self, key: str, body: Any, content_type: str, replacing: str) -> bool:
        parts = Parts(body, max(1, body.length))
        try:
            part = await parts.next()
        finally:
            parts.stop()
        await self._call(f"upload {key}")
        data = b"".join(map(bytes, part.pieces))
        if self.tag(key) != replacing:
            return self.objects.get(key) == data
        self.lay(key, data)
        return True

    async def remove(self, key: str, tag: str = "") -> bool:
        await self._call(f"remove {key}")
        if tag and self.tag(key) not in (tag, ""):
            return False
        self.objects.pop(key, None)
        return True

    async def sweep(self, age: float) -> None:
        await self._call("sweep")

    async def link(self, key: str) -> str:
        return f"link to {key}"


def broken(match: str) -> Callable[[str], Any]:
    """@return: trouble for the calls whose words begin so."""

    def trouble(call: str) -> None:
        if call.startswith(match):
            raise StorageUnavailable(f"{call}: broken")

    return trouble
