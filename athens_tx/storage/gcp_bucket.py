"""A bucket of Google Cloud Storage, as its JSON API has it: where things are, and how they are asked for."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

from athens_tx.errors import AthensError, NotFound, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.storage.calls import Calls, Request
from athens_tx.storage.google import Access
from athens_tx.storage.parts import PiecesBody
from athens_tx.storage.threads import computed

Pieces = Sequence[bytes | memoryview]

_NO_BUCKET = "The specified bucket does not exist"


class Bucket:
    """Makes the requests."""

    def __init__(self, calls: Calls, base: str, name: str, access: Access) -> None:
        """@param base: URL of the service, without a slash at its end."""
        self.calls = calls
        self._base = base
        self._name = quote(name, safe="")
        self._access = access

    # -- where

    def object(self, key: str, **query: str) -> str:
        """@return: URL of an object, or of what is known of it."""
        return _with(f"{self._base}/storage/v1/b/{self._name}/o/{quote(key, safe='')}", query)

    def objects(self, **query: str) -> str:
        """@return: URL of the listing."""
        return _with(f"{self._base}/storage/v1/b/{self._name}/o", query)

    def uploads(self, **query: str) -> str:
        """@return: URL that takes new objects."""
        return _with(f"{self._base}/upload/storage/v1/b/{self._name}/o", query)

    def session(self, location: str) -> str:
        """
        @param location: of an upload, as the server names it.
        @return: the same on the way that we take to the server: what stands between may not know of it, and our
            credentials go nowhere else.
        """
        path = location.partition("://")[2].partition("/")[2] if "://" in location else location.lstrip("/")
        prefix = self._base.partition("://")[2].partition("/")[2]
        if prefix:
            path = path.removeprefix(f"{prefix}/")
        return f"{self._base}/{path}"

    async def link(self, key: str) -> str:
        """@return: a signed URL for GET."""
        return await self._access.link(f"{self._base}/{self._name}/{quote(key, safe='/~')}")

    # -- how

    async def send(
        self,
        what: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        pieces: Pieces | None = None,
        expect: Collection[int] = (200,),
        limit: int = 1 << 20,
    ) -> Response:
        """Ask for a small answer; see L{Calls.small}."""

        async def make() -> Request:
            return await self.request(method, url, headers or {}, pieces)

        return await self.calls.small(what, make, expect=expect, limit=limit)

    async def open(self, what: str, url: str, headers: Mapping[str, str], expect: Collection[int]) -> OpenResponse:
        """Ask for a large answer; see L{Calls.open}."""

        async def make() -> Request:
            return await self.request("GET", url, headers)

        return await self.calls.open(what, make, expect=expect)

    async def request(self, method: str, url: str, headers: Mapping[str, str], pieces: Pieces | None = None) -> Request:
        """@return: one attempt, with the credentials of now."""
        ours = await self._access.headers()
        body = None if pieces is None else PiecesBody(pieces, sum(map(len, pieces)))
        return Request(method, url, {**headers, **ours}, body)

    # -- answers

    def read(self, what: str, response: Response) -> Mapping[str, Any]:
        """@return: the document of a good answer."""
        try:
            return document(response.body)
        except ValueError as error:
            raise self.strange(what, str(error)) from None

    def strange(self, what: str, why: str) -> StorageUnavailable:
        """@return: the failure for an answer that the service does not give."""
        detail = f"{why}: look at Storage.GCP.Endpoint"
        return StorageUnavailable(f"gcp storage: {what}: not the answer of Google Cloud Storage", detail=detail)

    async def hashed(self, digest: Any, pieces: Pieces) -> None:
        """Add C{pieces} to a digest, which nobody else uses meanwhile."""

        def update() -> None:
            for piece in pieces:
                digest.update(piece)

        await computed(self.calls.reactor, update, sum(map(len, pieces)))


def md5() -> Any:
    """@return: a digest of the kind that the service keeps of each object."""
    return hashlib.md5(usedforsecurity=False)


def encoded(digest: Any) -> str:
    """@return: a digest as the service writes it."""
    return b64encode(digest.digest()).decode()


def document(body: bytes) -> Mapping[str, Any]:
    """@return: what a good answer says; raise C{ValueError}."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("not JSON")
    return found


def reason(body: bytes) -> str:
    """@return: what an answer says of the trouble, in one line; of a download it is plain text."""
    text = body[:2000].decode("utf-8", "replace")
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        text = str(json.loads(body)["error"]["message"])
    return " ".join(text.split())[:300]


def absent(key: str, body: bytes) -> AthensError:
    """@return: what a 404 means."""
    if reason(body).startswith(_NO_BUCKET):
        return StorageUnavailable("the bucket of the storage is gone", detail="look at Storage.GCP.Bucket")
    if body.lstrip()[:1] == b"<":  # a page of something in front of the store
        return StorageUnavailable(
            f"get {key}: a 404 that is none of the store's", detail="look at Storage.GCP.Endpoint"
        )
    return NotFound(f"{key} is not stored")


def described(response: Response) -> str:
    """@return: what an answer says of the trouble, and what to look at; for L{Calls}."""
    advice = "look at Storage.GCP.JSONKey and at what it may do in the bucket" if response.status in (401, 403) else ""
    return ": ".join(filter(None, (reason(response.body), advice)))


def _with(url: str, query: Mapping[str, str]) -> str:
    return f"{url}?{urlencode(query, quote_via=quote, safe='~')}" if query else url
