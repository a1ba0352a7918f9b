"""The objects of a bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from datetime import datetime
from typing import Any

from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, ConfigError, InvalidRequest, StorageUnavailable
from athens_tx.http_client import OpenResponse, Response
from athens_tx.interfaces import IObjects, IZip, ObjectPage, StoredObject
from athens_tx.starting import in_time
from athens_tx.storage.background import Background
from athens_tx.storage.calls import Calls, Request, to_the_end
from athens_tx.storage.gcp_bucket import Bucket, absent, document, encoded, md5, reason
from athens_tx.storage.gcp_upload import ResumableUpload, begin, insert
from athens_tx.storage.google import Access
from athens_tx.storage.keys import ByVersion
from athens_tx.storage.parsing import answered, parsed
from athens_tx.storage.parts import Budget, Parts
from athens_tx.storage.remote_zip import object_zip

#: Bytes of a part: a larger zip is sent in parts. The store wants a multiple of 256 KiB.
PART = 8 << 20
#: Bytes of parts in memory, of all uploads together.
BUDGET = 4 * PART

_ADVICE = "look at Endpoint, and at the way to it"
_LISTED = "items(name,generation,size,timeCreated),nextPageToken"


class GcpLayout(ByVersion):
    """The keys of L{ByVersion}, with the content types that Athens' client finds by looking at the bytes."""

    types = ("text/plain; charset=utf-8", "text/plain; charset=utf-8", "application/zip")


