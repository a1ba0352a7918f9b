"""How an object comes into a bucket of Google Cloud Storage: in one request, or in a resumable upload."""

from __future__ import annotations

import json
import re
from uuid import uuid4

from athens_tx.errors import StorageUnavailable
from athens_tx.http_client import Response
from athens_tx.storage.calls import Request, to_the_end
from athens_tx.storage.gcp_bucket import Bucket, Pieces
from athens_tx.storage.parts import Part

#: What we want to know of a new object.
_FIELDS = "generation,md5Hash,size"
#: How often in a row the store may have taken nothing of a part.
_STUCK = 3
_MORE = 308
_NOTHING: Pieces = ()
_RANGE = re.compile(r"bytes=0-([0-9]{1,18})")


async def insert(
    bucket: Bucket, key: str, pieces: Pieces, md5: str, content_type: str, condition: dict[str, str]
) -> Response:
    """
    Write an object in one request. The store compares the MD5.

    @param condition: C{ifGenerationMatch}, or nothing.
    @return: an answer of status 200 or 412; 404 if there is no bucket.
    """
    known = {"name": key, "contentType": content_type, "md5Hash": md5}
    boundary = uuid4().hex
    head = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(known)}\r\n"
        f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n"
    )
    return await bucket.send(
        f"put {key}",
        "POST",
        bucket.uploads(uploadType="multipart", fields=_FIELDS, **condition),
        headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        pieces=(head.encode(), *pieces, f"\r\n--{boundary}--\r\n".encode()),
        expect=(200, 404, 412),
    )


async def begin(
    bucket: Bucket, key: str, length: int, content_type: str, condition: dict[str, str]
) -> ResumableUpload | Response:
    """@return: an upload; the answer, of status 404 or 412, if there is to be none. See L{insert}."""
    what = f"begin upload of {key}"
    answer = await bucket.send(
        what,
        "POST",
        bucket.uploads(uploadType="resumable", name=key, fields=_FIELDS, **condition),
        headers={
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": content_type,
            "X-Upload-Content-Length": str(length),
        },
        pieces=(json.dumps({"name": key, "contentType": content_type}).encode(),),
        expect=(200, 404, 412),
    )
    if answer.status != 200:
        return answer
    location = answer.header("Location")
    if not location:
        raise bucket.strange(what, "no Location")
    return ResumableUpload(bucket, key, bucket.session(location), length, content_type)


class ResumableUpload:
    """An upload that goes on where it was cut: before anything is sent again, the store is asked what it has."""

    def __init__(self, bucket: Bucket, key: str, url: str, length: int, content_type: str) -> None:
        self._bucket = bucket
        self._key = key
        self._url = url
        self._length = length
        self._content_type = content_type

    async def send(self, part: Part) -> Response | None:
        """
        @return: C{None} when the store has all of this part and waits for the next; its last word otherwise: 200 or
            201 when the object is there, 404 or 410 when it does not know the upload any more, 412 when the condition
            does not hold.
        """
        position, end = part.start, part.start + part.length
        stuck = 0
        while True:
            answer = await self._put(part, position)
            if answer.status != _MORE:
                return answer
            taken = _taken(answer)
            if not part.start <= taken <= end:
                raise self._lost()
            if taken == end and not part.last:
                return None
            stuck = stuck + 1 if taken == position else 0
            if stuck == _STUCK:
                raise self._lost()
            position = taken

    async def _put(self, part: Part, position: int) -> Response:
        """Send what begins at C{position}; if that fails, ask what the store has of it."""
        asks = position == part.start + part.length

        async def make() -> Request:
            nonlocal asks
            headers, pieces = {"Content-Range": f"bytes */{self._length}"}, _NOTHING
            if not asks:
                span = f"{position}-{part.start + part.length - 1}"
                headers = {"Content-Range": f"bytes {span}/{self._length}", "Content-Type": self._content_type}
                pieces = rest(part.pieces, position - part.start)
            asks = True
            return await self._bucket.request("PUT", self._url, headers, pieces)

        what = f"upload part of {self._key}"
        sending = self._bucket.calls.small(what, make, expect=(200, 201, _MORE, 404, 410, 412))
        return await (to_the_end(sending) if part.last else sending)

    def _lost(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"gcp storage: upload part of {self._key}: the store does not keep what it got", retry_after=10
        )

    async def give_up(self) -> None:
        """Tell the store that nothing more comes; it would forget the upload after a week anyway."""
        what = f"give up upload of {self._key}"
        await self._bucket.send(what, "DELETE", self._url, expect=(200, 204, 404, 410, 499))


def rest(pieces: Pieces, start: int) -> Pieces:
    """@return: what of C{pieces} begins at C{start}."""
    left: list[bytes | memoryview] = []
    for piece in pieces:
        if start < len(piece):
            left.append(memoryview(piece)[start:])
        start = max(0, start - len(piece))
    return left


def _taken(answer: Response) -> int:
    """@return: how many bytes of the object the store has."""
    match = _RANGE.fullmatch(answer.header("Range") or "")
    return int(match.group(1)) + 1 if match is not None else 0
