"""The contract's store in a container of Azurite."""

from __future__ import annotations

from typing import Any

from athens_tx.config.backends import AzureBlob as Table
from athens_tx.storage.azureblob_start import azureblob_storage
from athens_tx.storage.objects import ObjectStorage
from tests.contract.bucket_backend import PATIENCE, TIMEOUT, BucketBackend
from tests.support import servers


class AzureBlob(BucketBackend):
    """L{azureblob_storage} over Azurite, which takes any marker: the tokens of Azure that are none are a stub's."""

    def find(self) -> Any:
        return servers.azure()

    def storage(self) -> ObjectStorage:
        table = Table(
            account_name=self.server.account,
            account_key=self.server.key,
            container_name=self.bucket.name,
            endpoint=self.server.endpoint,
        )
        return azureblob_storage(self.reactor, table, {}, timeout=TIMEOUT, patience=PATIENCE)

    def spoil(self, key: str) -> None:
        """Into the archive, where it is listed and can't be read."""
        self.bucket.client.get_blob_client(key).set_standard_blob_tier("Archive")
