"""The stand-ins for Google Cloud Storage and Azure Blob Storage, and their buckets and containers, past athens-tx."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from azure.storage.blob import BlobServiceClient, ContentSettings

from tests.support.servers_install import Program
from tests.support.servers_process import HOST, Server, status

_numbers = itertools.count(1)


class GcsBucket:
    """A bucket of one test's own."""

    def __init__(self, server: FakeGcs) -> None:
        self.server = server
        self.name = f"bucket-{next(_numbers)}-{os.urandom(3).hex()}"
        body = json.dumps({"name": self.name}).encode()
        server.ask("POST", "/storage/v1/b?project=test", body, "application/json")

    def _path(self, key: str, query: str = "") -> str:
        return f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}{query}"

    def names(self) -> list[str]:
        """@return: the names of all objects, sorted."""
        return sorted(self._pages())

    def _pages(self) -> Iterator[str]:
        token = ""
        while True:
            query = urlencode({"pageToken": token} if token else {})
            page = json.loads(self.server.ask("GET", f"/storage/v1/b/{self.name}/o?{query}"))
            yield from (item["name"] for item in page.get("items", ()))
            token = page.get("nextPageToken", "")
            if not token:
                return

    def keys(self) -> dict[str, bytes]:
        """@return: all objects."""
        return {key: self.get(key) for key in self.names()}

    def get(self, key: str) -> bytes:
        return self.server.ask("GET", self._path(key, "?alt=media"))

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        query = urlencode({"uploadType": "media", "name": key})
        self.server.ask("POST", f"/upload/storage/v1/b/{self.name}/o?{query}", data, content_type)

    def drop(self, key: str) -> None:
        self.server.ask("DELETE", self._path(key))

    def make(self, key: str, data: bytes) -> str | None:
        """@return: the generation of a new object; C{None} if there is one already."""
        query = urlencode({"uploadType": "media", "name": key, "ifGenerationMatch": "0"})
        try:
            made = self.server.ask("POST", f"/upload/storage/v1/b/{self.name}/o?{query}", data, "text/plain")
        except OSError as error:
            if "status 412" not in str(error):
                raise
            return None
        return str(json.loads(made)["generation"])

    def generation(self, key: str) -> str | None:
        """@return: that of an object, if it is there."""
        if key not in self.names():
            return None
        return str(json.loads(self.server.ask("GET", self._path(key)))["generation"])

    def headers(self, key: str) -> dict[str, str]:
        """@return: what is known of an object, by the names that the headers of a download have."""
        known = json.loads(self.server.ask("GET", self._path(key)))
        return {"content-type": known["contentType"], "content-length": known["size"]}


class FakeGcs(Server):
    """fake-gcs-server, with its data in memory. It asks nobody who he is, and nothing in it can be spoilt."""

    name = "gcs"
    program = Program("fake-gcs-server", "v1.56.1", "go", "github.com/fsouza/fake-gcs-server")

    def command(self) -> Sequence[str]:
        options = ["-scheme", "http", "-host", HOST, "-port", str(self.port), "-external-url", self.endpoint]
        program = str(self.program.folder / "fake-gcs-server")
        return [program, *options, "-backend", "memory", "-log-level", "warn"]  # in files, long names do not fit

    def answers(self) -> bool:
        return status(self.port, "/_internal/healthcheck") == 200

    def bucket(self) -> GcsBucket:
        """@return: a new, empty bucket."""
        return GcsBucket(self)

    def ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
        """
        @return: the body of the answer.
        @raise OSError: it was not a good one.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: status {answer.status}: {data[:500]!r}")
        return data


class AzureContainer:
    """
    A container of one test's own.

    @ivar client: azure-storage-blob's, blocking.
    """

    def __init__(self, client: BlobServiceClient) -> None:
        self.name = f"container-{next(_numbers)}-{os.urandom(3).hex()}"
        self.client = client.create_container(self.name)

    def names(self) -> list[str]:
        """@return: the names of all blobs, sorted."""
        return sorted(self.client.list_blob_names())

    def keys(self) -> dict[str, bytes]:
        """@return: all blobs."""
        return {key: self.get(key) for key in self.names()}

    def get(self, key: str) -> bytes:
        return bytes(self.client.download_blob(key).readall())

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        settings = ContentSettings(content_type=content_type)
        self.client.upload_blob(key, data, overwrite=True, content_settings=settings)

    def drop(self, key: str) -> None:
        self.client.delete_blob(key)

    def headers(self, key: str) -> dict[str, str]:
        """@return: what is known of a blob, by the names that the headers of a download have."""
        known = self.client.get_blob_client(key).get_blob_properties()
        return {"content-type": str(known.content_settings.content_type), "content-length": str(known.size)}

    def unfinished(self) -> list[str]:
        """@return: the names of blobs that have blocks and are not there."""
        names = self.names()
        blobs = self.client.list_blobs(include=["uncommittedblobs"])
        return sorted(blob.name for blob in blobs if blob.name not in names)


class Azurite(Server):
    """Azurite's blob service. It keeps many blobs in one file, so that none can be spoilt alone."""

    name = "azure"
    program = Program("azurite", "3.35.0", "npm", "azurite", "node")
    account = "devstoreaccount1"
    #: The published key of the emulator's account.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def command(self) -> Sequence[str]:
        # newer clients name versions of the interface that it does not know
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "-l", str(self.data)]
        program = str(self.program.folder / "node_modules" / ".bin" / "azurite-blob")
        return [program, "--blobHost", HOST, "--blobPort", str(self.port), *options]

    def access(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "account": self.account, "key": self.key}

    def answers(self) -> bool:
        return status(self.port, "/") is not None

    @property
    def endpoint(self) -> str:
        """Its URL; the account is its path, for want of a host name."""
        return f"http://{HOST}:{self.port}/{self.account}"

    @functools.cached_property
    def client(self) -> BlobServiceClient:
        """azure-storage-blob's client, blocking."""
        credential: Any = {"account_name": self.account, "account_key": self.key}
        return BlobServiceClient(self.endpoint, credential=credential, retry_total=0)

    def bucket(self) -> AzureContainer:
        """@return: a new, empty container."""
        return AzureContainer(self.client)
