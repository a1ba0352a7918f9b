"""A storage in the process of a test, or in a child of it, opened as a daemon opens it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from athens_tx.backends import STORAGES, Backends
from athens_tx.config import load


class Opened:
    """
    A storage in this process; L{close} it.

    @ivar storage: started.
    """

    def __init__(self, backends: Backends, storage: Any) -> None:
        self._backends = backends
        self.storage = storage

    async def alone(self) -> None:
        """Have nothing asked of the store any more but what the caller wants to know."""
        sweeping = getattr(self.storage, "_sweeping", None)
        if sweeping is not None:
            sweeping.addErrback(lambda _: None)
            sweeping.cancel()
        await self.storage.list("example.com/none")

    async def close(self) -> None:
        """Stop it."""
        await self._backends.close()


async def open_storage(reactor: Any, environ: Mapping[str, str]) -> Opened:
    """
    @param environ: the settings; C{HOME} may have an C{athens.toml}.
    @return: the storage they choose.
    @raise ConfigError: it can't be used.
    """
    config = load(None, environ, cwd=Path(environ["HOME"])).config
    backends = Backends(reactor, environ)
    try:
        return Opened(backends, await backends.open(STORAGES, "StorageType", config.storage_type, config))
    except BaseException:
        await backends.close()
        raise
