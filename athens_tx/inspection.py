"""Reads a stored version as a client would, and looks whether it is what it claims to be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool

from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.info import check_info
from athens_tx.module.version import ModuleVersion
from athens_tx.module.zipcheck import inspect_zip
from athens_tx.storage.sink import FileSink, pour


@attrs.frozen
class Inspected:
    """
    A version whose files belong together.

    @ivar zip: a file that is gone when the inspection ends; of C{size} bytes.
    @ivar sum: the C{h1:} hash of the zip.
    """

    info: bytes
    mod: bytes
    zip: Path
    size: int
    sum: str


@asynccontextmanager
async def inspected(reactor: Any, storage: IStorage, mv: ModuleVersion, go_get_dir: str) -> AsyncIterator[Inspected]:
    """
    Bring a version here, for as long as the context lasts.

    @param go_get_dir: where large temporary files have their place, if it is there.
    @raise AthensError: one of the three files is absent or is not what it should be.
    """
    pool = reactor.getThreadPool()
    info, mod = await storage.info(mv), await storage.mod(mv)
    check_info(info, mv)
    folder = await deferToThreadPool(reactor, pool, _folder, go_get_dir)
    try:
        path = Path(folder.name) / "source.zip"
        size = await _bring(reactor, await storage.zip(mv), path)
        digest: str = await deferToThreadPool(reactor, pool, inspect_zip, path, mv, mod)
        yield Inspected(info, mod, path, size, digest)
    finally:
        await deferToThreadPool(reactor, pool, folder.cleanup)


def _folder(go_get_dir: str) -> TemporaryDirectory[str]:
    # GoGetDir is made when something is fetched: without it, the system's own place will do.
    return TemporaryDirectory(prefix="athens-tx-verify-", dir=go_get_dir if os.path.isdir(go_get_dir) else None)


async def _bring(reactor: Any, body: IZip, path: Path) -> int:
    """@return: how many bytes there are at C{path} now."""
    sink = FileSink(reactor, path)
    try:
        await pour(body, sink)
        return await sink.finish(sync=False)
    except BaseException:
        await sink.abort()
        raise
