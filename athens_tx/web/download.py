"""The routes of the download protocol."""

from __future__ import annotations

from athens_tx.errors import InvalidModule
from athens_tx.interfaces import IGate, IProtocol, ZipLink
from athens_tx.module.escape import unescape_path
from athens_tx.module.path import check_path
from athens_tx.module.version import ModuleVersion, check_path_major, is_canonical
from athens_tx.web import bodies
from athens_tx.web.conditional import Part, body_tag, entity_tag, wants_all
from athens_tx.web.request import JSON, NO_CACHE, TEXT, WebRequest

_ZIP = b"application/zip"


def _may_fetch(request: WebRequest) -> bool:
    """Whether the client lets us look beyond our storage; see C{Disable-Module-Fetch} in the Go module reference."""
    said = request.requestHeaders.getRawHeaders(b"Disable-Module-Fetch")
    return said is None or said[-1].strip().lower() != b"true"


def _is_settled(mv: ModuleVersion) -> bool:
    """Whether the answer can never change: no query, which C{v2.0.0} is too for a path without C{/v2}."""
    if not is_canonical(mv.version):
        return False
    try:
        check_path_major(mv.path, mv.version)
    except InvalidModule:
        return False
    return True


class Download:
    """Decodes, asks once, encodes."""

    def __init__(self, protocol: IProtocol, gate: IGate, *, private: bool) -> None:
        """@param private: answers are for those with credentials, so shared caches must not keep them."""
        self._protocol = protocol
        self._gate = gate
        self._forever = b"%s, max-age=31536000, immutable" % (b"private" if private else b"public")

    async def list(self, request: WebRequest, module: str) -> bytes:
        """C{@v/list}: the versions, one a line."""
        path = await self._module(request, module)
        answer = await self._protocol.list(path, fetch=_may_fetch(request))
        request.source = answer.source
        return request.reply(200, answer.body, TEXT)

    async def latest(self, request: WebRequest, module: str) -> bytes:
        """C{@latest}: what the go command takes where nobody asked for a version."""
        path = await self._module(request, module)
        answer = await self._protocol.latest(path, fetch=_may_fetch(request))
        request.source = answer.source
        return request.reply(200, answer.body, TEXT)

    async def info(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{@v/VERSION.info}: the canonical version of a version or a query, and its time."""
        mv = await self._version(request, module, version)
        answer = await self._protocol.info(mv, fetch=_may_fetch(request))
        request.source = answer.source
        return self._small(request, mv, answer.body, JSON)

    async def mod(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{@v/VERSION.mod}: the go.mod."""
        mv = await self._version(request, module, version)
        answer = await self._protocol.mod(mv, fetch=_may_fetch(request))
        request.source = answer.source
        return self._small(request, mv, answer.body, TEXT)

    async def zip(self, request: WebRequest, module: str, version: str) -> bytes | None:
        """C{@v/VERSION.zip}: the module zip, all or the part that is asked for, or where it is to be had."""
        mv = await self._version(request, module, version)
        # A link is signed for GET: what HEAD wants to know is told here.
        link = request.method == b"GET"
        whole = wants_all(request.requestHeaders, request.method)
        answer = await self._protocol.zip(mv, fetch=_may_fetch(request), link=link, whole=whole)
        request.source = answer.source
        if isinstance(answer, ZipLink):
            return self._send_there(request, answer.url)
        source = answer.body
        if request.gone:
            source.stopProducing()
            return None
        if not _is_settled(mv):
            request.reply(200, b"", _ZIP)
            request.setHeader(b"Content-Length", b"%d" % source.length)
            part = Part(200, 0, source.length)
        else:
            tag = entity_tag("zip", str(mv), source.length)
            part = bodies.head(request, _ZIP, tag, source.length, cache=self._forever)
        if request.method == b"HEAD" or part.length == 0:
            source.stopProducing()
            return b""
        await bodies.stream(request, source if part.status == 200 else source.part(part.start, part.length))
        return None

    @staticmethod
    def _send_there(request: WebRequest, url: str) -> bytes:
        """Redirect to a URL that is good for some minutes, so that nobody may keep the answer."""
        body = request.redirect_to(302, url)
        request.setHeader(b"Cache-Control", b"no-store")
        return body

    async def _module(self, request: WebRequest, module: str) -> str:
        path = unescape_path(module)
        request.module = path
        check_path(path)
        request.setHeader(b"Cache-Control", NO_CACHE)
        await self._gate.admit(path, None)
        return path

    async def _version(self, request: WebRequest, module: str, version: str) -> ModuleVersion:
        mv = ModuleVersion.from_url(module, version)
        request.module, request.version = mv.path, mv.version
        await self._gate.admit(mv.path, mv.version)
        return mv

    def _small(self, request: WebRequest, mv: ModuleVersion, data: bytes, content_type: bytes) -> bytes:
        if not _is_settled(mv):
            return request.reply(200, data, content_type)
        return bodies.body(request, data, content_type, body_tag(data), cache=self._forever)
