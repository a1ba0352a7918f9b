"""
The daemon as a user has it: a child process, started by its own command, spoken to over TCP.

Whatever a test does, the process and everything it started are gone after L{Daemon.kill}.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.support.http import Reply, request
from tests.support.processes import Finished, descendants, exit_status, having_in_environment, kill_group, run, spawn
from tests.support.repositories import Repositories
from tests.support.upstream import Upstream

#: Where the virtual environment keeps its commands.
BIN = Path(sys.executable).parent


def free_port() -> int:
    """
    @return: a free port below those that outgoing connections get: a client's own end can't sit on it.
    """
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class _Watcher(ProcessProtocol):
    """Keeps the lines that the daemon prints and tells those who wait for one, or for its end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._grace: Any = None
        self.lines: list[str] = []
        self.status: int | None = None
        self.ended: list[Deferred[int]] = []
        self.waiting: list[tuple[re.Pattern[str], Deferred[str]]] = []
        self._rest: dict[int, bytes] = {1: b"", 2: b""}

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest[childFD] = (self._rest[childFD] + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            self.lines.append(text)
            for entry in [e for e in self.waiting if e[0].search(text)]:
                self.waiting.remove(entry)
                entry[1].callback(text)

    def processExited(self, reason: Failure) -> None:
        self.status = exit_status(reason)
        # A child that outlives the daemon holds its pipes open: that is for the test to find, not to wait for.
        self._grace = self._reactor.callLater(1.0, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self.status = exit_status(reason)
        for rest in self._rest.values():
            if rest:
                self.lines.append(rest.decode("utf-8", "replace"))
        ended, self.ended = self.ended, []
        for waiter in ended:
            waiter.callback(self.status)
        waiting, self.waiting = self.waiting, []
        for pattern, line in waiting:
            line.errback(
                AssertionError(f"the daemon ended without a line that fits {pattern.pattern!r}\n{self.text()}")
            )

    def text(self) -> str:
        return "\n".join(self.lines[-200:])


@attrs.define
class Daemon:
    """
    One daemon. The settings are Athens' environment variables.

    @ivar folder: its home, its temporary files and its working folder are below.
    @ivar env: settings; C{ATHENS_PORT} is chosen, and the storage is on disk below C{folder} unless they say otherwise.
    @ivar config: the text of a configuration file, if it is to have one.
    @ivar command: C{serve} for C{athens-tx serve}, C{twistd} for C{twistd -n athens}; or any command line.
    """

    reactor: Any
    folder: Path
    env: dict[str, str] = attrs.Factory(dict)
    config: str | None = None
    command: str | Sequence[str] = "serve"
    port: int = attrs.Factory(free_port)
    pid: int = 0
    _watcher: _Watcher = attrs.Factory(lambda self: _Watcher(self.reactor), takes_self=True)

    @property
    def url(self) -> str:
        """Where it listens, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> Path:
        """The root of its disk storage."""
        return Path(self.environment()["ATHENS_DISK_STORAGE_ROOT"])

    @property
    def lines(self) -> list[str]:
        """What it printed so far."""
        return self._watcher.lines

    @property
    def status(self) -> int | None:
        """Its exit status, C{None} while it runs."""
        return self._watcher.status

    def environment(self) -> dict[str, str]:
        """@return: all of the environment that it gets."""
        home = self.folder / "home"
        temporary = self.folder / "tmp"
        values = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "ATHENS_PORT": f"127.0.0.1:{self.port}",
            "ATHENS_STORAGE_TYPE": "disk",
            "ATHENS_DISK_STORAGE_ROOT": str(self.folder / "storage"),
            "ATHENS_LOG_LEVEL": "debug",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **self.env,
        }
        for name in ("HOME", "TMPDIR", "ATHENS_DISK_STORAGE_ROOT"):
            Path(values[name]).mkdir(parents=True, exist_ok=True)
        return values

    def argv(self) -> list[str]:
        """@return: the command line."""
        if not isinstance(self.command, str):
            return list(self.command)
        file = []
        if self.config is not None:
            path = self.folder / "athens.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.config)
            file = ["--config", str(path)]
        if self.command == "twistd":
            return [str(BIN / "twistd"), "-n", "--pidfile=", "athens", *file]
        return [str(BIN / "athens-tx"), "serve", *file]

    async def start(self, limit: float = 30.0) -> Daemon:
        """Start it and wait until it answers."""
        self.launch()
        await self.ready(limit)
        return self

    def launch(self) -> None:
        """Start it, and don't wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._watcher = _Watcher(self.reactor)
        self.pid = spawn(self.reactor, self._watcher, self.argv(), self.environment(), self.folder)

    async def ready(self, limit: float = 30.0) -> None:
        """Ask C{/healthz} until it answers; fail when the daemon ends before, or when time is up."""
        deadline = self.reactor.seconds() + limit
        while True:
            if self.status is not None:
                raise AssertionError(f"the daemon ended with status {self.status}\n{self._watcher.text()}")
            try:
                if (await request(self.reactor, f"{self.url}/healthz")).status < 500:
                    return
            except Refused:
                pass
            if self.reactor.seconds() > deadline:
                raise AssertionError(f"the daemon does not answer\n{self._watcher.text()}")
            await deferLater(self.reactor, 0.05)

    async def get(self, path: str, **options: Any) -> Reply:
        """Ask for C{path}, which begins with a slash."""
        return await request(self.reactor, self.url + path, **options)

    def logged(self, pattern: str) -> Deferred[str]:
        """@return: fires with the first line, from now on, that fits; fails when the daemon ends without one."""
        waiter: Deferred[str] = Deferred()
        self._watcher.waiting.append((re.compile(pattern), waiter))
        return waiter

    def has_logged(self, text: str) -> bool:
        """@return: whether a line so far holds this text."""
        return any(text in line for line in self.lines)

    def rss(self) -> int:
        """@return: bytes of memory that it has resident now."""
        return self._memory("VmRSS")

    def peak_rss(self) -> int:
        """@return: the most bytes of memory that it ever had resident, or since L{forget_peak}."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Begin L{peak_rss} anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def children(self) -> list[int]:
        """@return: the processes that it started and those that they started, in whatever group, orphans too."""
        if self.status is None:
            return descendants(self.pid)
        return having_in_environment(f"{self.folder}/")

    def signal(self, number: int) -> None:
        """Send it a signal; only it, not what it started."""
        os.kill(self.pid, number)

    def ended(self) -> Deferred[int]:
        """@return: fires with its exit status."""
        waiter: Deferred[int] = Deferred()
        if self.status is not None:
            waiter.callback(self.status)
        else:
            self._watcher.ended.append(waiter)
        return waiter

    async def stop(self, limit: float = 20.0) -> int:
        """SIGTERM it; @return: its exit status; it is killed when C{limit} is over."""
        if self.status is None:
            self.signal(signal.SIGTERM)
        return await self._end(limit)

    async def kill(self) -> None:
        """SIGKILL it and all that it started; harmless when it has ended."""
        if not self.pid:
            return
        if self.status is None:
            self.signal(signal.SIGSTOP)  # so that it starts nothing while its children are counted
            for child in self.children():
                kill_group(child)
        kill_group(self.pid)
        await self._end(10.0)
        for orphan in having_in_environment(f"{self.folder}/"):
            kill_group(orphan)

    async def _end(self, limit: float) -> int:
        timer = self.reactor.callLater(limit, kill_group, self.pid)
        try:
            return await self.ended()
        finally:
            if timer.active():
                timer.cancel()

    async def cli(self, *args: str, limit: float = 30.0, **env: str) -> Finished:
        """Run C{athens-tx ARGS} with the daemon's settings."""
        return await run(
            self.reactor, [str(BIN / "athens-tx"), *args], {**self.environment(), **env}, cwd=self.folder, limit=limit
        )


#: What makes daemons in an end-to-end test: see the fixture C{make_daemon}.
MakeDaemon = Callable[..., Daemon]


def go_variables(**values: str) -> str:
    """@return: C{ATHENS_GO_BINARY_ENV_VARS}."""
    return ";".join(f"{name}={value}" for name, value in values.items())


def direct(repositories: Repositories, **more: str) -> dict[str, str]:
    """@return: the settings of a daemon that fetches from C{repositories} itself; C{more} are settings, too."""
    return {
        "HOME": str(repositories.home),
        "ATHENS_GO_BINARY_ENV_VARS": go_variables(GOPROXY="direct", GOSUMDB="off"),
        **more,
    }


def through(upstream: Upstream, **more: str) -> dict[str, str]:
    """@return: the settings of a daemon that fetches from C{upstream}, without the checksum database."""
    return {"ATHENS_GO_BINARY_ENV_VARS": go_variables(GOPROXY=upstream.url, GOSUMDB="off"), **more}
