"""Two daemons: the one fetches and answers, the other one keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest_twisted

from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.goclient import GoClient
from tests.support.upstream import Upstream

LOGIN = {"BASIC_AUTH_USER": "keeper", "BASIC_AUTH_PASS": "s3cret"}


def keeper(make_daemon: MakeDaemon, **more: str) -> Daemon:
    """@return: a daemon that offers its disk, not started."""
    return make_daemon(
        "keeper", env={"ATHENS_EXTERNAL_STORAGE_PATH": "/storage", "ATHENS_NETWORK_MODE": "offline", **more}
    )


def keeps_at(daemon: Daemon, login: str = "keeper:s3cret@") -> dict[str, str]:
    """@return: the settings of a daemon whose storage is C{daemon}."""
    url = daemon.url.replace("://", f"://{login}") + "/storage"
    return {"ATHENS_STORAGE_TYPE": "external", "ATHENS_EXTERNAL_STORAGE_URL": url}


@pytest_twisted.ensureDeferred
async def test_a_build_through_a_daemon_that_keeps_at_another(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    storing = await keeper(make_daemon, **LOGIN).start()
    asking = await make_daemon("asking", env=through(upstream, **keeps_at(storing))).start()
    client = make_client(asking.url)
    for query in (
        "github.com/acme/app@v1.0.0",
        "github.com/Acme/Top@v1.0.0",
        "github.com/acme/old@v2.0.0+incompatible",
    ):
        (document,) = await client.download(query)
        assert document.get("Error") is None
    assert (storing.storage / "github.com/Acme/Top/v1.0.0/source.zip").is_file()
    assert not asking.storage.exists() or not any(asking.storage.rglob("*.zip"))
    catalog = await asking.get("/catalog")
    assert "github.com/Acme/Top" in catalog.text
    fetched = upstream.total(".zip")
    client.forget()
    assert await asking.stop() == 0
    await asking.start()
    (document,) = await client.download("github.com/Acme/Top@v1.0.0")
    assert document.get("Error") is None
    assert upstream.total(".zip") == fetched
    assert not any("s3cret" in line for line in (*asking.lines, *storing.lines))
    for daemon in (asking, storing):
        assert await daemon.stop() == 0


@pytest_twisted.ensureDeferred
async def test_an_outage_of_the_keeper_is_told_and_overcome(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    storing = await keeper(make_daemon, **LOGIN).start()
    asking = await make_daemon("asking", env=through(upstream, **keeps_at(storing))).start()
    await storing.kill()
    answer = await asking.get("/github.com/acme/lib/@v/v1.0.0.info")
    assert answer.status == 503
    assert "external storage" in answer.text
    assert str(storing.port) not in answer.text
    assert (await asking.get("/readyz")).status == 503
    await storing.start()
    (document,) = await make_client(asking.url).download("github.com/acme/lib@v1.0.0")
    assert document.get("Error") is None
    assert (await asking.get("/readyz")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_start_with_wrong_credentials_fails_in_one_line(make_daemon: MakeDaemon) -> None:
    storing = await keeper(make_daemon, **LOGIN).start()
    asking = make_daemon("asking", env=keeps_at(storing, "keeper:wr0ng@"))
    asking.launch()
    assert await asking.ended() != 0
    assert asking.has_logged("Storage.External.URL")
    assert asking.has_logged("status 401")
    assert not asking.has_logged("wr0ng")
