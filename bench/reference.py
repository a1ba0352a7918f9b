"""
The reference: a bare Twisted protocol that answers a constant, which is as fast as Python and Twisted can be here.

Run as C{python -m bench.reference ROOT}: listens on a free port of the loopback and prints it. Its answers are as large
as those of a proxy over the storage at C{ROOT}.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory, Protocol

from bench.modules import MODULE, TARGETS, VERSIONS


def answers(root: Path) -> dict[bytes, bytes]:
    """@return: whole answers by the paths of the targets, and one for the question whether we live."""
    place = root / MODULE / VERSIONS[0]
    bodies = {
        "info": (place / f"{VERSIONS[0]}.info").read_bytes(),
        "mod": (place / "go.mod").read_bytes(),
        "zip": (place / "source.zip").read_bytes(),
        "list": "\n".join(VERSIONS).encode(),
    }
    found = {path.encode(): bodies[name] for name, path in TARGETS}
    return {
        path: b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        for path, body in (found | {b"/healthz": b""}).items()
    }


class Constant(Protocol):
    """Answers each request by a look at its first line. Knows no pipelining, which nobody here does."""

    def __init__(self, known: Mapping[bytes, bytes]) -> None:
        self._known = known
        self._kept = b""

    def dataReceived(self, data: bytes) -> None:
        data = self._kept + data
        if not data.endswith(b"\r\n\r\n"):
            self._kept = data
            return
        self._kept = b""
        assert self.transport is not None
        self.transport.write(self._known[data.split(b" ", 2)[1]])


class ConstantFactory(Factory):
    """Makes L{Constant} protocols."""

    noisy = False

    def __init__(self, root: Path) -> None:
        self._known = answers(root)

    def buildProtocol(self, addr: object) -> Constant:
        return Constant(self._known)


if __name__ == "__main__":
    endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, backlog=1024, interface="127.0.0.1")
    listening = endpoint.listen(ConstantFactory(Path(sys.argv[1])))
    listening.addCallback(lambda port: print(port.getHost().port, flush=True))
    reactor.run()
