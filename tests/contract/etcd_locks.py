"""etcd for the contract of locks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.support import servers
from tests.support.servers_etcd import Etcd, Peer
from tests.support.servers_process import HOST


class EtcdOne:
    """One server, behind an address where nobody is."""

    kind: ClassVar[str] = "etcd"
    tells: ClassVar[bool] = True
    forgets: ClassVar[bool] = False

    def __init__(self, lease: int, own: Path | None = None) -> None:
        self._own = own is not None
        self.server: Etcd = servers.session.server("etcd") if own is None else servers.own("etcd", own)
        self.environ: Mapping[str, str] = {
            "ATHENS_SINGLE_FLIGHT_TYPE": self.kind,
            "ATHENS_ETCD_ENDPOINTS": f"{HOST}:1, {HOST}:{self.server.port}",
            "TEST_LOCK_LEASE": str(lease),
        }

    def take(self, name: str) -> Any:
        """As Athens does, but for the wait in the queue."""
        peer = Peer(self.server, name)
        if peer.enter():
            return peer
        peer.leave()
        return None

    def release(self, name: str, token: Any) -> bool:
        left: bool = token.leave()
        return left

    def lose(self, name: str) -> None:
        assert self.server.drop(self.server.keys(name)[0])

    def away(self, name: str) -> None:
        self.server.kill()

    def back(self) -> None:
        self.server.start()

    def close(self) -> None:
        if self._own:
            self.server.stop()
