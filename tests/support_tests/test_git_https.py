"""Git over HTTPS serves the go command, and a private repository only with the password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from tests.support.git_https import GitHttps
from tests.support.goclient import GoClient
from tests.support.repositories import Commit, Repositories, module


@pytest_twisted.async_yield_fixture
async def git(tmp_path: Path) -> AsyncIterator[GitHttps]:
    repos = Repositories(tmp_path / "r")
    for path in ("github.com/open/lib", "github.com/secret/lib"):
        repos.repository(path, Commit(module(path), ["v1.0.0"]))
    server = GitHttps(reactor, repos.repos, tmp_path / "server")
    repos.redirect(f"{server.url}/", "https://git.example.test/", http_sslCAInfo=str(server.ca_file))
    for owner in ("open", "secret"):
        repos.redirect(f"{server.url}/{owner}/", f"https://github.com/{owner}/")
    yield server
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_private_repository_wants_the_password(git: GitHttps, tmp_path: Path) -> None:
    home = tmp_path / "r" / "home"
    client = GoClient(reactor, tmp_path / "c", "direct", {"HOME": str(home)})
    (public,) = await client.download("github.com/open/lib@v1.0.0")
    assert "Error" not in public
    (refused,) = await client.download("github.com/secret/lib@v1.0.0")
    assert "terminal prompts disabled" in refused["Error"]
    assert {asked.status for asked in git.asked if asked.uri.startswith("/secret")} == {401}
    (home / ".netrc").write_text(git.netrc)
    (granted,) = await client.download("github.com/secret/lib@v1.0.0")
    assert "Error" not in granted
    assert {(asked.user, asked.status) for asked in git.asked if asked.uri.startswith("/secret")} >= {("reader", 200)}
