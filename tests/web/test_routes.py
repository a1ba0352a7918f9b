"""Every row of the tables of routes: status, type, body, headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

NO_CACHE = "no-cache, no-store, must-revalidate"
FOREVER = "public, max-age=31536000, immutable"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"
LIB = "/github.com/acme/lib"


@pytest.mark.parametrize(
    ("path", "content_type", "cache", "body"),
    [
        (f"{LIB}/@v/list", TEXT, NO_CACHE, b"v1.0.0\nv1.1.0"),
        (f"{LIB}/@latest", TEXT, NO_CACHE, b'{"Version":"v1.1.0"}\n'),
        (f"{LIB}/@v/v1.0.0.info", JSON, FOREVER, b'{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z"}'),
        (f"{LIB}/@v/v1.0.0.mod", TEXT, FOREVER, b"module github.com/acme/lib\n"),
        (f"{LIB}/@v/v1.0.0.zip", "application/zip", FOREVER, b"PK" + bytes(range(98))),
        (f"{LIB}/@v/main.info", JSON, NO_CACHE, b'{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z"}'),
        (f"{LIB}/@v/latest.mod", TEXT, NO_CACHE, b"module github.com/acme/lib\n"),
        (f"{LIB}/@v/v1.zip", "application/zip", NO_CACHE, b"PK" + bytes(range(98))),
        (f"{LIB}/@v/v2.0.0.info", JSON, NO_CACHE, b'{"Version":"v1.0.0","Time":"2024-01-02T03:04:05Z"}'),
        ("/healthz", JSON, NO_CACHE, b""),
        ("/readyz", None, NO_CACHE, b""),
        ("/version", JSON, NO_CACHE, b"{}\n"),
        ("/metrics", "text/plain; version=0.0.4", NO_CACHE, b"athens 1\n"),
        ("/sumdb/sum.golang.org/latest", "text/plain", "public, max-age=9", b"record"),
        ("/index", JSON, NO_CACHE, b""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_route_answers_get_and_head(
    serve: Any, path: str, content_type: str | None, cache: str, body: bytes
) -> None:
    server = serve()
    got = await server.ask(path)
    assert (got.status, got.body) == (200, body)
    assert got.headers.get("content-type") == content_type
    assert got.headers["cache-control"] == cache
    assert got.headers["content-length"] == str(len(body))
    assert "server" not in got.headers
    assert "athens-request-id" not in got.headers
    head = await server.ask(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        refused = await server.ask(path, method)
        assert refused.status == 405
        assert refused.headers["allow"] == "GET, HEAD"
        assert refused.headers["content-type"] == TEXT


@pytest_twisted.ensureDeferred
async def test_a_path_is_decoded_once_and_asked_for_unescaped(serve: Any) -> None:
    server = serve()
    for path, asked in (
        ("/github.com/!azure/x/@v/list", ("list", "github.com/Azure/x", True)),
        ("/github.com/%21azure/x/@latest", ("latest", "github.com/Azure/x", True)),
        ("/github.com/acme/lib/@v/v2.0.0%2Bincompatible.mod", ("mod", "github.com/acme/lib@v2.0.0+incompatible", True)),
        ("/github.com/acme/lib/@v/v2.0.0+incompatible.mod", ("mod", "github.com/acme/lib@v2.0.0+incompatible", True)),
        ("/github.com/acme/lib/%40v/v1.0.0-!r!c1.zip", ("zip", "github.com/acme/lib@v1.0.0-RC1", True)),
        ("/github.com%2Facme/lib/@v/v1.0.0.info?x=1", ("info", "github.com/acme/lib@v1.0.0", True)),
    ):
        assert (await server.ask(path)).status == 200
        assert server.protocol.asked[-1] == asked
    path, version = server.protocol.asked[-2][1].split("@")
    assert (path, version) in server.gate.asked
    assert ("github.com/Azure/x", None) in server.gate.asked


@pytest_twisted.ensureDeferred
async def test_an_answer_for_an_absolute_target_and_http_1_0(serve: Any) -> None:
    server = serve()
    got = await server.ask(f"http://elsewhere.test{LIB}/@v/list")
    assert got.status == 200
    assert (await server.ask("http://elsewhere.test")).status == 200
    got = await server.raw(f"GET {LIB}/@v/list HTTP/1.0\r\n\r\n".encode())
    assert (got.status, got.body) == (200, b"v1.0.0\nv1.1.0")


@pytest_twisted.ensureDeferred
async def test_a_client_can_forbid_a_fetch(serve: Any) -> None:
    server = serve()
    for kind in ("@v/list", "@latest", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip"):
        for value, fetch in (("true", False), ("True", False), ("false", True), ("", True)):
            await server.ask(f"{LIB}/{kind}", Disable_Module_Fetch=value)
            assert server.protocol.asked[-1][2] is fetch


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/healthz/",
        "/catalog/",
        "/github.com/acme/lib",
        "/github.com/acme/lib?go-get=1",
        "/github.com/acme/lib/@v/v1.0.0.ziphash",
        "/github.com/acme/lib/@v/list/",
        "/github.com/acme/lib/@v/a%2Fb.info",
        "/@v/list",
        "/@latest",
        "/sumdb/sum.golang.org",
        "/sumdb/",
        "/sumdb/other.test/latest",
        "/robots.txt",
        "/debug/pprof/",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_has_no_route_is_not_found(serve: Any, path: str) -> None:
    got = await serve().ask(path)
    assert got.status == 404
    assert got.headers["content-type"] == TEXT
    assert got.headers["x-content-type-options"] == "nosniff"
    if path != "/sumdb/other.test/latest":
        assert got.body == b"404 page not found\n"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//healthz", "/healthz"),
        ("/./healthz", "/healthz"),
        ("/a/../healthz?x=1&y=%20", "/healthz?x=1&y=%20"),
        ("/a/%2e%2e/healthz", "/healthz"),
        ("/a%2F%2Fb", "/a/b"),
        ("/a//b/", "/a/b/"),
        ("/../../..", "/"),
        ("/.", "/"),
        ("//evil.test", "/evil.test"),
        ("///evil.test/%2e%2e/x", "/x"),
        ("//evil.test/%5C%5Cy", "/evil.test/%5C%5Cy"),
        ("/%5Cevil.test//", "/%5Cevil.test/"),
        ("//github.com/!azure/x/@v/v1.0.0+a.info", "/github.com/%21azure/x/@v/v1.0.0+a.info"),
        ("http://evil.test//other.test/", "/other.test/"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_unclean_path_is_sent_to_the_clean_one_of_this_server(serve: Any, path: str, location: str) -> None:
    got = await serve().ask(path)
    assert (got.status, got.body) == (301, b"")
    assert got.headers["location"] == location


@pytest.mark.parametrize(
    "path",
    [
        b"/%zz",
        b"/%",
        b"/%2",
        b"/a%00b/@v/list",
        b"/a%0d%0ab",
        b"/%ff%fe",
        b"/%7f",
        b"/a\x80b",
        b"/" + b"a" * 5000,
        b"healthz",
        b"*",
        b"ftp://x/healthz",
        b"/healthz?\x80",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_target_that_can_not_be_read_is_a_bad_request(serve: Any, path: bytes) -> None:
    server = serve()
    got = await server.ask(path)
    assert got.status == 400
    assert got.headers["content-type"] == TEXT
    assert got.body.endswith(b"\n")
    assert got.body.count(b"\n") == 1
    assert server.metrics.seen[-1][1:3] == ("-", 400)


@pytest.mark.parametrize("module", ["github.com/Azure/x", "github.com/!/x", "github.com/!1/x", "github.com/x!", "a/b"])
@pytest.mark.parametrize("kind", ["@v/list", "@latest", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip"])
@pytest_twisted.ensureDeferred
async def test_a_module_that_go_would_refuse_is_a_bad_request(serve: Any, module: str, kind: str) -> None:
    server = serve()
    got = await server.ask(f"/{module}/{kind}")
    assert got.status == 400
    assert server.protocol.asked == []
    assert server.gate.asked == []


@pytest.mark.parametrize("version", ["-x", "v1.0.0..", "V1", "%E2%98%83", "a%20b", "upgrade", "x" * 300])
@pytest_twisted.ensureDeferred
async def test_a_version_that_is_none_is_a_bad_request(serve: Any, version: str) -> None:
    server = serve()
    assert (await server.ask(f"{LIB}/@v/{version}.info")).status == 400
    assert server.protocol.asked == []


@pytest_twisted.ensureDeferred
async def test_a_host_must_look_like_one(serve: Any) -> None:
    server = serve()
    for host in ("a b", "x@y", "a/b", "<script>", ""):
        assert (await server.ask("/healthz", Host=host)).status == 400, host
    for host in ("[::1]:3000", "proxy", "127.0.0.1:1", "a_b.test."):
        assert (await server.ask("/healthz", Host=host)).status == 200, host
    assert (await server.raw(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")).status == 400
    two = b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"
    assert (await server.raw(two)).status == 400


@pytest_twisted.ensureDeferred
async def test_a_method_in_small_letters_is_no_method(serve: Any) -> None:
    assert (await serve().ask("/healthz", "get")).status == 405


@pytest_twisted.ensureDeferred
async def test_the_rest_of_a_sumdb_path_goes_on_untouched(serve: Any) -> None:
    server = serve(path_prefix="/athens/")
    await server.ask("/athens/sumdb/sum.golang.org/lookup/github.com/%21azure/x@v1.0.0%2Bincompatible?a=%20b")
    assert server.sumdb.asked == [
        ("sum.golang.org", "/lookup/github.com/%21azure/x@v1.0.0%2Bincompatible", "a=%20b"),
    ]
    await server.ask("/%61thens/s%75mdb/sum.golang.org/tile/8/0/x001/000")
    assert server.sumdb.asked[-1] == ("sum.golang.org", "/tile/8/0/x001/000", "")
    got = await server.ask("/athens/sumdb/sum.golang.org/")
    assert got.status == 200
    assert "server" not in got.headers
    server.sumdb.status = 404
    got = await server.ask("/athens/sumdb/sum.golang.org/lookup/x")
    assert got.status == 404


@pytest_twisted.ensureDeferred
async def test_the_version_says_what_is_known(serve: Any) -> None:
    got = await serve(version="1.2.3", date="2026-01-01").ask("/version")
    assert json.loads(got.body) == {"version": "1.2.3", "date": "2026-01-01"}


@pytest_twisted.ensureDeferred
async def test_without_metrics_there_is_no_such_page(serve: Any) -> None:
    got = await serve(metrics=None).ask("/metrics")
    assert (got.status, got.body) == (404, b"404 page not found\n")


@pytest_twisted.ensureDeferred
async def test_under_a_prefix(serve: Any) -> None:
    server = serve(path_prefix="athens")
    for path, status in (
        ("/", 200),
        ("/athens/", 200),
        ("/athens", 404),
        ("/athensx/healthz", 404),
        ("/healthz", 404),
        ("/athens/healthz", 200),
        ("/metrics", 200),
        ("/athens/metrics", 200),
        (f"{LIB}/@v/list", 404),
        (f"/athens{LIB}/@v/list", 200),
    ):
        assert (await server.ask(path)).status == status, path
    got = await server.ask("/")
    assert (got.body, got.headers["content-type"]) == (b"", JSON)
    assert server.protocol.asked == [("list", "github.com/acme/lib", True)]
