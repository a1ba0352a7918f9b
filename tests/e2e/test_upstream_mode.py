"""Upstream mode: the daemon fetches from another proxy, and has the checksum database agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest_twisted

from tests.support.checksum_log import ChecksumLog, mod_hash, stored_versions
from tests.support.daemon import MakeDaemon, go_variables, through
from tests.support.goclient import GoClient
from tests.support.upstream import Trouble, Upstream

LIB = "github.com/acme/lib"


def checked(upstream: Upstream, **more: str) -> dict[str, str]:
    """@return: the settings of a daemon that believes C{upstream} only what its checksum database says, too."""
    assert upstream.sumdb is not None
    return {
        "ATHENS_GO_BINARY_ENV_VARS": go_variables(GOPROXY=upstream.url, GOSUMDB=upstream.sumdb.key),
        "ATHENS_SUM_DBS": f"{upstream.sumdb.name} {upstream.url}/sumdb/{upstream.sumdb.name}",
        **more,
    }


@pytest_twisted.ensureDeferred
async def test_every_kind_of_version_cold_warm_and_offline(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    daemon = await make_daemon(env=through(upstream)).start()
    main = next(v for path, v, _ in stored_versions(upstream.tree) if path == LIB and v.startswith("v1.1.0-beta.1.0."))
    upstream.aliases[f"{LIB}@main"] = main
    client = make_client(daemon.url)
    expected = {
        f"{LIB}@v1.0.0": "v1.0.0",
        f"{LIB}@main": main,
        "github.com/acme/old@v2.0.0+incompatible": "v2.0.0+incompatible",
        "github.com/acme/major/v2@latest": "v2.1.0",
        "github.com/acme/mono/sub@v1.2.0": "v1.2.0",
        "github.com/Acme/Top@v1.0.0": "v1.0.0",
        "github.com/acme/retracted@latest": "v1.2.0",
    }
    for _ in range(2):
        for query, version in expected.items():
            (document,) = await client.download(query)
            assert document.get("Error") is None
            assert document["Version"] == version
        client.forget()
    assert (await client.versions(LIB))["Versions"] == ["v0.9.0", "v1.0.0", "v1.1.0-beta.1"]
    assert upstream.total(".zip") == len(expected)
    assert await daemon.stop() == 0

    requests = len(upstream.log)
    daemon.env["ATHENS_NETWORK_MODE"] = "offline"
    await daemon.start()
    client.forget()
    for query, version in expected.items():
        (document,) = await client.download(f"{query.partition('@')[0]}@{version}")
        assert document.get("Error") is None
    assert (await client.versions(LIB))["Versions"] == ["v1.0.0"]
    assert len(upstream.log) == requests


@pytest_twisted.ensureDeferred
async def test_a_program_builds_with_the_checksum_database_through_the_daemon(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient]
) -> None:
    assert upstream.sumdb is not None
    daemon = await make_daemon(env=checked(upstream)).start()
    client = make_client(daemon.url, GOSUMDB=upstream.sumdb.key)
    folder = client.project("checked", {"github.com/acme/app": "v1.0.0"})
    assert "github.com/acme/base" in await client.build_and_run(folder)
    lookups = [path for path in upstream.asked if path.startswith("sumdb/sum.example.test/lookup/")]
    assert f"sumdb/sum.example.test/lookup/{LIB}@v1.0.0" in lookups
    assert "github.com/acme/base v1.1.0 h1:" in (folder / "go.sum").read_text()
    assert (await daemon.get("/sumdb/sum.example.test/supported")).status == 200
    assert (await daemon.get("/sumdb/other.example.test/supported")).status == 404


@pytest_twisted.ensureDeferred
async def test_offline_and_without_go_the_checksum_database_goes_on_answering(
    upstream: Upstream, make_daemon: MakeDaemon, make_client: Callable[..., GoClient], tmp_path: Path
) -> None:
    assert upstream.sumdb is not None
    daemon = await make_daemon(env=checked(upstream, ATHENS_SUM_DB_CACHE_DIR=str(tmp_path / "sumdb"))).start()
    first = make_client(daemon.url, "first", GOSUMDB=upstream.sumdb.key)
    await first.build_and_run(first.project("online", {"github.com/acme/app": "v1.0.0"}))
    assert await daemon.stop() == 0

    requests = len(upstream.log)
    daemon.env |= {"ATHENS_NETWORK_MODE": "offline", "GO_BINARY_PATH": "/none/go"}
    await daemon.start()
    fresh = make_client(daemon.url, "fresh", GOSUMDB=upstream.sumdb.key)
    folder = fresh.project("offline", {"github.com/acme/app": "v1.0.0"})
    assert "github.com/acme/base" in await fresh.build_and_run(folder)
    assert "github.com/acme/base v1.1.0 h1:" in (folder / "go.sum").read_text()
    never = await daemon.get("/sumdb/sum.example.test/lookup/github.com/acme/old@v1.0.0")
    assert never.status >= 400
    assert len(upstream.log) == requests


@pytest_twisted.ensureDeferred
async def test_what_the_checksum_database_contradicts_is_never_stored(
    upstream: Upstream, make_daemon: MakeDaemon
) -> None:
    lies = ChecksumLog()
    for path, version, stem in stored_versions(upstream.tree):
        false = "h1:" + "A" * 43 + "="
        true = stem.with_name(stem.name + ".ziphash").read_text().strip()
        mod = mod_hash(stem.with_name(stem.name + ".mod").read_bytes())
        lies.add(path, version, false if path == LIB else true, mod)
    upstream.sumdb = lies
    daemon = await make_daemon(env=checked(upstream)).start()
    reply = await daemon.get(f"/{LIB}/@v/v1.0.0.zip")
    assert reply.status == 502
    assert "checksum" in reply.text.lower()
    assert (await daemon.get("/github.com/acme/base/@v/v1.0.0.zip")).status == 200
    assert not (daemon.storage / LIB / "v1.0.0").exists()
    for kind in ("info", "mod", "zip"):
        again = await daemon.get(f"/{LIB}/@v/v1.0.0.{kind}", headers={"Disable-Module-Fetch": "true"})
        assert again.status == 404


@pytest_twisted.ensureDeferred
async def test_a_private_module_is_not_told_to_the_checksum_database(
    upstream: Upstream, make_daemon: MakeDaemon
) -> None:
    daemon = await make_daemon(env=checked(upstream, ATHENS_GONOSUM_PATTERNS="github.com/Acme/*")).start()
    assert (await daemon.get("/github.com/!acme/!top/@v/v1.0.0.zip")).status == 200
    assert (await daemon.get("/sumdb/sum.example.test/lookup/github.com/!acme/!top@v1.0.0")).status == 403
    assert not upstream.total("lookup/github.com/!acme/!top@v1.0.0")
    assert (await daemon.get(f"/sumdb/sum.example.test/lookup/{LIB}@v1.0.0")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_broken_download_is_tried_again_and_never_stored(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    daemon = await make_daemon(env=through(upstream, ATHENS_NOT_FOUND_TTL="0")).start()
    upstream.troubles["v1.0.0.zip"] = Trouble(cut=100, times=1)
    zip_bytes = upstream.file(LIB, "v1.0.0", "zip").read_bytes()
    assert (await daemon.get(f"/{LIB}/@v/v1.0.0.zip")).body == zip_bytes
    upstream.troubles["v0.9.0.zip"] = Trouble(text=b"this is no zip")
    reply = await daemon.get(f"/{LIB}/@v/v0.9.0.zip")
    assert reply.status == 502, reply
    upstream.troubles["v0.9.0.zip"] = Trouble(text=zip_bytes)  # of another version
    assert (await daemon.get(f"/{LIB}/@v/v0.9.0.zip")).status == 502
    assert not (daemon.storage / LIB / "v0.9.0").exists()
    upstream.troubles.clear()
    assert (await daemon.get(f"/{LIB}/@v/v0.9.0.zip")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_upstream_s_refusals_become_the_right_answers(upstream: Upstream, make_daemon: MakeDaemon) -> None:
    daemon = await make_daemon(env=through(upstream, ATHENS_NOT_FOUND_TTL="0")).start()
    for status, expected in ((404, 404), (410, 404), (403, 404), (429, 429), (500, 404)):
        upstream.troubles = {"v1.0.0.info": Trouble(status=status)}
        reply = await daemon.get(f"/{LIB}/@v/v1.0.0.info")
        assert reply.status == expected, (status, reply)
    assert upstream.url not in reply.text
