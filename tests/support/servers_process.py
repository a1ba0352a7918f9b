"""A server as a child process: started on a free port of loopback, ready when it answers, and never left behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tests.support.daemon import free_port
from tests.support.servers_install import Program

HOST = "127.0.0.1"

# Runs a command that the kernel kills when the one that started it is gone, by whatever signal that was.
_LEASH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)


class NotReady(Exception):
    """The server did not come up, or is gone; the message ends with what it last said."""


class Server:
    """
    One server, with its data in a directory of its own.

    @cvar name: what the tests call it.
    @cvar program: what it is.
    @cvar limit: how many seconds it may take to come up.
    @ivar port: its port; the same again when it is started again.
    """

    name: ClassVar[str]
    program: ClassVar[Program]
    limit: ClassVar[float] = 30.0

    def __init__(self, directory: Path) -> None:
        """@param directory: does not exist, or is empty."""
        self.directory = directory
        self.data = directory / "data"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        assert self._process is not None, "was not started"
        return self._process.pid

    def command(self) -> Sequence[str]:
        """@return: the command that runs it on C{self.port}, over C{self.data}."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """@return: what it finds in its environment besides PATH and HOME."""
        return {}

    def access(self) -> Mapping[str, str]:
        """@return: what a client has to know, for people to read."""
        return {"endpoint": self.endpoint}

    def answers(self) -> bool:
        """@return: whether it is ready."""
        raise NotImplementedError

    def start(self) -> None:
        """
        Start it and wait until it is ready. To be called on the main thread: the server ends with the thread.

        @raise NotReady: it did not come up.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        for port in [self.port] if self.port else [free_port(), free_port(), free_port()]:
            self.port = port
            self._spawn()
            if self._comes_up():
                return
            if self.running:
                break
            # it ended by itself: the port may have been taken between the choice and the use
        why = "is not ready in time" if self.running else "has ended"
        self.kill()
        raise NotReady(f"{self.name} {why}\n{self.last_words()}")

    def _spawn(self) -> None:
        leash = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid())]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.environment()}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*leash, *self.command()],
                env=env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _comes_up(self) -> bool:
        end = time.monotonic() + self.limit
        while self.running and time.monotonic() < end:
            if self.answers():
                return True
            time.sleep(0.02)
        return False

    def last_words(self) -> str:
        """@return: the end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-15:])
        return ""

    def pause(self) -> None:
        """Let it answer nothing, with its connections kept."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after L{pause}."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all that it started, at once. Its data stay."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End it for good, and remove its data."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def connects(port: int) -> bool:
    """@return: whether something listens there."""
    with socket.socket() as trial:
        trial.settimeout(2)
        return trial.connect_ex((HOST, port)) == 0


def status(port: int, path: str) -> int | None:
    """@return: the HTTP status that a GET gives, if there is an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
