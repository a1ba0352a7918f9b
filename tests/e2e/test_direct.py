"""Direct mode: the daemon fetches from git repositories itself. Cold, warm, and offline with the repositories gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest_twisted

from tests.support.daemon import MakeDaemon, direct
from tests.support.goclient import GoClient
from tests.support.repositories import Commit, Repositories

LIB = "github.com/acme/lib"


def every_kind(repositories: Repositories) -> dict[str, str]:
    """@return: canonical versions by query, one for each way a version can look."""
    lib = repositories[LIB]
    return {
        f"{LIB}@v1.0.0": "v1.0.0",
        f"{LIB}@v0.9.0": "v0.9.0",
        f"{LIB}@v1.1.0-beta.1": "v1.1.0-beta.1",
        f"{LIB}@main": lib.commits[3].pseudo("v1.1.0-beta.1"),
        f"{LIB}@feature": lib.commits[4].pseudo("v1.0.0"),
        f"{LIB}@{lib.commits[1].hash[:12]}": "v1.0.0",
        "github.com/acme/untagged@latest": repositories["github.com/acme/untagged"].commits[0].pseudo(),
        "github.com/acme/old@v1.0.0": "v1.0.0",
        "github.com/acme/old@v2.0.0": "v2.0.0+incompatible",
        "github.com/acme/old@latest": "v3.0.0+incompatible",
        "github.com/acme/major@v1": "v1.0.0",
        "github.com/acme/major/v2@latest": "v2.1.0",
        "github.com/acme/major/v2@v2.0.0": "v2.0.0",
        "github.com/acme/mono@v1.0.0": "v1.0.0",
        "github.com/acme/mono/sub@v1.2.0": "v1.2.0",
        "github.com/acme/mono/sub@latest": "v1.2.0",
        "github.com/Acme/Top@v1.0.0": "v1.0.0",
        "github.com/acme/retracted@v1.1.0": "v1.1.0",
        "github.com/acme/retracted@latest": "v1.2.0",
    }


async def answers(client: GoClient, queries: dict[str, str]) -> dict[str, str]:
    """@return: the versions that go gets for C{queries}, one run for each, so that none hides behind another."""
    found = {}
    for query in queries:
        (document,) = await client.download(query)
        found[query] = document.get("Error") or document["Version"]
    return found


@pytest_twisted.ensureDeferred
async def test_every_kind_of_version_cold_warm_and_offline(
    repositories: Repositories, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    online = await make_daemon(env=direct(repositories)).start()
    client = make_client(online.url)
    expected = every_kind(repositories)
    assert await answers(client, expected) == expected
    client.forget()
    assert await answers(client, expected) == expected
    assert await online.stop() == 0

    repositories.move_away()
    offline = await make_daemon(
        env={**direct(repositories), "ATHENS_NETWORK_MODE": "offline", "ATHENS_DISK_STORAGE_ROOT": str(online.storage)},
        name="offline",
    ).start()
    client = make_client(offline.url, "second")
    canonical = {f"{query.partition('@')[0]}@{version}": version for query, version in expected.items()}
    assert await answers(client, canonical) == canonical
    latest = {
        query: version
        for query, version in expected.items()
        if query.endswith("@latest") or query == "github.com/acme/major@v1"
    }
    assert await answers(client, latest) == latest
    assert (await client.versions(LIB))["Versions"] == ["v0.9.0", "v1.0.0", "v1.1.0-beta.1"]
    missing = await offline.get(f"/{LIB}/@v/v9.9.9.info")
    assert missing.status == 404
    assert (await offline.get("/github.com/acme/base/@v/v1.0.0.info")).status == 404


@pytest_twisted.ensureDeferred
async def test_lists_leave_out_what_is_retracted(
    repositories: Repositories, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    daemon = await make_daemon(env=direct(repositories)).start()
    client = make_client(daemon.url)
    assert (await client.versions(LIB))["Versions"] == ["v0.9.0", "v1.0.0", "v1.1.0-beta.1"]
    assert (await client.versions("github.com/acme/retracted"))["Versions"] == ["v1.0.0", "v1.2.0"]
    assert (await client.versions("github.com/acme/mono/sub"))["Versions"] == ["v1.0.0", "v1.2.0"]
    assert (await client.versions("github.com/acme/major/v2"))["Versions"] == ["v2.0.0", "v2.1.0"]
    assert "Versions" not in await client.versions("github.com/acme/untagged")
    old = (await client.versions("github.com/acme/old"))["Versions"]
    assert old == ["v1.0.0", "v2.0.0+incompatible", "v3.0.0+incompatible"]


@pytest_twisted.ensureDeferred
async def test_a_program_builds_cold_warm_and_offline(
    repositories: Repositories, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    online = await make_daemon(env=direct(repositories)).start()
    client = make_client(online.url)
    imports = {"github.com/acme/app": "v1.0.0"}
    printed = await client.build_and_run(client.project("cold", imports))
    assert printed.split() == [
        "github.com/acme/app",
        "github.com/Acme/Top",
        "github.com/acme/left",
        "github.com/acme/base",
        "github.com/acme/right",
        "github.com/acme/base",
        "github.com/acme/lib",
        "github.com/acme/major/v2",
    ]
    client.forget()
    assert await client.build_and_run(client.project("warm", imports)) == printed
    assert await online.stop() == 0
    repositories.move_away()
    online.env["ATHENS_NETWORK_MODE"] = "offline"
    await online.start()
    client.forget()
    assert await client.build_and_run(client.project("offline", imports)) == printed


@pytest_twisted.ensureDeferred
async def test_go_get_of_a_branch_follows_it(
    repositories: Repositories, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    short = {"ATHENS_LIST_CACHE_TTL": "0", "ATHENS_NOT_FOUND_TTL": "0"}
    daemon = await make_daemon(env=direct(repositories, **short)).start()
    client = make_client(daemon.url)
    folder = client.project("branch", {LIB: "v1.0.0"})
    (await client.run("get", f"{LIB}@feature", cwd=folder)).check()
    lib = repositories[LIB]
    assert f"{LIB} {lib.commits[4].pseudo('v1.0.0')}" in (folder / "go.mod").read_text()
    (made,) = lib.add(Commit({"new.go": "package lib\n"}, branch="feature"))
    (await client.run("get", f"{LIB}@feature", cwd=folder)).check()
    assert f"{LIB} {made.pseudo('v1.0.0')}" in (folder / "go.mod").read_text()


@pytest_twisted.ensureDeferred
async def test_what_does_not_exist_is_404_in_one_clean_line(
    repositories: Repositories, make_daemon: MakeDaemon
) -> None:
    daemon = await make_daemon(env=direct(repositories)).start()
    for path in (f"/{LIB}/@v/v9.9.9.info", "/github.com/acme/nothing/@v/list", f"/{LIB}/@v/nobranch.info"):
        reply = await daemon.get(path)
        assert reply.status == 404, (path, reply)
        assert reply.headers["content-type"].startswith("text/plain")
        assert reply.text.strip()
        assert len(reply.text.strip().splitlines()) == 1
        assert str(daemon.folder) not in reply.text
        assert str(repositories.root) not in reply.text


@pytest_twisted.ensureDeferred
async def test_twistd_runs_it_with_a_configuration_file(repositories: Repositories, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"HOME": str(repositories.home)}, command="twistd")
    # The variables of the environment, for the type and the root of the storage, win over the file.
    daemon.config = """
GoBinaryEnvVars = ["GOPROXY=direct", "GOSUMDB=off"]
StorageType = "memory"
PathPrefix = "/athens"
[Storage.Disk]
RootPath = "/nonexistent"
"""
    await daemon.start()
    assert (await daemon.get(f"/athens/{LIB}/@v/v1.0.0.info")).status == 200
    assert (await daemon.get(f"/{LIB}/@v/v1.0.0.info")).status == 404
    assert await daemon.stop() == 0
    assert (daemon.storage / LIB / "v1.0.0" / "go.mod").is_file()
