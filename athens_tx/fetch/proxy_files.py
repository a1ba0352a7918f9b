"""
One upstream proxy as a place of files: the paths of the download protocol below a base URL, by HTTP or C{file://}.
"""

from __future__ import annotations

import email.utils
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from athens_tx.errors import (
    AthensError,
    FetchFailed,
    NotFound,
    RateLimited,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.fetch.outcome import Scrubber
from athens_tx.http_client import BodyTooLong, HttpClient, Response, masked
from athens_tx.http_proxy import is_loopback
from athens_tx.module.escape import escape_path, escape_version
from athens_tx.storage.body import FileSink

#: What go takes as the longest list; one of ours is far below.
MAX_LIST = 4 * 1024 * 1024
_MAX_SAID = 300
_MAX_BODY = 2000
_MOST_WAIT = 3600


class ProxyFiles:
    """Reads the files of one upstream proxy."""

    def __init__(
        self,
        reactor: Any,
        client: HttpClient,
        base: str,
        authorization: Callable[[str], bytes | None],
        scrubber: Scrubber,
        *,
        limit_seconds: float,
    ) -> None:
        """
        @param base: its URL: C{http}, C{https} or C{file}, perhaps with credentials.
        @param authorization: gives the header for a URL without any, from C{.netrc}.
        @param limit_seconds: for one file.
        """
        self._reactor = reactor
        self._client = client
        self._base = base.rstrip("/")
        self._authorization = authorization
        self._scrubber = scrubber
        self._limit = limit_seconds
        parts = urlsplit(base)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        self._exposed = "@" in parts.netloc and parts.scheme == "http" and not is_loopback(parts.hostname or "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {masked(self._base)}>"

    async def read(self, path: str, name: str, version: str = "", *, limit: int) -> bytes:
        """
        @param path: the module, unescaped.
        @param name: C{@v/list}, C{@latest}; or C{.info}, C{.mod} of C{version}.
        @param limit: the most bytes.
        @raise NotFound: it says so (404, 410).
        """
        place = _place(path, name, version)
        if self._folder is not None:
            content: bytes = await self.in_thread(_read, self._folder / place, limit, _subject(path, version))
            return content
        got = await self._client.get_bytes(
            self._url(place), limit=limit, timeout=self._limit, headers=self._headers(place)
        )
        if got.status != 200:
            raise self._refusal(got, path, version)
        return got.body

    async def save(self, path: str, version: str, target: Path, *, limit: int) -> None:
        """
        Put the zip of a version into a new file.

        @raise BodyTooLong: it has more than C{limit} bytes.
        """
        place = _place(path, ".zip", version)
        if self._folder is not None:
            await self.in_thread(_copy, self._folder / place, target, limit, _subject(path, version))
            return
        sink = FileSink(self._reactor, target)
        try:
            got = await self._client.stream(
                self._url(place), sink, timeout=self._limit, limit=limit, headers=self._headers(place)
            )
            if got.status != 200:
                raise self._refusal(got, path, version)
            await sink.finish(sync=False)
        except BaseException as error:
            await sink.abort()
            if sink.error is not None and isinstance(error, FetchFailed):
                raise sink.error from error  # the disk is full: no fault of the upstream
            raise

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call what blocks."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)

    def _url(self, place: str) -> str:
        if self._exposed:
            raise UpstreamForbidden("refusing to send credentials over plain HTTP", detail=masked(self._base))
        return f"{self._base}/{quote(place, safe='/!@+~')}"

    def _headers(self, place: str) -> dict[str, str]:
        found = None if "@" in urlsplit(self._base).netloc else self._authorization(f"{self._base}/{place}")
        return {} if found is None else {"Authorization": found.decode("ascii")}

    def _refusal(self, got: Response, path: str, version: str) -> AthensError:
        """@return: what an answer that is not 200 means."""
        body = got.body.decode("utf-8", "replace").strip()
        kind = (got.header("Content-Type") or "text/plain").startswith("text/plain")
        # What a server in trouble says of itself is for the log; what it says of the module is for the client.
        first = body.partition("\n")[0] if kind and got.status in (403, 404, 410) else ""
        said = self._scrubber.public(first)[:_MAX_SAID]
        text = f"{_subject(path, version)}: upstream answered {got.status}" + (f": {said}" if said else "")
        detail = f"{masked(got.url)}: {got.status}" + (f": {self._scrubber.detail(body[:_MAX_BODY])}" if body else "")
        if got.status in (404, 410):
            return NotFound(text, detail=detail)
        if got.status in (401, 403, 407):
            return UpstreamForbidden(text, detail=detail)
        if got.status == 429:
            return RateLimited(text, detail=detail, retry_after=_retry_after(got.header("Retry-After")))
        if got.status >= 500:
            return UpstreamUnreachable(text, detail=detail)
        return FetchFailed(text, detail=detail)


def _place(path: str, name: str, version: str) -> str:
    rest = f"@v/{escape_version(version)}{name}" if version else name
    return f"{escape_path(path)}/{rest}"


def _subject(path: str, version: str) -> str:
    return f"{path}@{version}" if version else path


def _retry_after(value: str | None) -> int:
    """@return: seconds; a minute where the upstream does not say, an hour at most."""
    if value is None:
        return 60
    if value.strip().isdigit():
        return min(int(value.strip()[:9]), _MOST_WAIT)
    try:
        wait = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return 60
    return max(1, min(int(wait), _MOST_WAIT))


def _read(path: Path, limit: int, subject: str) -> bytes:
    """In a thread."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(error, path, subject) from None
    if len(content) > limit:
        raise BodyTooLong(f"{subject}: a file has more than {limit} bytes")
    return content


def _copy(path: Path, target: Path, limit: int, subject: str) -> None:
    """In a thread."""
    try:
        if os.path.getsize(path) > limit:
            raise BodyTooLong(f"{subject}: the zip has more than {limit} bytes")
        shutil.copyfile(path, target)
    except OSError as error:
        raise _unreadable(error, path, subject) from None


def _unreadable(error: OSError, path: Path, subject: str) -> AthensError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFound(f"{subject}: not found", detail=str(path))
    return UpstreamUnreachable(f"{subject}: the upstream's file can't be read", detail=str(error))
