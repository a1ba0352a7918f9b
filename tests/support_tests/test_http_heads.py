"""Requests on a kept connection are told apart, in whatever pieces they come."""

from __future__ import annotations

import pytest

from tests.support.http_heads import Body, End, Head, RequestReader

GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /c HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\n\r\n12345"
CHUNKED = (
    b"POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nGET \r\n10;name=value\r\n0123456789abcdef\r\n0\r\nTrailer: 1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_requests_are_told_apart(size: int) -> None:
    reader, stream = RequestReader(), GET + PUT + CHUNKED + GET
    events = [event for i in range(0, len(stream), size) for event in reader.feed(stream[i : i + size])]
    heads = [event for event in events if isinstance(event, Head)]
    assert [str(head) for head in heads] == ["GET /a?b", "PUT /c", "POST /d", "GET /a?b"]
    assert heads[1].headers == {"host": "x", "content-length": "5"}
    assert b"".join(event.raw for event in events if not isinstance(event, End)) == stream
    kinds = [type(event) for event in events]
    assert [kind for i, kind in enumerate(kinds) if kinds[i - 1 : i] != [kind] or kind is not Body] == [
        *(Head, End),
        *(Head, Body, End),
        *(Head, Body, End),
        *(Head, End),
    ]


@pytest.mark.parametrize(
    "noise", [b"\0" * (1 << 18) + b"\0", b"hello\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_no_http_is_an_error(noise: bytes) -> None:
    with pytest.raises(ValueError):
        list(RequestReader().feed(noise))
