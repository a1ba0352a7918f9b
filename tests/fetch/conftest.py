"""What the tests of fetching share: a running L{make_fetching}, closed at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from athens_tx.fetch.assemble import Fetching, FetchSettings, make_fetching
from tests.support.repositories import Repositories, standard
from tests.support.upstream import Upstream, module_tree

Make = Callable[..., Awaitable[Fetching]]


@pytest_twisted.async_yield_fixture()
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes a L{Fetching} in C{tmp_path / "fetch"}, with a home of its own."""
    made: list[Fetching] = []

    async def make(
        *variables: str,
        home: Path | None = None,
        checksums: Any = None,
        environ: dict[str, str] | None = None,
        **more: Any,
    ) -> Fetching:
        values = {
            "go_get_dir": str(tmp_path / "fetch"),
            "go_binary_env_vars": [*variables],
            "stash_timeout": 60,
            "timeout": 60,
            **more,
        }
        own = {"PATH": os.environ["PATH"], "HOME": str(home or tmp_path), **(environ or {})}

        def database(client: object, rules: object, authorize: object) -> Any:
            return checksums

        fetching = await make_fetching(reactor, own, FetchSettings(**values), database)
        made.append(fetching)
        return fetching

    yield make
    for fetching in made:
        await fetching.close()


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    """The usual repositories; not to be changed."""
    return standard(tmp_path_factory.mktemp("repositories"))


QUERIES = (
    "github.com/acme/lib@v0.9.0",
    "github.com/acme/lib@v1.0.0",
    "github.com/acme/lib@v1.1.0-beta.1",
    "github.com/acme/lib@main",
    "github.com/acme/untagged@latest",
    "github.com/acme/old@v1.0.0",
    "github.com/acme/old@v2.0.0",
    "github.com/acme/old@v3.0.0",
    "github.com/acme/major@v1.0.0",
    "github.com/acme/major/v2@v2.1.0",
    "github.com/acme/retracted@v1.0.0",
    "github.com/acme/retracted@v1.1.0",
    "github.com/acme/retracted@v1.2.0",
    "github.com/Acme/Top@v1.0.0",
)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, repositories: Repositories) -> Path:
    """A tree of the download protocol, made by the real go; not to be changed."""
    root = tmp_path_factory.mktemp("tree")
    return pytest_twisted.blockon(Deferred.fromCoroutine(module_tree(reactor, root, repositories, QUERIES)))


@pytest_twisted.async_yield_fixture()
async def upstream(tree: Path) -> AsyncIterator[Upstream]:
    """A proxy that serves L{tree}."""
    server = Upstream(reactor, tree)
    yield server
    await server.stop()
    await deferLater(reactor, 0.01, lambda: None)


def leftovers(tmp_path: Path) -> Iterable[Path]:
    """@return: what is staged and not discarded."""
    return list((tmp_path / "fetch").glob("*/staging/*"))
