"""Conditional requests and ranges: which part of a body, if any, a client wants."""

from __future__ import annotations

import re
from hashlib import blake2b

import attrs
from twisted.web.http_headers import Headers

_RANGE = re.compile(rb"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*", re.IGNORECASE)
_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@attrs.frozen
class Part:
    """
    @ivar status: 200 (all of it), 206 (a part), 304 (the client has it) or 416 (there is no such part).
    @ivar start: offset of the first byte to send.
    @ivar length: how many bytes to send.
    """

    status: int
    start: int
    length: int


def entity_tag(kind: str, name: str, length: int) -> bytes:
    """
    @param kind: what it is of, C{zip} say.
    @param name: of something that never changes, a module version say.
    @return: a strong entity tag, without a look at the bytes.
    """
    return b'"%s"' % blake2b(f"{kind} {length} {name}".encode(), digest_size=12).hexdigest().encode()


def body_tag(data: bytes) -> bytes:
    """@return: a strong entity tag of C{data} itself."""
    return b'"%s"' % blake2b(data, digest_size=12).hexdigest().encode()


def wanted(headers: Headers, method: bytes, tag: bytes, length: int, modified: bytes = b"") -> Part:
    """
    @param headers: those of the request.
    @param tag: the entity tag of what is there.
    @param length: of what is there, in bytes.
    @param modified: its C{Last-Modified}, if it has one.
    @return: what to send. Several ranges, and ranges that can't be read, are answered with everything.
    """
    if _has_it(headers, tag, modified):
        return Part(304, 0, 0)
    everything = Part(200, 0, length)
    ranges = headers.getRawHeaders(b"Range")
    if ranges is None or len(ranges) != 1 or method != b"GET" or not _same(headers, tag, modified):
        return everything
    found = _RANGE.fullmatch(ranges[0])
    if found is None:
        return everything
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(0, length - int(suffix)), length
    else:
        start, end = int(first), int(last) + 1 if last else length
        if end <= start and last:
            return everything  # 5-3 is no range at all
        end = min(end, length)
    return Part(206, start, end - start) if start < end else Part(416, 0, 0)


def wants_all(headers: Headers, method: bytes) -> bool:
    """@return: whether everything is likely to be sent, before it is known how much that is."""
    return method == b"GET" and not any(headers.hasHeader(name) for name in (b"Range", b"If-None-Match"))


def _has_it(headers: Headers, tag: bytes, modified: bytes) -> bool:
    tags = headers.getRawHeaders(b"If-None-Match")
    if tags is not None:
        listed = b",".join(tags)
        return listed.strip() == b"*" or tag in _TAG.findall(listed)
    # To the letter: a client sends back what it got, and a date of its own invention deserves the whole.
    return bool(modified) and headers.getRawHeaders(b"If-Modified-Since") == [modified]


def _same(headers: Headers, tag: bytes, modified: bytes) -> bool:
    """Whether a range of what the client began with is a range of what is there."""
    condition = headers.getRawHeaders(b"If-Range")
    return (
        condition is None
        or (condition == [tag] and not tag.startswith(b"W/"))
        or (bool(modified) and condition == [modified])
    )
