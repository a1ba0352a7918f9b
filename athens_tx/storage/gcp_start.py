"""The storage that keeps versions in a bucket of Google Cloud Storage, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from athens_tx.config.backends import Gcp
from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.http_client import Response
from athens_tx.storage.calls import Calls, Request, client
from athens_tx.storage.gcp import GcpLayout, GcpObjects
from athens_tx.storage.gcp_bucket import Bucket, described
from athens_tx.storage.google import Access, Transport, from_key, from_surroundings, in_thread
from athens_tx.storage.objects import ObjectStorage


def gcp_storage(
    reactor: Any, table: Gcp, environ: Mapping[str, str], *, timeout: float, patience: float = 3.0
) -> ObjectStorage:
    """
    @param environ: see L{gcp_objects}; C{timeout}, too.
    @param patience: see L{ObjectStorage}.
    """
    links = table.presigned_redirect
    objects = gcp_objects(reactor, table, environ, timeout=timeout, links=links)
    return ObjectStorage(reactor, objects, GcpLayout(), links=links, patience=patience)


def gcp_objects(
    reactor: Any, table: Gcp, environ: Mapping[str, str], *, timeout: float, links: bool = False
) -> GcpObjects:
    """
    @param environ: where the HTTP client looks, and C{STORAGE_EMULATOR_HOST}; google-auth looks at the process's own.
    @param timeout: seconds for one operation.
    @param links: see L{GcpObjects}.
    """
    http = client(reactor, environ, timeout)

    def renew(request: Request, response: Response) -> bool:
        return response.status == 401 and objects.refused(request)

    calls = Calls(reactor, http, "gcp", limit=timeout, describe=described, renew=renew)
    emulator = environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"

    async def find() -> tuple[Bucket, Access]:
        transport = Transport(environ)
        try:
            access = await _access(reactor, table, transport, emulated=bool(emulator) and not table.endpoint)
        except BaseException:
            transport.close()
            raise
        base = (table.endpoint or emulator or f"https://storage.{access.domain}").rstrip("/")
        return Bucket(calls, base.removesuffix("/storage/v1"), table.bucket, access), access

    objects = GcpObjects(calls, find, links=links)
    return objects


async def _access(reactor: Any, table: Gcp, transport: Transport, *, emulated: bool) -> Access:
    identity, source = None, "JSONKey"
    try:
        if table.json_key:
            identity = await in_thread(reactor, lambda: from_key(table.json_key, transport))
        elif not emulated:
            source = "default credentials"
            identity = await in_thread(reactor, lambda: from_surroundings(transport))
            if identity is None and not table.endpoint:
                raise ConfigError(["Storage.GCP.JSONKey: it is empty, and no default credentials were found"])
        access = Access(reactor, identity, source, transport)
        await access.begin()
    except StorageUnavailable as error:
        raise ConfigError([f"Storage.GCP.JSONKey: {error}: {error.detail}"]) from error
    return access
