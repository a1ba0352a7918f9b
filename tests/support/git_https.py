"""
Git over HTTPS on loopback: C{git http-backend} behind TLS by a test authority; private repositories want a password.

Runs in the test's own reactor.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import trustme
from twisted.internet import ssl
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.loopback import LoopbackServer


@attrs.frozen
class Asked:
    """A request, as a test wants to see it: C{user} is empty without credentials, C{status} is the answer's."""

    method: str
    uri: str
    user: str
    password: str
    status: int


class _Backend(ProcessProtocol):
    """One run of C{git http-backend}. What it prints is kept whole: the repositories are small."""

    def __init__(self, request: Request, body: bytes) -> None:
        self._request = request
        self._body = body
        self._out: list[bytes] = []
        self._gone = False
        request.notifyFinish().addErrback(self._left)

    def _left(self, _reason: Failure) -> None:
        self._gone = True

    def connectionMade(self) -> None:
        self.transport.write(self._body)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._out.append(data)

    def processEnded(self, reason: Failure) -> None:
        if self._gone:
            return
        head, _, body = b"".join(self._out).partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"status":
                self._request.setResponseCode(int(value.split()[0]))
            elif name:
                self._request.setHeader(name, value.strip())
        self._request.setHeader(b"Content-Length", b"%d" % len(body))
        self._request.write(body)
        self._request.finish()


class GitHttps(Resource):
    """
    @ivar url: where it is, without a final slash.
    @ivar user: who may read what is below a folder in C{private}.
    @ivar password: has characters that a URL or a log would have to quote.
    @ivar ca_file: the test authority, for git's C{http.sslCAInfo}.
    @ivar asked: the requests, answered ones only.
    @ivar watch: called at each request, while the git that asks is running.
    """

    isLeaf = True

    def __init__(self, reactor: Any, repos: Path, folder: Path, private: tuple[str, ...] = ("secret",)) -> None:
        super().__init__()
        self._reactor = reactor
        self._repos = repos
        self._private = private
        self.user = "reader"
        self.password = "Tr0ub4dor-and-3"
        self.asked: list[Asked] = []
        self.watch: Callable[[], object] = lambda: None
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued = authority.issue_cert("localhost", "127.0.0.1")
        certificate = ssl.PrivateCertificate.loadPEM(
            issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        )
        self._server = LoopbackServer(reactor, self, certificate.options())
        self.url = f"https://localhost:{self._server.port}"

    @property
    def netrc(self) -> str:
        """A line for a C{.netrc}."""
        return f"machine localhost login {self.user} password {self.password}\n"

    async def stop(self) -> None:
        """Stop listening; what is under way is cut."""
        await self._server.stop()

    def _note(self, request: Request, user: str, password: str) -> None:
        self.asked.append(Asked(request.method.decode(), request.uri.decode(), user, password, request.code))

    def _credentials(self, request: Request) -> tuple[str, str]:
        kind, _, value = (request.getHeader("authorization") or "").partition(" ")
        if kind.lower() != "basic":
            return "", ""
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user, password

    def render(self, request: Request) -> Any:
        self.watch()
        user, password = self._credentials(request)
        request.notifyFinish().addCallbacks(lambda _: self._note(request, user, password), lambda _: None)
        private = request.path.decode().lstrip("/").startswith(self._private)
        if private and (user, password) != (self.user, self.password):
            request.setResponseCode(401)
            request.setHeader(b"WWW-Authenticate", b'Basic realm="git"')
            return b"credentials, please\n"
        path, _, query = request.uri.decode().partition("?")
        values = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_PROJECT_ROOT": str(self._repos),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": request.method.decode(),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_USER": user,
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": request.getHeader("content-type") or "",
            "HTTP_CONTENT_ENCODING": request.getHeader("content-encoding") or "",
            "GIT_PROTOCOL": request.getHeader("git-protocol") or "",
        }
        body = request.content.read()
        values["CONTENT_LENGTH"] = str(len(body))
        self._reactor.spawnProcess(_Backend(request, body), "/usr/bin/env", ["env", "git", "http-backend"], env=values)
        return NOT_DONE_YET
