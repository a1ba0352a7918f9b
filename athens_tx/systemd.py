"""
What the daemon and systemd tell each other: C{sd_notify}, the watchdog, and sockets that systemd opened.

Without systemd all of it does nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: The first descriptor that systemd passes.
FIRST_DESCRIPTOR = 3

_DOMAINS = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


class Notifier:
    """
    Tells systemd how the daemon is.

    Takes its settings out of the environment, so that no child can speak in the daemon's name. Nothing that goes wrong
    here stops the daemon; it is logged.
    """

    log = Logger()

    def __init__(self, environ: MutableMapping[str, str], clock: IReactorTime, *, pid: int) -> None:
        """
        @param environ: C{NOTIFY_SOCKET}, C{WATCHDOG_USEC} and C{WATCHDOG_PID} are removed from it.
        @param pid: of this process; the watchdog may be meant for another one.
        """
        self._clock = clock
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        interval = _number(environ.pop("WATCHDOG_USEC", ""))
        meant = environ.pop("WATCHDOG_PID", "")
        #: Seconds between two signs of life, half of what systemd allows; 0 without a watchdog.
        self.interval = interval / 2e6 if self._address and meant in ("", str(pid)) else 0.0
        self._loop: LoopingCall | None = None
        self._well = True

    def ready(self, status: str = "") -> None:
        """The daemon answers requests: after its start, and again after L{reloading}."""
        self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> None:
        """The settings are being read again; L{ready} must follow, also where they were refused."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *_status(status))

    def stopping(self, status: str = "") -> None:
        """
        The daemon has begun to shut down.

        The watchdog runs on: what is in flight is still being answered, and that may hang as well.
        """
        self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> None:
        """Show one line in C{systemctl status}."""
        self._send(*_status(text))

    def start_watchdog(self, healthy: Callable[[], bool]) -> None:
        """
        Give signs of life as long as C{healthy} says so, the first one now.

        @param healthy: called in the reactor; that it is called at all shows that the reactor turns.
        """
        if self.interval > 0 and self._loop is None:
            self._loop = LoopingCall(self._sign, healthy)
            self._loop.clock = self._clock
            self._loop.start(self.interval)

    def stop_watchdog(self) -> None:
        """Give no more signs of life."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.running:
            loop.stop()

    def _sign(self, healthy: Callable[[], bool]) -> None:
        try:
            well = bool(healthy())
        except Exception:
            self.log.failure("the daemon could not be asked for its health")
            well = False
        if well:
            self._send("WATCHDOG=1")
        elif self._well:
            self.log.error("not healthy: systemd gets no sign of life, and will restart the daemon")
        self._well = well

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            self.log.warn("systemd could not be told {state}: {reason}", state=lines[0], reason=str(error))


def _address(setting: str) -> str:
    """@return: C{NOTIFY_SOCKET} as C{sendto} takes it; empty for what is no Unix socket."""
    if setting.startswith("@"):
        return "\0" + setting[1:]
    return setting if setting.startswith("/") else ""


def _number(setting: str) -> int:
    return int(setting) if setting.isascii() and setting.isdigit() else 0


def _status(text: str) -> list[str]:
    """@return: one assignment: a second line would be another one."""
    return [f"STATUS={' '.join(text.split())[:500]}"] if text else []


def activated_endpoints(environ: Mapping[str, str], *, pid: int, first: int = FIRST_DESCRIPTOR) -> list[str]:
    """
    Name the sockets that systemd opened, as Twisted's C{serverFromString} takes them.

    Twisted's parser must have the family of a socket right, so each is asked. It takes C{LISTEN_FDS} out of the
    environment when C{twisted.internet.endpoints} is imported: give a copy that was made before that.

    @param environ: a copy of the environment of the start.
    @param first: the descriptor of the first one.
    @return: C{systemd:domain=INET:index=0} and so on; empty when there are none.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    found = []
    for index in range(_number(environ.get("LISTEN_FDS", ""))):
        domain = _domain(first + index)
        if domain:
            found.append(f"systemd:domain={domain}:index={index}")
    return found


def _domain(descriptor: int) -> str | None:
    """@return: what Twisted calls the family of a listening stream socket; C{None} for anything else."""
    try:
        known: Any = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        listens = known.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return _DOMAINS.get(known.family) if listens and known.type == socket.SOCK_STREAM else None
    finally:
        known.detach()  # it stays open, for the one who listens on it
