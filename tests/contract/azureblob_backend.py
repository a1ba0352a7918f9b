"""The contract's store in a container of Azurite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from athens_tx.config.backends import AzureBlob as Table
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.azureblob_start import azureblob_storage
from athens_tx.storage.objects import ObjectStorage
from tests.support import servers

#: Seconds that a part of a version is taken for one that somebody saves: what the tests lay there is not.
PATIENCE = 0.2
TIMEOUT = 20.0


class AzureBlob:
    """L{azureblob_storage} over Azurite, which takes any marker: the tokens of Azure that are none are a stub's."""

    raw: ClassVar[bool] = True
    atomic: ClassVar[bool] = False
    bad_tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.server = servers.azure()
        self.bucket = self.server.bucket()

    def storage(self) -> ObjectStorage:
        table = Table(
            account_name=self.server.account,
            account_key=self.server.key,
            container_name=self.bucket.name,
            endpoint=self.server.endpoint,
        )
        return azureblob_storage(self.reactor, table, {}, timeout=TIMEOUT, patience=PATIENCE)

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

    def spoil(self, key: str) -> None:
        """Into the archive, where it is listed and can't be read."""
        self.bucket.client.get_blob_client(key).set_standard_blob_tier("Archive")
