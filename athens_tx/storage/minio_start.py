"""The storage that keeps versions in a bucket of MinIO, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from athens_tx.config.backends import Minio
from athens_tx.storage.aws import Signer, static
from athens_tx.storage.calls import Calls, client
from athens_tx.storage.credentials import Credentials
from athens_tx.storage.keys import ByFolder
from athens_tx.storage.objects import ObjectStorage
from athens_tx.storage.s3 import S3Objects
from athens_tx.storage.s3_requests import described

#: Where MinIO keeps its buckets, if it was not told otherwise; it says so then.
_NO_REGION = "us-east-1"


def minio_storage(
    reactor: Any, table: Minio, environ: Mapping[str, str], *, timeout: float, patience: float = 3.0
) -> ObjectStorage:
    """
    The bucket is made if it is not there.

    @param environ: where the HTTP client looks.
    @param timeout: seconds for one operation.
    @param patience: see L{ObjectStorage}.
    """
    http = client(reactor, environ, timeout)
    # As Athens has it: a scheme in front of the endpoint says nothing.
    server = table.endpoint.removeprefix("http://").removeprefix("https://").rstrip("/")
    url = f"{'https' if table.enable_ssl else 'http'}://{server}/{table.bucket}"

    async def find() -> tuple[str, Signer]:
        sources = {"Key and Secret": static(table.key, table.secret, "")}
        return url, Signer(Credentials(reactor, sources, _now), table.region or _NO_REGION)

    layout = ByFolder()
    calls = Calls(reactor, http, "minio", limit=timeout, describe=described)
    objects = S3Objects(calls, find, layout=layout, table="Storage.Minio", region=table.region, make=True)
    return ObjectStorage(reactor, objects, layout, links=table.presigned_redirect, patience=patience)


def _now() -> datetime:
    return datetime.now(UTC)
