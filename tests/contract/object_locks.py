"""The locks that are objects of the storage, for the contract of locks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobLeaseClient

from tests.support import servers


class _Objects:
    """What both have in common. Their servers forget everything with their process, so they are only stopped here."""

    kind: ClassVar[str]
    server_name: ClassVar[str]
    tells: ClassVar[bool] = False
    forgets: ClassVar[bool] = False

    def __init__(self, lease: int, own: Path | None = None) -> None:
        self._own = own is not None
        name = self.server_name
        self.server: Any = servers.session.server(name) if own is None else servers.own(name, own)
        self.bucket: Any = self.server.bucket()
        self.environ: Mapping[str, str] = {
            "ATHENS_SINGLE_FLIGHT_TYPE": self.kind,
            "ATHENS_STORAGE_TYPE": self.kind,
            "TEST_LOCK_LEASE": str(lease),
            **self.settings(),
        }

    def settings(self) -> Mapping[str, str]:
        raise NotImplementedError

    def away(self, name: str) -> None:
        self.server.pause()

    def back(self) -> None:
        self.server.resume()

    def close(self) -> None:
        if self._own:
            self.server.stop()


class AzureBlobLeases(_Objects):
    """A container of Azurite."""

    kind = "azureblob"
    server_name = "azure"

    def settings(self) -> Mapping[str, str]:
        return {
            "ATHENS_AZURE_ACCOUNT_NAME": self.server.account,
            "ATHENS_AZURE_ACCOUNT_KEY": self.server.key,
            "ATHENS_AZURE_CONTAINER_NAME": self.bucket.name,
            "ATHENS_AZURE_ENDPOINT": self.server.endpoint,
        }

    def _blob(self, name: str) -> Any:
        return self.bucket.client.get_blob_client(f"lease/{name}")

    def take(self, name: str) -> Any:
        """As Athens does, but for its wait."""
        blob = self._blob(name)
        try:
            blob.upload_blob(b"\x01", overwrite=True)
        except HttpResponseError as error:
            if error.status_code != 412:
                raise
        lease = BlobLeaseClient(blob, str(uuid4()))
        try:
            lease.acquire(15)
        except ResourceExistsError:  # status 409
            return None
        return lease

    def release(self, name: str, token: Any) -> bool:
        try:
            token.release()
        except HttpResponseError:
            return False
        return True

    def lose(self, name: str) -> None:
        BlobLeaseClient(self._blob(name)).break_lease(0)
        token = self.take(name)
        assert token is not None
        token.release()


class GcpObject(_Objects):
    """A bucket of fake-gcs-server. Athens has no locks there, so an athens-tx of another make stands in for it."""

    kind = "gcp"
    server_name = "gcs"

    def settings(self) -> Mapping[str, str]:
        return {"ATHENS_STORAGE_GCP_BUCKET": self.bucket.name, "STORAGE_EMULATOR_HOST": self.server.endpoint}

    def _key(self, name: str) -> str:
        return f".athens-tx/locks/{name}.lock"

    def take(self, name: str) -> Any:
        return self.bucket.make(self._key(name), uuid4().hex.encode())

    def release(self, name: str, token: Any) -> bool:
        if self.bucket.generation(self._key(name)) != token:
            return False
        self.bucket.drop(self._key(name))
        return True

    def lose(self, name: str) -> None:
        self.bucket.drop(self._key(name))
