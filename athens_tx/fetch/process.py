"""
The one way to run a process: its own process group, a time limit, a bounded capture, and nothing left of it afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from athens_tx.errors import ConfigError, FetchFailed, FetchTimeout

#: Seconds that a pipe is read after its process ended and its whole group was killed: only a process that has left the
#: group can hold it open any longer.
_DRAIN = 0.5


@attrs.frozen
class Finished:
    """
    A process that ended by itself.

    @ivar status: its exit status; C{-N} if signal N ended it.
    @ivar stderr: decoded, its middle left out where it was too long.
    """

    status: int
    stdout: bytes
    stderr: str


class HeadTail:
    """Keeps the beginning and the end of a text that may be endless."""

    def __init__(self, limit: int) -> None:
        """@param limit: the most bytes kept, half at each end."""
        self._half = limit // 2
        self._head = b""
        self._tail = b""
        self._dropped = 0

    def write(self, data: bytes) -> None:
        """Add C{data}."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._half:
            self._trim()

    def _trim(self) -> None:
        extra = len(self._tail) - self._half
        if extra > 0:
            self._tail = self._tail[extra:]
            self._dropped += extra

    def text(self) -> str:
        """@return: what was kept, with a note of how much was not."""
        self._trim()
        gap = b"\n[... %d bytes left out ...]\n" % self._dropped if self._dropped else b""
        return (self._head + gap + self._tail).decode("utf-8", "replace")


class ProcessRunner:
    """Runs processes and knows which are running."""

    log = Logger()

    def __init__(self, reactor: Any, *, grace: float = 2.0) -> None:
        """
        @param grace: seconds from C{SIGTERM} to C{SIGKILL} for what overstays.
        @raise ConfigError: the machine lacks C{setsid} or C{env}.
        """
        self._reactor = reactor
        self._grace = grace
        self._env, self._setsid = _tool("env"), _tool("setsid")
        self._children: set[_Child] = set()
        self._stopping = False

    @property
    def running(self) -> int:
        """How many processes have not ended."""
        return len(self._children)

    async def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        limit_seconds: float,
        cwd: Path,
        stdout_limit: int = 64 * 1024 * 1024,
        stderr_limit: int = 256 * 1024,
    ) -> Finished:
        """
        Run C{argv} to its end. Cancelling it kills it.

        @param argv: the program's absolute path and its arguments.
        @param env: its whole environment.
        @param limit_seconds: how long it may take.
        @param stdout_limit: bytes of output after which it is killed.
        @raise FetchTimeout: it took too long.
        @raise FetchFailed: it could not be started, or printed too much.
        """
        if self._stopping:
            raise FetchFailed("the program is stopping")
        # Neither comes after the other by chance: env would take a program with a "=" in its path for an assignment.
        command = [self._env, "-C", str(cwd), self._setsid, *argv]
        child = _Child(self._reactor, self._grace, limit_seconds, stdout_limit, HeadTail(stderr_limit))
        try:
            self._reactor.spawnProcess(child, command[0], command, env=dict(env))
        except OSError as error:
            raise FetchFailed("a process can't be started", detail=str(error)) from error
        self._children.add(child)
        child.gone.addBoth(lambda _: self._children.discard(child))
        return await child.finished

    async def stop_all(self) -> None:
        """Start nothing more, kill what runs, and wait until it is gone."""
        self._stopping = True
        waiting: list[Deferred[None]] = []
        for child in list(self._children):
            gone: Deferred[None] = Deferred()
            child.gone.chainDeferred(gone)
            waiting.append(gone)
            child.stop(FetchFailed("the program is stopping"))
        await DeferredList(waiting)


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ConfigError([f"the command {name} is needed (packages util-linux and coreutils) and not on PATH"])
    return path


class _Child(ProcessProtocol):
    """
    One process.

    @ivar finished: what C{run} waits for.
    @ivar gone: fires when the process has ended, whoever still waits.
    """

    def __init__(self, reactor: Any, grace: float, limit: float, stdout_limit: int, stderr: HeadTail) -> None:
        self.finished: Deferred[Finished] = Deferred(lambda _: self._kill(signal.SIGKILL))
        self.gone: Deferred[None] = Deferred()
        self._reactor = reactor
        self._grace = grace
        self._limit = limit
        self._stdout: list[bytes] = []
        self._room = stdout_limit
        self._stdout_limit = stdout_limit
        self._stderr = stderr
        self._verdict: FetchFailed | None = None
        self._status: int | None = None
        self._timer: Any = None
        self._pid = 0

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._pid = self.transport.pid
        self.transport.closeStdin()
        self._later(self._limit, self._overstays)

    def outReceived(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._stdout.append(data)
        elif self._verdict is None:
            self._stdout.clear()
            self._verdict = FetchFailed(f"the command printed more than {self._stdout_limit} bytes")
            self._kill(signal.SIGKILL)

    def errReceived(self, data: bytes) -> None:
        self._stderr.write(data)

    def _overstays(self) -> None:
        self.stop(FetchTimeout(f"the command took longer than {self._limit:g} s"))

    def stop(self, why: FetchFailed) -> None:
        """Ask it to end, then make it end; C{finished} fails with C{why}."""
        self._verdict = self._verdict or why
        self._kill(signal.SIGTERM)
        self._later(self._grace, self._insist)

    def _insist(self) -> None:
        self._kill(signal.SIGKILL)
        self._later(self._grace, self._answer)  # for one that even this does not end: nobody waits for it

    def _kill(self, number: int) -> None:
        if self._status is not None:
            return
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:  # it has not come to its setsid yet
            os.kill(self._pid, number)

    def processExited(self, reason: Failure) -> None:
        value: Any = reason.value
        self._status = value.exitCode if value.exitCode is not None else -(value.signal or 0)
        try:
            os.killpg(self._pid, signal.SIGKILL)  # what it left behind holds its pipes, and has nobody to work for
        except ProcessLookupError:
            pass
        except PermissionError:  # a group of strangers: ours was empty and its number is used again
            pass
        self._later(_DRAIN, self._let_go)

    def _let_go(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()  # closes our ends of the pipes; then it has ended for Twisted too

    def processEnded(self, reason: Failure) -> None:
        self._answer()

    def _later(self, seconds: float, what: Any) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, what)

    def _answer(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        if self.gone.called:
            return
        assert self.transport is not None
        self.transport.loseConnection()
        self.gone.callback(None)
        if self.finished.called:  # cancelled
            return
        stderr = self._stderr.text()
        if self._verdict is None:
            self.finished.callback(Finished(self._status or 0, b"".join(self._stdout), stderr))
        else:
            self._verdict.detail = stderr
            self.finished.errback(Failure(self._verdict))
