"""
The lock services that keep to the contract, one line each in L{BACKENDS}: a lock is done when it is in the table.

A backend's entry is a class that says which settings lead to a server, does there what Athens does, past athens-tx, and
makes trouble.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from athens_tx.backends import LOCKS
from athens_tx.config import load
from tests.contract.etcd_locks import EtcdOne
from tests.contract.object_locks import AzureBlobLeases, GcpObject
from tests.contract.redis_locks import RedisCluster, RedisOne, RedisSentinels

#: The variable that makes a lease shorter which no setting makes so.
LEASE = "TEST_LOCK_LEASE"


class LockBackend(Protocol):
    """
    A lock service for one test.

    @cvar kind: the C{SingleFlightType}.
    @cvar tells: whether who waits is told of a release.
    @cvar forgets: whether the server forgets its locks when it is killed.
    @ivar environ: the settings that lead to it.
    """

    kind: ClassVar[str]
    tells: ClassVar[bool]
    forgets: ClassVar[bool]
    environ: Mapping[str, str]

    def __init__(self, lease: int, own: Path | None = None) -> None:
        """
        @param lease: seconds that a lock lives without being renewed, where that can be set.
        @param own: for a server of the test's own, which can be sent away: where it keeps its data.
        """

    def take(self, name: str) -> Any:
        """As Athens takes a lock; @return: what it needs to release it; C{None} if somebody else holds it."""

    def release(self, name: str, token: Any) -> bool:
        """As Athens releases a lock; @return: whether it was its own."""

    def lose(self, name: str) -> None:
        """Take a lock from its holder, whoever it is."""

    def away(self, name: str) -> None:
        """Kill the server that has this lock. Only with one of the test's own."""

    def back(self) -> None:
        """Start it again, or leave it to its replica."""

    def close(self) -> None:
        """Stop the test's own server."""


def locks(reactor: Any, environ: Mapping[str, str]) -> Any:
    """@return: an ILocks as the daemon makes it for these settings."""
    config = load(None, environ, cwd=Path("/")).config
    made = LOCKS[config.single_flight_type](reactor, config, environ)
    if LEASE in environ:
        made.lease = float(environ[LEASE])
    return made


BACKENDS: Mapping[str, type[LockBackend]] = {
    "azureblob": AzureBlobLeases,
    "etcd": EtcdOne,
    "gcp": GcpObject,
    "redis": RedisOne,
    "redis-cluster": RedisCluster,
    "redis-sentinel": RedisSentinels,
}
