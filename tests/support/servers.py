"""
The real servers that the tests of the storages talk to, each started when a test first asks for it.

    python -m tests.support.servers install [NAME...]
    python -m tests.support.servers list
    python -m tests.support.servers run NAME...

A test calls L{s3}, L{minio} and so on; the server is the same one throughout the session, and ends with it. Each test
takes a bucket (a container, a database) of its own: C{s3().bucket()}. A test that stops its server makes one for
itself: C{own("s3", tmp_path / "s3")}.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers_clouds import Azurite, FakeGcs
from tests.support.servers_etcd import Etcd
from tests.support.servers_install import NotInstalled
from tests.support.servers_mongo import MongoJava
from tests.support.servers_process import NotReady, Server
from tests.support.servers_redis import Cluster, Redis, Sentinel
from tests.support.servers_s3 import Minio, Versitygw
from tests.support.servers_sql import MariaDb, Postgres

SERVERS: Mapping[str, type[Server]] = {
    server.name: server
    for server in (Versitygw, FakeGcs, Azurite, MongoJava, Minio, Postgres, MariaDb, Redis, Sentinel, Cluster, Etcd)
}

#: How many seconds an installation of everything may take.
INSTALL_LIMIT = 1500.0


class Session:
    """The servers of one test session."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._started: dict[str, Server] = {}
        self._failed: dict[str, NotReady] = {}

    def begin(self, directory: Path) -> None:
        """@param directory: where the servers keep their data."""
        self._directory = directory

    def end(self) -> None:
        """Stop every server."""
        while self._started:
            self._started.popitem()[1].stop()

    def server(self, name: str) -> Any:
        """
        @return: the server, running.
        @raise NotReady: it does not come up; this is found out once.
        """
        if name in self._failed:
            raise self._failed[name]
        if name not in self._started:
            if self._directory is None:
                raise RuntimeError("outside a test session there are no servers")
            try:
                self._started[name] = own(name, self._directory / name)
            except NotReady as e:
                self._failed[name] = e
                raise
        found = self._started[name]
        if not found.running:
            raise NotReady(f"{name} has ended\n{found.last_words()}")
        return found


#: The one of this process; tests/conftest.py begins and ends it.
session = Session()


def own(name: str, directory: Path) -> Any:
    """
    @return: a server of a test's own, started, which the test has to L{stop <Server.stop>}. The test is skipped if the
        server is not installed.
    """
    lacking = SERVERS[name].program.lacking()
    if lacking is not None:
        pytest.skip(lacking)
    server = SERVERS[name](directory)
    server.start()
    return server


def s3() -> Versitygw:
    """@return: the S3 server of the session."""
    found: Versitygw = session.server("s3")
    return found


def minio() -> Minio:
    """@return: the MinIO of the session."""
    found: Minio = session.server("minio")
    return found


def gcs() -> FakeGcs:
    """@return: the Google Cloud Storage of the session."""
    found: FakeGcs = session.server("gcs")
    return found


def azure() -> Azurite:
    """@return: the Azure Blob Storage of the session."""
    found: Azurite = session.server("azure")
    return found


def mongo() -> MongoJava:
    """@return: the MongoDB of the session."""
    found: MongoJava = session.server("mongo")
    return found


def postgres() -> Postgres:
    """@return: the PostgreSQL of the session."""
    found: Postgres = session.server("postgres")
    return found


def mariadb() -> MariaDb:
    """@return: the MariaDB of the session."""
    found: MariaDb = session.server("mariadb")
    return found


def redis() -> Redis:
    """@return: the Redis of the session."""
    found: Redis = session.server("redis")
    return found


def redis_sentinel() -> Sentinel:
    """@return: the Redis master with its replica and a sentinel, of the session."""
    found: Sentinel = session.server("redis-sentinel")
    return found


def redis_cluster() -> Cluster:
    """@return: the Redis Cluster of the session."""
    found: Cluster = session.server("redis-cluster")
    return found


def etcd() -> Etcd:
    """@return: the etcd of the session."""
    found: Etcd = session.server("etcd")
    return found


def install(names: Sequence[str]) -> bool:
    """
    Install what is missing, two at a time, and print a line about each.

    @return: whether all of them are there now.
    """
    missing = [name for name in names if SERVERS[name].program.lacking() is not None]
    end = time.monotonic() + INSTALL_LIMIT

    def one(name: str) -> bool:
        program, begun = SERVERS[name].program, time.monotonic()
        try:
            program.install(end - begun)
        except (NotInstalled, OSError) as e:
            print(f"{name}: {program.name} {program.version} was not installed: {e}", flush=True)
            return False
        took = time.monotonic() - begun
        print(f"{name}: {program.name} {program.version} was installed in {took:.0f} s", flush=True)
        return True

    if missing:
        print(f"installing test servers, this may take some minutes: {', '.join(missing)}", flush=True)
    with ThreadPoolExecutor(2) as pool:
        return all([*pool.map(one, missing)])


def show(names: Sequence[str]) -> bool:
    """Print what is there; @return: whether all is."""
    lacking = {name: SERVERS[name].program.lacking() for name in names}
    for name, why in lacking.items():
        print(f"{name}: {why or SERVERS[name].program.folder}")
    return not any(lacking.values())


def run(names: Sequence[str]) -> bool:
    """Start servers, print how to reach them and wait for an interrupt; @return: whether all came up."""
    if not show(names):
        return False
    running: list[Server] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="athens-tx-servers-") as directory:
        try:
            for name in names:
                running.append(SERVERS[name](Path(directory) / name))
                running[-1].start()
                for key, value in running[-1].access().items():
                    print(f"{name}: {key} = {value}", flush=True)
            signal.pause()
        except NotReady as e:
            print(e, file=sys.stderr)
        except KeyboardInterrupt:
            return True
        finally:
            for server in running:
                server.stop()
    return False


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="The servers that the tests of the storages talk to.")
    parser.add_argument("verb", choices=["install", "list", "run"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SERVERS))
    arguments = parser.parse_args()
    names = arguments.names or list(SERVERS)
    unknown = sorted(set(names) - set(SERVERS))
    if unknown:
        parser.error(f"no server is called {', '.join(unknown)}")
    verbs = {"install": install, "list": show, "run": run}
    return 0 if verbs[arguments.verb](names) else 1


if __name__ == "__main__":
    sys.exit(main())
