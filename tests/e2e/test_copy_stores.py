"""C{athens-tx copy} between real stores of every kind, and the go command at a store that signs its links."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from tests.copying.stores import files, versions
from tests.e2e.test_copy import COPY, settings, stored
from tests.support import servers
from tests.support.daemon import Daemon, MakeDaemon, through
from tests.support.goclient import GoClient
from tests.support.processes import run
from tests.support.upstream import Upstream

reactor: Any = _reactor
LIB = "github.com/acme/lib"
COUNT = int(os.environ.get("ATHENS_TX_COPY_VERSIONS", "40"))


def s3(**more: str) -> dict[str, str]:
    server = servers.s3()
    return {
        "AWS_REGION": server.region,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT": server.endpoint,
        "AWS_FORCE_PATH_STYLE": "true",
        "ATHENS_S3_BUCKET_NAME": server.bucket().name,
        **more,
    }


def minio() -> dict[str, str]:
    server = servers.minio()
    return {
        "ATHENS_MINIO_ENDPOINT": server.endpoint,
        "ATHENS_MINIO_ACCESS_KEY_ID": server.access_key,
        "ATHENS_MINIO_SECRET_ACCESS_KEY": server.secret_key,
        "ATHENS_MINIO_BUCKET_NAME": server.bucket().name,
    }


def gcp() -> dict[str, str]:
    server = servers.gcs()
    return {"STORAGE_EMULATOR_HOST": server.endpoint, "ATHENS_STORAGE_GCP_BUCKET": server.bucket().name}


def azureblob() -> dict[str, str]:
    server = servers.azure()
    return {
        "ATHENS_AZURE_ACCOUNT_NAME": server.account,
        "ATHENS_AZURE_ACCOUNT_KEY": server.key,
        "ATHENS_AZURE_CONTAINER_NAME": server.bucket().name,
        "ATHENS_AZURE_ENDPOINT": server.endpoint,
    }


def mongo() -> dict[str, str]:
    server = servers.mongo()
    return {"ATHENS_MONGO_STORAGE_URL": server.endpoint, "ATHENS_MONGO_DEFAULT_DATABASE": server.bucket().name}


@pytest.mark.timeout(600)
@pytest_twisted.ensureDeferred
async def test_what_went_round_all_stores_is_what_it_was(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for mv in versions(COUNT):
        folder = old / mv.path / mv.version
        folder.mkdir(parents=True)
        info, mod, zip = files(mv, os.urandom(20_000))
        for name, data in ((f"{mv.version}.info", info), ("go.mod", mod), ("source.zip", zip)):
            (folder / name).write_bytes(data)
    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "s3": s3,
        "gcp": gcp,
        "azureblob": azureblob,
        "mongo": mongo,
        "minio": minio,
    }
    environment = {name: value for kind in kinds.values() for name, value in kind().items()}
    daemon = make_daemon(env=environment)
    way = [settings(old), *kinds, settings(new)]
    for source, target in itertools.pairwise(way):
        argv = [*COPY, "--verify", source, target] if target == "mongo" else [*COPY, source, target]
        done = await run(reactor, argv, daemon.environment(), cwd=daemon.folder, limit=300)
        assert done.check().stdout.startswith(f"{COUNT} versions copied, 0 there already, 0 failed; "), done.stdout
        print(f"{Path(source).stem} to {Path(target).stem}: {done.stdout.strip()}")
        again = await run(reactor, [*COPY, "--dry-run", source, target], daemon.environment(), cwd=daemon.folder)
        assert again.check().stdout == f"0 versions to copy, {COUNT} there already, 0 failed\n"
    assert stored(new) == stored(old)
    for kind in kinds:
        listed = await daemon.cli("catalog", ATHENS_STORAGE_TYPE=kind)
        assert sorted(listed.check().stdout.split()) == sorted(map(str, versions(COUNT))), kind
        verified = await daemon.cli("verify", ATHENS_STORAGE_TYPE=kind, limit=300)
        assert verified.check().stdout == f"{COUNT} versions verified, 0 broken\n", kind


async def redirected(daemon: Daemon, make_client: Callable[..., GoClient]) -> str:
    """@return: where the daemon sends clients, who have got the module from there."""
    client = make_client(daemon.url)
    for _cold_then_warm in range(2):
        [got] = await client.download(f"{LIB}@v1.0.0")
        assert "Error" not in got, got
        client.forget()
    sent = await daemon.get(f"/{LIB}/@v/v1.0.0.zip")
    assert (sent.status, sent.headers["cache-control"]) == (302, "no-store")
    head = await daemon.get(f"/{LIB}/@v/v1.0.0.zip", method="HEAD")
    assert (head.status, int(head.headers["content-length"]) > 100) == (200, True)
    return sent.headers["location"]


@pytest_twisted.ensureDeferred
async def test_go_fetches_zips_from_s3_itself(
    make_daemon: MakeDaemon, make_client: Callable[..., GoClient], upstream: Upstream
) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_STORAGE_TYPE="s3", **s3(ATHENS_S3_PRESIGNED_REDIRECT="true")))
    await daemon.start()
    location = await redirected(daemon, make_client)
    assert location.startswith(servers.s3().endpoint)
    signature = re.search(r"X-Amz-Signature=(\w+)", location)
    assert signature is not None
    assert not daemon.has_logged(signature[1][:16])
    assert not daemon.has_logged("X-Amz-")