@implementer(IObjects)
class GcpObjects:
    """
    See L{IObjects}. Tags are generations; tokens of listings are the service's own.

    Old versions of Athens have left metadata C{in_progress} on objects; it means nothing, and is never written.
    """

    keyed = False
    largest_page = 1000
    _bucket: Bucket

    def __init__(self, calls: Calls, find: Callable[[], Awaitable[tuple[Bucket, Access]]], *, links: bool) -> None:
        """
        @param find: gives the bucket and who we are to it; may raise L{ConfigError}.
        @param links: L{link} will be asked for.
        """
        self._calls = calls
        self._find = find
        self._links = links
        self._found: Access | None = None
        self._budget = Budget(BUDGET)
        self._giving_up = Background(calls.reactor)

    @property
    def bucket(self) -> Bucket:
        """What makes the requests, once we are connected."""
        return self._bucket

    # -- start and end

    async def connect(self) -> None:
        """See L{IObjects.connect}."""
        await in_time(self._calls.reactor, self._connect(), "Storage.GCP", _ADVICE)

    async def _connect(self) -> None:
        self._bucket, self._found = await self._find()
        if self._links:
            await self._found.begin_links()
        try:
            response = await self._list("", "", 1, expect=(200, 400, 401, 403, 404))
        except StorageUnavailable as error:
            line = ": ".join(filter(None, (str(error), error.detail)))
            raise ConfigError([f"Storage.GCP: {line}: {_ADVICE}"]) from error
        if response.status != 200:
            raise ConfigError([self._refusal(response, self._found)])
        try:
            await self._parsed(response)
        except StorageUnavailable as error:
            raise ConfigError([f"Storage.GCP.Endpoint: {error}"]) from error

    def _refusal(self, response: Response, access: Access) -> str:
        if response.status == 404:
            return "Storage.GCP.Bucket: there is no such bucket; create it, or name another"
        text = f"the server answers {response.status}: {reason(response.body)}"
        if response.status == 400:
            return f"Storage.GCP.Bucket: {text}"
        if access.anonymous:
            return f"Storage.GCP.JSONKey: {text}: no credentials are set, and no default ones were found"
        return f"Storage.GCP.JSONKey: {text}: it must be allowed to list, read, write and delete objects in Bucket"

    def refused(self, request: Request) -> bool:
        """@return: whether a request that was refused may be made anew with better credentials; for L{Calls}."""
        return self._found is not None and self._found.refused(request.headers)

    async def close(self) -> None:
        """See L{IObjects.close}."""
        await self._giving_up.close()
        await self._calls.http.close()
        if self._found is not None:
            self._found.close()

    # -- reading

    async def page(self, prefix: str, cursor: str, limit: int) -> ObjectPage:
        """See L{IObjects.page}."""
        response = await self._list(prefix, cursor, limit, expect=(200, 400, 404) if cursor else (200, 404))
        if response.status == 404:
            detail = f"{reason(response.body)}: look at Storage.GCP.Bucket"
            raise self._told(StorageUnavailable("gcp storage: list: status 404", detail=detail), 404)
        if response.status == 400:
            raise InvalidRequest("the token of the catalog is not one that it gave")
        return await self._parsed(response)

    async def _list(self, prefix: str, cursor: str, limit: int, expect: Collection[int]) -> Response:
        query = {"maxResults": str(min(limit, self.largest_page)), "fields": _LISTED}
        if prefix:
            query["prefix"] = prefix
        if cursor:
            query["pageToken"] = cursor
        what = f"list {prefix}" if prefix else "list"
        return await self._bucket.send(what, "GET", self._bucket.objects(**query), expect=expect, limit=8 << 20)

    async def _parsed(self, response: Response) -> ObjectPage:
        try:
            now = answered(response)
            return await parsed(self._calls.reactor, lambda body: _listing(body, now), response.body)
        except (ValueError, TypeError, KeyError) as error:
            raise self._bucket.strange("list", f"{type(error).__name__} {error}") from None

    async def get(self, key: str, limit: int) -> bytes:
        """See L{IObjects.get}."""
        url = self._bucket.object(key, alt="media")
        response = await self._bucket.send(f"get {key}", "GET", url, expect=(200, 404), limit=limit)
        if response.status == 404:
            raise self._absent(key, response.body)
        return response.body

    async def open(self, key: str, *, whole: bool = True) -> IZip:
        """See L{IObjects.open}."""
        if not whole:
            return self._zip(key, *await self._known(key))
        opened = await self._bucket.open(f"get {key}", self._bucket.object(key, alt="media"), {}, (200, 404))
        if opened.status == 404:
            raise self._absent(key, await self._calls.words(f"get {key}", opened))
        return self._zip(key, opened, opened.header("X-Goog-Generation") or "")

    async def _known(self, key: str) -> tuple[int, str]:
        """@return: the size of an object, and its generation."""
        what = f"look at {key}"
        url = self._bucket.object(key, fields="generation,size")
        answer = await self._bucket.send(what, "GET", url, expect=(200, 404))
        if answer.status == 404:
            raise self._absent(key, answer.body)
        known = self._bucket.read(what, answer)
        try:
            return int(known["size"]), str(known["generation"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._bucket.strange(what, f"{type(error).__name__} {error}") from None

    def _zip(self, key: str, known: OpenResponse | int, generation: str) -> IZip:
        url = self._bucket.object(key, alt="media", **({"generation": generation} if generation else {}))

        def ask(part: str) -> Awaitable[OpenResponse]:
            return self._bucket.open(f"get {key}", url, {"Range": part}, (206, 404, 416))

        return object_zip(self._calls, key, ask, known, tagged=bool(generation))

    async def link(self, key: str) -> str:
        """See L{IObjects.link}."""
        return await self._bucket.link(key)

    # -- writing

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See L{IObjects.put}."""
        digest = md5()
        await self._bucket.hashed(digest, (data,))
        answer = await insert(self._bucket, key, (data,), encoded(digest), content_type, {})
        if answer.status != 200:
            raise self._no_bucket(key, answer)

    async def remove(self, key: str, tag: str = "") -> bool:
        """See L{IObjects.remove}."""
        url = self._bucket.object(key, **({"generation": tag} if tag else {}))
        answer = await self._bucket.send(f"delete {key}", "DELETE", url, expect=(200, 204, 404))
        if answer.status != 404:
            return True
        gone = self._absent(key, answer.body)
        if isinstance(gone, StorageUnavailable):
            raise gone
        return not tag  # nothing is there, or another one

    async def upload(self, key: str, body: IBodyProducer, content_type: str, replacing: str) -> bool:
        """See L{IObjects.upload}."""
        condition = {"ifGenerationMatch": replacing or "0"}
        parts = Parts(body, PART)
        try:
            if body.length <= PART:
                return await self._upload_whole(key, parts, content_type, condition)
            return await self._upload_parts(key, parts, int(body.length), content_type, condition)
        finally:
            parts.stop()

    async def _upload_whole(self, key: str, parts: Parts, content_type: str, condition: dict[str, str]) -> bool:
        async with parts.held(self._budget) as part:
            digest = md5()
            await self._bucket.hashed(digest, part.pieces)
            inserting = insert(self._bucket, key, part.pieces, encoded(digest), content_type, condition)
            answer = await to_the_end(inserting)
            if answer.status == 404:
                raise self._no_bucket(key, answer)
            return answer.status == 200 or await self._holds(key, encoded(digest))

    async def _upload_parts(
        self, key: str, parts: Parts, length: int, content_type: str, condition: dict[str, str]
    ) -> bool:
        begun = await begin(self._bucket, key, length, content_type, condition)
        if isinstance(begun, Response):
            if begun.status == 404:
                raise self._no_bucket(key, begun)
            return False
        digest, last, answer = md5(), False, None
        try:
            while answer is None:
                answer, last = await self._upload_part(begun, parts, digest)
        finally:
            if answer is None:
                self._give_up(begun)
        if answer.status in (200, 201):
            await self._verify(key, answer, length, encoded(digest))
            return True
        if last and await self._holds(key, encoded(digest)):  # the attempt before ended it, whose answer we did not get
            return True
        if answer.status == 412:
            return False
        raise self._told(
            StorageUnavailable(
                f"gcp storage: upload part of {key}: status {answer.status}", detail=reason(answer.body), retry_after=5
            ),
            answer.status,
        )

    async def _upload_part(self, upload: ResumableUpload, parts: Parts, digest: Any) -> tuple[Response | None, bool]:
        """@return: the store's last word, if it was that, and whether it was about the last part."""
        async with parts.held(self._budget) as part:
            await self._bucket.hashed(digest, part.pieces)
            return await upload.send(part), part.last

    async def _verify(self, key: str, answer: Response, length: int, md5_hash: str) -> None:
        """Take an object away that is not what was sent."""
        what = f"end upload of {key}"
        known = self._bucket.read(what, answer)
        if known.get("size") == str(length) and known.get("md5Hash", md5_hash) == md5_hash:
            return
        generation = str(known.get("generation", ""))
        url = self._bucket.object(key, **({"generation": generation} if generation else {}))
        await self._bucket.send(f"delete {key}", "DELETE", url, expect=(200, 204, 404))
        detail = f"{known.get('size')} bytes of {length} arrived, or others"
        error = StorageUnavailable(f"gcp storage: {what}: damaged on the way", detail=detail, retry_after=5)
        raise self._told(error, "damaged")

    async def _holds(self, key: str, md5_hash: str) -> bool:
        """@return: whether the bytes with this MD5 are there."""
        url = self._bucket.object(key, fields="md5Hash")
        answer = await self._bucket.send(f"look at {key}", "GET", url, expect=(200, 404))
        return answer.status == 200 and self._bucket.read(f"look at {key}", answer).get("md5Hash") == md5_hash

    def _no_bucket(self, key: str, answer: Response) -> StorageUnavailable:
        detail = f"{reason(answer.body)}: look at Storage.GCP.Bucket"
        return self._told(StorageUnavailable(f"gcp storage: put {key}: status {answer.status}", detail=detail), 404)

    def _absent(self, key: str, body: bytes) -> AthensError:
        error = absent(key, body)
        return self._told(error, 404) if isinstance(error, StorageUnavailable) else error

    def _told(self, error: StorageUnavailable, kind: Hashable) -> StorageUnavailable:
        self._calls.health.refuses(error, kind)
        return error

    def _give_up(self, upload: ResumableUpload) -> None:
        """End an upload, whatever becomes of the one who began it."""

        async def give_up() -> None:
            try:
                await upload.give_up()
            except StorageUnavailable as error:
                self._calls.log.info("an upload is left behind: {reason}", reason=str(error))

        self._giving_up.start(give_up())

    async def sweep(self, age: float) -> None:
        """See L{IObjects.sweep}. Uploads that were never ended can't be listed; they are forgotten after a week."""


def _listing(body: bytes, now: datetime) -> ObjectPage:
    known = document(body)
    return ObjectPage([_stored(item, now) for item in known.get("items", ())], str(known.get("nextPageToken", "")))


def _stored(item: Mapping[str, Any], now: datetime) -> StoredObject:
    age = (now - datetime.fromisoformat(item["timeCreated"])).total_seconds()
    return StoredObject(str(item["name"]), str(item["generation"]), int(item["size"]), max(0.0, age))
