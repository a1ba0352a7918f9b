"""A C{.info} names a canonical version, and the one that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import BadUpstream
from athens_tx.module.info import MAX_INFO, check_info
from athens_tx.module.version import ModuleVersion, is_canonical

LIB = "example.com/lib"


def info(version: str, time: str = '"2024-01-02T03:04:05Z"') -> bytes:
    return f'{{"Version":"{version}","Time":{time}}}'.encode()


@pytest.mark.parametrize(
    ("path", "asked", "data", "version"),
    [
        (LIB, "v1.0.0", info("v1.0.0"), "v1.0.0"),
        (LIB, "main", info("v0.0.0-20240102030405-0123456789ab"), "v0.0.0-20240102030405-0123456789ab"),
        (LIB, "v1", info("v1.9.0"), "v1.9.0"),
        (LIB, "latest", info("v1.9.0"), "v1.9.0"),
        (LIB, "v2.0.0", info("v2.0.0+incompatible"), "v2.0.0+incompatible"),
        (LIB, "v2.0.0+incompatible", info("v2.0.0+incompatible"), "v2.0.0+incompatible"),
        (LIB + "/v2", "v2.0.0", info("v2.0.0"), "v2.0.0"),
        ("gopkg.in/check.v1", "main", info("v0.0.0-20161208181325-20d25e280405"), "v0.0.0-20161208181325-20d25e280405"),
        (LIB, "v1.0.0", b'{"Version":"v1.0.0"}', "v1.0.0"),
        (LIB, "v1.0.0", b'{"Version":"v1.0.0","Time":null}', "v1.0.0"),
        (LIB, "v1.0.0", b'{"version":"v1.0.0","TIME":"2024-01-02T03:04:05Z","Origin":{"VCS":"git"}}\n', "v1.0.0"),
        (LIB, "v1.0.0", info("v1.0.0", '"2024-01-02T03:04:05.123456789+02:00"'), "v1.0.0"),
    ],
)
def test_the_version_is_found(path: str, asked: str, data: bytes, version: str) -> None:
    assert check_info(data, ModuleVersion(path, asked)) == version


@pytest.mark.parametrize(
    ("path", "asked", "data", "fault"),
    [
        (LIB, "v1.0.0", info("v1.0.1"), "is that of version 'v1.0.1'"),
        (LIB + "/v2", "v2.0.0", info("v2.0.1"), "is that of version"),
        (LIB, "v2.0.0+incompatible", info("v2.0.0"), "is that of version"),
        (LIB, "main", info("v2.0.0"), "which the path does not allow"),
        (LIB + "/v2", "main", info("v1.0.0"), "which the path does not allow"),
        (LIB, "v1", info("v1"), "names no canonical version"),
        (LIB, "v1.0.0", info("v1.0.0+meta"), "names no canonical version"),
        (LIB, "main", info("main"), "names no canonical version"),
        (LIB, "main", info(""), "names no canonical version"),
        (LIB, "main", info("../../etc"), "names no canonical version"),
        (LIB, "main", b"{}", "names no canonical version"),
        (LIB, "main", b'{"Version":1}', "names no canonical version"),
        (LIB, "v1.0.0", info("v1.0.0", '"yesterday"'), "time"),
        (LIB, "v1.0.0", info("v1.0.0", '"2024-01-02"'), "time"),
        (LIB, "v1.0.0", info("v1.0.0", '"2024-13-02T03:04:05Z"'), "time"),
        (LIB, "v1.0.0", info("v1.0.0", '"2024-01-02 03:04:05Z"'), "time"),
        (LIB, "v1.0.0", info("v1.0.0", '"2024-01-02T03:04:05"'), "time"),
        (LIB, "v1.0.0", info("v1.0.0", "1704164645"), "time"),
        (LIB, "v1.0.0", info("v1.0.0")[:-1], "not a JSON object"),
        (LIB, "v1.0.0", b"", "not a JSON object"),
        (LIB, "v1.0.0", b"[]", "not a JSON object"),
        (LIB, "v1.0.0", b"null", "not a JSON object"),
        (LIB, "v1.0.0", b"<html>", "not a JSON object"),
        (LIB, "v1.0.0", b"\xff\xfe{\x00}\x00", "not a JSON object"),
        (LIB, "v1.0.0", b"[" * 200_000, "not a JSON object"),
        (LIB, "v1.0.0", b'{"a":' + b"9" * 10_000 + b"}", "not a JSON object"),
        (LIB, "v1.0.0", info("v1.0.0") + b" " * MAX_INFO, "not a JSON object"),
    ],
)
def test_what_is_wrong_is_named(path: str, asked: str, data: bytes, fault: str) -> None:
    with pytest.raises(BadUpstream, match=fault) as caught:
        check_info(data, ModuleVersion(path, asked))
    assert str(caught.value).isprintable()


@given(st.binary() | st.text().map(str.encode) | st.text().map(lambda v: info(v)))
def test_nothing_but_a_canonical_version_comes_out(data: bytes) -> None:
    try:
        version = check_info(data, ModuleVersion(LIB, "main"))
    except BadUpstream:
        return
    assert is_canonical(version)
