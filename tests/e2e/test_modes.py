"""The download modes over the wire: none, redirect, async and their mixture in a file."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.goclient import GoClient
from tests.support.upstream import Upstream

LIB = "github.com/acme/lib"


async def stored(daemon: Daemon, path: str) -> None:
    """Wait until C{path} is answered from storage."""
    deadline = reactor.seconds() + 20  # type: ignore[attr-defined]
    while (await daemon.get(path, headers={"Disable-Module-Fetch": "true"})).status != 200:
        assert reactor.seconds() < deadline, daemon.lines  # type: ignore[attr-defined]
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_none_fetches_nothing(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    daemon = await make_daemon(env=through(upstream, ATHENS_DOWNLOAD_MODE="none")).start()
    for kind in ("info", "mod", "zip"):
        assert (await daemon.get(f"/{LIB}/@v/v1.0.0.{kind}")).status == 404
    assert not upstream.total("v1.0.0.zip")
    assert (await daemon.get(f"/{LIB}/@v/list")).text.splitlines() == ["v0.9.0", "v1.0.0", "v1.1.0-beta.1"]


@pytest_twisted.ensureDeferred
async def test_redirect_sends_the_client_elsewhere(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    settings = through(
        upstream,
        ATHENS_DOWNLOAD_MODE="redirect",
        ATHENS_DOWNLOAD_URL=upstream.url,
        ATHENS_PATH_PREFIX="/athens",
    )
    daemon = await make_daemon(env=settings).start()
    reply = await daemon.get("/athens/github.com/!acme/!top/@v/v1.0.0.info")
    assert reply.status in (301, 302, 307)
    location = reply.headers["location"].replace("%21", "!")
    assert location == f"{upstream.url}/github.com/!acme/!top/@v/v1.0.0.info"
    client = make_client(f"{daemon.url}/athens")
    (document,) = await client.download("github.com/Acme/Top@v1.0.0")
    assert document.get("Error") is None
    assert not list(daemon.storage.rglob("*.zip"))


@pytest_twisted.ensureDeferred
async def test_async_fetches_behind_a_404(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    daemon = await make_daemon(env=through(upstream, ATHENS_DOWNLOAD_MODE="async")).start()
    assert (await daemon.get(f"/{LIB}/@v/v1.0.0.info")).status == 404
    await stored(daemon, f"/{LIB}/@v/v1.0.0.info")
    assert (await daemon.get(f"/{LIB}/@v/v1.0.0.zip")).status == 200
    assert upstream.asked[f"{LIB}/@v/v1.0.0.zip"] == 1


@pytest_twisted.ensureDeferred
async def test_async_redirect_does_both(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    settings = through(upstream, ATHENS_DOWNLOAD_MODE="async_redirect", ATHENS_DOWNLOAD_URL=upstream.url)
    daemon = await make_daemon(env=settings).start()
    reply = await daemon.get(f"/{LIB}/@v/v1.0.0.zip")
    assert (reply.status, reply.headers["location"]) == (301, f"{upstream.url}/{LIB}/@v/v1.0.0.zip")
    await stored(daemon, f"/{LIB}/@v/v1.0.0.zip")


@pytest_twisted.ensureDeferred
async def test_a_file_says_which_mode_for_which_module(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    rules = f"""
mode = "none"
downloadURL = ""
download "github.com/acme/lib" {{
  mode = "sync"
}}
download "github.com/Acme/*" {{
  mode = "redirect"
  downloadURL = "{upstream.url}"
}}
"""
    encoded = base64.b64encode(rules.encode()).decode()
    daemon = await make_daemon(env=through(upstream, ATHENS_DOWNLOAD_MODE=f"custom:{encoded}")).start()
    assert (await daemon.get(f"/{LIB}/@v/v1.0.0.info")).status == 200
    assert (await daemon.get("/github.com/!acme/!top/@v/v1.0.0.info")).status == 301
    assert (await daemon.get("/github.com/acme/base/@v/v1.0.0.info")).status == 404
