"""
The remote stores of the contract suite as a daemon has them: chosen and found by its own settings.

A backend is in L{REMOTE} as soon as it is in the contract's table; its settings are in L{SETTINGS}, one entry for each
C{StorageType}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.contract.storage_backends import BACKENDS
from tests.support.daemon import Daemon
from tests.support.opening import Opened, open_storage

#: The names of the contract's backends that are a network away; before a C{-} stands the C{StorageType}.
REMOTE: Sequence[str] = tuple(sorted(name for name, made in BACKENDS.items() if made.raw and name != "disk"))
#: One of each C{StorageType}, over all servers there are.
KINDS: Sequence[str] = sorted({name.partition("-")[0]: name for name in reversed(REMOTE)}.values())

_HOST = "127.0.0.1"


def _s3(backend: Any, port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT": f"http://{_HOST}:{port}",
        "AWS_REGION": backend.server.region,
        "AWS_ACCESS_KEY_ID": backend.server.access_key,
        "AWS_SECRET_ACCESS_KEY": backend.server.secret_key,
        "AWS_FORCE_PATH_STYLE": "true",
        "ATHENS_S3_BUCKET_NAME": backend.bucket.name,
    }


def _minio(backend: Any, port: int) -> dict[str, str]:
    return {
        "ATHENS_MINIO_ENDPOINT": f"{_HOST}:{port}",
        "ATHENS_MINIO_ACCESS_KEY_ID": backend.server.access_key,
        "ATHENS_MINIO_SECRET_ACCESS_KEY": backend.server.secret_key,
        "ATHENS_MINIO_BUCKET_NAME": backend.bucket.name,
    }


def _gcp(backend: Any, port: int) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": f"{_HOST}:{port}", "ATHENS_STORAGE_GCP_BUCKET": backend.bucket.name}


def _azureblob(backend: Any, port: int) -> dict[str, str]:
    return {
        "ATHENS_AZURE_ENDPOINT": f"http://{_HOST}:{port}/{backend.server.account}",
        "ATHENS_AZURE_ACCOUNT_NAME": backend.server.account,
        "ATHENS_AZURE_ACCOUNT_KEY": backend.server.key,
        "ATHENS_AZURE_CONTAINER_NAME": backend.bucket.name,
    }


def _mongo(backend: Any, port: int) -> dict[str, str]:
    return {
        "ATHENS_MONGO_STORAGE_URL": f"mongodb://{_HOST}:{port}",
        "ATHENS_MONGO_DEFAULT_DATABASE": backend.bucket.name,
    }


def _external(backend: Any, port: int) -> dict[str, str]:
    return {"ATHENS_EXTERNAL_STORAGE_URL": f"http://keeper:opensesame@{_HOST}:{port}/storage"}


#: The settings of a store whose server is reached at a port, by C{StorageType}.
SETTINGS: Mapping[str, Callable[[Any, int], dict[str, str]]] = {
    "azureblob": _azureblob,
    "external": _external,
    "gcp": _gcp,
    "minio": _minio,
    "mongo": _mongo,
    "s3": _s3,
}


class Store:
    """
    A store of one test's own; L{close} it.

    @ivar kind: its C{StorageType}.
    @ivar port: of its server.
    @ivar http: whether that is what its server speaks.
    @ivar server: what stops and starts it: of the session, unless it is C{own}. C{None} for C{external}.
    @ivar raw: the contract's backend, for what lies there. That of C{external} is the disk behind its server.
    @ivar keeper: the athens-tx that is the server of C{external}.
    """

    def __init__(self, reactor: Any, name: str, folder: Path) -> None:
        """
        @param name: one of L{REMOTE}.
        @param folder: empty, or not there.
        """
        self.name = name
        self.kind = name.partition("-")[0]
        self.http = self.kind != "mongo"
        self.keeper: Daemon | None = None
        self._reactor = reactor
        self._folder = folder
        self._home = folder / "home"
        self._home.mkdir(parents=True)
        self.server: Any = None
        if self.kind == "external":
            self.raw = BACKENDS["disk"](reactor, folder)
            self.port = 0
        else:
            self.raw = BACKENDS[name](reactor, folder)
            self.server = self.raw.server
            self.port = self.server.port

    async def open(self) -> Store:
        """Have a server."""
        if self.kind == "external":
            settings = {
                "ATHENS_EXTERNAL_STORAGE_PATH": "/storage",
                "ATHENS_NETWORK_MODE": "offline",
                "ATHENS_LOG_LEVEL": "error",
                "ATHENS_MAX_ZIP_SIZE": "4096MiB",
                "BASIC_AUTH_USER": "keeper",
                "BASIC_AUTH_PASS": "opensesame",
                "ATHENS_DISK_STORAGE_ROOT": str(self.raw.root),
            }
            self.keeper = Daemon(self._reactor, self._folder / "keeper", env=settings)
            self.port = self.keeper.port
            await self.keeper.start()
        return self

    async def close(self) -> None:
        """End what was started for it alone, and free what the session's server keeps."""
        if self.keeper is not None:
            await self.keeper.kill()
        drop = getattr(getattr(self.raw, "bucket", None), "drop", None)
        if self.kind == "mongo" and drop is not None:
            drop()

    def settings(self, port: int = 0) -> dict[str, str]:
        """
        @param port: of what stands between, if that is not the server itself.
        @return: the variables that tell a daemon to keep everything here.
        """
        return {"ATHENS_STORAGE_TYPE": self.kind, **SETTINGS[self.kind](self.raw, port or self.port)}

    def environment(self, port: int = 0) -> dict[str, str]:
        """@return: all that a process needs that works with the store and is no daemon; see L{settings}."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "TMPDIR": str(self._home),
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **self.settings(port),
        }

    async def storage(self, port: int = 0, **more: str) -> Opened:
        """@return: the storage that a daemon would have, in this process, started; C{more} are settings."""
        return await open_storage(self._reactor, {**self.environment(port), **more})
