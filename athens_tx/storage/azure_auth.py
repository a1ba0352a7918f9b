"""
How requests to Azure Blob Storage say who asks: signed with the key of the account, or with the token of an identity.

There is no library of the vendor's for the bare signature: his client signs inside, and sends by itself.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

import attrs

from athens_tx.storage.calls import Request
from athens_tx.storage.credentials import Credentials

#: Of the protocol; that of Athens.
VERSION = "2020-10-02"

#: The headers that have a line of their own in what is signed, in its order. C{Date} is empty: x-ms-date says it.
_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class Signer(Protocol):
    """
    Who asks.

    @cvar advice: what to look at where he is refused.
    """

    advice: str

    async def prepare(self) -> None:
        """Get what L{headers} needs; raise L{StorageUnavailable} if it is not to be had."""

    async def headers(self, method: str, url: str, headers: Mapping[str, str], length: int) -> dict[str, str]:
        """
        @param length: of the body.
        @return: C{headers} and those that say who asks.
        """

    def refused(self, request: Request) -> bool:
        """@return: whether it may help to ask again, with headers made anew, after a 401."""


class SharedKey:
    """With the key of the account."""

    advice = "look at AccountName and AccountKey"

    def __init__(self, account: str, key: str, now: Callable[[], datetime]) -> None:
        """@param key: in base64, as the settings have it."""
        self._account = account
        self._key = b64decode(key)
        self._now = now

    async def prepare(self) -> None:
        """See L{Signer.prepare}: it is all there."""

    async def headers(self, method: str, url: str, headers: Mapping[str, str], length: int) -> dict[str, str]:
        """See L{Signer.headers}."""
        sent = _dated(headers, self._now())
        lengthy = {**sent, "Content-Length": str(length)} if length else sent
        signature = sign(self._key, canonical(method, url, lengthy, self._account))
        return {**sent, "Authorization": f"SharedKey {self._account}:{signature}"}

    def refused(self, request: Request) -> bool:
        """See L{Signer.refused}: there is no other key."""
        return False


@attrs.frozen
class Token:
    """What an identity is known by; C{ends} is aware."""

    value: str = attrs.field(repr=False)
    ends: datetime


Load = Callable[[], Awaitable[Token | None]]


class Bearer:
    """With the token of an identity."""

    advice = "look at ManagedIdentityResourceID, CredentialScope and the roles of the identity"

    def __init__(self, tokens: Credentials[Token], now: Callable[[], datetime]) -> None:
        self._tokens = tokens
        self._now = now

    async def prepare(self) -> None:
        """See L{Signer.prepare}."""
        await self._tokens.keys()

    async def headers(self, method: str, url: str, headers: Mapping[str, str], length: int) -> dict[str, str]:
        """See L{Signer.headers}."""
        token = await self._tokens.keys()
        return {**_dated(headers, self._now()), "Authorization": _bearer(token)}

    def refused(self, request: Request) -> bool:
        """See L{Signer.refused}: the token is forgotten, unless another has taken its place already."""
        return self._tokens.forget(lambda token: _bearer(token) == request.headers.get("Authorization"))


def _bearer(token: Token) -> str:
    return f"Bearer {token.value}"


def _dated(headers: Mapping[str, str], now: datetime) -> dict[str, str]:
    return {**headers, "x-ms-date": format_datetime(now, usegmt=True), "x-ms-version": VERSION}


def canonical(method: str, url: str, headers: Mapping[str, str], account: str) -> str:
    """
    @param url: as it goes out, a blank in its query as C{%20}; in an emulator's the account is the first element of
        the path, and comes twice here.
    @param headers: all of them.
    @return: what is signed of a request.
    """
    given = {name.lower(): value.strip() for name, value in headers.items()}
    lines = [method, *(given.get(name, "") for name in _SIGNED)]
    lines += [f"{name}:{value}" for name, value in sorted(given.items()) if name.startswith("x-ms-")]
    parts = urlsplit(url)
    lines.append(f"/{account}{parts.path}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    lines += [f"{name.lower()}:{value}" for name, value in sorted(query)]
    return "\n".join(lines)


def sign(key: bytes, text: str) -> str:
    """@return: the signature of C{text}, in base64."""
    return b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
