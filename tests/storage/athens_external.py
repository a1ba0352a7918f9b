"""A server of external storage as Athens ships it for Go programs, with its traps; it keeps everything in memory."""

from __future__ import annotations

from email.parser import BytesParser
from typing import Any

from twisted.web.resource import Resource

from athens_tx.errors import InvalidModule
from athens_tx.module.escape import unescape_path, unescape_version

#: Of a body that is longer it says that it is too large.
LIMIT = 1 << 20


class AthensServer(Resource):
    """
    @ivar versions: the files of each version, by module and version, unescaped.
    @ivar asked: method and path of each request.
    @ivar bodies: content type and body of each save.
    @ivar answers: what is answered instead, by the beginning of C{"METHOD path"}: status, body and headers.
    @ivar ranges: whether it gives parts of zips; that of Athens does not.
    @ivar heads: whether it knows HEAD; that of Athens does not.
    @ivar sizes: whether it says how long a zip is.
    @ivar tag: the entity tag of zips; that of Athens has none.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[tuple[str, str], tuple[bytes, bytes, bytes]] = {}
        self.asked: list[str] = []
        self.headers: list[Any] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.ranges = False
        self.heads = False
        self.sizes = True
        self.tag = ""

    def render(self, request: Any) -> bytes | int:
        """Answer any method."""
        line = f"{request.method.decode()} {request.uri.decode()}"
        self.asked.append(line)
        self.headers.append(request.requestHeaders)
        for start, (status, body, headers) in self.answers.items():
            if line.startswith(start):
                request.setResponseCode(status)
                for name, value in headers.items():
                    request.setHeader(name, value)
                return body
        try:
            return self._answer(request, request.path.decode().removeprefix("/"))
        except InvalidModule as error:
            return self._text(request, 400, str(error))

    @staticmethod
    def _text(request: Any, status: int, text: str) -> bytes:
        request.setResponseCode(status)
        return f"{text}\n".encode()

    def _answer(self, request: Any, path: str) -> bytes | int:
        if request.method == b"HEAD" and not self.heads:
            return self._text(request, 405, "")
        module, at, file = path.partition("/@v/")
        if not at:
            return self._text(request, 404, "404 page not found")
        if file == "list":  # not decoded, so that nothing with a capital is found
            return "\n".join(version for path, version in self.versions if path == module).encode()
        version, _, kind = file.rpartition(".")
        key = unescape_path(module), unescape_version(version)
        if (request.method, kind) == (b"POST", "save"):
            return self._save(request, key)
        if key not in self.versions:
            return self._text(request, 404, "not found")
        if (request.method, kind) == (b"DELETE", "delete"):
            del self.versions[key]
            return b""
        data = self.versions[key][("info", "mod", "zip").index(kind)]
        if kind == "zip" and self.tag:
            request.setHeader("ETag", self.tag)
        if kind == "zip" and not self.sizes:
            request.write(data[: len(data) // 2])
            request.write(data[len(data) // 2 :])
            return b""
        return data

    def _save(self, request: Any, key: tuple[str, str]) -> bytes:
        body = request.content.read()
        kind = request.getHeader("Content-Type")
        self.bodies.append((kind, body))
        if len(body) > LIMIT:
            return self._text(request, 400, "http: request body too large")
        if key in self.versions:
            return self._text(request, 400, "it is there already")
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        parts = {part.get_filename(): part.get_payload(decode=True) for part in message.get_payload()}
        self.versions[key] = (parts["mod.info"], parts["mod.mod"], parts["mod.zip"])
        return b""
