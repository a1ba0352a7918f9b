"""What the end-to-end tests share: repositories, an upstream, daemons and clients that are gone when the test is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.support.checksum_log import ChecksumLog
from tests.support.daemon import Daemon, MakeDaemon
from tests.support.goclient import GoClient
from tests.support.repositories import Repositories, standard
from tests.support.upstream import Upstream, module_tree

#: What the upstream proxy has: every tag of the standard repositories that a test wants, and two commits.
QUERIES = [
    *(f"github.com/acme/lib@{version}" for version in ("v0.9.0", "v1.0.0", "v1.1.0-beta.1", "main", "feature")),
    *(f"github.com/acme/old@{version}" for version in ("v1.0.0", "v2.0.0", "v3.0.0")),
    *(f"github.com/acme/major{rest}" for rest in ("@v1.0.0", "/v2@v2.0.0", "/v2@v2.1.0")),
    *(f"github.com/acme/mono{rest}" for rest in ("@v1.0.0", "/sub@v1.0.0", "/sub@v1.2.0")),
    *(f"github.com/acme/retracted@{version}" for version in ("v1.0.0", "v1.1.0", "v1.2.0")),
    *(f"github.com/acme/base@{version}" for version in ("v1.0.0", "v1.1.0")),
    "github.com/acme/untagged@main",
    *(f"github.com/{path}@v1.0.0" for path in ("acme/left", "acme/right", "Acme/Top", "acme/app")),
]


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    """The standard repositories, fresh ones."""
    return standard(tmp_path / "repositories")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C{cache/download} folder with L{QUERIES}, made by the real go command. Not to be changed."""
    root = tmp_path_factory.mktemp("tree")
    repositories = standard(root / "repositories")
    made: Path = pytest_twisted.blockon(
        Deferred.fromCoroutine(module_tree(reactor, root / "made", repositories, QUERIES))
    )
    return made


@pytest_twisted.async_yield_fixture
async def upstream(tree: Path) -> AsyncIterator[Upstream]:
    """A local upstream proxy with a checksum database that knows all it has."""
    log = ChecksumLog()
    log.add_tree(tree)
    upstream = Upstream(reactor, tree, log)
    yield upstream
    await upstream.stop()


@pytest_twisted.async_yield_fixture
async def make_daemon(tmp_path: Path) -> AsyncIterator[MakeDaemon]:
    """Makes daemons; they are not started. All that is left of them is killed when the test is over."""
    made: list[Daemon] = []

    def make(name: str = "daemon", **options: Any) -> Daemon:
        daemon = Daemon(reactor, tmp_path / name, **options)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        await daemon.kill()


@pytest.fixture
def make_client(tmp_path: Path) -> Callable[..., GoClient]:
    """Makes go clients of a proxy, each with a module cache of its own."""

    def make(proxy: str, name: str = "client", **env: str) -> GoClient:
        return GoClient(reactor, tmp_path / name, proxy, env)

    return make
