"""The documents of the Azure Blob protocol: pure functions, from and to XML."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote
from xml.etree.ElementTree import Element

import attrs

from athens_tx.interfaces import ObjectPage, StoredObject
from athens_tx.storage.parsing import http_date
from athens_tx.storage.xml_documents import BadDocument, parse, text


@attrs.frozen
class DelegationKey:
    """
    What links are signed with in the name of an identity.

    @ivar fields: what a link tells of the key, by the names of its query, in the order in which they are signed.
    @ivar ends: when links signed with it are good no more, aware.
    """

    value: str = attrs.field(repr=False)
    fields: Sequence[tuple[str, str]]
    ends: datetime


#: Where the fields of a key stand in the answer that brings it.
_FIELDS = (
    ("skoid", "SignedOid"),
    ("sktid", "SignedTid"),
    ("skt", "SignedStart"),
    ("ske", "SignedExpiry"),
    ("sks", "SignedService"),
    ("skv", "SignedVersion"),
)


def listing(document: bytes, now: datetime) -> ObjectPage:
    """@param now: when the store answered, aware. @return: what C{List Blobs} tells."""
    root = parse(document, "EnumerationResults")
    objects = [_blob(entry, now) for entry in root.iter("Blob")]
    return ObjectPage(objects, text(root, "NextMarker"))


def _blob(entry: Element, now: datetime) -> StoredObject:
    name, properties = entry.find("Name"), entry.find("Properties")
    if name is None or not name.text or properties is None:
        raise BadDocument("a blob without a name or without properties")
    key = unquote(name.text) if name.get("Encoded") == "true" else name.text
    return StoredObject(
        key,
        text(properties, "Etag").strip('"'),
        int(text(properties, "Content-Length") or "0"),
        max(0.0, (now - http_date(text(properties, "Last-Modified"))).total_seconds()),
    )


def block_list(ids: Sequence[str]) -> bytes:
    """@param ids: of blocks that were uploaded and are in no blob yet. @return: what makes a blob of them."""
    blocks = "".join(f"<Uncommitted>{id}</Uncommitted>" for id in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()


def key_info(start: str, end: str) -> bytes:
    """@return: what asks for a L{DelegationKey} that is good between two times."""
    times = f"<Start>{start}</Start><Expiry>{end}</Expiry>"
    return f'<?xml version="1.0" encoding="utf-8"?><KeyInfo>{times}</KeyInfo>'.encode()


def delegation_key(document: bytes) -> DelegationKey:
    """@return: what was asked for by L{key_info}."""
    root = parse(document, "UserDelegationKey")
    fields = [(name, text(root, element)) for name, element in _FIELDS]
    value, ends = text(root, "Value"), text(root, "SignedExpiry")
    if not value or not all(field for _, field in fields):
        raise BadDocument("a key that is not complete")
    return DelegationKey(value, fields, datetime.fromisoformat(ends))
