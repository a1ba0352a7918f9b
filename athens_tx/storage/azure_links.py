"""Links with which anybody can read one blob for some minutes: shared access signatures."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.azure_auth import Signer, sign
from athens_tx.storage.azure_xml import DelegationKey, delegation_key, key_info
from athens_tx.storage.calls import Calls, Request
from athens_tx.storage.credentials import Credentials
from athens_tx.storage.parts import PiecesBody
from athens_tx.storage.xml_documents import BadDocument

#: How long a link is good.
LINK = timedelta(minutes=15)
#: How long a key is asked for that signs links in the name of an identity; Azure gives one for a week at most.
KEY = timedelta(hours=12)
#: By how much the clocks may differ.
_SKEW = timedelta(minutes=5)

#: Of the signature, which is independent of the version of the protocol.
_VERSION = "2020-12-06"

#: From the path of a blob, which is container and key, to the query of a link.
SignLink = Callable[[str], Awaitable[str]]


def by_account(account: str, key: str, now: Callable[[], datetime]) -> SignLink:
    """@return: what signs with the key of the account, which is in base64."""

    async def link(path: str) -> str:
        return _signed(account, path, now(), b64decode(key), {}, ("",))

    return link


def by_identity(account: str, keys: Credentials[DelegationKey], now: Callable[[], datetime]) -> SignLink:
    """@return: what signs with a key that an identity was given; links end with it at the latest."""

    async def link(path: str) -> str:
        key = await keys.keys()
        fields = dict(key.fields)
        return _signed(account, path, now(), b64decode(key.value), fields, (*fields.values(), "", "", ""))

    return link


def _signed(
    account: str, path: str, now: datetime, key: bytes, fields: Mapping[str, str], signer: tuple[str, ...]
) -> str:
    """@param signer: the lines that say with which key it was signed."""
    said = {"sp": "r", "se": iso(now + LINK), "sv": _VERSION, "sr": "b"}
    lines = (said["sp"], "", said["se"], f"/blob/{account}/{path}", *signer, "", "", said["sv"], said["sr"])
    rest = ("",) * 7  # snapshot, encryption scope, and five headers of the answer
    query = {**said, **fields, "sig": sign(key, "\n".join((*lines, *rest)))}
    return urlencode(query, quote_via=quote, safe="")


def iso(time: datetime) -> str:
    """@param time: UTC. @return: as these documents have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def delegated(
    calls: Calls, signer: Signer, service: str, now: Callable[[], datetime]
) -> Callable[[], Awaitable[DelegationKey]]:
    """@param service: the URL of the account's blob service. @return: what asks it for a key to sign links with."""

    async def load() -> DelegationKey:
        body = key_info(iso(now() - _SKEW), iso(now() + KEY))
        url = f"{service}/?restype=service&comp=userdelegationkey"

        async def make() -> Request:
            headers = await signer.headers("POST", url, {"Content-Type": "application/xml"}, len(body))
            return Request("POST", url, headers, PiecesBody((body,), len(body)))

        answer = await calls.small("get a key to sign links with", make, expect=(200,))
        try:
            key = delegation_key(answer.body)
        except (BadDocument, ValueError) as error:
            message = f"{calls.name} storage: get a key to sign links with: not the answer of a blob service"
            raise StorageUnavailable(message, detail=str(error)) from None
        return DelegationKey(key.value, key.fields, key.ends - LINK)

    return load
