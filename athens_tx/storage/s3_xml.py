"""The documents of the S3 protocol: pure functions, from and to XML."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote
from xml.sax.saxutils import escape

import attrs

from athens_tx.interfaces import StoredObject
from athens_tx.storage.xml_documents import BadDocument, error_field, parse, text


@attrs.frozen
class Listing:
    """C{cut} says that there is more behind the last object, C{token} is the store's own word for where."""

    objects: Sequence[StoredObject]
    cut: bool
    token: str


@attrs.frozen
class Upload:
    """An upload in parts that is not finished; C{started} is aware."""

    key: str
    id: str
    started: datetime


def listing(document: bytes, now: datetime) -> Listing:
    """@param now: when the store answered, aware. @return: what C{ListObjectsV2} tells."""
    root = parse(document, "ListBucketResult")
    decode = unquote if text(root, "EncodingType") == "url" else str
    objects = [
        StoredObject(
            decode(text(entry, "Key")),
            text(entry, "ETag"),
            int(text(entry, "Size") or "0"),
            max(0.0, (now - _time(text(entry, "LastModified"))).total_seconds()),
        )
        for entry in root.iter("Contents")
    ]
    cut = text(root, "IsTruncated") == "true"
    token = text(root, "NextContinuationToken")
    if cut and not objects and not token:
        raise BadDocument("a page without objects that is not the last")
    return Listing(objects, cut, token)


def is_from_minio(token: str) -> bool:
    """@return: whether this is how MinIO says where a listing goes on."""
    try:
        return b"[minio_cache" in b64decode(token, validate=True)
    except ValueError:
        return False


def uploads(document: bytes) -> tuple[Sequence[Upload], tuple[str, str] | None]:
    """@return: what C{ListMultipartUploads} tells, and the key and id behind which there is more."""
    root = parse(document, "ListMultipartUploadsResult")
    decode = unquote if text(root, "EncodingType") == "url" else str
    found = [
        Upload(decode(text(entry, "Key")), text(entry, "UploadId"), _time(text(entry, "Initiated")))
        for entry in root.iter("Upload")
    ]
    if text(root, "IsTruncated") != "true":
        return found, None
    marker = decode(text(root, "NextKeyMarker"))
    if not marker:
        raise BadDocument("a list that is cut and does not say where")
    return found, (marker, text(root, "NextUploadIdMarker"))


def error_region(document: bytes) -> str:
    """@return: the region that an error says is the right one; empty where it says none."""
    return error_field(document, "Region")


def completion(tags: Sequence[str]) -> bytes:
    """@param tags: the ETag of each part. @return: what finishes an upload."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
        for number, tag in enumerate(tags, 1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def location(region: str) -> bytes:
    """@return: what asks for a bucket in C{region}; nothing where that is not to be named."""
    if region in ("", "us-east-1"):
        return b""
    constraint = f"<LocationConstraint>{escape(region)}</LocationConstraint>"
    return f"<CreateBucketConfiguration>{constraint}</CreateBucketConfiguration>".encode()


def _time(given: str) -> datetime:
    time = datetime.fromisoformat(given)
    if time.tzinfo is None:
        raise BadDocument(f"a time without a zone: {given}")
    return time
