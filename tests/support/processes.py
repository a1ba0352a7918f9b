"""Runs a command through the reactor, to its end or to a time limit, and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


@attrs.frozen
class Finished:
    """
    How a command ended.

    @ivar status: its exit status, or minus the number of the signal that ended it.
    """

    status: int
    stdout: str
    stderr: str

    def check(self) -> Finished:
        """Fail the test with all that the command said, unless it succeeded."""
        assert self.status == 0, f"exit status {self.status}\n{self.stdout[-4000:]}\n{self.stderr[-8000:]}"
        return self


class _Collector(ProcessProtocol):
    def __init__(self, done: Deferred[Finished]) -> None:
        self._done = done
        self._out: dict[int, list[bytes]] = {1: [], 2: []}

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._out[childFD].append(data)

    def processEnded(self, reason: Failure) -> None:
        out, err = (b"".join(self._out[fd]).decode("utf-8", "replace") for fd in (1, 2))
        self._done.callback(Finished(exit_status(reason), out, err))


def exit_status(reason: Failure) -> int:
    """@return: what C{processEnded} says, as L{Finished.status}."""
    if reason.check(ProcessDone):
        return 0
    ended: Any = reason.value
    return -int(ended.signal) if ended.signal is not None else int(ended.exitCode)


def spawn(
    reactor: Any, protocol: ProcessProtocol, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
) -> int:
    """
    Start a command in a process group of its own.

    @return: its process id, which is the group's.
    """
    setsid = shutil.which("setsid") or "/usr/bin/setsid"
    pids: list[int] = []
    made = protocol.connectionMade

    def connection_made() -> None:
        transport: Any = protocol.transport
        pids.append(int(transport.pid))  # which the transport forgets when a quick one has ended already
        made()

    protocol.connectionMade = connection_made  # type: ignore[method-assign]
    reactor.spawnProcess(protocol, setsid, ["setsid", *argv], env=dict(env), path=str(cwd) if cwd is not None else None)
    return pids[0]


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a whole process group, if there is still one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


async def run(
    reactor: Any, argv: Sequence[str], env: Mapping[str, str], *, cwd: Path | None = None, limit: float = 60.0
) -> Finished:
    """Run a command; when C{limit} seconds are over, its group is killed and the status is -9."""
    done: Deferred[Finished] = Deferred()
    pid = spawn(reactor, _Collector(done), argv, env, cwd)
    timer = reactor.callLater(limit, kill_group, pid)
    try:
        return await done
    finally:
        if timer.active():
            timer.cancel()
        kill_group(pid)


def group_members(group: int) -> list[int]:
    """@return: the living processes (no zombies) of a process group, from C{/proc}."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _parent, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state != "Z":
                members.append(int(entry.name))
    return members


def descendants(pid: int) -> list[int]:
    """@return: the living children of a process, their children and so on, from C{/proc}."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def having_in_environment(text: str) -> list[int]:
    """@return: the living processes whose environment holds C{text}: what a dead parent left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found
