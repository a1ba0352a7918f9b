"""The documents of modules in a MongoDB database, and which file of GridFS belongs to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from bson.binary import Binary

from athens_tx.errors import InvalidModule, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gridfs import StoredFile
from athens_tx.storage.layout import check_names
from athens_tx.storage.mongo_collection import Document

#: A document that has both small files: bytes, and more than none.
FILES: Mapping[str, Any] = {"mod": {"$gt": Binary(b"")}, "info": {"$gt": Binary(b"")}}
#: What tells whose a document is.
NAMES_ONLY = {"module": 1, "version": 1}


@attrs.frozen
class Found:
    """
    What there is of a version.

    @ivar file: the one that belongs to the document, if it is whole.
    @ivar files: all of this name.
    """

    document: Document | None
    file: StoredFile | None
    files: Sequence[StoredFile]

    @property
    def complete(self) -> bool:
        """Whether all three files are there; an empty C{.info} or go.mod is none."""
        return (
            self.file is not None
            and self.document is not None
            and bool(self.document.get("info") and self.document.get("mod"))
        )


def version_of(document: Document) -> ModuleVersion | None:
    """@return: whose document this is; C{None} if it is nobody's."""
    path, version = document.get("module"), document.get("version")
    if not isinstance(path, str) or not isinstance(version, str):
        return None
    mv = ModuleVersion(path, version)
    try:
        check_names(mv)
    except InvalidModule:
        return None
    return mv


def choose(document: Document | None, mv: ModuleVersion, files: Sequence[StoredFile]) -> StoredFile | None:
    """
    @param files: of this name, the newest first.
    @return: the one that belongs to the document: that of the same save, else one that says so, else one that says
        nothing.
    """
    if document is None:
        return None
    for fits in (
        lambda file: file.id == document["_id"],
        lambda file: file.owner == mv,
        lambda file: file.owner is None,
    ):
        for file in files:
            if fits(file):
                return file
    return None


def check_document(mv: ModuleVersion, document: Document) -> None:
    """Raise L{StorageUnavailable} if what should be bytes is something else."""
    for name in ("info", "mod"):
        if name in document and not isinstance(document[name], bytes):
            raise StorageUnavailable(
                f"mongo storage: the {name} of {mv} can't be read",
                detail=f"it is no binary data; document _id {document.get('_id')}",
            )
