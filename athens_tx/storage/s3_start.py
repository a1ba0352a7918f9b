"""The storage that keeps versions in a bucket of S3, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.session import Session
from twisted.internet.threads import deferToThreadPool

from athens_tx.config.backends import S3
from athens_tx.http_client import HttpClient, Response
from athens_tx.storage.aws import Load, Signer, bucket_url, from_chain, from_endpoint, static
from athens_tx.storage.calls import Calls, Request, client
from athens_tx.storage.credentials import Credentials
from athens_tx.storage.keys import ByVersion
from athens_tx.storage.objects import ObjectStorage
from athens_tx.storage.s3 import S3Objects
from athens_tx.storage.s3_requests import described, is_about_keys


def s3_storage(
    reactor: Any, table: S3, environ: Mapping[str, str], *, timeout: float, patience: float = 3.0
) -> ObjectStorage:
    """
    @param environ: where the HTTP client and the credentials endpoint look; botocore looks at the process's own.
    @param timeout: seconds for one operation.
    @param patience: see L{ObjectStorage}.
    """
    http = client(reactor, environ, timeout)
    signer = Signer(Credentials(reactor, _sources(reactor, table, http, environ), _now), table.region)

    async def find() -> tuple[str, Signer]:
        endpoint = table.endpoint
        if endpoint and "://" not in endpoint:
            endpoint = f"https://{endpoint}"

        def look() -> str:
            return bucket_url(Session(), table.region, table.bucket, endpoint, path_style=table.force_path_style)

        url = await deferToThreadPool(reactor, reactor.getThreadPool(), look)
        return url, signer

    def renew(request: Request, response: Response) -> bool:
        return is_about_keys(response) and signer.refused(request.headers)

    layout = ByVersion()
    calls = Calls(reactor, http, "s3", limit=timeout, describe=described, renew=renew)
    objects = S3Objects(calls, find, layout=layout, table="Storage.S3", region=table.region)
    return ObjectStorage(reactor, objects, layout, links=table.presigned_redirect, patience=patience)


def _sources(reactor: Any, table: S3, http: HttpClient, environ: Mapping[str, str]) -> Mapping[str, Load]:
    chain = {"the default chain": from_chain(reactor)}
    if table.use_default_configuration:
        return chain
    settings = {"Key and Secret": static(table.key, table.secret, table.token)}
    if not table.credentials_endpoint:
        return settings | chain
    url = table.credentials_endpoint + table.aws_container_credentials_relative_uri
    return {"CredentialsEndpoint": from_endpoint(http, url, environ)} | settings | chain


def _now() -> datetime:
    return datetime.now(UTC)
