"""One collection of a MongoDB database, and the few commands that a storage needs of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from bson.int64 import Int64

from athens_tx.storage.mongo_pool import Pool
from athens_tx.storage.mongo_trouble import refusal

#: How many documents come at once.
BATCH = 1000
#: How many names are asked for at once.
NAMES = 500
#: Error of a document whose unique key is taken.
DUPLICATE = 11000


Document = Mapping[str, Any]


class Collection:
    """C{name} of C{database}, reached through C{pool}."""

    def __init__(self, pool: Pool, database: str, name: str) -> None:
        self.pool = pool
        self._database = database
        self._name = name

    async def find(self, what: str, filter: Document, **options: Any) -> list[Any]:
        """
        @param options: C{sort}, C{limit}, C{projection} and so on, as the server calls them.
        @return: all of them.
        """
        found: list[Any] = []
        async for page in self.pages(what, filter, **options):
            found += page
        return found

    async def first(self, what: str, filter: Document, *, limit: int, **options: Any) -> list[Any]:
        """@return: at most C{limit} of them, which must fit into one answer. No cursor stays on the server."""
        command = {"find": self._name, "filter": filter, **options, "limit": limit, "singleBatch": True}
        reply = await self.pool.command(what, self._database, {**command, **self.pool.read_concern})
        return list(reply["cursor"]["firstBatch"])

    async def pages(self, what: str, filter: Document, **options: Any) -> AsyncIterator[list[Any]]:
        """@return: all of them, as they come."""
        command = {"find": self._name, "filter": filter, **options, "batchSize": BATCH}
        reply = await self.pool.command(what, self._database, {**command, **self.pool.read_concern})
        yield reply["cursor"]["firstBatch"]
        while reply["cursor"]["id"]:
            more = {"getMore": Int64(reply["cursor"]["id"]), "collection": self._name, "batchSize": BATCH}
            reply = await self.pool.command(what, self._database, more)
            yield reply["cursor"]["nextBatch"]

    async def counts(self, what: str, field: str, values: Sequence[Any]) -> Mapping[Any, int]:
        """@return: how many documents have each value in a field, without those that none has."""
        command = {
            "aggregate": self._name,
            "pipeline": [
                {"$match": {field: {"$in": list(values)}}},
                {"$group": {"_id": f"${field}", "count": {"$sum": 1}}},
            ],
            "cursor": {"batchSize": len(values) + 1},
        }
        reply = await self.pool.command(what, self._database, {**command, **self.pool.read_concern})
        return {found["_id"]: found["count"] for found in reply["cursor"]["firstBatch"]}

    async def insert(self, what: str, documents: Sequence[Document]) -> bool:
        """@return: whether all were inserted; C{False} if one's unique key was taken, perhaps by itself."""
        command = {"insert": self._name, "ordered": False, **self.pool.write_concern}
        reply = await self.pool.command(what, self._database, command, {"documents": documents})
        errors = reply.get("writeErrors", ())
        for error in errors:
            if error.get("code") != DUPLICATE:
                raise refusal(what, error)
        return not errors

    async def delete(self, what: str, filter: Document) -> int:
        """@return: how many there were."""
        command = {
            "delete": self._name,
            "deletes": [{"q": filter, "limit": 0}],
            "ordered": False,
            **self.pool.write_concern,
        }
        reply = await self.pool.command(what, self._database, command)
        for error in reply.get("writeErrors", ()):
            raise refusal(what, error)
        return int(reply.get("n", 0))

    async def index(self, keys: Document, *, limit: float, **options: Any) -> None:
        """Make an index if it is not there; nothing that exists is changed."""
        name = "_".join(f"{key}_{way}" for key, way in keys.items())
        command = {"createIndexes": self._name, "indexes": [{"key": dict(keys), "name": name, **options}]}
        await self.pool.command(f"index {name}", self._database, {**command, **self.pool.write_concern}, limit=limit)

    async def look(self, limit: float, *, patient: bool = True) -> None:
        """Read something, be it nothing."""
        command = {"find": self._name, "filter": {}, "projection": {"_id": 1}, "limit": 1, "singleBatch": True}
        await self.pool.command("reading", self._database, command, limit=limit, patient=patient)
