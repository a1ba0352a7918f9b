"""The C{athens-tx} command: what a person or a script types."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import pytest_twisted

from athens_tx import __version__
from tests.support.daemon import Daemon, MakeDaemon, go_variables, through
from tests.support.upstream import Upstream

LIB = "github.com/acme/lib"


async def fetched(daemon: Daemon, *versions: str) -> None:
    """Fill the storage."""
    assert (await daemon.cli("fetch", *versions)).status == 0


@pytest_twisted.ensureDeferred
async def test_versions(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    for arguments in (("version",), ("--version",), ("-version",)):
        assert (await daemon.cli(*arguments)).stdout.strip() == f"athens-tx {__version__}"
    assert json.loads((await daemon.cli("version", "--json")).stdout) == {"version": __version__}


@pytest_twisted.ensureDeferred
async def test_check_config_shows_values_and_origins_and_hides_secrets(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"BASIC_AUTH_USER": "me", "BASIC_AUTH_PASS": "hunter22"})
    file = daemon.folder / "my.toml"
    file.parent.mkdir(parents=True)
    file.write_text('NetworkMode = "offline"\nNetwrokMode = "x"\n')
    shown = await daemon.cli("check-config", str(file))
    text = shown.stdout
    assert shown.status == 0
    assert 'NetworkMode = "offline"' in text
    assert "my.toml:1" in text
    assert "hunter22" not in text + shown.stderr
    assert "NetworkMode" in shown.stderr
    as_json = json.loads((await daemon.cli("check-config", str(file), "--json")).stdout)
    assert as_json["settings"]["NetworkMode"]["value"] == "offline"
    strict = await daemon.cli("check-config", str(file), "--strict")
    assert (strict.status, "NetwrokMode" in strict.stderr) == (1, True)


@pytest_twisted.ensureDeferred
async def test_check_config_says_all_that_is_wrong(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"ATHENS_NETWORK_MODE": "bogus", "ATHENS_GOGET_WORKERS": "0"})
    wrong = await daemon.cli("check-config")
    assert wrong.status == 1
    assert [sum(name in line for line in wrong.stderr.splitlines()) for name in daemon.env] == [1, 1]
    problems = json.loads((await daemon.cli("check-config", "--json")).stdout)["problems"]
    assert len([problem for problem in problems if not problem.startswith("warning")]) == 2
    absent = await daemon.cli("check-config", "absent.toml")
    assert (absent.status, "absent.toml" in absent.stderr) == (1, True)


@pytest_twisted.ensureDeferred
async def test_fetch_catalog_verify(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    got = await daemon.cli("fetch", f"{LIB}@v1.0.0", f"{LIB}@v0.9.0", "--json")
    assert got.status == 0
    assert {json.loads(line)["version"] for line in got.stdout.splitlines()} == {"v1.0.0", "v0.9.0"}
    assert (await daemon.cli("catalog")).stdout.split() == [f"{LIB}@v0.9.0", f"{LIB}@v1.0.0"]
    listed = await daemon.cli("catalog", "--json")
    assert json.loads(listed.stdout.splitlines()[0]) == {"module": LIB, "version": "v0.9.0"}
    verified = await daemon.cli("verify")
    assert (verified.status, verified.stdout.strip()) == (0, "2 versions verified, 0 broken")
    hashed = [json.loads(line) for line in (await daemon.cli("verify", "--json")).stdout.splitlines()]
    assert all(line["sum"].startswith("h1:") for line in hashed)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("source.zip", b"PK nonsense"),
        ("go.mod", b"module example.com/other\n"),
        ("v1.0.0.info", b'{"Version":"v1.0.1"}'),
    ],
)
@pytest_twisted.ensureDeferred
async def test_verify_finds_what_is_broken(
    make_daemon: MakeDaemon, upstream: Upstream, file: str, content: bytes
) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    await fetched(daemon, f"{LIB}@v1.0.0", f"{LIB}@v0.9.0")
    (daemon.storage / LIB / "v1.0.0" / file).write_bytes(content)
    verified = await daemon.cli("verify")
    assert verified.status == 1
    assert "2 versions verified, 1 broken" in verified.stdout
    assert f"{LIB}@v1.0.0" in verified.stderr
    assert (await daemon.cli("verify", f"{LIB}@v0.9.0")).status == 0
    assert (await daemon.cli("verify", f"{LIB}@v9.9.9")).status == 1


@pytest_twisted.ensureDeferred
async def test_verify_with_the_checksum_database(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    assert upstream.sumdb is not None
    sumdb = f"{upstream.sumdb.key} {upstream.url}/sumdb/{upstream.sumdb.name}"
    variables = go_variables(GOPROXY=upstream.url, GOSUMDB=sumdb)
    daemon = make_daemon(env={"ATHENS_GO_BINARY_ENV_VARS": variables, "ATHENS_LOG_LEVEL": "error"})
    await fetched(daemon, f"{LIB}@v1.0.0", f"{LIB}@v0.9.0")
    assert (await daemon.cli("verify", "--checksums")).status == 0
    # A whole and well-made zip that is not the one of the database.
    zip = daemon.storage / LIB / "v1.0.0" / "source.zip"
    with zipfile.ZipFile(zip, "a") as archive:
        archive.writestr(f"{LIB}@v1.0.0/extra.go", "package lib\n")
    assert (await daemon.cli("verify")).status == 0
    tampered = await daemon.cli("verify", "--checksums")
    assert (tampered.status, "checksum database" in tampered.stderr) == (1, True)


@pytest_twisted.ensureDeferred
async def test_fetch_says_what_it_could_not_get(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    got = await daemon.cli("fetch", f"{LIB}@v1.0.0", f"{LIB}@v7.7.7")
    assert got.status == 1
    assert f"{LIB}@v1.0.0" in got.stdout
    assert f"{LIB}@v7.7.7" in got.stderr
    for wrong in ("no-at-sign", "-flag@v1.0.0", f"{LIB}@-x"):
        refused = await daemon.cli("fetch", "--", wrong)
        assert (refused.status, "Traceback" in refused.stderr) == (1, False), refused


@pytest_twisted.ensureDeferred
async def test_a_storage_that_is_not_there(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon()
    variable = "ATHENS_STORAGE_DISK_ATHENS_DISK_STORAGE_ROOT"
    got = await daemon.cli("catalog", **{variable: str(tmp_path / "absent")})
    assert (got.status, "Storage.Disk.RootPath" in got.stderr, "Traceback" in got.stderr) == (1, True, False)


@pytest_twisted.ensureDeferred
async def test_serve_with_a_file_that_is_not_there(make_daemon: MakeDaemon) -> None:
    got = await make_daemon().cli("serve", "-config_file", "absent.toml")
    assert (got.status, "absent.toml" in got.stderr) == (1, True)
