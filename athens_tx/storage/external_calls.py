"""What an external storage may answer besides what it was asked for: redirects, and trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from athens_tx.errors import StorageUnavailable
from athens_tx.http_client import OpenResponse, Response

T = TypeVar("T", Response, OpenResponse)

REDIRECTS = (301, 302, 303, 307, 308)
#: What a server says of something that it does not have at all.
REFUSALS = (404, 405, 501)

_MOST = 10
_TEXT = 200

_ADVICE = {
    401: "the server wants (other) credentials: put them into Storage.External.URL, as http://USER:PASSWORD@HOST/",
    403: "the server refuses these credentials: look at those in Storage.External.URL",
    404: "there is no external storage below this URL: look at the path in Storage.External.URL; of an athens-tx it is"
    " what its ExternalStoragePath says",
    405: "there is no external storage below this URL: look at the path in Storage.External.URL; of an athens-tx it is"
    " what its ExternalStoragePath says",
    400: "Athens' own server for external storage takes no version of more than 1 MiB",
    413: "the version is too large for the server; of an athens-tx, MaxZipSize is the limit",
}


def describe(response: Response) -> str:
    """@return: what to look at after an answer that nobody wants, and what the server says; for the log."""
    advice = _ADVICE.get(response.status, "look at the server that Storage.External.URL names")
    said = " ".join(response.body[:_TEXT].decode("utf-8", "replace").split())
    printable = "".join(character for character in said if character.isprintable())
    return f"{advice}; it says: {printable}" if printable else advice


class Redirected:
    """Follows redirects, as Athens' client does; the credentials stay with their server."""

    def __init__(self, base: str) -> None:
        """@param base: a URL, with the credentials if there are any."""
        parts = urlsplit(base)
        self._userinfo = parts.netloc.rpartition("@")[0]
        self._server = (parts.scheme, parts.netloc.rpartition("@")[2])

    async def follow(self, url: str, ask: Callable[[str, Collection[int]], Awaitable[T]]) -> T:
        """
        @param ask: given a URL and the statuses that are to be taken as well.
        @return: the first answer that is no redirect.
        """
        for _ in range(_MOST):
            answer = await ask(url, REDIRECTS)
            if answer.status not in REDIRECTS:
                return answer
            if isinstance(answer, OpenResponse):
                answer.abort()
            url = self._target(url, answer.header("Location") or "")
        raise StorageUnavailable("external storage: too many redirects")

    def _target(self, url: str, location: str) -> str:
        target = urlsplit(urljoin(url, location))
        server = (target.scheme, target.netloc.rpartition("@")[2])
        safe = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
        if not location or target.scheme not in safe:
            raise StorageUnavailable("external storage: a redirect that leads nowhere safe")
        userinfo = f"{self._userinfo}@" if self._userinfo and server == self._server else ""
        return target._replace(netloc=userinfo + server[1]).geturl()
