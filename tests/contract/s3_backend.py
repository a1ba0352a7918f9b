"""The contract's stores in the buckets of S3 servers: the storages C{s3} and C{minio}, each over both servers."""

from __future__ import annotations

from typing import Any, ClassVar

from athens_tx.config.backends import S3 as S3Table
from athens_tx.config.backends import Minio as MinioTable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.minio_start import minio_storage
from athens_tx.storage.objects import ObjectStorage
from athens_tx.storage.s3_start import s3_storage
from tests.contract.bucket_backend import TIMEOUT, BucketBackend
from tests.support import servers

#: These servers are quick; see L{tests.contract.bucket_backend}.
PATIENCE = 0.05


class _S3Backend(BucketBackend):
    """What all of them share."""

    bad_tokens: ClassVar[tuple[str, ...]] = ("nonsense", "a/@v/v1.0.0.zip", "a/v1.0.0/go.mod", "|", "../x|v1.0.0")

    def spoil(self, key: str) -> None:
        self.bucket.spoil(key)


class S3(_S3Backend):
    """L{s3_storage} over versitygw."""

    def find(self) -> Any:
        return servers.s3()

    def storage(self) -> ObjectStorage:
        table = S3Table(
            region=self.server.region,
            key=self.server.access_key,
            secret=self.server.secret_key,
            bucket=self.bucket.name,
            endpoint=self.server.endpoint,
            force_path_style=True,
        )
        return s3_storage(self.reactor, table, {}, timeout=TIMEOUT, patience=PATIENCE)

    def token(self, mv: ModuleVersion) -> str:
        return self.files(mv)[0]


class S3OnMinio(S3):
    """L{s3_storage} over MinIO."""

    def find(self) -> Any:
        return servers.minio()


class Minio(_S3Backend):
    """L{minio_storage} over MinIO."""

    def find(self) -> Any:
        return servers.minio()

    def storage(self) -> ObjectStorage:
        table = MinioTable(
            endpoint=self.server.endpoint,
            key=self.server.access_key,
            secret=self.server.secret_key,
            bucket=self.bucket.name,
        )
        return minio_storage(self.reactor, table, {}, timeout=TIMEOUT, patience=PATIENCE)

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        folder = f"{mv.path}/{mv.version}"
        return f"{folder}/{mv.version}.info", f"{folder}/go.mod", f"{folder}/source.zip"

    def token(self, mv: ModuleVersion) -> str:
        return self.files(mv)[0].replace("+", "%2B")


class MinioOnVersitygw(Minio):
    """L{minio_storage} over versitygw."""

    def find(self) -> Any:
        return servers.s3()
