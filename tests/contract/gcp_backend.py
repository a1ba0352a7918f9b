"""The contract's store in a bucket of fake-gcs-server."""

from __future__ import annotations

from typing import Any

from athens_tx.config.backends import Gcp as Table
from athens_tx.storage.gcp_start import gcp_storage
from athens_tx.storage.objects import ObjectStorage
from tests.contract.bucket_backend import PATIENCE, TIMEOUT, BucketBackend
from tests.support import servers


class Gcp(BucketBackend):
    """
    L{gcp_storage} over fake-gcs-server, in which nothing can be spoilt, and which takes any token for a page: those
    that are none are a stub's.
    """

    def find(self) -> Any:
        return servers.gcs()

    def storage(self) -> ObjectStorage:
        environ = {"STORAGE_EMULATOR_HOST": self.server.endpoint}  # so nobody looks for default credentials
        return gcp_storage(self.reactor, Table(bucket=self.bucket.name), environ, timeout=TIMEOUT, patience=PATIENCE)
