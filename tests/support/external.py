"""An athens-tx that offers a disk storage as external storage, in the test's own reactor: its web site alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from athens_tx.index.memory import NoIndex
from athens_tx.storage.disk import DiskStorage
from athens_tx.web.app import make_site
from athens_tx.web.settings import WebSettings

PATH = "/storage"


class ExternalServer:
    """
    Serves C{root}.

    @ivar site: what listens, C{storage} what is behind it, C{staging} where zips wait on their way in.
    """

    def __init__(self, reactor: Any, root: Path, staging: Path, storage: Any = None, **settings: Any) -> None:
        """@param settings: of L{WebSettings}."""
        self.staging = staging
        self._reactor = reactor
        self.storage = DiskStorage(reactor, root) if storage is None else storage
        parts: dict[str, Any] = dict.fromkeys(("protocol", "gate", "sumdb"))
        self.site = make_site(
            reactor=reactor,
            settings=WebSettings(external_storage_path=PATH, **settings),
            storage=self.storage,
            index=NoIndex(),
            staging=staging,
            **parts,
        )
        self.port: Any = None

    async def start(self, tls: Any = None) -> ExternalServer:
        """Open the storage, and listen."""
        await self.open()
        self.listen(tls)
        return self

    async def open(self) -> None:
        """Open the storage."""
        self.storage.startService()
        await self.storage.ready

    def listen(self, tls: Any = None) -> None:
        """Listen on a free port."""
        if tls is None:
            self.port = self._reactor.listenTCP(0, self.site, interface="127.0.0.1")
        else:
            self.port = self._reactor.listenSSL(0, self.site, tls, interface="127.0.0.1")

    @property
    def number(self) -> int:
        """The TCP port."""
        return int(self.port.getHost().port)

    @property
    def url(self) -> str:
        """What a client has as its C{Storage.External.URL}."""
        return f"http://127.0.0.1:{self.number}{PATH}"

    async def stop(self) -> None:
        """Stop listening and cut every connection; harmless where that is done."""
        port, self.port = self.port, None
        if port is None:
            return
        await port.stopListening()
        drained = self.site.drain()
        self.site.abort()
        await drained
        turn: Deferred[None] = Deferred()  # what was cut cleans up behind itself
        self._reactor.callLater(0, turn.callback, None)
        await turn
        await maybeDeferred(self.storage.stopService)  # that in memory has nothing to wait for
