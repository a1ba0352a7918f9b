"""The contract's store in a bucket of fake-gcs-server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from athens_tx.config.backends import Gcp as Table
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.gcp_start import gcp_storage
from athens_tx.storage.objects import ObjectStorage
from tests.support import servers

#: Seconds that a part of a version is taken for one that somebody saves: what the tests lay there is not.
PATIENCE = 0.2
TIMEOUT = 20.0


class Gcp:
    """
    L{gcp_storage} over fake-gcs-server, in which nothing can be spoilt, and which takes any token for a page: those
    that are none are a stub's.
    """

    raw: ClassVar[bool] = True
    atomic: ClassVar[bool] = False
    bad_tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.server = servers.gcs()
        self.bucket = self.server.bucket()

    def storage(self) -> ObjectStorage:
        environ = {"STORAGE_EMULATOR_HOST": self.server.endpoint}  # so nobody looks for default credentials
        return gcp_storage(self.reactor, Table(bucket=self.bucket.name), environ, timeout=TIMEOUT, patience=PATIENCE)

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        start = f"{mv.path}/@v/{mv.version}"
        return f"{start}.info", f"{start}.mod", f"{start}.zip"

    def keys(self) -> Mapping[str, bytes]:
        keys: Mapping[str, bytes] = self.bucket.keys()
        return keys

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put(key, data)

    def drop(self, key: str) -> None:
        self.bucket.drop(key)
