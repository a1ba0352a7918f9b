"""
The storage as a service: what Athens calls external storage, for an Athens or another athens-tx to keep versions in.

The storage alone is asked: nothing is fetched, filtered or redirected here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, TimeoutError

from athens_tx.errors import BadUpstream, InvalidRequest, RequestTooLarge, StorageUnavailable
from athens_tx.fetch.pool import Pool
from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.escape import unescape_path, unescape_version
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import FileSink, FileZip
from athens_tx.storage.layout import INFO_LIMIT, MOD_LIMIT, check_files, check_names
from athens_tx.web import bodies
from athens_tx.web.conditional import entity_tag, wants_all
from athens_tx.web.request import JSON, TEXT, WebRequest
from athens_tx.web.saveform import OVERHEAD, SaveForm
from athens_tx.web.settings import WebSettings
from athens_tx.web.upload import Upload

#: How many saves run at once, each with a zip on the disk, and how many wait for their turn with nothing of it taken.
SAVES = 16
WAITING = 32
#: Seconds that one waits; clients give up who can send nothing for a minute.
TURN_LIMIT = 30.0

_ZIP = b"application/zip"


def body_limit(max_zip_size: int) -> int:
    """@return: how many bytes the body of a save may have."""
    return max_zip_size + INFO_LIMIT + MOD_LIMIT + OVERHEAD


def _version(request: WebRequest, module: str, version: str) -> ModuleVersion:
    """The version is taken escaped and, as clients of Athens send it, plain."""
    plain = unescape_version(version) if "!" in version else version
    mv = ModuleVersion(unescape_path(module), plain)
    request.module, request.version = mv.path, mv.version
    return mv


def _tag(mv: ModuleVersion, source: IZip) -> bytes:
    """
    Clients go on with a zip that was cut where its tag is the same; a strong one must not outlive a version that is
    deleted and stored anew with other bytes.
    """
    if isinstance(source, FileZip) and source.tag:
        return entity_tag("zip", f"{mv} {source.tag}", source.length)
    return b"W/" + entity_tag("zip", str(mv), source.length)


class ExternalStorage:
    """Decodes, asks the storage once, encodes."""

    def __init__(
        self,
        reactor: Any,
        storage: IStorage,
        staging: Path,
        settings: WebSettings,
    ) -> None:
        """@param staging: an empty directory, for zips that are on their way in."""
        self._reactor = reactor
        self._storage = storage
        self._staging = staging
        self._max_zip_size = settings.max_zip_size
        self._save_limit = settings.save_limit
        self._saves = Pool(SAVES, WAITING, clock=reactor, wait_limit=TURN_LIMIT, doing="saved")

    async def list(self, request: WebRequest, module: str) -> bytes:
        """C{GET @v/list}: the versions, one a line, without a final newline."""
        request.module = unescape_path(module)
        versions = await self._storage.list(request.module)
        return request.reply(200, "\n".join(versions).encode(), TEXT)

    async def info(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{GET @v/VERSION.info}."""
        return request.reply(200, await self._storage.info(_version(request, module, version)), JSON)

    async def mod(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{GET @v/VERSION.mod}."""
        return request.reply(200, await self._storage.mod(_version(request, module, version)), TEXT)

    async def zip(self, request: WebRequest, module: str, version: str) -> bytes | None:
        """C{GET @v/VERSION.zip}, all or the part that is asked for."""
        mv = _version(request, module, version)
        source = await self._storage.zip(mv, whole=wants_all(request.requestHeaders, request.method))
        if request.gone:
            source.stopProducing()
            return None
        part = bodies.head(request, _ZIP, _tag(mv, source), source.length)
        if request.method == b"HEAD" or part.length == 0:
            source.stopProducing()
            return b""
        await bodies.stream(request, source if part.status == 200 else source.part(part.start, part.length))
        return None

    async def delete(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{DELETE @v/VERSION.delete}."""
        await self._storage.delete(_version(request, module, version))
        return request.reply(200, b"", None)

    async def save(self, request: WebRequest, module: str, version: str) -> bytes:
        """C{POST @v/VERSION.save}: a form with the three files."""
        mv = _version(request, module, version)
        check_names(mv)
        if request.upload is None:
            raise InvalidRequest("the request has no body")
        types = request.requestHeaders.getRawHeaders(b"Content-Type") or [b""]
        path = self._staging / uuid4().hex
        sink = FileSink(self._reactor, path, self._max_zip_size)
        form = SaveForm(types[-1].decode("latin-1"), sink.write)
        async with self._saves.slot():
            saving = Deferred.fromCoroutine(self._save(mv, request.upload, form, sink, path))
            try:
                await saving.addTimeout(self._save_limit, self._reactor)
            except TimeoutError:
                raise StorageUnavailable(f"{mv} could not be saved within {self._save_limit:g} s") from None
        return request.reply(200, b"", None)

    async def _save(self, mv: ModuleVersion, upload: Upload, form: SaveForm, sink: FileSink, path: Path) -> None:
        try:
            info, mod = await self._receive(upload, form, sink)
            try:
                check_files(mv, info, mod)
            except BadUpstream as error:
                raise InvalidRequest(str(error)) from None
            length = await sink.finish(sync=False)
            await self._storage.save(mv, info, mod, FileZip(self._reactor, path, length))
        finally:
            await sink.abort()

    @staticmethod
    async def _receive(upload: Upload, form: SaveForm, sink: FileSink) -> tuple[bytes, bytes]:
        """@return: info and go.mod; the zip is in C{sink}."""
        sink.registerProducer(upload, True)
        try:
            await upload.take(form.write)
        except BaseException:
            if sink.error is None:
                raise
        finally:
            sink.unregisterProducer()
        if isinstance(sink.error, BadUpstream):
            raise RequestTooLarge("the zip has more bytes than MaxZipSize allows") from None
        if sink.error is not None:
            raise sink.error
        return form.end()
