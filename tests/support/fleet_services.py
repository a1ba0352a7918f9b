"""What the daemons of a fleet share: a store, a lock service, and the trouble that comes over the latter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from tests.contract.lock_backends import BACKENDS
from tests.support.servers_etcd import coded, decoded
from tests.support.stores import Store

#: Seconds that a service which is restarted is away, and that one which is paused says nothing.
OUTAGE = 0.3
PAUSE = 2.0


class Service:
    """
    A lock service on a server of its own, beside an S3 bucket.

    @cvar kind: one of the contract's L{BACKENDS}.
    @cvar store_name: one of L{tests.support.stores.REMOTE}.
    @cvar trouble: what L{happen} does, for people.
    @cvar lease: seconds that a lock lives by default without being renewed.
    @cvar least: seconds that it lives at least.
    @ivar store: not open.
    """

    kind = "redis"
    store_name = "s3"
    trouble = "restarted, its locks forgotten"
    lease = 30
    least = 1

    def __init__(self, reactor: Any, folder: Path, lease: int) -> None:
        """@param lease: seconds that a lock lives without being renewed, where that is possible; 0 for the default."""
        self._reactor = reactor
        self.lease = max(lease or self.lease, self.least)
        self.store = Store(reactor, self.store_name, folder / "store")
        self.backend: Any = BACKENDS[self.kind](self.lease, folder / "locks")
        self.prepare()

    def prepare(self) -> None:
        """Make the server ready for what is to happen to it."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The settings that lead a daemon to the locks."""
        more = {"ATHENS_STASH_TIMEOUT": "300", "TEST_LOCK_LEASE": str(self.lease)}
        return {**self.backend.environ, **more}

    async def happen(self) -> None:
        """Let the trouble come, and pass if it does."""
        self.backend.away("")
        await deferLater(self._reactor, OUTAGE)
        self.backend.back()

    def left(self) -> list[str]:
        """@return: the names of all locks that are held."""
        return self._redis_keys(self.backend.server)

    def _redis_keys(self, *members: Any) -> list[str]:
        return [key.decode() for member in members for key in member.ask("KEYS", "*@v*")]

    async def close(self) -> None:
        """End it."""
        self.backend.close()
        await self.store.close()


class RedisThatKeeps(Service):
    """A Redis that has written down what it knew."""

    trouble = "restarted, its locks kept"

    def prepare(self) -> None:
        server = self.backend.server
        settings = {"appendonly": "yes", "appendfsync": "always"}
        server.more += [f"{name} {value}" for name, value in settings.items()]
        server.kill()
        server.start()


class Sentinel(Service):
    """A master and its replica."""

    kind = "redis-sentinel"
    trouble = "the master killed"

    def left(self) -> list[str]:
        return self._redis_keys(self.backend.server.master)


class Cluster(Service):
    """Three masters, one of which has a replica; that one is killed."""

    kind = "redis-cluster"
    trouble = "a master killed"

    def prepare(self) -> None:
        server = self.backend.server
        self._dying = server.members[2]
        self._replica = server.add_replica(self._dying)

    async def happen(self) -> None:
        self._dying.kill()

    def left(self) -> list[str]:
        members = [member for member in self.backend.server.members if member.running]
        return self._redis_keys(*members)


class Etcd(Service):
    """One etcd, which keeps what it knew."""

    kind = "etcd"
    trouble = "killed and restarted"

    def left(self) -> list[str]:
        everything = {"key": coded("\0"), "range_end": coded("\0"), "keys_only": True}
        found = self.backend.server.ask("kv/range", everything).get("kvs", ())
        return [decoded(each["key"]) for each in found]


class RedisGone(Service):
    """A Redis that does not come back."""

    trouble = "killed for good"

    async def happen(self) -> None:
        self.backend.away("")

    def left(self) -> list[str]:
        return []


class Objects(Service):
    """The locks of a storage, in the bucket of the modules."""

    trouble = "paused for 2 s"

    def __init__(self, reactor: Any, folder: Path, lease: int) -> None:
        self._reactor = reactor
        self.lease = max(lease or self.lease, self.least)
        self.store = Store(reactor, self.store_name, folder / "store")

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "ATHENS_SINGLE_FLIGHT_TYPE": self.kind,
            "ATHENS_STASH_TIMEOUT": "300",
            "TEST_LOCK_LEASE": str(self.lease),
        }

    async def happen(self) -> None:
        self.store.server.pause()
        await deferLater(self._reactor, PAUSE)
        self.store.server.resume()

    async def close(self) -> None:
        await self.store.close()


class GcpObjects(Objects):
    """Objects of ours."""

    kind = store_name = "gcp"

    def left(self) -> list[str]:
        return [name for name in self.store.raw.bucket.names() if name.startswith(".athens-tx/locks/")]


class AzureLeases(Objects):
    """Leases of blobs, which stay when the leases end."""

    kind = store_name = "azureblob"
    lease = least = 15

    def left(self) -> list[str]:
        blobs = self.store.raw.bucket.client.list_blobs("lease/")
        return [blob.name for blob in blobs if blob.lease.state == "leased"]


SERVICES: Mapping[str, type[Service]] = {
    "redis": Service,
    "redis, kept": RedisThatKeeps,
    "redis, gone": RedisGone,
    "redis-sentinel": Sentinel,
    "redis-cluster": Cluster,
    "etcd": Etcd,
    "gcp": GcpObjects,
    "azureblob": AzureLeases,
}
#: Those whose trouble takes no longer than it has to.
QUICK = [name for name in SERVICES if name != "redis, gone"]
