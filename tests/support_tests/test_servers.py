"""The real servers: each holds what is put into it, keeps out who has the wrong key, and ends with who started it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import servers

S3 = ("s3", "minio")


@pytest.fixture(params=["s3", "minio", "gcs", "azure"])
def server(request: pytest.FixtureRequest) -> Any:
    return servers.session.server(request.param)


def test_a_bucket_is_new_and_holds_what_is_put_into_it(server: Any) -> None:
    one, other = server.bucket(), server.bucket()
    assert (one.keys(), other.keys()) == ({}, {})
    deep = "example.com/" + "deep/" * 60 + "@v/v1.0.0+incompatible.info"
    one.put("a/b_c/@v/v1.0.0.info", b"{}", "application/json")
    one.put(deep, b"\0" * 100_000)
    assert one.keys() == {"a/b_c/@v/v1.0.0.info": b"{}", deep: b"\0" * 100_000}
    assert (one.names(), one.get(deep), other.keys()) == (["a/b_c/@v/v1.0.0.info", deep], b"\0" * 100_000, {})
    assert one.headers("a/b_c/@v/v1.0.0.info")["content-type"] == "application/json"
    one.drop(deep)
    assert one.names() == ["a/b_c/@v/v1.0.0.info"]


def test_what_is_spoilt_is_there_and_cannot_be_read(server: Any) -> None:
    bucket = server.bucket()
    for name in "abc":
        bucket.put(f"x/{name}", b"1" * 1000)
    bucket.spoil("x/b")
    with pytest.raises(Exception) as caught:  # noqa: PT011: each vendor's library has its own
        bucket.get("x/b")
    assert "NoSuchKey" not in repr(caught.value), caught.value
    assert "404" not in repr(caught.value)
    print(repr(caught.value), bucket.names())
