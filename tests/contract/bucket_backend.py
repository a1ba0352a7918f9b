"""What the contract's stores have in common whose files are objects in a bucket of a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from athens_tx.module.version import ModuleVersion

#: Seconds for an operation of a storage.
TIMEOUT = 20.0
#: Seconds that a part of a version is taken for one that somebody saves: what the tests lay there is not.
PATIENCE = 0.2


class BucketBackend:
    """
    A bucket of C{server}, with the keys of most: those of URLs.

    @ivar bucket: see L{tests.support.servers}.
    """

    raw: ClassVar[bool] = True
    atomic: ClassVar[bool] = False
    bad_tokens: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reactor: Any, path: Path) -> None:
        self.reactor = reactor
        self.server = self.find()
        self.bucket = self.server.bucket()

    def find(self) -> Any:
        """@return: the server."""
        raise NotImplementedError

    def files(self, mv: ModuleVersion) -> tuple[str, str, str]:
        start = f"{mv.path}/@v/{mv.version}"
        return f"{start}.info", f"{start}.mod", f"{start}.zip"

    def keys(self) -> Mapping[str, bytes]:
        keys: Mapping[str, bytes] = self.bucket.keys()
        return keys

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put(key, data)

    def drop(self, key: str) -> None:
        self.bucket.drop(key)
