"""The text that a signed URL of Google Cloud Storage is about: version 4 of its signatures."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit

import attrs

_ALGORITHM = "GOOG4-RSA-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class Unsigned:
    """
    A URL that waits for its signature.

    @ivar url: with everything but the signature in its query.
    @ivar canonical: what the store makes of a request for it.
    @ivar to_sign: what is to be signed.
    """

    url: str
    canonical: str
    to_sign: str

    def signed(self, signature: bytes) -> str:
        """@return: the URL with C{signature}, which was made with RSA and SHA-256."""
        return f"{self.url}&X-Goog-Signature={signature.hex()}"


def unsigned(url: str, email: str, when: datetime, seconds: int) -> Unsigned:
    """
    @param url: of the object, escaped, without a query.
    @param email: of the service account that will sign.
    @param when: the time from which on the URL is good, for so many C{seconds}.
    @return: a URL for GET; no header but C{Host} is part of it.
    """
    when = when.astimezone(UTC)
    scope = f"{when:%Y%m%d}/auto/storage/goog4_request"
    query = {
        "X-Goog-Algorithm": _ALGORITHM,
        "X-Goog-Credential": f"{email}/{scope}",
        "X-Goog-Date": f"{when:%Y%m%dT%H%M%SZ}",
        "X-Goog-Expires": str(seconds),
        "X-Goog-SignedHeaders": "host",
    }
    parts = urlsplit(url)
    text = urlencode(query, quote_via=quote, safe="~")
    canonical = "\n".join(("GET", parts.path, text, f"host:{_host(url)}", "", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Unsigned(f"{url}?{text}", canonical, "\n".join((_ALGORITHM, query["X-Goog-Date"], scope, digest)))


def _host(url: str) -> str:
    """@return: what a client sends in C{Host}."""
    parts = urlsplit(url)
    default = parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme)
    return parts.netloc.rpartition(":")[0] if default and parts.port is not None else parts.netloc
