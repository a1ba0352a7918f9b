"""Requests to one bucket of an S3 server: signed anew for each attempt, with the hashes of what they bring."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from urllib.parse import quote, urlencode

import attrs

from athens_tx.http_client import OpenResponse, Response
from athens_tx.storage.aws import Signer
from athens_tx.storage.calls import Calls, Request
from athens_tx.storage.parts import Part, PiecesBody
from athens_tx.storage.threads import computed
from athens_tx.storage.xml_documents import error_code

_EMPTY = hashlib.sha256().hexdigest()

#: What servers say of wrong credentials; the last one is versitygw's.
BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "XAdminUserNotFound")
#: What else they say, with 400 or 403 and not with 401, where others may help.
_OLD_KEYS = (*BAD_KEYS, "RequestExpired", "TokenRefreshRequired")


@attrs.frozen
class Content:
    """A part as the body of a request, with the hashes that S3 wants: SHA-256 in hexadecimal digits, MD5 as it is."""

    part: Part
    sha256: str
    md5: bytes

    @property
    def headers(self) -> dict[str, str]:
        """What lets the server notice that it got something else."""
        return {"Content-MD5": b64encode(self.md5).decode()}


class Bucket:
    """
    A bucket.

    @ivar signer: may be told of another region.
    """

    def __init__(self, calls: Calls, url: str, signer: Signer) -> None:
        """@param url: without a slash at its end."""
        self.signer = signer
        self.calls = calls
        self._url = url

    async def send(
        self,
        what: str,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        expect: Collection[int] = (200,),
        limit: int = 1 << 20,
        patient: bool = False,
        failed: Callable[[Response], bool] = lambda response: False,
    ) -> Response:
        """
        @param key: of an object; empty for the bucket itself.
        @return: see L{Calls.small}, for the other parameters too.
        """
        url = self._at(key, query)

        async def make() -> Request:
            if content is None:
                return Request(method, url, await self.signer.headers(method, url, headers or {}, _EMPTY))
            signed = await self.signer.headers(method, url, headers or {}, content.sha256)
            return Request(method, url, signed, PiecesBody(content.part.pieces, content.part.length))

        return await self.calls.small(what, make, expect=expect, limit=limit, patient=patient, failed=failed)

    async def open(self, key: str, headers: Mapping[str, str], expect: Collection[int]) -> OpenResponse:
        """@return: an object as a stream; see L{Calls.open}."""
        url = self._at(key, {})

        async def make() -> Request:
            return Request("GET", url, await self.signer.headers("GET", url, headers, _EMPTY))

        return await self.calls.open(f"get {key}", make, expect=expect)

    async def link(self, key: str) -> str:
        """@return: a URL with which anybody can GET an object."""
        return await self.signer.link(self._at(key, {}))

    def _at(self, key: str, query: Mapping[str, str]) -> str:
        path = f"{self._url}/{quote(key, safe='/~')}"
        return f"{path}?{urlencode(sorted(query.items()), quote_via=quote, safe='~')}" if query else path

    async def content(self, part: Part) -> Content:
        """@return: C{part} with its hashes."""

        def hashed() -> Content:
            sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
            for piece in part.pieces:
                sha256.update(piece)
                md5.update(piece)
            return Content(part, sha256.hexdigest(), md5.digest())

        return await computed(self.calls.reactor, hashed, part.length)


def whole(data: bytes) -> Part:
    """@return: something small as a part that is all there is."""
    return Part(0, 0, (data,), len(data), True)


def is_about_keys(response: Response) -> bool:
    """@return: whether a request was refused for what it was signed with."""
    return response.status == 401 or error_code(response.body)[0] in _OLD_KEYS


def described(response: Response) -> str:
    """@return: what an answer says of the trouble, and what to look at; for L{Calls}."""
    code, said = error_code(response.body)
    advice = "look at the credentials and at what they may do in the bucket" if response.status in (401, 403) else ""
    return " ".join(filter(None, (code, said, advice)))
