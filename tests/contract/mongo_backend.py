"""
The contract's store in a MongoDB database: the parts of documents as keys.

C{modules/PATH@VERSION/info} and C{.../mod} are fields of a document; C{fs/NAME of PATH@VERSION} is a file of GridFS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import bson

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.mongo import MongoStorage
from athens_tx.storage.mongo_start import Settings
from tests.support import servers


class Mongo:
    """L{MongoStorage} over mongo-java-server."""

    raw: ClassVar[bool] = True
    atomic: ClassVar[bool] = True
    bad_tokens: ClassVar[tuple[str, ...]] = (
        "nonsense",
        "|",
        "a/b|v1.0.0",
        "0" * 23,
        "0" * 25,
        "g" * 24,
        " " + "0" * 23,
    )

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.server = servers.mongo()
        self.bucket = self.server.bucket()
        self.database = self.bucket.database
        self._owners: dict[Any, str] = {}

    def storage(self) -> MongoStorage:
        settings = Settings(self.server.endpoint, database=self.bucket.name, limit=20.0)
        return MongoStorage(self.reactor, settings)

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        document = f"modules/{mv}"
        return f"{document}/info", f"{document}/mod", f"fs/{mv.path.replace('/', '_')}_{mv.version}.zip of {mv}"

    def keys(self) -> Mapping[str, bytes]:
        """Two files of the same name and owner are two; chunks without a file have a key too."""
        found: dict[str, bytes] = {}
        for document in self.database.modules.find():
            fields = {name: document[name] for name in ("info", "mod") if name in document}
            for name, data in fields.items() or [("", b"")]:
                found[f"modules/{document['module']}@{document['version']}/{name}"] = data
        known = set()
        for file in self.database.fs.files.find():
            known.add(file["_id"])
            key = self._key(file)
            while key in found:
                key += " again"
            found[key] = b"".join(chunk["data"] for chunk in self._chunks(file["_id"]))
            assert len(found[key]) == file["length"]
        for chunk in self.database.fs.chunks.find({"files_id": {"$nin": list(known)}}):
            found[f"chunk of {chunk['files_id']} {chunk['n']}"] = chunk["data"]
        return found

    def _chunks(self, id: Any) -> Any:
        return self.database.fs.chunks.find({"files_id": id}).sort("n")

    def _key(self, file: Any) -> str:
        metadata = file.get("metadata")
        if metadata:
            return f"fs/{file['filename']} of {metadata['module']}@{metadata['version']}"
        return self._owners.get(file["_id"], f"fs/{file['filename']}")

    def put(self, key: str, data: bytes) -> None:
        """As Athens would; what has no key of a version becomes a file of somebody else's."""
        document, field = self._field(key)
        if field:
            self.database.modules.update_one(document, {"$set": {field: bson.Binary(data)}}, upsert=True)
            return
        name = key.removeprefix("fs/").partition(" of ")[0]
        with self.bucket.files().new_file(filename=name, chunk_size=255 * 1024) as file:
            file.write(data)
        self._owners[file._id] = key

    def _field(self, key: str) -> tuple[Mapping[str, str], str]:
        rest = key.removeprefix("modules/")
        if rest == key:
            return {}, ""
        name, _, field = rest.rpartition("/")
        path, _, version = name.rpartition("@")
        return {"module": path, "version": version}, field

    def drop(self, key: str) -> None:
        document, field = self._field(key)
        if field:
            self.database.modules.update_one(document, {"$unset": {field: 1}})
            return
        for file in list(self.database.fs.files.find()):
            if self._key(file) == key:
                self.bucket.files().delete(file["_id"])

    def spoil(self, key: str) -> None:
        """Make a text of what should be bytes, or a number."""
        document, field = self._field(key)
        if field:
            self.database.modules.update_one(document, {"$set": {field: "text"}})
            return
        for file in list(self.database.fs.files.find()):
            if self._key(file) == key:
                self.database.fs.files.update_one({"_id": file["_id"]}, {"$set": {"length": "text"}})
