"""
The storages that keep to the contract, one line each in L{BACKENDS}: a backend is done when it is in the table.

A backend's entry is a class that makes its storage, and may lay hands on what lies in the store, past the storage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from athens_tx.module.version import ModuleVersion
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.layout import STAGING
from athens_tx.storage.memory import MemoryStorage
from tests.contract.azureblob_backend import AzureBlob
from tests.contract.external_backend import ExternalDisk
from tests.contract.gcp_backend import Gcp
from tests.contract.mongo_backend import Mongo
from tests.contract.s3_backend import S3, Minio, MinioOnVersitygw, S3OnMinio


class Backend(Protocol):
    """
    A store for one test.

    @cvar raw: whether the methods below C{storage} work, and whether what is stored outlives the storage.
    @cvar atomic: whether a file of a version that lacks another is not given either; see L{IStorage.info}.
    @cvar bad_tokens: what is no token of its catalog.
    @cvar unspeakable: characters that it can't have in a name; left out where there are none.
    """

    raw: ClassVar[bool]
    atomic: ClassVar[bool]
    bad_tokens: ClassVar[Sequence[str]]

    def __init__(self, reactor: Any, path: Path) -> None:
        """@param path: an empty directory."""

    def storage(self) -> Any:
        """@return: a new storage, not started, over the same store."""

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        """@return: the keys of info, mod and zip: the golden layout of spec 2.0."""

    def keys(self) -> Mapping[str, bytes]:
        """@return: everything that lies in the store, but what a running storage keeps there for itself."""

    def put(self, key: str, data: bytes) -> None:
        """Lay something into the store."""

    def drop(self, key: str) -> None:
        """Take something out of the store."""

    def spoil(self, key: str) -> None:
        """Make something unreadable: to read it is an error, and not the one of its absence. May be left out."""

    def token(self, mv: ModuleVersion) -> str:
        """@return: Athens' token of a page that ends with C{mv}. Left out where that depends on what is stored."""


#: What is no token of a catalog in the order of a tree.
_NO_TOKENS = ("nonsense", "|", "a|", "|v1.0.0", "../x|v1.0.0", "a|../..", "a|b/c", "a\0|v1.0.0")


class Memory:
    """L{MemoryStorage}."""

    raw = False
    atomic = True
    bad_tokens = _NO_TOKENS

    def __init__(self, reactor: Any, path: Path) -> None:
        pass

    def token(self, mv: ModuleVersion) -> str:
        return f"{mv.path}|{mv.version}"

    def storage(self) -> MemoryStorage:
        return MemoryStorage(64 << 20)

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"{name}: nothing lies in memory but what the storage knows")


class Disk:
    """L{DiskStorage}."""

    raw = True
    atomic = True
    bad_tokens = _NO_TOKENS

    def __init__(self, reactor: Any, path: Path) -> None:
        self._reactor = reactor
        self.root = path / "root"
        self.root.mkdir()

    def storage(self) -> DiskStorage:
        return DiskStorage(self._reactor, self.root)

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        directory = f"{mv.path}/{mv.version}"
        return f"{directory}/{mv.version}.info", f"{directory}/go.mod", f"{directory}/source.zip"

    def keys(self) -> Mapping[str, bytes]:
        """What is put together counts; the lock files do not."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        found = {str(path.relative_to(self.root)): path.read_bytes() for path in files}
        return {key: data for key, data in found.items() if not (key.startswith(STAGING) and key.endswith("/lock"))}

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def drop(self, key: str) -> None:
        (self.root / key).unlink()

    def spoil(self, key: str) -> None:
        """A link to itself: the tests may run as root, who reads what has no permissions."""
        self.drop(key)
        os.symlink(self.root / key, self.root / key)

    def token(self, mv: ModuleVersion) -> str:
        return f"{mv.path}|{mv.version}"


BACKENDS: Mapping[str, Any] = {
    "azureblob": AzureBlob,
    "disk": Disk,
    "external": ExternalDisk,
    "gcp": Gcp,
    "memory": Memory,
    "minio": Minio,
    "minio-versitygw": MinioOnVersitygw,
    "mongo": Mongo,
    "s3": S3,
    "s3-minio": S3OnMinio,
}
