"""Conditional requests and ranges."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.web.http_headers import Headers

from athens_tx.web.conditional import Part, entity_tag, wanted

TAG = b'"abc"'
ALL = Part(200, 0, 100)
ZIP = "/github.com/acme/lib/@v/v1.0.0.zip"
DATA = b"PK" + bytes(range(98))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes=0-0", Part(206, 0, 1)),
        ("bytes=0-", Part(206, 0, 100)),
        ("bytes=10-19", Part(206, 10, 10)),
        ("bytes=90-1000", Part(206, 90, 10)),
        ("bytes=99-", Part(206, 99, 1)),
        ("bytes=-1", Part(206, 99, 1)),
        ("bytes=-100", Part(206, 0, 100)),
        ("bytes=-1000", Part(206, 0, 100)),
        ("Bytes= 5-6 ", Part(206, 5, 2)),
        ("bytes=100-", Part(416, 0, 0)),
        ("bytes=500-600", Part(416, 0, 0)),
        ("bytes=-0", Part(416, 0, 0)),
        ("bytes=0-1,5-6", ALL),
        ("bytes=5-3", ALL),
        ("bytes=a-b", ALL),
        ("bytes=", ALL),
        ("bytes=-", ALL),
        ("lines=0-1", ALL),
        ("bytes=" + "9" * 30 + "-", ALL),
        ("", ALL),
    ],
)
def test_a_range(value: str, part: Part) -> None:
    assert wanted(Headers({"Range": [value]}), b"GET", TAG, 100) == part
    assert wanted(Headers({"Range": [value]}), b"HEAD", TAG, 100) == ALL


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, ALL),
        ({"If-None-Match": ['"abc"']}, Part(304, 0, 0)),
        ({"If-None-Match": ['W/"abc"']}, Part(304, 0, 0)),
        ({"If-None-Match": ['"x", "abc"']}, Part(304, 0, 0)),
        ({"If-None-Match": ['"x"', '"abc"']}, Part(304, 0, 0)),
        ({"If-None-Match": ["*"]}, Part(304, 0, 0)),
        ({"If-None-Match": ['"x"']}, ALL),
        ({"If-None-Match": ["abc"]}, ALL),
        ({"If-None-Match": ['"abc"'], "Range": ["bytes=0-1"]}, Part(304, 0, 0)),
        ({"If-None-Match": ['"x"'], "If-Modified-Since": ["then"]}, ALL),
        ({"If-Modified-Since": ["then"]}, Part(304, 0, 0)),
        ({"If-Modified-Since": ["now"]}, ALL),
        ({"If-Range": ['"abc"'], "Range": ["bytes=0-1"]}, Part(206, 0, 2)),
        ({"If-Range": ['W/"abc"'], "Range": ["bytes=0-1"]}, ALL),
        ({"If-Range": ['"x"'], "Range": ["bytes=0-1"]}, ALL),
        ({"If-Range": ["then"], "Range": ["bytes=0-1"]}, Part(206, 0, 2)),
        ({"If-Range": ["now"], "Range": ["bytes=0-1"]}, ALL),
        ({"Range": ["bytes=0-1", "bytes=2-3"]}, ALL),
    ],
)
def test_a_condition(headers: dict[str, list[str]], part: Part) -> None:
    assert wanted(Headers(headers), b"GET", TAG, 100, b"then") == part


def test_nothing_has_no_parts() -> None:
    assert wanted(Headers({"Range": ["bytes=0-"]}), b"GET", TAG, 0) == Part(416, 0, 0)
    assert wanted(Headers({"If-Modified-Since": [""]}), b"GET", TAG, 0) == Part(200, 0, 0)


def test_a_tag_tells_kinds_versions_and_lengths_apart() -> None:
    tags = {
        entity_tag(*args) for args in (("zip", "a@v1", 1), ("mod", "a@v1", 1), ("zip", "a@v2", 1), ("zip", "a@v1", 2))
    }
    assert len(tags) == 4
    assert all(tag.startswith(b'"') and tag.endswith(b'"') for tag in tags)


@pytest_twisted.ensureDeferred
async def test_a_part_of_a_zip(serve: Any) -> None:
    server = serve()
    whole = await server.ask(ZIP)
    assert (whole.body, whole.headers["accept-ranges"]) == (DATA, "bytes")
    for asked, body, said in (
        ("bytes=10-19", DATA[10:20], "bytes 10-19/100"),
        ("bytes=-5", DATA[-5:], "bytes 95-99/100"),
    ):
        server.protocol.zip_body = None
        got = await server.ask(ZIP, Range=asked, If_Range=whole.headers["etag"])
        assert (got.status, got.body, got.headers["content-range"]) == (206, body, said)
        assert got.headers["content-length"] == str(len(body))
        assert got.headers["etag"] == whole.headers["etag"]
        assert got.headers["content-type"] == "application/zip"
    assert server.protocol.zip_body.parts == [(95, 5)]


@pytest_twisted.ensureDeferred
async def test_all_of_a_zip_is_asked_for_only_where_it_is_wanted(serve: Any) -> None:
    server = serve()
    tag = (await server.ask(ZIP)).headers["etag"]
    server.protocol.zip_body = None
    await server.ask(ZIP, "HEAD")
    for header in ({"Range": "bytes=1-2"}, {"If_None_Match": tag}, {"If_Modified_Since": "then"}):
        server.protocol.zip_body = None
        await server.ask(ZIP, **header)
    assert server.protocol.wholes == [True, False, False, False, True]


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_not_sent_is_stopped_not_started(serve: Any) -> None:
    server = serve()
    tag = (await server.ask(ZIP, "HEAD")).headers["etag"]
    assert server.protocol.zip_body.said == ["stop"]
    for headers, status in (({"If_None_Match": tag}, 304), ({"Range": "bytes=100-"}, 416)):
        server.protocol.zip_body = None
        got = await server.ask(ZIP, **headers)
        assert (got.status, got.body) == (status, b"")
        assert server.protocol.zip_body.said == ["stop"]
    assert got.headers["content-range"] == "bytes */100"
    assert "etag" not in got.headers
    assert got.headers["cache-control"].startswith("no-cache")


@pytest.mark.parametrize("kind", ["info", "mod"])
@pytest_twisted.ensureDeferred
async def test_small_files_have_parts_and_conditions_too(serve: Any, kind: str) -> None:
    server = serve()
    path = f"/github.com/acme/lib/@v/v1.0.0.{kind}"
    whole = await server.ask(path)
    got = await server.ask(path, Range="bytes=3-5")
    assert (got.status, got.body) == (206, whole.body[3:6])
    got = await server.ask(path, If_None_Match=whole.headers["etag"])
    assert (got.status, got.body) == (304, b"")
    assert got.headers["etag"] == whole.headers["etag"]
    assert got.headers["cache-control"] == whole.headers["cache-control"]
    assert "content-length" not in got.headers
    assert (await server.ask(path, Range="bytes=999-")).status == 416


@pytest.mark.parametrize("kind", ["info", "mod"])
@pytest_twisted.ensureDeferred
async def test_a_small_file_of_other_bytes_has_another_tag(serve: Any, kind: str) -> None:
    server = serve()
    path = f"/github.com/acme/lib/@v/v1.0.0.{kind}"
    before = await server.ask(path)
    server.protocol.answers[kind] = before.body[::-1]
    after = await server.ask(path, If_None_Match=before.headers["etag"])
    assert (after.status, len(after.body)) == (200, len(before.body))
    assert after.headers["etag"] != before.headers["etag"]


@pytest_twisted.ensureDeferred
async def test_a_query_has_neither(serve: Any) -> None:
    server = serve()
    for kind in ("info", "mod", "zip"):
        got = await server.ask(f"/github.com/acme/lib/@v/main.{kind}", Range="bytes=0-1", If_None_Match="*")
        assert got.status == 200
        assert "etag" not in got.headers


@pytest_twisted.ensureDeferred
async def test_with_credentials_shared_caches_keep_nothing(serve: Any) -> None:
    server = serve(basic_auth_user="u", basic_auth_pass="p")
    got = await server.ask(ZIP, Authorization="Basic dTpw")
    assert got.headers["cache-control"] == "private, max-age=31536000, immutable"
