"""The objects of an S3 bucket, on Amazon's servers or on others that speak its protocol."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlencode

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import ConfigError, NotFound, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.interfaces import IObjects, IZip, ObjectPage
from athens_tx.storage import s3_xml
from athens_tx.storage.aws import Signer
from athens_tx.storage.calls import Calls, Request
from athens_tx.storage.keys import Layout
from athens_tx.storage.parts import Budget, Part, Parts, PiecesBody
from athens_tx.storage.remote_zip import RemoteZip

#: Bytes of a part: from two parts on, a zip is uploaded in parts, as Athens does.
PART = 8 << 20
#: S3 allows 10,000 parts.
MOST_PARTS = 9_000
#: Bytes of parts in memory, of all uploads together.
BUDGET = 4 * PART

#: MinIO, asked to begin behind C{a/z}, begins at C{a}, so that C{a-b/...} comes again, and throws that away only after
#: it was counted: with enough of it, what follows is lost, and the listing said to be at its end. Not so where the key
#: has this behind it, as in MinIO's own tokens. To others it is a key that comes right after the one meant.
_MINIO_MARKER = "[minio_cache:v2,return:]"

_EMPTY = hashlib.sha256().hexdigest()
_CONFLICT = 412
_UNKNOWN_CONDITION = 501


#: Bytes that are hashed at once rather than in a thread.
_SMALL = 32 * 1024


@attrs.frozen
class _Hashes:
    sha256: str
    md5: bytes
    length: int


@implementer(IObjects)
class S3Objects:
    """See L{IObjects}. Tokens of listings are keys: S3 goes on behind any."""

    keyed = True
    largest_page = 1000
    _url: str
    _signer: Signer

    def __init__(
        self,
        calls: Calls,
        find: Callable[[], Awaitable[tuple[str, Signer]]],
        *,
        layout: Layout,
        table: str,
        region: str = "",
        make: bool = False,
    ) -> None:
        """
        @param find: gives the URL of the bucket, without a slash at its end, and what signs; may raise L{ConfigError}.
        @param layout: tells which unfinished uploads are ours.
        @param table: what the settings are called in a message, such as C{Storage.S3}.
        @param make: make the bucket, in C{region}, if it is not there.
        """
        self._calls = calls
        self._find = find
        self._layout = layout
        self._table = table
        self._region = region
        self._make = make
        self._budget = Budget(BUDGET)
        self._minio = False
        self._conditions = True  # until the server says that it knows none
        self._aborting: list[Deferred[None]] = []

    # -- start and end

    async def connect(self) -> None:
        """See L{IObjects.connect}."""
        self._url, self._signer = await self._find()
        try:
            response = await self._list("", "", 1, expect=range(200, 500))
            if response.status == 404 and self._make:
                await self._make_bucket()
                response = await self._list("", "", 1, expect=range(200, 500))
        except StorageUnavailable as error:
            raise ConfigError([f"{self._table}: {error}: {error.detail}"]) from error
        if response.status != 200:
            raise ConfigError([self._refusal(response)])
        self._parsed(response)

    async def _make_bucket(self) -> None:
        whole = Part(0, 0, (s3_xml.location(self._region),), 0, True)
        # Whoever was faster, or may not make one: the next look at it tells.
        await self._send(
            "make the bucket", "PUT", "", {}, body=(whole, await self._hashed(whole)), expect=range(200, 500)
        )

    def _refusal(self, response: Response) -> str:
        code, said = s3_xml.error_code(response.body)
        region = response.header("x-amz-bucket-region")
        if response.status == 404:
            return f"{self._table}.Bucket: there is no such bucket; make it, or name another"
        if region and region != self._region:
            return f"{self._table}.Region: the bucket is in {region}"
        text = f"{self._table}: the server answers {response.status} {code or 'without a reason'}"
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"):
            return f"{text}: look at Key, Secret and Token"
        if response.status == 403:
            return f"{text}: the credentials must be allowed to list, read, write and delete in Bucket"
        return f"{text} {said}: look at Endpoint, Region and Bucket"

    async def close(self) -> None:
        """See L{IObjects.close}."""
        for aborting in list(self._aborting):
            await aborting
        await self._calls.http.close()

    # -- reading

    async def page(self, prefix: str, cursor: str, limit: int) -> ObjectPage:
        """See L{IObjects.page}."""
        return self._parsed(await self._list(prefix, cursor, limit))

    async def _list(self, prefix: str, cursor: str, limit: int, expect: Collection[int] = (200,)) -> Response:
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(min(limit, self.largest_page))}
        if prefix:
            query["prefix"] = prefix
        if cursor:
            query["start-after"] = cursor + (_MINIO_MARKER if self._minio else "")
        what = f"list {prefix}" if prefix else "list"
        answer = await self._send(what, "GET", "", query, expect=expect, limit=8 << 20)
        self._minio = self._minio or answer.header("Server") == "MinIO"
        return answer

    def _parsed(self, response: Response) -> ObjectPage:
        try:
            date = response.header("Date")
            now = parsedate_to_datetime(date) if date else datetime.now(UTC)
            found = s3_xml.listing(response.body, now)
        except (ValueError, TypeError) as error:
            raise StorageUnavailable(
                f"{self._calls.name} storage: list: not the answer of an S3 server", detail=str(error)
            ) from None
        self._minio = self._minio or s3_xml.is_from_minio(found.token)
        return ObjectPage(found.objects, found.objects[-1].key if found.cut else "")

    async def get(self, key: str, limit: int) -> bytes:
        """See L{IObjects.get}."""
        response = await self._send(f"get {key}", "GET", key, {}, expect=(200, 404), limit=limit)
        if response.status == 404:
            raise self._absent(key, response.body)
        return response.body

    async def open(self, key: str) -> IZip:
        """See L{IObjects.open}."""
        opened = await self._open(key, {}, (200, 404))
        if opened.status == 404:
            raise self._absent(key, await opened.read(limit=64 * 1024))
        if opened.length is None:
            opened.abort()
            raise StorageUnavailable(f"{self._calls.name} storage: get {key}: an answer without a length")
        tag = opened.header("ETag") or ""

        async def reach(start: int, length: int) -> OpenResponse:
            headers = {"Range": f"bytes={start}-{start + length - 1}"} | ({"If-Match": tag} if tag else {})
            part = await self._open(key, headers, (206, 404, _CONFLICT))
            if part.status != 206:
                part.abort()
                raise NotFound(f"{key} was deleted meanwhile")
            return part

        return RemoteZip(reach, opened.length, opened)

    async def _open(self, key: str, headers: Mapping[str, str], expect: Collection[int]) -> OpenResponse:
        async def make() -> Request:
            url = self._at(key, {})
            return Request("GET", url, await self._signer.headers("GET", url, headers, _EMPTY))

        return await self._calls.open(f"get {key}", make, expect=expect)

    def _absent(self, key: str, body: bytes) -> Exception:
        code, _ = s3_xml.error_code(body)
        if code == "NoSuchBucket":
            return StorageUnavailable("the bucket of the storage is gone", detail=f"look at {self._table}.Bucket")
        return NotFound(f"{key} is not stored")

    async def link(self, key: str) -> str:
        """See L{IObjects.link}."""
        return await self._signer.link(self._at(key, {}))

    # -- writing

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See L{IObjects.put}."""
        whole = Part(0, 0, (data,), len(data), True)
        hashes = await self._hashed(whole)
        await self._send(f"put {key}", "PUT", key, {}, headers=_described(content_type, hashes), body=(whole, hashes))

    async def remove(self, key: str, tag: str = "") -> bool:
        """See L{IObjects.remove}. Servers that know no condition here (MinIO) remove it in any case."""
        what, expect = f"delete {key}", (200, 204, 404)
        if tag and self._conditions:
            answer = await self._send(
                what, "DELETE", key, {}, headers={"If-Match": tag}, expect=(*expect, _CONFLICT, 501)
            )
            if answer.status != _UNKNOWN_CONDITION:
                return answer.status != _CONFLICT
        await self._send(what, "DELETE", key, {}, expect=expect)
        return True

    async def upload(self, key: str, body: IBodyProducer, content_type: str, replacing: str) -> bool:
        """See L{IObjects.upload}."""
        parts = Parts(body, max(PART, -(-body.length // MOST_PARTS)))
        try:
            if body.length <= PART:
                return await self._upload_whole(key, parts, content_type, replacing)
            return await self._upload_parts(key, parts, content_type, replacing)
        finally:
            parts.stop()

    async def _upload_whole(self, key: str, parts: Parts, content_type: str, replacing: str) -> bool:
        size = parts.wanted
        await self._budget.take(size)
        try:
            part = await parts.next()
            hashes = await self._hashed(part)
            headers = _described(content_type, hashes)
            return await self._conditionally(
                f"put {key}", "PUT", key, {}, headers, (part, hashes), replacing, hashes.md5.hex()
            )
        finally:
            self._budget.give(size)

    async def _upload_parts(self, key: str, parts: Parts, content_type: str, replacing: str) -> bool:
        begun = await self._send(
            f"begin upload of {key}", "POST", key, {"uploads": ""}, headers={"Content-Type": content_type}
        )
        upload = _read(begun, "InitiateMultipartUploadResult", "UploadId", self._calls.name)
        done = False
        try:
            tags, digests, last = [], b"", False
            while not last:
                tag, digest, last = await self._upload_part(key, upload, parts)
                tags.append(tag)
                digests += digest
            whole = Part(0, 0, (s3_xml.completion(tags),), 0, True)
            expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(tags)}"
            hashes = await self._hashed(whole)
            what = f"end upload of {key}"
            query = {"uploadId": upload}
            done = await self._conditionally(what, "POST", key, query, {}, (whole, hashes), replacing, expected)
            return done
        finally:
            if not done:
                self._abort(key, upload)

    async def _upload_part(self, key: str, upload: str, parts: Parts) -> tuple[str, bytes, bool]:
        """@return: the tag of the part, its MD5, and whether it is the last."""
        size = parts.wanted
        await self._budget.take(size)
        try:
            part = await parts.next()
            hashes = await self._hashed(part)
            query = {"partNumber": str(part.number + 1), "uploadId": upload}
            headers = {"Content-MD5": b64encode(hashes.md5).decode()}
            answer = await self._send(f"upload part of {key}", "PUT", key, query, headers=headers, body=(part, hashes))
            return answer.header("ETag") or f'"{hashes.md5.hex()}"', hashes.md5, part.last
        finally:
            self._budget.give(size)

    async def _conditionally(
        self,
        what: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: tuple[Part, _Hashes],
        replacing: str,
        expected: str,
    ) -> bool:
        """
        @param expected: the ETag that these bytes have where nothing is encrypted.
        @return: whether they are there now.
        """
        while True:
            condition = {"If-Match": replacing} if replacing else {"If-None-Match": "*"}
            sent = {**headers, **(condition if self._conditions else {})}
            # An upload that is not known any more was ended by the attempt before, whose answer we did not get.
            answer = await self._send(
                what, method, key, query, headers=sent, body=body, expect=(200, 404, 409, _CONFLICT, 501), patient=True
            )
            if answer.status == _UNKNOWN_CONDITION and self._conditions:
                self._conditions = False
                continue
            code, said = s3_xml.error_code(answer.body)
            if answer.status == 200 and not code:
                return True
            if answer.status == 501 or code == "NoSuchBucket" or answer.status == 200:
                raise StorageUnavailable(
                    f"{self._calls.name} storage: {what}: status {answer.status} {code}", detail=said, retry_after=10
                )
            return await self._holds(key, expected)

    async def _holds(self, key: str, tag: str) -> bool:
        """@return: whether the bytes with this ETag are there."""
        answer = await self._send(f"look at {key}", "HEAD", key, {}, expect=(200, 404))
        return answer.status == 200 and (answer.header("ETag") or "").strip('"') == tag

    def _abort(self, key: str, upload: str) -> None:
        """Give up an upload, whatever becomes of the one who began it."""

        async def abort() -> None:
            try:
                await self._send(
                    f"give up upload of {key}", "DELETE", key, {"uploadId": upload}, expect=(200, 204, 404)
                )
            except StorageUnavailable as error:  # the sweep of the next start finds it
                self._calls.log.info("an upload is left behind: {reason}", reason=str(error))

        aborting = Deferred.fromCoroutine(abort())
        self._aborting.append(aborting)
        aborting.addBoth(lambda _: self._aborting.remove(aborting))

    async def sweep(self, age: float) -> None:
        """See L{IObjects.sweep}."""
        query = {"uploads": "", "encoding-type": "url"}
        more: tuple[str, str] | None = ("", "")
        while more is not None:
            markers = {"key-marker": more[0], "upload-id-marker": more[1]} if more[0] else {}
            answer = await self._send("list uploads", "GET", "", query | markers, limit=8 << 20)
            try:
                found, more = s3_xml.uploads(answer.body)
            except ValueError as error:
                raise StorageUnavailable("the list of uploads can't be read", detail=str(error)) from None
            now = datetime.now(UTC)
            for upload in found:
                if (now - upload.started).total_seconds() > age and self._layout.place(upload.key) is not None:
                    await self._send(
                        f"give up upload of {upload.key}",
                        "DELETE",
                        upload.key,
                        {"uploadId": upload.id},
                        expect=(200, 204, 404),
                    )

    # -- requests

    async def _send(
        self,
        what: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: tuple[Part, _Hashes] | None = None,
        expect: Collection[int] = (200,),
        limit: int = 1 << 20,
        patient: bool = False,
    ) -> Response:
        async def make() -> Request:
            url = self._at(key, query)
            digest = body[1].sha256 if body is not None else _EMPTY
            signed = await self._signer.headers(method, url, headers or {}, digest)
            return Request(method, url, signed, None if body is None else PiecesBody(body[0].pieces, body[1].length))

        return await self._calls.small(what, make, expect=expect, limit=limit, patient=patient)

    def _at(self, key: str, query: Mapping[str, str]) -> str:
        path = f"{self._url}/{quote(key, safe='/~')}"
        return f"{path}?{urlencode(sorted(query.items()), quote_via=quote, safe='~')}" if query else path

    async def _hashed(self, part: Part) -> _Hashes:
        def hashed() -> _Hashes:
            sha256, md5, length = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
            for piece in part.pieces:
                sha256.update(piece)
                md5.update(piece)
                length += len(piece)
            return _Hashes(sha256.hexdigest(), md5.digest(), length)

        if sum(map(len, part.pieces)) <= _SMALL:
            return hashed()
        reactor = self._calls.reactor
        return await deferToThreadPool(reactor, reactor.getThreadPool(), hashed)


def _described(content_type: str, hashes: _Hashes) -> dict[str, str]:
    return {"Content-Type": content_type, "Content-MD5": b64encode(hashes.md5).decode()}


def _read(response: Response, document: str, element: str, name: str) -> str:
    try:
        return s3_xml.text(s3_xml.parse(response.body, document), element)
    except s3_xml.BadDocument as error:
        raise StorageUnavailable(f"{name} storage: not the answer of an S3 server", detail=str(error)) from None


def described(response: Response) -> str:
    """@return: what an answer says of the trouble, and what to look at; for L{Calls}."""
    code, said = s3_xml.error_code(response.body)
    advice = "look at the credentials and at what they may do in the bucket" if response.status in (401, 403) else ""
    return " ".join(filter(None, (code, said, advice)))
