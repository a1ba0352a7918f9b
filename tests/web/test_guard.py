"""TLS and credentials, where they are wanted, and request ids."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
import pytest_twisted

LIST = "/github.com/acme/lib/@v/list"


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        (basic("user:pass:word"), 200),
        (basic("user:pass:word").replace("Basic", "bAsIc"), 200),
        (basic("user:wrong"), 401),
        (basic("other:pass:word"), 401),
        (basic("user"), 401),
        (basic(":"), 401),
        ("Basic !!!", 401),
        ("Basic", 401),
        (basic("user:pass:word").replace("Basic", "Bearer"), 401),
    ],
)
@pytest_twisted.ensureDeferred
async def test_credentials(serve: Any, authorization: str | None, status: int) -> None:
    server = serve(basic_auth_user="user", basic_auth_pass="pass:word")
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in (LIST, "/metrics", "/catalog", "/", "/version"):
        got = await server.ask(path, **headers)
        assert got.status == status
        if status == 401:
            assert got.headers["www-authenticate"] == 'Basic realm="basic auth required"'
            assert got.headers["cache-control"].startswith("no-cache")
    assert bool(server.protocol.asked) == (status == 200)


@pytest_twisted.ensureDeferred
async def test_two_authorizations_are_none(serve: Any) -> None:
    server = serve(basic_auth_user="u", basic_auth_pass="p")
    line = f"Authorization: {basic('u:p')}\r\n"
    got = await server.raw(f"GET {LIST} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}{line}\r\n".encode())
    assert got.status == 401


@pytest.mark.parametrize("half", [{"basic_auth_user": "u"}, {"basic_auth_pass": "p"}])
@pytest_twisted.ensureDeferred
async def test_half_of_the_credentials_is_none(serve: Any, half: dict[str, str]) -> None:
    assert (await serve(**half).ask(LIST)).status == 200


@pytest_twisted.ensureDeferred
async def test_health_and_what_is_not_there_need_no_credentials(serve: Any) -> None:
    server = serve(basic_auth_user="u", basic_auth_pass="p", force_ssl=True, path_prefix="/athens")
    for path, status in (
        ("/", 200),
        ("/athens/healthz", 200),
        ("/athens/readyz", 200),
        ("/nope", 404),
        ("/athens/nope", 404),
        ("//", 301),
        ("/athens/", 301),
    ):
        assert (await server.ask(path)).status == status, path
    assert (await server.ask("/athens/version", "POST")).status == 405


@pytest_twisted.ensureDeferred
async def test_force_ssl_comes_before_credentials_and_keeps_the_target(serve: Any) -> None:
    server = serve(basic_auth_user="u", basic_auth_pass="p", force_ssl=True)
    got = await server.ask("/github.com/%21x/@v/list?x=1", Host="proxy.test:99")
    assert (got.status, got.body) == (301, b"")
    assert got.headers["location"] == "https://proxy.test:99/github.com/%21x/@v/list?x=1"
    got = await server.ask("http://evil.test/version", Host="proxy.test")
    assert got.headers["location"] == "https://proxy.test/version"
    assert (await server.ask("/version", X_Forwarded_Proto="https")).status == 401
    assert (await server.ask("/version", X_Forwarded_Proto="HTTPS, http")).status == 301
    assert (await server.raw(b"GET /version HTTP/1.0\r\n\r\n")).status == 400


@pytest_twisted.ensureDeferred
async def test_credentials_come_before_the_gate(serve: Any) -> None:
    server = serve(basic_auth_user="u", basic_auth_pass="p")
    await server.ask(LIST)
    assert server.gate.asked == []


@pytest_twisted.ensureDeferred
async def test_each_request_has_one_line_and_one_id(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    await server.ask(LIST, Athens_Request_ID="abc def")
    await server.ask("/nope%21")
    await server.ask("/%zz", Athens_Request_ID="x" * 129)
    await server.ask("/version", "POST", Athens_Request_ID="\u00e9")
    lines = [event for event in logged if event.get("log_format") == "incoming request"]
    assert [(e["http_method"], e["http_path"], e["http_status"], e["source"]) for e in lines] == [
        ("GET", LIST, 200, "storage"),
        ("GET", "/nope!", 404, "-"),
        ("GET", "/%zz", 400, "-"),
        ("POST", "/version", 405, "-"),
    ]
    assert lines[0]["request_id"] == "abc def"
    assert all(len(event["request_id"]) == 36 for event in lines[1:])
    assert lines[0]["bytes"] == len(b"v1.0.0\nv1.1.0")
    assert lines[0]["ms"] >= 0
    assert all(event["log_namespace"] == "athens_tx.web" for event in lines)
    assert server.metrics.seen == [
        ("GET", "list", 200, 13),
        ("GET", "-", 404, 19),
        ("GET", "-", 400, lines[2]["bytes"]),
        ("POST", "-", 405, lines[3]["bytes"]),
    ]


@pytest_twisted.ensureDeferred
async def test_an_odd_method_is_counted_as_other(serve: Any) -> None:
    server = serve()
    await server.ask("/version", "BREW")
    assert server.metrics.seen[0][0] == "other"
