"""However many versions of a repository are asked for, it is cloned once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.support.daemon import MakeDaemon, direct
from tests.support.go_stub import GoStub
from tests.support.repositories import Repositories

VERSIONS = [f"v1.{minor}.0" for minor in range(20)]


@pytest_twisted.ensureDeferred
async def test_twenty_versions_with_one_clone(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    real = shutil.which("git")
    assert real
    git = GoStub(tmp_path / "stub", "git", real)
    daemon = make_daemon(env=direct(repositories))
    daemon.env["PATH"] = f"{git.folder}:{daemon.environment()['PATH']}"
    await daemon.start()
    paths = [f"/github.com/acme/twenty/@v/{version}.zip" for version in VERSIONS]
    replies = await gatherResults([Deferred.fromCoroutine(daemon.get(path)) for path in paths])
    assert [reply.status for reply in replies] == [200] * 20
    assert len({reply.sha256 for reply in replies}) == 20
    assert len([call for call in git.calls() if "init" in call.argv]) == 1
    assert sorted(path.name for path in (daemon.storage / "github.com/acme/twenty").iterdir()) == sorted(VERSIONS)
