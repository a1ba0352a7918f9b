"""The objects of an S3 bucket, on Amazon's servers or on others that speak its protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping

from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import ConfigError, NotFound, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.interfaces import IObjects, IZip, ObjectPage
from athens_tx.starting import in_time
from athens_tx.storage import s3_sweep, s3_xml
from athens_tx.storage.aws import Signer
from athens_tx.storage.background import Background
from athens_tx.storage.calls import Calls
from athens_tx.storage.keys import Layout
from athens_tx.storage.parsing import answered, parsed
from athens_tx.storage.parts import Budget, Parts
from athens_tx.storage.remote_zip import object_zip, stated_length
from athens_tx.storage.s3_requests import BAD_KEYS, Bucket, Content, whole
from athens_tx.storage.xml_documents import BadDocument, error_code, parse, text

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

_CONFLICT = 412
#: What a server says that does not know a condition, or the request at all.
_NOT_IMPLEMENTED = 501


@implementer(IObjects)
class S3Objects:
    """See L{IObjects}. Tokens of listings are keys: S3 goes on behind any."""

    keyed = True
    largest_page = 1000
    _bucket: Bucket

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
        @param region: empty where the server may say it.
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
        self._aborting = Background(calls.reactor)

    # -- start and end

    async def connect(self) -> None:
        """See L{IObjects.connect}."""
        try:
            await in_time(self._calls.reactor, self._connect(), self._table, "look at Endpoint")
        except StorageUnavailable as error:
            line = ": ".join(filter(None, (str(error), error.detail)))
            raise ConfigError([f"{self._table}: {line}: look at Endpoint, Region and the credentials"]) from error

    async def _connect(self) -> None:
        url, signer = await self._find()
        self._bucket = Bucket(self._calls, url, signer)
        response = await self._first_look()
        region = self._other_region(response)
        if region and not self._region:
            self._region = signer.region = region
            response = await self._first_look()
        if _is_no_bucket(response) and self._make:
            await self._make_bucket()
            response = await self._first_look()
        if response.status != 200:
            raise ConfigError([self._refusal(response)])
        await self._parsed(response)

    async def _first_look(self) -> Response:
        return await self._list("", "", 1, expect=[status for status in range(200, 500) if status != 429])

    async def _make_bucket(self) -> None:
        asked = await self._bucket.content(whole(s3_xml.location(self._region)))
        # Whoever was faster, or may not make one: the next look at it tells.
        await self._bucket.send("make the bucket", "PUT", "", {}, content=asked, expect=range(200, 500))

    def _other_region(self, response: Response) -> str:
        """@return: in which region a server says that the bucket is, if it is not ours."""
        if response.status == 200:
            return ""
        said = response.header("x-amz-bucket-region") or s3_xml.error_region(response.body)
        return "" if said == self._region else said

    def _refusal(self, response: Response) -> str:
        code, said = error_code(response.body)
        region = self._other_region(response)
        text = f"{self._table}: the server answers {response.status} {code or 'without a reason'}"
        if code in BAD_KEYS:
            return f"{text}: look at Key, Secret and Token"
        if _is_no_bucket(response):
            return f"{self._table}.Bucket: there is no such bucket; make it, or name another"
        if region:
            return f"{self._table}.Region: the bucket is in {region}"
        if response.status == 403:
            return f"{text}: the credentials must be allowed to list, read, write and delete in Bucket"
        return ": ".join(filter(None, (text, said, "look at Endpoint, Region and Bucket")))

    async def close(self) -> None:
        """See L{IObjects.close}."""
        await self._aborting.close()
        await self._calls.http.close()

    # -- reading

    async def page(self, prefix: str, cursor: str, limit: int) -> ObjectPage:
        """See L{IObjects.page}."""
        found = await self._parsed(await self._list(prefix, cursor, limit))
        while found.cut and not found.objects:  # a server may end a page where it has passed over too much
            before = found.token
            found = await self._parsed(await self._list(prefix, "", limit, token=before))
            if found.token == before:
                raise StorageUnavailable(f"{self._calls.name} storage: list {prefix}: goes round in circles")
        return ObjectPage(found.objects, found.objects[-1].key if found.cut else "")

    async def _list(
        self, prefix: str, cursor: str, limit: int, *, token: str = "", expect: Collection[int] = (200,)
    ) -> Response:
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(min(limit, self.largest_page))}
        if prefix:
            query["prefix"] = prefix
        if cursor:
            query["start-after"] = cursor + (_MINIO_MARKER if self._minio else "")
        if token:
            query["continuation-token"] = token
        what = f"list {prefix}" if prefix else "list"
        answer = await self._bucket.send(what, "GET", "", query, expect=expect, limit=8 << 20)
        self._minio = self._minio or answer.header("Server") == "MinIO"
        return answer

    async def _parsed(self, response: Response) -> s3_xml.Listing:
        try:
            now = answered(response)
            found = await parsed(self._calls.reactor, lambda body: s3_xml.listing(body, now), response.body)
        except (ValueError, TypeError) as error:
            raise StorageUnavailable(
                f"{self._calls.name} storage: list: not the answer of an S3 server", detail=str(error)
            ) from None
        self._minio = self._minio or s3_xml.is_from_minio(found.token)
        return found

    async def get(self, key: str, limit: int) -> bytes:
        """See L{IObjects.get}."""
        response = await self._bucket.send(f"get {key}", "GET", key, {}, expect=(200, 404), limit=limit)
        if response.status == 404:
            raise self._absent(key, response.body)
        return response.body

    async def open(self, key: str, *, whole: bool = True) -> IZip:
        """See L{IObjects.open}."""
        if not whole:
            looked = await self._bucket.send(f"look at {key}", "HEAD", key, {}, expect=(200, 400, 401, 403, 404))
            length = stated_length(looked)
            if length is not None:  # else it has no words for why: GET has
                return self._zip(key, length, looked.header("ETag") or "")
        opened = await self._bucket.open(key, {}, (200, 404))
        if opened.status == 404:
            raise self._absent(key, await self._calls.words(f"get {key}", opened))
        return self._zip(key, opened, opened.header("ETag") or "")

    def _zip(self, key: str, known: OpenResponse | int, tag: str) -> IZip:
        condition = {"If-Match": tag} if tag else {}

        def ask(part: str) -> Awaitable[OpenResponse]:
            return self._bucket.open(key, {"Range": part, **condition}, (206, 404, _CONFLICT))

        return object_zip(self._calls, key, ask, known, tagged=bool(tag))

    def _absent(self, key: str, body: bytes) -> Exception:
        code, _ = error_code(body)
        if code == "NoSuchBucket":
            text = f"{self._calls.name} storage: get {key}: the bucket is gone"
            return StorageUnavailable(text, detail=f"look at {self._table}.Bucket")
        if code not in ("NoSuchKey", "NoSuchObject"):  # something in front of the store may know nothing of it
            text = f"{self._calls.name} storage: get {key}: a 404 that is none of the store's"
            return StorageUnavailable(text, detail=f"{code}: look at {self._table}.Endpoint", retry_after=10)
        return NotFound(f"{key} is not stored")

    async def link(self, key: str) -> str:
        """See L{IObjects.link}."""
        return await self._bucket.link(key)

    # -- writing

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See L{IObjects.put}."""
        content = await self._bucket.content(whole(data))
        headers = {"Content-Type": content_type, **content.headers}
        await self._bucket.send(f"put {key}", "PUT", key, {}, headers=headers, content=content)

    async def remove(self, key: str, tag: str = "") -> bool:
        """See L{IObjects.remove}. Servers that know no condition here (MinIO) remove it in any case."""
        what, expect = f"delete {key}", (200, 204, 404)
        if tag and self._conditions:
            answer = await self._bucket.send(
                what, "DELETE", key, {}, headers={"If-Match": tag}, expect=(*expect, _CONFLICT, _NOT_IMPLEMENTED)
            )
            if answer.status != _NOT_IMPLEMENTED:
                return answer.status != _CONFLICT
        await self._bucket.send(what, "DELETE", key, {}, expect=expect)
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
        async with parts.held(self._budget) as part:
            content = await self._bucket.content(part)
            headers = {"Content-Type": content_type, **content.headers}
            what, expected = f"put {key}", content.md5.hex()
            _, ours = await self._conditionally(what, "PUT", key, {}, headers, content, replacing, expected)
            return ours

    async def _upload_parts(self, key: str, parts: Parts, content_type: str, replacing: str) -> bool:
        begun = await self._bucket.send(
            f"begin upload of {key}", "POST", key, {"uploads": ""}, headers={"Content-Type": content_type}
        )
        upload = _read(begun, "InitiateMultipartUploadResult", "UploadId", self._calls.name)
        ended = False
        try:
            tags, digests, last = [], b"", False
            while not last:
                tag, digest, last = await self._upload_part(key, upload, parts)
                tags.append(tag)
                digests += digest
            content = await self._bucket.content(whole(s3_xml.completion(tags)))
            expected = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(tags)}"
            query = {"uploadId": upload}
            what = f"end upload of {key}"
            ended, ours = await self._conditionally(what, "POST", key, query, {}, content, replacing, expected)
            return ours
        finally:
            if not ended:  # the same bytes may be there by the upload of another
                self._abort(key, upload)

    async def _upload_part(self, key: str, upload: str, parts: Parts) -> tuple[str, bytes, bool]:
        """@return: the tag of the part, its MD5, and whether it is the last."""
        async with parts.held(self._budget) as part:
            content = await self._bucket.content(part)
            query = {"partNumber": str(content.part.number + 1), "uploadId": upload}
            answer = await self._bucket.send(
                f"upload part of {key}", "PUT", key, query, headers=content.headers, content=content
            )
            return answer.header("ETag") or f'"{content.md5.hex()}"', content.md5, content.part.last

    async def _conditionally(
        self,
        what: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        content: Content,
        replacing: str,
        expected: str,
    ) -> tuple[bool, bool]:
        """
        @param expected: the ETag that these bytes have where nothing is encrypted.
        @return: whether this has written them, and whether they are there now.
        """
        while True:
            condition = {"If-Match": replacing} if replacing else {"If-None-Match": "*"}
            sent = {**headers, **(condition if self._conditions else {})}
            # An upload that is not known any more was ended by the attempt before, whose answer we did not get.
            answer = await self._bucket.send(
                what,
                method,
                key,
                query,
                headers=sent,
                content=content,
                expect=(200, 404, 409, _CONFLICT, _NOT_IMPLEMENTED),
                patient=True,
                failed=_in_spite_of_200,
            )
            if answer.status == 200:
                return True, True
            if answer.status == _NOT_IMPLEMENTED and self._conditions:
                self._conditions = False
                continue
            code, said = error_code(answer.body)
            if answer.status == _NOT_IMPLEMENTED or code == "NoSuchBucket":
                raise StorageUnavailable(
                    f"{self._calls.name} storage: {what}: status {answer.status} {code}", detail=said, retry_after=10
                )
            return False, await self._holds(key, expected)

    async def _holds(self, key: str, tag: str) -> bool:
        """@return: whether the bytes with this ETag are there."""
        answer = await self._bucket.send(f"look at {key}", "HEAD", key, {}, expect=(200, 404))
        return answer.status == 200 and (answer.header("ETag") or "").strip('"') == tag

    def _abort(self, key: str, upload: str) -> None:
        """Give up an upload, whatever becomes of the one who began it."""

        async def abort() -> None:
            try:
                await s3_sweep.give_up(self._bucket, key, upload)
            except StorageUnavailable as error:  # the sweep of the next start finds it
                self._calls.log.info("an upload is left behind: {reason}", reason=str(error))

        self._aborting.start(abort())

    async def sweep(self, age: float) -> None:
        """See L{IObjects.sweep}."""
        await s3_sweep.leftovers(self, self._bucket, self._layout, age)
        await s3_sweep.uploads(self._bucket, self._layout, age)


def _is_no_bucket(response: Response) -> bool:
    return response.status == 404 and error_code(response.body)[0] in ("NoSuchBucket", "")


def _in_spite_of_200(response: Response) -> bool:
    """@return: whether the server began to answer before it knew that it would fail."""
    return response.status == 200 and error_code(response.body) != ("", "")


def _read(response: Response, document: str, element: str, name: str) -> str:
    try:
        return text(parse(response.body, document), element)
    except BadDocument as error:
        raise StorageUnavailable(f"{name} storage: not the answer of an S3 server", detail=str(error)) from None
