"""Everything of fetching put together: what is an error at start, and what is left at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from athens_tx.errors import ConfigError, NotFound, UpstreamUnreachable
from athens_tx.fetch.environment import Proxy
from athens_tx.interfaces import IFetcher, ILister
from athens_tx.module.version import ModuleVersion
from tests.fetch.conftest import Make
from tests.support.go_stub import GoStub
from tests.support.repositories import Repositories
from tests.support.upstream import Trouble, Upstream

LIB = "github.com/acme/lib"


@pytest_twisted.ensureDeferred
async def test_what_it_offers(make: Make, tmp_path: Path) -> None:
    fetching = await make("GOPROXY=https://proxy.invalid|direct", go_get_workers=3, protocol_workers=4)
    assert verifyObject(IFetcher, fetching.fetcher)
    assert verifyObject(ILister, fetching.lister)
    assert fetching.rules.proxies == (Proxy("https://proxy.invalid", True), Proxy("direct"))
    assert fetching.go.version.startswith("go version go1.")
    assert (fetching.fetches.limit, fetching.listings.limit, fetching.fetches.queue_limit) == (3, 4, 1000)
    await fetching.close()
    assert not list((tmp_path / "fetch").glob("*/staging"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"go_binary": "no-such-go"}, "GoBinary"),
        ({"netrc_path": "/none/netrc"}, "NETRCPath"),
        ({"netrc_path": "/none/netrc", "github_token": "x"}, "GithubToken"),
        ({"go_binary_env_vars": ["GOPROXY=ftp://x"]}, "GOPROXY"),
        ({"environ": {"HTTPS_PROXY": "socks5://x"}}, "HTTPS_PROXY"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_errors_at_start(make: Make, tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        await make(**settings)
    assert not list((tmp_path / "fetch").glob("*/staging"))
    await make("GOPROXY=off")  # the directories are free again


@pytest_twisted.ensureDeferred
async def test_an_old_go_is_an_error_at_start(make: Make, tmp_path: Path) -> None:
    stub = GoStub(tmp_path / "bin")
    stub.old()
    with pytest.raises(ConfigError, match=r"1\.21 or newer"):
        await make(go_binary=str(stub.path))


@pytest_twisted.ensureDeferred
async def test_from_the_proxy_and_then_directly(make: Make, upstream: Upstream, repositories: Repositories) -> None:
    fetching = await make(f"GOPROXY={upstream.url},direct", "GOSUMDB=off", home=repositories.home)
    async with await fetching.fetcher.fetch(ModuleVersion(LIB, "v1.0.0"), lambda files: None) as got:
        assert got.origin == "upstream"
    upstream.troubles[".info"] = Trouble(status=404)
    async with await fetching.fetcher.fetch(ModuleVersion(LIB, "v1.0.0"), lambda files: None) as got:
        assert got.origin == "go"
    upstream.troubles[".info"] = Trouble(status=500)
    with pytest.raises(UpstreamUnreachable):
        await fetching.fetcher.fetch(ModuleVersion(LIB, "v1.0.0"), lambda files: None)
    upstream.troubles["@v/list"] = Trouble(status=404)
    assert (await fetching.lister.listing(LIB)).latest == "v1.0.0"
    private = await make(f"GOPROXY={upstream.url}", "GOSUMDB=off", "GOPRIVATE=github.com", home=repositories.home)
    async with await private.fetcher.fetch(ModuleVersion(LIB, "v1.0.0"), lambda files: None) as got:
        assert got.origin == "go"


@pytest_twisted.ensureDeferred
async def test_off(make: Make) -> None:
    fetching = await make("GOPROXY=off")
    with pytest.raises(NotFound, match="GOPROXY=off"):
        await fetching.lister.listing(LIB)
    await fetching.reload_credentials()


@pytest_twisted.ensureDeferred
async def test_offline_needs_no_go_and_has_nothing(make: Make) -> None:
    fetching = await make("GOPRIVATE=github.com/secret", go_binary="no-such-go", offline=True)
    assert verifyObject(IFetcher, fetching.fetcher)
    assert verifyObject(ILister, fetching.lister)
    for path in (LIB, "github.com/secret/lib"):
        with pytest.raises(NotFound, match="offline"):
            await fetching.fetcher.fetch(ModuleVersion(path, "v1.0.0"), lambda files: None)
        with pytest.raises(NotFound, match="offline"):
            await fetching.lister.listing(path)
    assert (fetching.rules.sumdb, list(fetching.rules.no_sumdb)) == ("sum.golang.org", ["github.com/secret"])


@pytest_twisted.ensureDeferred
async def test_offline_the_files_with_logins_are_still_checked(make: Make) -> None:
    with pytest.raises(ConfigError, match="NETRCPath"):
        await make(offline=True, netrc_path="/none/netrc")
