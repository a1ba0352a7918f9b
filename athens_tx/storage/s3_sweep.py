"""What saves that were interrupted have left in a bucket, ours and those of Athens, is taken away again."""

from __future__ import annotations

from datetime import UTC, datetime

from athens_tx.errors import StorageUnavailable
from athens_tx.interfaces import IObjects
from athens_tx.storage import s3_xml
from athens_tx.storage.keys import Layout
from athens_tx.storage.parsing import parsed
from athens_tx.storage.s3_requests import Bucket, described

#: What a server says to what it does not let us do, or does not know. It is in no trouble for that.
_REFUSED = (400, 403, 404, 405, 501)


async def leftovers(objects: IObjects, bucket: Bucket, layout: Layout, age: float) -> None:
    """Remove what Athens has left of zips in pieces, if it is older than C{age} seconds."""
    cursor, last = "", not layout.leftovers
    while not last:
        page = await objects.page(layout.leftovers, cursor, objects.largest_page)
        for found in page.objects:
            if found.age > age and layout.is_leftover(found.key):
                await bucket.send(f"delete {found.key}", "DELETE", found.key, {}, expect=(200, 204, *_REFUSED))
        cursor, last = page.cursor, not page.cursor


async def uploads(bucket: Bucket, layout: Layout, age: float) -> None:
    """Give up uploads of ours that were begun more than C{age} seconds ago."""
    query = {"uploads": "", "encoding-type": "url"}
    more: tuple[str, str] | None = ("", "")
    while more is not None:
        markers = {"key-marker": more[0], "upload-id-marker": more[1]} if more[0] else {}
        expect = (200, *_REFUSED)
        answer = await bucket.send("list uploads", "GET", "", query | markers, expect=expect, limit=8 << 20)
        if answer.status != 200:
            raise StorageUnavailable(f"list uploads: status {answer.status}", detail=described(answer))
        before = more
        try:
            found, more = await parsed(bucket.calls.reactor, s3_xml.uploads, answer.body)
        except ValueError as error:
            raise StorageUnavailable("the list of uploads can't be read", detail=str(error)) from None
        if more == before:
            raise StorageUnavailable("the list of uploads goes round in circles")
        now = datetime.now(UTC)
        for upload in found:
            if (now - upload.started).total_seconds() > age and layout.place(upload.key) is not None:
                await give_up(bucket, upload.key, upload.id)


async def give_up(bucket: Bucket, key: str, upload: str) -> None:
    """Let the server forget an upload, if it still knows it."""
    expect = (200, 204, *_REFUSED)
    await bucket.send(f"give up upload of {key}", "DELETE", key, {"uploadId": upload}, expect=expect)
