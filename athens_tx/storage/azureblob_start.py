"""The storage that keeps versions in a container of Azure Blob Storage, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from athens_tx.config.backends import AzureBlob
from athens_tx.http_client import Response
from athens_tx.storage.azure_auth import Bearer, SharedKey, Signer
from athens_tx.storage.azure_links import SignLink, by_account, by_identity, delegated
from athens_tx.storage.azure_trouble import described
from athens_tx.storage.azureblob import AzureObjects
from athens_tx.storage.calls import Calls, Request, client
from athens_tx.storage.credentials import Credentials
from athens_tx.storage.keys import ByVersion
from athens_tx.storage.objects import ObjectStorage


def azureblob_storage(
    reactor: Any, table: AzureBlob, environ: Mapping[str, str], *, timeout: float, patience: float = 3.0
) -> ObjectStorage:
    """
    @param environ: see L{azureblob_objects}; C{timeout}, too.
    @param patience: see L{ObjectStorage}.
    """
    links = table.presigned_redirect
    objects = azureblob_objects(reactor, table, environ, timeout=timeout, links=links)
    return ObjectStorage(reactor, objects, ByVersion(), links=links, patience=patience)


def azureblob_objects(
    reactor: Any, table: AzureBlob, environ: Mapping[str, str], *, timeout: float, links: bool = False
) -> AzureObjects:
    """
    @param environ: where the HTTP client looks; azure-identity looks at the process's own.
    @param timeout: seconds for one operation.
    @param links: see L{AzureObjects}.
    """
    http = client(reactor, environ, timeout)
    service = table.endpoint.rstrip("/") or f"https://{quote(table.account_name, safe='')}.blob.core.windows.net"
    signer = _signer(reactor, table)

    def renew(request: Request, response: Response) -> bool:
        return response.status == 401 and signer.refused(request)

    calls = Calls(reactor, http, "azureblob", limit=timeout, describe=described, renew=renew)
    if isinstance(signer, SharedKey):
        sign_link: SignLink = by_account(table.account_name, table.account_key, _now)
    else:
        sources = {"the blob service": delegated(calls, signer, service, _now)}
        sign_link = by_identity(table.account_name, Credentials(reactor, sources, _now), _now)
    return AzureObjects(calls, signer, sign_link, service=service, container=table.container_name, links=links)


def _signer(reactor: Any, table: AzureBlob) -> Signer:
    if not table.managed_identity_resource_id:
        return SharedKey(table.account_name, table.account_key, _now)
    # Only who has an identity needs the library.
    from athens_tx.storage.azure_identity import from_identity

    load = from_identity(reactor, table.managed_identity_resource_id, table.credential_scope)
    return Bearer(Credentials(reactor, {"the managed identity": load}, _now), _now)


def _now() -> datetime:
    return datetime.now(UTC)
