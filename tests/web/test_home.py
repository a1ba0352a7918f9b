"""The home page: ours, and the administrator's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted


@pytest_twisted.ensureDeferred
async def test_our_page_says_what_is_right_where_the_reader_sits(serve: Any) -> None:
    server = serve(path_prefix="/athens", no_sum_patterns=("github.com/corp/*", "<b>"))
    got = await server.ask("/athens/", Host="proxy.test:99", X_Forwarded_Proto="https")
    page = got.body.decode()
    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "GOPROXY=https://proxy.test:99/athens,direct" in page
    assert "GONOSUMDB=github.com/corp/*,&lt;b&gt;" in page
    for link in ("catalog", "index", "version"):
        assert f'href="/athens/{link}"' in page
    assert "default-src 'none'" in got.headers["content-security-policy"]
    assert "<script" not in page
    assert "src=" not in page


@pytest_twisted.ensureDeferred
async def test_our_page_without_more(serve: Any) -> None:
    got = await serve().ask("/", Host="[::1]:3000")
    assert b"GOPROXY=http://[::1]:3000,direct" in got.body
    assert b"GONOSUMDB" not in got.body
    assert b"credentials" not in got.body
    assert b'href="/catalog"' in got.body
    got = await serve(basic_auth_user="u", basic_auth_pass="p").ask("/", Authorization="Basic dTpw")
    assert b"netrc" in got.body


@pytest_twisted.ensureDeferred
async def test_a_template_of_the_administrators(serve: Any, tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    path = tmp_path / "home.html"
    server = serve(home_template_path=str(path), path_prefix="/athens", no_sum_patterns=["a", "b"])

    def complaints() -> int:
        return len([event for event in logged if "HomeTemplatePath" in (event.get("log_format") or "")])

    assert b"This is a Go module proxy" in (await server.ask("/athens/")).body
    path.write_text("{{ .Host }} {{- if .NoSumPatterns }} {{ .NoSumPatterns }}{{ end }}")
    got = await server.ask("/athens/", Host="x:1")
    assert got.body == b"http://x:1 a,b"
    assert "content-security-policy" not in got.headers
    assert complaints() == 0
    for text, expected in (("{{ range . }}{{ end }} and more", 1), ("{{ len 1 }} rendered", 2)):
        path.write_text(text)
        for _ in range(2):
            assert b"This is a Go module proxy" in (await server.ask("/athens/")).body
            assert complaints() == expected
    path.write_bytes(b"\xff")
    assert b"This is a Go module proxy" in (await server.ask("/athens/")).body
    assert complaints() == 3
    path.write_text("good again, and longer")
    assert (await server.ask("/athens/")).body == b"good again, and longer"
    path.unlink()
    path.mkdir()
    assert b"This is a Go module proxy" in (await server.ask("/athens/")).body
    assert complaints() == 4
    path.rmdir()
    assert b"This is a Go module proxy" in (await server.ask("/athens/")).body
    assert complaints() == 4


@pytest.mark.parametrize("path", ["/", "/athens/"])
@pytest_twisted.ensureDeferred
async def test_head_of_the_page(serve: Any, path: str) -> None:
    got = await serve(path_prefix="/athens").ask(path, "HEAD")
    assert (got.status, got.body) == (200, b"")
