"""A private repository over HTTPS: works with a .netrc, fails clearly without, and the password shows up nowhere."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from tests.support.daemon import MakeDaemon, direct
from tests.support.git_https import GitHttps
from tests.support.go_stub import GoStub
from tests.support.goclient import GoClient
from tests.support.repositories import Commit, Repositories, module

SECRET = "github.com/secret/lib"


@pytest_twisted.async_yield_fixture
async def git(repositories: Repositories, tmp_path: Path) -> AsyncIterator[GitHttps]:
    repositories.repository(SECRET, Commit(module(SECRET), ["v1.0.0"]))
    server = GitHttps(reactor, repositories.repos, tmp_path / "server")
    repositories.redirect(f"{server.url}/secret/", "https://github.com/secret/", http_sslCAInfo=str(server.ca_file))
    yield server
    await server.stop()


def command_lines() -> str:
    """@return: the command lines of all processes of the machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:  # it has ended meanwhile
                continue
    return "\n".join(found)


def existing(paths: set[str]) -> list[str]:
    """@return: those that are there."""
    return [path for path in paths if os.path.exists(path)]


@pytest_twisted.ensureDeferred
async def test_a_netrc_opens_it_and_the_password_stays_hidden(
    git: GitHttps,
    repositories: Repositories,
    make_daemon: MakeDaemon,
    make_client: Callable[..., GoClient],
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(git.netrc)
    netrc.chmod(0o600)
    seen: list[str] = []
    git.watch = lambda: seen.append(command_lines())
    stub = GoStub(tmp_path / "stub")
    settings = direct(repositories, ATHENS_NETRC_PATH=str(netrc), GO_BINARY_PATH=str(stub.path))
    daemon = await make_daemon(env=settings).start()
    client = make_client(daemon.url)
    (document,) = await client.download(f"{SECRET}@v1.0.0")
    assert "Error" not in document
    assert (await client.versions(SECRET))["Versions"] == ["v1.0.0"]
    assert {(asked.user, asked.status) for asked in git.asked} >= {("reader", 200)}
    assert seen
    assert any("git-remote-https" in lines or "git fetch" in lines for lines in seen)
    assert not [lines for lines in seen if git.password in lines]
    assert not [call for call in stub.calls() if git.password in str(call)]
    homes = {call.env["HOME"] for call in stub.calls("mod download")}
    assert await daemon.stop() == 0
    assert not [line for line in daemon.lines if git.password in line]
    assert str(repositories.home) not in homes
    assert not existing(homes), "the private home directory outlives the daemon"
    assert not (repositories.home / ".netrc").exists()


@pytest_twisted.ensureDeferred
async def test_without_credentials_it_fails_clearly(
    git: GitHttps, repositories: Repositories, make_daemon: MakeDaemon
) -> None:
    daemon = await make_daemon(env=direct(repositories)).start()
    reply = await daemon.get(f"/{SECRET}/@v/v1.0.0.info")
    assert reply.status == 404
    assert SECRET in reply.text
    assert git.url not in reply.text, "an internal URL"
    assert {asked.status for asked in git.asked} == {401}


@pytest_twisted.ensureDeferred
async def test_with_wrong_credentials_it_fails_and_does_not_tell_them(
    git: GitHttps, repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(git.netrc.replace(git.password, "wrong-password"))
    daemon = await make_daemon(env=direct(repositories, ATHENS_NETRC_PATH=str(netrc))).start()
    reply = await daemon.get(f"/{SECRET}/@v/v1.0.0.info")
    assert reply.status == 404
    assert "wrong-password" not in reply.text
    assert "wrong-password" not in "\n".join(daemon.lines)
