"""The environment that go runs in, and what is asked of go at start."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.errors import ConfigError
from athens_tx.fetch.environment import GoEnvironment, Proxy, UpstreamRules, ask_go, find_go, parse_goproxy
from athens_tx.fetch.process import ProcessRunner
from athens_tx.fetch.workdir import WorkDirectory
from tests.support.go_stub import GoStub
from tests.support.goclient import real_go


def environment(
    work: Path, environ: dict[str, str], configured: list[str], patterns: list[str] | None = None, home: str = ""
) -> GoEnvironment:
    directory = WorkDirectory(str(work))
    directory.path = work
    return GoEnvironment(environ, configured, patterns or [], directory, lambda: home or None)


def test_only_what_is_listed_is_inherited(tmp_path: Path) -> None:
    passed = {name: f"v-{name}" for name in ("PATH", "HOME", "GIT_SSH", "GIT_SSH_COMMAND", "GOROOT", "no_proxy")}
    kept_out = dict.fromkeys(("GOPROXY", "GOFLAGS", "GOPRIVATE", "XDG_CONFIG_HOME", "GIT_ASKPASS", "NETRC"), "x")
    got = environment(tmp_path, {**passed, **kept_out, "SSH_AUTH_SOCK": "/nowhere"}, []).build(tmp_path / "t")
    assert got == {
        **passed,
        "GOPATH": f"{tmp_path}/gopath",
        "GOCACHE": f"{tmp_path}/gocache",
        "GOMODCACHE": f"{tmp_path}/modcache",
        "GOTMPDIR": f"{tmp_path}/t",
        "TMPDIR": f"{tmp_path}/t",
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOENV": "off",
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "gc.autoDetach",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_CONFIG_KEY_1": "maintenance.autoDetach",
        "GIT_CONFIG_VALUE_1": "false",
        "GONOSUMDB": "",
    }


def test_the_last_word(tmp_path: Path) -> None:
    configured = ["GOPROXY=https://a=b,direct", "GOFLAGS=", "PATH=/elsewhere", "HOME=/h"]
    made = environment(tmp_path, {"PATH": "/bin"}, configured, ["corp/*", "x.test"])
    got = made.build(tmp_path, GONOPROXY="m")
    assert (got["GOPROXY"], got["GOFLAGS"], got["PATH"], got["HOME"]) == (
        "https://a=b,direct",
        "",
        "/elsewhere",
        "/h",
    )
    assert (got["GONOSUMDB"], got["GONOPROXY"]) == ("corp/*,x.test", "m")
    made = environment(tmp_path, {}, ["GONOSUMDB=mine", "HOME=/h"], ["corp/*"], home="/private")
    assert (made.build(tmp_path)["GONOSUMDB"], made.build(tmp_path)["HOME"]) == ("mine", "/private")


def test_an_agent_s_socket_is_passed_if_it_is_one(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        got = environment(tmp_path, {"SSH_AUTH_SOCK": path}, ["SSH_AUTH_SOCK=x"]).build(tmp_path)
        assert got["SSH_AUTH_SOCK"] == path
    (tmp_path / "f").touch()
    got = environment(tmp_path, {"SSH_AUTH_SOCK": str(tmp_path / "f")}, []).build(tmp_path)
    assert "SSH_AUTH_SOCK" not in got


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("direct", [("direct", False)]),
        ("off", [("off", False)]),
        ("https://a,http://b|direct", [("https://a", False), ("http://b", True), ("direct", False)]),
        (" https://a , ,| off,https://z", [("https://a", False), ("off", False)]),
        ("proxy.test/x|file:///srv", [("https://proxy.test/x", True), ("file:///srv", False)]),
        ("direct|https://never", [("direct", True)]),
        ("https://u:p@a", [("https://u:p@a", False)]),
    ],
)
def test_goproxy(text: str, entries: list[tuple[str, bool]]) -> None:
    assert parse_goproxy(text) == tuple(Proxy(*entry) for entry in entries)


@pytest.mark.parametrize("text", ["", " ,|", "ftp://u:s3cret@x", "word", "/srv/x", "https://", "file://host/x"])
def test_no_goproxy(text: str) -> None:
    with pytest.raises(ConfigError, match="GOPROXY") as caught:
        parse_goproxy(text)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_does_not_show_its_credentials() -> None:
    assert "s3cret" not in repr(parse_goproxy("https://u:s3cret@x"))


def test_rules_as_go_has_them() -> None:
    got = UpstreamRules.from_env({"GOPROXY": "direct", "GOPRIVATE": "a.test, b.test", "GONOPROXY": "c.test"})
    assert (got.no_proxy, got.no_sumdb, got.sumdb) == (["c.test"], ["a.test", "b.test"], "off")
    got = UpstreamRules.from_env({"GOPROXY": "direct", "GONOSUMDB": "d.test", "GOSUMDB": "sum.golang.org"})
    assert (got.no_proxy, got.no_sumdb, got.sumdb) == ([], ["d.test"], "sum.golang.org")


def test_finding_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_go("go", os.environ) == os.path.abspath(real_go())
    stub = GoStub(tmp_path / "bin")
    assert find_go("go", {"PATH": str(tmp_path / "bin")}) == str(stub.path)
    assert find_go(str(stub.path), {}) == str(stub.path)
    monkeypatch.chdir(tmp_path)
    assert find_go("bin/go", {}) == str(stub.path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    assert find_go("go", {"PATH": "/nowhere"}) == str(stub.path)
    for name in ("no-such-go", str(tmp_path), "./none"):
        with pytest.raises(ConfigError, match=r"GoBinary.*install Go 1\.21"):
            find_go(name, {"PATH": "/nowhere"})


async def ask(tmp_path: Path, program: str, configured: list[str], limit: float = 20) -> Any:
    runner = ProcessRunner(reactor, grace=0.2)
    made = environment(tmp_path, {"PATH": os.environ["PATH"]}, configured)
    return await ask_go(runner, program, made, tmp_path, limit=limit)


@pytest_twisted.ensureDeferred
async def test_what_go_says(tmp_path: Path) -> None:
    got = await ask(tmp_path, real_go(), ["GOPROXY=https://a.test,direct", "GOPRIVATE=corp.test"])
    assert got.version.startswith("go version go1.")
    rules = UpstreamRules.from_env(got.env)
    assert rules.proxies == (Proxy("https://a.test"), Proxy("direct"))
    assert (rules.no_proxy, rules.no_sumdb) == (["corp.test"], ["corp.test"])
    assert rules.sumdb == "sum.golang.org"
    own = UpstreamRules.from_env((await ask(tmp_path, real_go(), [])).env)
    assert own.proxies[-1] == Proxy("direct")  # go's own default


@pytest_twisted.ensureDeferred
async def test_a_go_that_is_not_fit(tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.old()
    with pytest.raises(ConfigError, match=r"GoBinary.* is go1\.16; Go 1\.21 or newer is needed"):
        await ask(tmp_path, str(stub.path), [])
    stub.clear()
    stub.order("version", "hang")
    with pytest.raises(ConfigError, match=r"GoBinary.*no answer within 0\.5 s"):
        await ask(tmp_path, str(stub.path), [], limit=0.5)
    stub.clear()
    stub.order("version", "flood", size=10_000_000)
    with pytest.raises(ConfigError, match=r"GoBinary.*printed more"):
        await ask(tmp_path, str(stub.path), [])
    stub.clear()
    stub.order("version", "killed")
    with pytest.raises(ConfigError, match=r"GoBinary.*status -9"):
        await ask(tmp_path, str(stub.path), [])
    stub.clear()
    stub.order("env", "fail", stdout="no json", status=0)
    with pytest.raises(ConfigError, match=r"GoBinary.*no JSON"):
        await ask(tmp_path, str(stub.path), [])
    stub.clear()
    stub.order("env", "fail", stdout="[]", status=0)
    with pytest.raises(ConfigError, match=r"GoBinary.*no JSON"):
        await ask(tmp_path, str(stub.path), [])
    with pytest.raises(ConfigError, match=r"GoBinary.*status 127"):
        await ask(tmp_path, str(tmp_path / "gone"), [])


@pytest_twisted.ensureDeferred
async def test_a_version_that_names_no_number_is_taken(tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.order("version", "fail", stdout="go version devel +abc linux/amd64\n", status=0)
    assert (await ask(tmp_path, str(stub.path), [])).version.startswith("go version devel")
