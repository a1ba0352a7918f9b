"""The blobs of a container of Azure Blob Storage."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Awaitable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, ConfigError, InvalidModule, InvalidRequest, NotFound, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.interfaces import IObjects, IZip, ObjectPage
from athens_tx.starting import in_time
from athens_tx.storage import azure_xml
from athens_tx.storage.azure_auth import Signer
from athens_tx.storage.azure_links import SignLink
from athens_tx.storage.azure_trouble import described, error_code, refusal
from athens_tx.storage.calls import Calls, Request, to_the_end
from athens_tx.storage.parsing import answered, parsed
from athens_tx.storage.parts import Budget, Part, Parts, PiecesBody
from athens_tx.storage.remote_zip import object_zip, stated_length
from athens_tx.storage.threads import computed

#: Bytes of a block: a larger zip is uploaded in blocks.
PART = 8 << 20
#: Azure allows 50,000 blocks.
MOST_BLOCKS = 49_000
#: Bytes of blocks in memory, of all uploads together.
BUDGET = 4 * PART
#: Characters of a key that Azure takes.
LONGEST_KEY = 1024

_ADVICE = "look at AccountName and Endpoint"
#: What a conditional write is answered where somebody else was faster. The end of his upload lets go of our blocks.
_FASTER = {
    (400, "InvalidBlockList"),
    (404, "BlobNotFound"),
    (409, "BlobAlreadyExists"),
    (409, "ConditionNotMet"),
    (409, ""),
    (412, "ConditionNotMet"),
    (412, "TargetConditionNotMet"),
    (412, ""),
}
#: What a listing is answered whose marker is none.
_NO_MARKER = ("OutOfRangeInput", "InvalidQueryParameterValue", "InvalidMarker")


@implementer(IObjects)
class AzureObjects:
    """See L{IObjects}. The cursors are markers of Azure's, which mean something to nobody else."""

    keyed = False
    largest_page = 5000

    def __init__(
        self, calls: Calls, signer: Signer, sign_link: SignLink, *, service: str, container: str, links: bool
    ) -> None:
        """
        @param service: the URL of the account's blob service, without a slash at its end.
        @param links: whether L{link} is going to be asked, so that the start fails where it can't sign.
        """
        self._calls = calls
        self._signer = signer
        self._sign_link = sign_link
        self._container = container
        self._url = f"{service}/{quote(container, safe='')}"
        self._links = links
        self._budget = Budget(BUDGET)

    # -- start and end

    async def connect(self) -> None:
        """See L{IObjects.connect}."""
        await in_time(self._calls.reactor, self._look(), "Storage.AzureBlob", _ADVICE)

    async def _look(self) -> None:
        try:
            await self._signer.prepare()
        except AthensError as error:
            text = f"no token for the identity: {error.detail or error}: {self._signer.advice}"
            raise ConfigError([f"Storage.AzureBlob.ManagedIdentityResourceID: {_line(text)}"]) from error
        try:
            response = await self._list("", "", 1, expect=(200, *range(300, 429), *range(430, 500)))
        except AthensError as error:
            text = f"{error}: {error.detail}: {_ADVICE}"
            raise ConfigError([f"Storage.AzureBlob: {_line(text)}"]) from error
        if response.status != 200:
            raise ConfigError([refusal(response, self._signer.advice, datetime.now(UTC))])
        try:
            await self._parsed(response)
            if self._links:
                await self._sign_link(f"{self._container}/none")
        except AthensError as error:
            setting = "PresignedRedirect" if response.status == 200 and self._links else "Endpoint"
            raise ConfigError([f"Storage.AzureBlob.{setting}: {_line(f'{error}: {error.detail}')}"]) from error

    async def close(self) -> None:
        """See L{IObjects.close}."""
        await self._calls.http.close()

    # -- reading

    async def page(self, prefix: str, cursor: str, limit: int) -> ObjectPage:
        """See L{IObjects.page}."""
        response = await self._list(prefix, cursor, limit, expect=(200, 400) if cursor else (200,))
        if response.status == 400:
            if error_code(response) in _NO_MARKER:
                raise InvalidRequest("the token of the catalog is not one that it gave")
            raise self._trouble("list", response)
        return await self._parsed(response)

    async def _list(self, prefix: str, cursor: str, limit: int, expect: Collection[int]) -> Response:
        query = {"restype": "container", "comp": "list", "maxresults": str(min(limit, self.largest_page))}
        if prefix:
            query["prefix"] = _short(prefix)
        if cursor:
            query["marker"] = cursor
        what = f"list {prefix}" if prefix else "list"
        return await self.send(what, "GET", "", query, expect=expect, limit=16 << 20)

    async def _parsed(self, response: Response) -> ObjectPage:
        try:
            now = answered(response)
            return await parsed(self._calls.reactor, lambda body: azure_xml.listing(body, now), response.body)
        except (ValueError, TypeError) as error:
            raise StorageUnavailable(
                f"{self._calls.name} storage: list: not the answer of a blob service", detail=str(error)
            ) from None

    async def get(self, key: str, limit: int) -> bytes:
        """See L{IObjects.get}."""
        response = await self.send(f"get {key}", "GET", key, {}, expect=(200, 404), limit=limit)
        if response.status == 404:
            raise self._absent(key, response)
        return response.body

    async def open(self, key: str, *, whole: bool = True) -> IZip:
        """See L{IObjects.open}."""
        if not whole:
            looked = await self.send(f"look at {key}", "HEAD", key, {}, expect=(200, 404))
            length = stated_length(looked)
            if length is not None:
                return self._zip(key, length, looked.header("ETag") or "")
        opened = await self._open(key, {}, (200, 404))
        if opened.status == 404:
            opened.abort()
            raise self._absent(key, opened)
        return self._zip(key, opened, opened.header("ETag") or "")

    def _zip(self, key: str, known: OpenResponse | int, tag: str) -> IZip:
        condition = {"If-Match": tag} if tag else {}

        def ask(part: str) -> Awaitable[OpenResponse]:
            return self._open(key, {"x-ms-range": part, **condition}, (206, 404, 412, 416))

        return object_zip(self._calls, key, ask, known, tagged=bool(tag))

    async def _open(self, key: str, headers: Mapping[str, str], expect: Collection[int]) -> OpenResponse:
        async def make() -> Request:
            url = self._at(key, {})
            return Request("GET", url, await self._signer.headers("GET", url, headers, 0))

        return await self._calls.open(f"get {key}", make, expect=expect)

    def _absent(self, key: str, response: Response | OpenResponse) -> AthensError:
        code = error_code(response)
        if code in ("", "BlobNotFound", "ResourceNotFound"):
            return NotFound(f"{key} is not stored")
        detail = f"{code}: look at Storage.AzureBlob.ContainerName"
        return StorageUnavailable("the container of the storage is gone", detail=detail, retry_after=10)

    async def link(self, key: str) -> str:
        """See L{IObjects.link}."""
        return f"{self._at(key, {})}?{await self._sign_link(f'{self._container}/{key}')}"

    # -- writing

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See L{IObjects.put}."""
        part = Part(0, 0, (data,), len(data), True)
        headers = _described(content_type, await self._digest(part))
        await self.send(f"put {key}", "PUT", key, {}, headers=headers, body=part, expect=(201,))

    async def remove(self, key: str, tag: str = "") -> bool:
        """See L{IObjects.remove}."""
        headers = {"If-Match": f'"{tag}"'} if tag else {}
        answer = await self.send(f"delete {key}", "DELETE", key, {}, headers=headers, expect=(202, 404, 412))
        if answer.status == 404:
            absent = self._absent(key, answer)
            if not isinstance(absent, NotFound):
                raise absent
        elif answer.status == 412 and (answer.status, error_code(answer)) not in _FASTER:
            raise self._trouble(f"delete {key}", answer)
        return answer.status != 412

    async def upload(self, key: str, body: IBodyProducer, content_type: str, replacing: str) -> bool:
        """See L{IObjects.upload}."""
        parts = Parts(body, max(PART, -(-body.length // MOST_BLOCKS)))
        try:
            if body.length <= PART:
                return await self._upload_whole(key, parts, content_type, replacing)
            return await self._upload_blocks(key, parts, content_type, replacing)
        finally:
            parts.stop()

    async def _upload_whole(self, key: str, parts: Parts, content_type: str, replacing: str) -> bool:
        async with parts.held(self._budget) as part:
            digest = await self._digest(part)
            headers = _described(content_type, digest)
            return await self._conditionally(f"put {key}", key, {}, headers, part, replacing, digest)

    async def _upload_blocks(self, key: str, parts: Parts, content_type: str, replacing: str) -> bool:
        """What is not finished is in no blob, and Azure lets go of it after a week."""
        stamp = os.urandom(16)  # two who upload one blob must not mix their blocks
        ids: list[str] = []
        whole, last = hashlib.md5(usedforsecurity=False), False
        while not last:
            # All blocks of a blob must have ids of one length, also those of an upload of Athens that was not finished.
            ids.append(b64encode(stamp + len(ids).to_bytes(4, "big") + bytes(44)).decode())
            last = await self._upload_block(key, ids[-1], parts, whole)
        document = azure_xml.block_list(ids)
        headers = {
            "Content-Type": "application/xml",
            "x-ms-blob-content-type": content_type,
            "x-ms-blob-content-md5": b64encode(whole.digest()).decode(),
        }
        part = Part(0, 0, (document,), len(document), True)
        query = {"comp": "blocklist"}
        return await self._conditionally(f"end upload of {key}", key, query, headers, part, replacing, whole.digest())

    async def _upload_block(self, key: str, block: str, parts: Parts, whole: Any) -> bool:
        """@param whole: takes the bytes too. @return: whether this was the last."""
        async with parts.held(self._budget) as part:
            digest = await self._digest(part, whole)
            headers = {"Content-Type": "application/octet-stream", "Content-MD5": b64encode(digest).decode()}
            query = {"comp": "block", "blockid": block}
            await self.send(f"upload block of {key}", "PUT", key, query, headers=headers, body=part, expect=(201,))
            return part.last

    async def _conditionally(
        self,
        what: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Part,
        replacing: str,
        digest: bytes,
    ) -> bool:
        """
        @param digest: the MD5 of what is written, which tells it from what somebody else wrote, or an attempt of ours
            whose answer we did not get.
        @return: whether these bytes are there now.
        """
        condition = {"If-Match": f'"{replacing}"'} if replacing else {"If-None-Match": "*"}
        expect = (201, 400, 404, 409, 412)
        sent = {**headers, **condition}
        answer = await to_the_end(
            self.send(what, "PUT", key, query, headers=sent, body=body, expect=expect, patient=True)
        )
        if answer.status == 201:
            return True
        if (answer.status, error_code(answer)) not in _FASTER:
            raise self._trouble(what, answer)
        there = await self.send(f"look at {key}", "HEAD", key, {}, expect=(200, 404))
        return there.status == 200 and there.header("Content-MD5") == b64encode(digest).decode()

    async def sweep(self, age: float) -> None:
        """See L{IObjects.sweep}: Azure does it by itself."""

    # -- requests

    async def send(
        self,
        what: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Part | None = None,
        expect: Collection[int],
        limit: int = 1 << 20,
        patient: bool = False,
    ) -> Response:
        """
        Ask for a small answer; see L{Calls.small}.

        @param key: of a blob; empty for the container.
        """

        async def make() -> Request:
            url = self._at(key, query)
            length = 0 if body is None else body.length
            signed = await self._signer.headers(method, url, headers or {}, length)
            return Request(method, url, signed, None if body is None else PiecesBody(body.pieces, length))

        return await self._calls.small(what, make, expect=expect, limit=limit, patient=patient)

    def _at(self, key: str, query: Mapping[str, str]) -> str:
        path = f"{self._url}/{quote(_short(key), safe='/~')}" if key else self._url
        return f"{path}?{urlencode(query, quote_via=quote, safe='~')}" if query else path

    def _trouble(self, what: str, response: Response) -> StorageUnavailable:
        text = f"{self._calls.name} storage: {what}: status {response.status} {error_code(response)}"
        return StorageUnavailable(text.rstrip(), detail=described(response))

    async def _digest(self, part: Part, whole: Any = None) -> bytes:
        """@return: the MD5 of C{part}, which C{whole} takes too."""

        def hashed() -> bytes:
            md5 = hashlib.md5(usedforsecurity=False)
            for piece in part.pieces:
                md5.update(piece)
                if whole is not None:
                    whole.update(piece)
            return md5.digest()

        return await computed(self._calls.reactor, hashed, part.length)


def _described(content_type: str, digest: bytes) -> dict[str, str]:
    """@return: the headers of a small blob."""
    return {
        "x-ms-blob-type": "BlockBlob",
        "x-ms-blob-content-type": content_type,
        "Content-Type": "application/octet-stream",
        "Content-MD5": b64encode(digest).decode(),
    }


def _short(key: str) -> str:
    if len(key) > LONGEST_KEY:
        raise InvalidModule(f"too long a name to be stored: {key[:40]!r}...")
    return key


def _line(text: str) -> str:
    return " ".join(text.split())
