"""The C{athens-tx} command: what a person or a script types."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import pytest_twisted

from athens_tx import __version__
from tests.support.checksum_log import ChecksumLog
from tests.support.daemon import Daemon, MakeDaemon, direct, free_port, go_variables, through
from tests.support.repositories import Repositories
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
async def test_verify_says_what_it_could_not_compare(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    assert upstream.sumdb is not None
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    await fetched(daemon, f"{LIB}@v1.0.0", "github.com/acme/base@v1.0.0")

    async def verify(*arguments: str, sumdb: str, **more: str) -> tuple[int, str, list[dict[str, str]]]:
        variables = {"ATHENS_GO_BINARY_ENV_VARS": go_variables(GOPROXY=upstream.url, GOSUMDB=sumdb), **more}
        text = await daemon.cli("verify", "--checksums", *arguments, **variables)
        as_json = await daemon.cli("verify", "--checksums", "--json", *arguments, **variables)
        assert text.status == as_json.status
        return text.status, text.stdout.strip(), [json.loads(line) for line in as_json.stdout.splitlines()]

    key = upstream.sumdb.key
    there, nobody = f"{key} {upstream.url}/sumdb/{upstream.sumdb.name}", f"{key} http://127.0.0.1:{free_port()}"
    assert (await verify(sumdb=there))[:2] == (
        0,
        "2 versions verified, 0 broken, 0 could not be checked, 0 not compared",
    )
    status, summary, lines = await verify(sumdb=there, ATHENS_GONOSUM_PATTERNS="github.com/acme/base")
    assert (status, summary) == (0, "2 versions verified, 0 broken, 0 could not be checked, 1 not compared")
    assert ["not_compared" in line for line in lines] == [True, False]
    status, summary, lines = await verify(sumdb=nobody)
    assert (status, summary) == (3, "2 versions verified, 0 broken, 2 could not be checked, 0 not compared")
    assert all("unchecked" in line and "error" not in line for line in lines)
    (daemon.storage / LIB / "v1.0.0" / "source.zip").write_bytes(b"PK nonsense")
    assert (await verify(sumdb=nobody))[0] == 1
    off = await daemon.cli("verify", "--checksums")
    assert (off.status, "GOSUMDB is off" in off.stderr) == (1, True)


@pytest_twisted.ensureDeferred
async def test_a_version_that_the_checksum_database_does_not_know_is_not_broken(
    make_daemon: MakeDaemon, upstream: Upstream
) -> None:
    unknowing = ChecksumLog()
    unknowing.add("github.com/acme/other", "v1.0.0", "h1:x", "h1:y")
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    await fetched(daemon, f"{LIB}@v1.0.0")
    upstream.sumdb = unknowing
    sumdb = f"{unknowing.key} {upstream.url}/sumdb/{unknowing.name}"
    variables = go_variables(GOPROXY=upstream.url, GOSUMDB=sumdb)
    verified = await daemon.cli("verify", "--checksums", ATHENS_GO_BINARY_ENV_VARS=variables)
    assert (verified.status, f"{LIB}@v1.0.0" in verified.stderr) == (0, True)
    assert verified.stdout.strip().endswith("0 broken, 0 could not be checked, 1 not compared")


@pytest_twisted.ensureDeferred
async def test_fetch_says_what_it_could_not_get(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    got = await daemon.cli("fetch", f"{LIB}@v1.0.0", f"{LIB}@v7.7.7")
    assert got.status == 1
    assert f"{LIB}@v1.0.0" in got.stdout
    assert f"{LIB}@v7.7.7" in got.stderr
    for wrong in ("no-at-sign", "-flag@v1.0.0", f"{LIB}@-x"):
        for command in ("fetch", "verify"):
            refused = await daemon.cli(command, "--", wrong)
            assert (refused.status, refused.stdout, "Traceback" in refused.stderr) == (2, "", False), refused
    both = await daemon.cli("fetch", "--json", "no-at-sign", f"{LIB}@v1.0.0", "also-none")
    problems = json.loads(both.stdout)["problems"]
    assert (both.status, ["no-at-sign" in problems[0], "also-none" in problems[1]]) == (2, [True, True])


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("ATHENS_NETWORK_MODE", "offline", "NetworkMode is offline"),
        ("ATHENS_STORAGE_TYPE", "memory", "StorageType is memory"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_fetch_refuses_where_it_makes_no_sense(
    make_daemon: MakeDaemon, upstream: Upstream, setting: str, value: str, says: str
) -> None:
    daemon = make_daemon(env=through(upstream, **{setting: value}))
    refused = await daemon.cli("fetch", f"{LIB}@v1.0.0")
    assert (refused.status, refused.stdout, says in refused.stderr) == (1, "", True)
    as_json = await daemon.cli("fetch", "--json", f"{LIB}@v1.0.0")
    assert (as_json.status, says in json.loads(as_json.stdout)["problems"][0]) == (1, True)
    assert not upstream.asked


@pytest_twisted.ensureDeferred
async def test_fetch_goes_through_the_filter(
    make_daemon: MakeDaemon, repositories: Repositories, tmp_path: Path
) -> None:
    rules = tmp_path / "filter"
    daemon = make_daemon(
        env=direct(
            repositories,
            ATHENS_LOG_LEVEL="error",
            ATHENS_DOWNLOAD_MODE="none",
            ATHENS_FILTER_FILE=str(rules),
            ATHENS_GLOBAL_ENDPOINT="https://elsewhere.test",
        )
    )
    rules.write_text(f"- {LIB} v1.0.0\nD github.com/acme/base\n")
    refused = await daemon.cli("fetch", f"{LIB}@v1.0.0", f"{LIB}@v1", "github.com/acme/base@v1.0.0", f"{LIB}@v0.9.0")
    assert (refused.status, refused.stdout.split()) == (1, [f"{LIB}@v0.9.0"])
    lines = sorted(refused.stderr.splitlines())
    assert [word in line for word, line in zip(("GlobalEndpoint", "@v1.0.0: ", "@v1: "), lines, strict=True)] == [
        True
    ] * 3
    assert [path.name for path in (daemon.storage / LIB).iterdir()] == ["v0.9.0"]
    # What is stored already is not told to be there under another name either.
    rules.write_text("")
    await fetched(daemon, f"{LIB}@v1.0.0")
    rules.write_text(f"- {LIB} v1.0.0\n")
    assert (await daemon.cli("fetch", f"{LIB}@v1")).status == 1


@pytest_twisted.ensureDeferred
async def test_catalog_and_verify_need_no_go_and_no_folder(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    await fetched(daemon, f"{LIB}@v1.0.0")
    without = {"GO_BINARY_PATH": str(daemon.folder / "absent"), "ATHENS_GOGET_DIR": str(daemon.folder / "none")}
    assert (await daemon.cli("catalog", **without)).check().stdout.split() == [f"{LIB}@v1.0.0"]
    assert (await daemon.cli("verify", **without)).check().stdout.strip() == "1 versions verified, 0 broken"
    assert (await daemon.cli("verify", "--checksums", **without)).status == 1


@pytest_twisted.ensureDeferred
async def test_verify_finds_what_is_incomplete(make_daemon: MakeDaemon, upstream: Upstream) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    await fetched(daemon, f"{LIB}@v1.0.0", f"{LIB}@v0.9.0")
    (daemon.storage / LIB / "v1.0.0" / "source.zip").unlink()
    (daemon.storage / LIB / ".hidden" / "v1.0.0").mkdir(parents=True)
    verified = await daemon.cli("verify")
    assert (verified.status, verified.stdout.strip()) == (1, "2 versions verified, 1 broken")
    assert f"{LIB}@v1.0.0: incomplete" in verified.stderr
    by_version = [json.loads(line) for line in (await daemon.cli("verify", "--json")).stdout.splitlines()]
    assert [(line["version"], "error" in line) for line in by_version] == [("v0.9.0", False), ("v1.0.0", True)]
    assert (await daemon.cli("verify", f"{LIB}@v0.9.0")).status == 0
    assert (await daemon.cli("verify", f"{LIB}@v1.0.0")).status == 1


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
