"""Fetching by the real go command from local repositories, and by stand-ins for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from athens_tx.errors import (
    AthensError,
    BadUpstream,
    FetchFailed,
    FetchTimeout,
    InvalidModule,
    NotFound,
    RateLimited,
    RepositoryGone,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.fetch.assemble import Fetching
from athens_tx.fetch.go import Go, GoFetcher, GoLister
from athens_tx.module.version import ModuleVersion
from athens_tx.module.zipcheck import inspect_zip
from tests.fetch.conftest import Make, leftovers
from tests.support.git_https import GitHttps
from tests.support.go_stub import GoStub
from tests.support.repositories import Repositories

LIB = "github.com/acme/lib"
DIRECT = ("GOPROXY=direct", "GOSUMDB=off")


async def fetch(fetching: Fetching, path: str, version: str) -> Any:
    return await fetching.fetcher.fetch(ModuleVersion(path, version), lambda files: None)


@pytest.mark.parametrize(
    ("path", "query", "version"),
    [
        (LIB, "v1.0.0", "v1.0.0"),
        (LIB, "v1.1.0-beta.1", "v1.1.0-beta.1"),
        (LIB, "v1", "v1.0.0"),
        (LIB, "latest", "v1.0.0"),
        (LIB, "main", "PSEUDO"),
        ("github.com/acme/major/v2", "v2.1.0", "v2.1.0"),
        ("github.com/acme/mono/sub", "v1.2.0", "v1.2.0"),
        ("github.com/acme/old", "v2.0.0", "v2.0.0+incompatible"),
        ("github.com/Acme/Top", "v1.0.0", "v1.0.0"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_version_of_every_kind(
    make: Make, repositories: Repositories, tmp_path: Path, path: str, query: str, version: str
) -> None:
    fetching = await make(*DIRECT, home=repositories.home)
    if version == "PSEUDO":
        version = repositories[LIB].commits[3].pseudo("v1.1.0-beta.1")
    async with await fetch(fetching, path, query) as got:
        assert got.mv == ModuleVersion(path, version)
        assert got.origin == "go"
        assert json.loads(got.info)["Version"] == version
        inspect_zip(got.zip, got.mv, got.mod)
        assert got.zip.is_relative_to(tmp_path / "fetch")
        assert leftovers(tmp_path)
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_lists(make: Make, repositories: Repositories, tmp_path: Path) -> None:
    fetching = await make(*DIRECT, home=repositories.home)
    got = await fetching.lister.listing(LIB)
    assert (got.versions, got.latest) == (("v0.9.0", "v1.0.0", "v1.1.0-beta.1"), "v1.0.0")
    assert got.time == "2024-01-01T01:00:00Z"
    got = await fetching.lister.listing("github.com/acme/untagged")
    assert (got.versions, got.latest) == ((), repositories["github.com/acme/untagged"].commits[0].pseudo())
    got = await fetching.lister.listing("github.com/acme/retracted")
    assert (got.versions, got.latest) == (("v1.0.0", "v1.2.0"), "v1.2.0")
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_twenty_versions_of_a_repository_and_one_clone(
    make: Make, repositories: Repositories, tmp_path: Path
) -> None:
    fetching = await make(*DIRECT, home=repositories.home, go_get_workers=4)

    async def one(minor: int) -> str:
        async with await fetch(fetching, "github.com/acme/twenty", f"v1.{minor}.0") as got:
            return got.mv.version

    got = await gatherResults([Deferred.fromCoroutine(one(minor)) for minor in range(20)])
    assert got == [f"v1.{minor}.0" for minor in range(20)]
    clones = [entry for entry in (tmp_path / "fetch").glob("*/modcache/cache/vcs/*") if entry.is_dir()]
    assert len(clones) == 1


@pytest_twisted.ensureDeferred
async def test_what_does_not_exist(make: Make, repositories: Repositories, tmp_path: Path) -> None:
    fetching = await make(*DIRECT, home=repositories.home)
    with pytest.raises(NotFound, match=r"acme/lib@v9\.9\.9: .*unknown revision") as caught:
        await fetch(fetching, LIB, "v9.9.9")
    assert str(tmp_path) not in str(caught.value)
    assert str(repositories.root) not in str(caught.value)
    with pytest.raises(NotFound) as caught:
        await fetching.lister.listing("github.com/acme/nothing")
    assert str(repositories.root) not in str(caught.value)
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_trouble_with_the_network(make: Make) -> None:
    fetching = await make(*DIRECT)
    with pytest.raises(UpstreamUnreachable):
        await fetch(fetching, "nowhere.invalid/x", "v1.0.0")
    with pytest.raises(UpstreamUnreachable):
        await fetching.lister.listing("nowhere.invalid/x")


@pytest_twisted.ensureDeferred
async def test_a_private_repository_with_credentials_and_without(
    make: Make, repositories: Repositories, tmp_path: Path
) -> None:
    server = GitHttps(reactor, repositories.repos, tmp_path / "tls", private=("acme",))
    try:
        home = tmp_path / "home"
        home.mkdir()
        (home / ".gitconfig").write_text(
            f'[url "{server.url}/"]\n\tinsteadOf = https://github.com/\n[http]\n\tsslCAInfo = {server.ca_file}\n'
        )
        without = await make(*DIRECT, home=home)
        with pytest.raises(UpstreamForbidden):
            await fetch(without, LIB, "v1.0.0")
        (tmp_path / "netrc").write_text(server.netrc)
        homes: list[Path] = []
        server.watch = lambda: homes.extend((tmp_path / "fetch").glob("*/home/.netrc"))
        fetching = await make(*DIRECT, home=home, netrc_path=str(tmp_path / "netrc"))
        async with await fetch(fetching, LIB, "v1.0.0") as got:
            assert got.mv.version == "v1.0.0"
        assert homes
        await fetching.reload_credentials()
        await fetching.close()
        assert not list((tmp_path / "fetch").glob("*/home"))
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_what_go_is_given(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("mod", "fail", stdout='{"Error": "unknown revision"}')
    fetching = await make(*DIRECT, go_binary=str(stub.path), no_sum_patterns=["corp/*"])
    with pytest.raises(NotFound):
        await fetch(fetching, "github.com/Acme/Top", "v1.0.0+incompatible")
    (call,) = stub.calls("mod")
    assert call.argv == ["mod", "download", "-json", "github.com/Acme/Top@v1.0.0+incompatible"]
    work = Path(call.env["GOMODCACHE"]).parent
    assert Path(call.cwd).is_relative_to(work / "staging")
    assert call.env["TMPDIR"] == str(Path(call.cwd).parent / "tmp")
    assert (call.env["GOPROXY"], call.env["GONOSUMDB"], call.env["HOME"]) == ("direct", "corp/*", str(tmp_path))
    assert "GONOPROXY" not in call.env


@pytest_twisted.ensureDeferred
async def test_direct_behind_proxies_keeps_them_for_the_checksum_database(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("list", "fail", stdout="{}", status=0)
    fetching = await make("GOPROXY=https://proxy.invalid,direct", "GONOPROXY=corp.test", go_binary=str(stub.path))
    with pytest.raises(FetchFailed):
        await fetching.lister.listing("corp.test/a/b")
    (call,) = stub.calls("list")
    assert call.argv == ["list", "-m", "-versions", "-json", "corp.test/a/b@latest"]
    assert (call.env["GOPROXY"], call.env["GONOPROXY"]) == ("https://proxy.invalid,direct", "corp.test/a/b")


@pytest.mark.parametrize(
    ("order", "kind", "said"),
    [
        ({"do": "fail", "stdout": '{"error": "a: 403 response from api.github.com"}'}, RateLimited, "403 response"),
        ({"do": "fail", "stdout": '{"Error": "strange"}', "status": 0}, FetchFailed, "strange"),
        ({"do": "fail", "stdout": '{"Error": "strange"}', "status": 1}, FetchFailed, "strange"),
        ({"do": "fail", "stderr": "go: remote: Repository not found\n"}, RepositoryGone, "Repository not found"),
        ({"do": "fail", "stdout": "", "stderr": "no JSON"}, FetchFailed, "no JSON"),
        ({"do": "fail", "stdout": "not JSON", "status": 0}, FetchFailed, "no answer"),
        ({"do": "fail", "stdout": "[1]", "status": 0}, FetchFailed, "no answer"),
        ({"do": "fail", "stdout": '{"Info": "/none", "Version": "v1.0.0"}', "status": 0}, FetchFailed, "can't be read"),
        ({"do": "killed"}, FetchFailed, "without a word"),
        ({"do": "flood", "size": 1 << 30}, FetchFailed, "printed more than"),
        ({"do": "hang"}, FetchTimeout, "longer than"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_go_that_fails(
    make: Make, tmp_path: Path, order: dict[str, Any], kind: type[AthensError], said: str
) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("mod download", **order)
    fetching = await make(*DIRECT, go_binary=str(stub.path), stash_timeout=1.5)
    with pytest.raises(kind, match=said) as caught:
        await fetch(fetching, LIB, "v1.0.0")
    assert type(caught.value) is kind
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ({"do": "fail", "stderr": "go: x: git: remote: Repository not found"}, RepositoryGone),
        ({"do": "fail", "stderr": ""}, FetchFailed),
        ({"do": "fail", "stdout": '{"Version": "v1.0.0", "Versions": 5}', "status": 0}, FetchFailed),
        ({"do": "fail", "stdout": "{}", "status": 0}, FetchFailed),
        ({"do": "hang"}, FetchTimeout),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_listing_that_fails(make: Make, tmp_path: Path, order: dict[str, Any], kind: type[AthensError]) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("list", **order)
    fetching = await make(*DIRECT, go_binary=str(stub.path), timeout=1.0)
    with pytest.raises(kind) as caught:
        await fetching.lister.listing(LIB)
    assert type(caught.value) is kind
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_an_answer_without_a_time_has_go_s_zero(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("list", "fail", stdout='{"Version": "v1.0.0"}', status=0)
    got = await (await make(*DIRECT, go_binary=str(stub.path))).lister.listing(LIB)
    assert (got.versions, got.latest, got.time) == ((), "v1.0.0", "0001-01-01T00:00:00Z")


@pytest_twisted.ensureDeferred
async def test_files_that_are_not_those_of_a_version(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    names = {}
    for name, content in (("Info", b'{"Version": "v1.0.0"}'), ("GoMod", b"module x\n"), ("Zip", b"PK")):
        (tmp_path / name).write_bytes(content)
        names[name] = str(tmp_path / name)

    def answers(version: str) -> None:
        stub.clear()
        stub.order("mod", "fail", stdout=json.dumps({**names, "Version": version}), status=0)

    fetching = await make(*DIRECT, go_binary=str(stub.path), max_zip_size=10)
    answers("v1.0.0")
    async with await fetch(fetching, LIB, "v1.0.0") as got:
        assert (got.zip.read_bytes(), got.mod) == (b"PK", b"module x\n")
    for version in ("v1.0.1", "v1", ""):
        answers(version)
        with pytest.raises(BadUpstream, match="a version that is none"):
            await fetch(fetching, LIB, "v1.0.0")
    answers("v1.0.0")
    (tmp_path / "Zip").write_bytes(b"x" * 11)
    with pytest.raises(BadUpstream, match="MaxZipSize"):
        await fetch(fetching, LIB, "v1.0.0")
    (tmp_path / "Info").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(BadUpstream, match="1048576"):
        await fetch(fetching, LIB, "v1.0.0")
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_a_zip_on_another_file_system_is_copied(
    make: Make, repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", link)
    fetching = await make(*DIRECT, home=repositories.home)
    async with await fetch(fetching, LIB, "v1.0.0") as got:
        inspect_zip(got.zip, got.mv, got.mod)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it never happened")


@pytest_twisted.ensureDeferred
async def test_leaving_and_stopping_end_the_command(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("mod", "hang")
    fetching = await make(*DIRECT, go_binary=str(stub.path))
    left = Deferred.fromCoroutine(fetch(fetching, LIB, "v1.0.0"))
    await until(lambda: stub.calls("mod"))
    left.cancel()
    with pytest.raises(CancelledError):
        await left
    await until(lambda: gone(stub.calls("mod")[0].pid) and not leftovers(tmp_path))
    running = Deferred.fromCoroutine(fetch(fetching, LIB, "v1.0.1"))
    await until(lambda: len(stub.calls("mod")) == 2)
    await fetching.close()
    with pytest.raises(FetchFailed, match="stopping"):
        await running
    await until(lambda: gone(stub.calls("mod")[1].pid))
    with pytest.raises(FetchFailed, match="stopping"):
        await fetch(fetching, LIB, "v1.0.2")


class Recorder:
    """Stands for L{Go}; keeps the arguments."""

    def __init__(self) -> None:
        self.arguments: list[tuple[str, ...]] = []

    async def stage(self) -> Path:
        return Path("/")

    async def discard(self, stage: Path) -> None:
        pass

    def use_cache(self) -> Any:
        return self

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, stage: Path, path: str, *arguments: str, limit: float) -> Any:
        self.arguments.append(arguments)
        raise FetchTimeout("enough")


WILD = st.text(st.characters(max_codepoint=255), max_size=12) | st.sampled_from(
    ["-x", "--", "v1.0.0", "latest", "github.com/a/b", "-modfile=/etc/passwd", "../x", "a.b/-x", "-a.b/c", "a@b", "\0"]
)


@given(path=WILD, version=WILD)
def test_no_argument_is_ever_a_flag(path: str, version: str) -> None:
    go = Recorder()
    for work in (
        GoFetcher(go, limit_seconds=1, max_zip_size=1).fetch(ModuleVersion(path, version), lambda files: None),  # type: ignore[arg-type]
        GoLister(go, limit_seconds=1).listing(path),  # type: ignore[arg-type]
    ):
        failed: list[Any] = []
        Deferred.fromCoroutine(work).addErrback(failed.append)
        assert failed[0].check(InvalidModule, FetchTimeout)
    for arguments in go.arguments:
        flags = [argument for argument in arguments if argument.startswith("-")]
        assert flags in (["-json"], ["-m", "-versions", "-json"])
        assert arguments[-1].count("@") == 1
        assert not set(arguments[-1]) & set("\0\n *?$`\\")


@pytest_twisted.ensureDeferred
async def test_the_runner_itself_refuses_a_flag() -> None:
    go = Go.__new__(Go)
    with pytest.raises(InvalidModule):
        await go.run(Path("/"), "x", "mod", "-x", limit=1)
