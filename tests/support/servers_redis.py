"""Redis as Debian has it: one server, a master with its replica and a sentinel, a cluster of three."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import trustme

from tests.support.daemon import free_port
from tests.support.servers_process import HOST, NotReady, Server
from tests.support.servers_sql import Packaged

PASSWORD = "s@cret:of redis"
#: Users: one who may do everything, and one who may neither publish nor subscribe.
USER, USER_PASSWORD = "ada", "her own/word"
MUTE, MUTE_PASSWORD = "mute", "silent"
SENTINEL_PASSWORD = "watching"
MASTER = "redis-1"

_numbers = itertools.count(1)


def name() -> str:
    """@return: C{path@version} that no other test uses."""
    return f"example.com/lock{next(_numbers)}-{os.urandom(3).hex()}@v1.0.0"


class RawError(Exception):
    """The server says no."""


class Raw:
    """A blocking client that takes what the server says as it is: bytes, numbers, lists."""

    def __init__(self, port: int, password: str = PASSWORD, timeout: float = 5.0) -> None:
        self._socket = socket.create_connection((HOST, port), timeout)
        self._file = self._socket.makefile("rb")
        if password:
            self("AUTH", password)

    def __call__(self, *command: str | bytes | int) -> Any:
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        data = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), data))
        return self.read()

    def read(self) -> Any:
        """@return: the next thing that comes."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RawError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Redis(Server):
    """
    One server, with passwords and TLS, on TCP and on a socket.

    @ivar more: lines of its configuration.
    @ivar tls_port: where it speaks TLS.
    """

    name = "redis"
    program: ClassVar[Any] = Packaged("redis-server", "redis-server")

    def __init__(self, directory: Path, more: Sequence[str] = ()) -> None:
        super().__init__(directory)
        self.more = list(more)
        self.tls_port = free_port()
        self.authority = trustme.CA()

    @property
    def socket(self) -> Path:
        """Its Unix socket; the path is short enough for one."""
        return Path(tempfile.gettempdir()) / f"athens-tx-redis-{self.port}.sock"

    @property
    def authority_file(self) -> Path:
        """The certificate of its authority, PEM."""
        return self.directory / "ca.pem"

    def _certificate(self) -> None:
        made = self.authority.issue_cert("localhost", HOST)
        self.authority.cert_pem.write_to_path(str(self.authority_file))
        made.private_key_and_cert_chain_pem.write_to_path(str(self.directory / "server.pem"))

    def configuration(self) -> list[str]:
        """@return: the lines of its configuration."""
        return [
            f"bind {HOST}",
            f"port {self.port}",
            f"tls-port {self.tls_port}",
            f"tls-cert-file {self.directory}/server.pem",
            f"tls-key-file {self.directory}/server.pem",
            f"tls-ca-cert-file {self.authority_file}",
            "tls-auth-clients no",
            f"unixsocket {self.socket}",
            f"dir {self.data}",
            'save ""',
            "repl-diskless-sync-delay 0",
            "loglevel warning",
            f'requirepass "{PASSWORD}"',
            f'masterauth "{PASSWORD}"',
            f'user {USER} on ">{USER_PASSWORD}" ~* &* +@all',
            f"user {MUTE} on >{MUTE_PASSWORD} ~* resetchannels +@all",
            *self.more,
        ]

    def command(self) -> Sequence[str]:
        if not self.authority_file.exists():
            self._certificate()
        file = self.directory / "redis.conf"
        file.write_text("\n".join(self.configuration()) + "\n")
        return ["redis-server", str(file)]

    @contextlib.contextmanager
    def raw(self) -> Iterator[Raw]:
        """Around commands past athens-tx."""
        client = Raw(self.port)
        try:
            yield client
        finally:
            client.close()

    def ask(self, *command: str | bytes | int) -> Any:
        """@return: the answer to one command."""
        with self.raw() as client:
            return client(*command)

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except (OSError, RawError):
            return False

    def kill(self) -> None:
        super().kill()
        self.socket.unlink(missing_ok=True)

    def access(self) -> Mapping[str, str]:
        return {"address": f"{HOST}:{self.port}", "password": PASSWORD, "tls": f"{HOST}:{self.tls_port}"}


class _Watcher(Redis):
    """The sentinel itself."""

    def __init__(self, directory: Path, master: Redis) -> None:
        super().__init__(directory)
        self._master = master

    def command(self) -> Sequence[str]:
        file = self.directory / "sentinel.conf"
        if not file.exists():  # it keeps there what it knows
            file.write_text("\n".join(self.configuration()) + "\n")
        return ["redis-server", str(file), "--sentinel"]

    def configuration(self) -> list[str]:
        return [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.data}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {MASTER} {HOST} {self._master.port} 1",
            f'sentinel auth-pass {MASTER} "{PASSWORD}"',
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 3000",
        ]

    @contextlib.contextmanager
    def raw(self) -> Iterator[Raw]:
        client = Raw(self.port, SENTINEL_PASSWORD)
        try:
            yield client
        finally:
            client.close()

    def answers(self) -> bool:
        try:
            known = self.ask("INFO", "sentinel").decode()
        except (OSError, RawError):
            return False
        return "status=ok" in known and "slaves=1" in known


