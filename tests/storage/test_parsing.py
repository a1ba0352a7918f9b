"""Large answers are read in a thread, in the time of which the reactor goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import LoopingCall
from twisted.web.http_headers import Headers

from athens_tx.http_client import Response
from athens_tx.interfaces import StoredObject
from athens_tx.storage import azure_xml, gcp, s3_xml
from athens_tx.storage.azureblob import AzureObjects
from athens_tx.storage.gcp import GcpObjects
from athens_tx.storage.keys import ByVersion
from athens_tx.storage.parsing import answered, http_date, parsed
from athens_tx.storage.s3 import S3Objects
from athens_tx.storage.threads import SMALL

reactor: Any = _reactor
NOW = datetime(2024, 2, 3, 4, 5, 16, tzinfo=UTC)


def azure(count: int) -> bytes:
    """@return: a page with as much of each blob as Azure tells."""
    told = "<Creation-Time>{0}</Creation-Time><Last-Modified>{0}</Last-Modified>".format(
        "Sat, 03 Feb 2024 04:05:06 GMT"
    )
    empty = "".join(f"<{name} />" for name in ("Content-Encoding", "Content-Language", "Content-CRC64"))
    more = "<AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
    blobs = "".join(
        f"<Blob><Name>example.com/a/module/@v/v1.0.{number}.info</Name><Properties>{told}<Etag>0x8D{number:x}</Etag>"
        f"<Content-Length>120</Content-Length><BlobType>BlockBlob</BlobType>{empty}{more}</Properties></Blob>"
        for number in range(count)
    )
    return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode()


def s3(count: int) -> bytes:
    entries = "".join(
        f"<Contents><Key>example.com/a/module/@v/v1.0.{number}.info</Key><ETag>&quot;{number:x}&quot;</ETag>"
        "<LastModified>2024-02-03T04:05:06.000Z</LastModified><Size>120</Size></Contents>"
        for number in range(count)
    )
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<ListBucketResult xmlns="{space}"><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'.encode()


def google(count: int) -> bytes:
    entries = [
        {
            "name": f"example.com/a/module/@v/v1.0.{number}.info",
            "generation": str(number),
            "size": "120",
            "timeCreated": "2024-02-03T04:05:06Z",
        }
        for number in range(count)
    ]
    return json.dumps({"items": entries}).encode()


async def longest_pause(work: Any) -> float:
    """@return: the longest time, in seconds, for which the reactor did nothing else while C{work} was done."""
    times = [time.perf_counter()]
    ticking = LoopingCall(lambda: times.append(time.perf_counter()))
    ticking.start(0.0)
    try:
        await work
    finally:
        ticking.stop()
    times.append(time.perf_counter())
    return max(later - earlier for earlier, later in pairwise(times))


def pages(calls: Any) -> dict[str, tuple[Any, Callable[[int], bytes]]]:
    """@return: the objects of each kind of store, and how it writes a page."""

    async def find() -> Any:
        raise NotImplementedError

    made = AzureObjects(calls, Any, Any, service="http://store", container="c", links=False)  # type: ignore[arg-type]
    return {
        "azureblob": (made, azure),
        "s3": (S3Objects(calls, find, layout=ByVersion(), table="Storage.S3"), s3),
        "gcp": (GcpObjects(calls, find, links=False), google),
    }


@pytest.mark.parametrize("name", ["azureblob", "gcp", "s3"])
@pytest_twisted.ensureDeferred
async def test_a_large_page_is_read_in_a_thread_and_a_small_one_is_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    class Told(StoredObject):
        def __attrs_post_init__(self) -> None:
            threads.append(threading.current_thread() is threading.main_thread())

    for module in (azure_xml, gcp, s3_xml):
        monkeypatch.setattr(module, "StoredObject", attrs.frozen(Told))
    objects, write = pages(SimpleNamespace(reactor=reactor, name=name))[name]
    for count, here in ((1000, False), (10, True)):
        threads.clear()
        body = write(count)
        assert (len(body) <= SMALL) == here

        async def answer(*_: Any, body: bytes = body, **__: Any) -> Response:
            return Response(200, Headers({"Date": ["Sat, 03 Feb 2024 04:05:16 GMT"]}), body, "")

        monkeypatch.setattr(objects, "_list", answer)
        page = await objects.page("", "", count)
        assert [found.age for found in page.objects] == [10.0] * count
        assert threads == [here] * count


@pytest_twisted.ensureDeferred
async def test_the_reactor_goes_on_while_a_large_page_is_read() -> None:
    body = azure(5000)

    def read(body: bytes) -> Any:
        return azure_xml.listing(body, NOW).objects

    begun = time.perf_counter()
    assert len(read(body)) == 5000
    at_once = time.perf_counter() - begun
    assert min([await longest_pause(parsed(reactor, read, body)) for _ in range(5)]) < at_once / 2


@pytest_twisted.ensureDeferred
async def test_what_a_thread_raises_is_raised() -> None:
    for size in (SMALL, SMALL + 1):
        with pytest.raises(UnicodeDecodeError):
            await parsed(reactor, bytes.decode, b"\xff" * size)


def test_a_time_is_read_in_every_form() -> None:
    for days in range(0, 400, 13):
        time = NOW + timedelta(days=days, seconds=days)
        assert http_date(format_datetime(time, usegmt=True)) == time
    assert http_date("Sat, 3 Feb 2024 05:05:16 +0100") == NOW
    assert http_date("Saturday, 03-Feb-24 04:05:16 GMT") == NOW
    assert http_date("Sat, 03 Feb 2024 04:05:16").tzinfo is not None
    for text in ("", "soon", "Sat, 99 Feb 2024 04:05:16 GMT", "Sat, 03 Feb 2024 04:05:1x GMT"):
        with pytest.raises(ValueError, match=r"."):
            http_date(text)


def test_a_store_that_does_not_tell_the_time_is_taken_to_have_ours() -> None:
    assert abs((answered(Response(200, Headers(), b"", "")) - datetime.now(UTC)).total_seconds()) < 60
    assert answered(Response(200, Headers({"Date": ["Sat, 03 Feb 2024 04:05:16 GMT"]}), b"", "")) == NOW
