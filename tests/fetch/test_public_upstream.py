"""The upstream that C{go env GOPROXY} names: what it gives is what go gets from it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.module.hashes import hash_zip
from athens_tx.module.version import ModuleVersion
from tests.fetch.conftest import Make
from tests.support.goclient import environment, real_go
from tests.support.processes import run

CERTIFICATES = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
WAYS_OUT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
PROXIES = {name: value for name, value in os.environ.items() if name.upper() in WAYS_OUT}
# Some public modules are refused with 403 by some upstreams.
MODULES = ("golang.org/x/mod", "golang.org/x/text", "github.com/BurntSushi/toml", "gopkg.in/yaml.v3")


@pytest.mark.upstream
@pytest.mark.parametrize("path", MODULES)
@pytest_twisted.ensureDeferred
async def test_the_same_as_go(make: Make, tmp_path: Path, path: str) -> None:
    asked = await run(reactor, [real_go(), "env", "GOPROXY"], dict(os.environ), cwd=tmp_path, limit=30)
    goproxy = asked.stdout.strip()
    fetching = await make(f"GOPROXY={goproxy}", "GOSUMDB=off", environ={**CERTIFICATES, **PROXIES})
    own = environment(tmp_path / "client", GOPROXY=goproxy, **CERTIFICATES, **PROXIES)
    listed = await run(
        reactor, [real_go(), "list", "-m", "-versions", "-json", f"{path}@latest"], own, cwd=tmp_path, limit=60
    )
    said = json.loads(listed.check().stdout)
    listing = await fetching.lister.listing(path)
    assert (list(listing.versions), listing.latest) == (said.get("Versions", []), said["Version"])
    assert listing.time == said["Time"]
    loaded = await run(reactor, [real_go(), "mod", "download", "-json", f"{path}@latest"], own, cwd=tmp_path, limit=100)
    got = json.loads(loaded.check().stdout)
    async with await fetching.fetcher.fetch(ModuleVersion(path, listing.latest), lambda files: None) as fetched:
        assert fetched.origin == "upstream"
        assert hash_zip(fetched.zip) == got["Sum"]