class SecureSentinel(_Watcher):
    """A sentinel of one master without a replica; they speak TLS to each other, and it names that port of it."""

    def configuration(self) -> list[str]:
        master = self._master
        return [
            *[line for line in super().configuration() if "sentinel monitor" not in line],
            f"tls-port {self.tls_port}",
            f"tls-cert-file {master.directory}/server.pem",
            f"tls-key-file {master.directory}/server.pem",
            f"tls-ca-cert-file {master.authority_file}",
            "tls-auth-clients no",
            "tls-replication yes",
            f"sentinel monitor {MASTER} {HOST} {master.tls_port} 1",
        ]

    def answers(self) -> bool:
        try:
            return b"status=ok" in self.ask("INFO", "sentinel")
        except (OSError, RawError):
            return False


class Group(Server):
    """
    Some servers that are one to the tests; it begins and ends with all of them.

    @ivar members: in the order of their start.
    """

    program: ClassVar[Any] = Packaged("redis-server", "redis-server")
    members: Sequence[Redis] = ()

    @property
    def running(self) -> bool:
        return bool(self.members) and any(member.running for member in self.members)

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def stop(self) -> None:
        for member in self.members:
            member.stop()

    def last_words(self) -> str:
        return "\n".join(member.last_words() for member in self.members)

    def wait(self, what: str, ready: Any, limit: float = 30.0) -> None:
        """@raise NotReady: C{ready} does not become true."""
        end = time.monotonic() + limit
        while not ready():
            if time.monotonic() > end:
                raise NotReady(f"{self.name}: {what}\n{self.last_words()}")
            time.sleep(0.05)


class Sentinel(Group):
    """
    A master, its replica, and a sentinel that sees to a successor within some seconds.

    @ivar first: the master of the beginning.
    @ivar second: its replica.
    @ivar port: of the sentinel.
    """

    name = "redis-sentinel"

    def start(self) -> None:
        if not self.members:
            self.first = Redis(self.directory / "first")
            self.second = Redis(self.directory / "second")
            self.watcher = _Watcher(self.directory / "sentinel", self.first)
            self.members = (self.first, self.second, self.watcher)
        self.first.start()
        if not self.second.more:
            self.second.more.append(f"replicaof {HOST} {self.first.port}")
        self.second.start()
        self.wait("no replica", lambda: b"state=online" in self.first.ask("INFO", "replication"))
        self.watcher.start()
        self.port = self.watcher.port

    @property
    def master(self) -> Redis:
        """The one that the sentinel names now."""
        port = int(self.watcher.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])
        return self.first if port == self.first.port else self.second

    def ask(self, *command: str | bytes | int) -> Any:
        """@return: what the master answers."""
        return self.master.ask(*command)


class Cluster(Group):
    """Three servers that share the keys."""

    name = "redis-cluster"

    def start(self) -> None:
        new = not self.members
        if new:
            self.members = [Redis(self.directory / f"node{number}") for number in range(3)]
        for member in self.members:
            if not member.more:
                bus = free_port()
                member.more += ["cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 2000"]
            member.start()
        if new:
            addresses = [f"{HOST}:{member.port}" for member in self.members]
            command = ["redis-cli", "-a", PASSWORD, "--no-auth-warning", "--cluster", "create", *addresses]
            done = subprocess.run(
                [*command, "--cluster-replicas", "0", "--cluster-yes"], capture_output=True, text=True, timeout=60
            )
            if done.returncode:
                raise NotReady(f"{self.name}: {done.stdout[-500:]}{done.stderr[-500:]}")
        self.wait("no cluster", self.well)
        self.port = self.members[0].port

    def add_replica(self, master: Redis) -> Redis:
        """@return: a new server that takes the place of C{master} when that is gone; it is a member."""
        replica = Redis(self.directory / f"node{len(self.members)}")
        replica.more = ["cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 2000"]
        replica.start()
        bus = next(line for line in master.more if line.startswith("cluster-port"))
        replica.ask("CLUSTER", "MEET", HOST, master.port, int(bus.split()[1]))
        name_of_master = master.ask("CLUSTER", "MYID")
        self.members = [*self.members, replica]
        self.wait("strangers", lambda: self._all_know(b" connected", len(self.members)))
        replica.ask("CLUSTER", "REPLICATE", name_of_master)
        self.wait("no replica", lambda: self._all_know(b"slave ", 1))
        self.wait("no link", lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        return replica

    def _all_know(self, what: bytes, times: int) -> bool:
        return all(member.ask("CLUSTER", "NODES").count(what) == times for member in self.members)

    def well(self) -> bool:
        """@return: whether all of them say so."""
        try:
            return all(b"cluster_state:ok" in member.ask("CLUSTER", "INFO") for member in self.members)
        except (OSError, RawError):
            return False

    def ask(self, *command: str | bytes | int) -> Any:
        """@return: what the one that has the key answers; the key is the second word."""
        for member in self.members:
            try:
                return member.ask(*command)
            except RawError as error:
                if not str(error).startswith("MOVED"):
                    raise
        raise RawError("nobody has it")
