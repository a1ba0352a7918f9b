"""The form that a version is saved with, cut wherever one likes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import InvalidRequest, RequestTooLarge
from athens_tx.storage.layout import INFO_LIMIT, MOD_LIMIT
from athens_tx.web.saveform import MAX_PARTS, SaveForm

TYPE = 'multipart/form-data; boundary="b0"'
NAMES = ("mod.info", "mod.mod", "mod.zip")

#: Bytes in which much looks like the boundary.
tricky = st.lists(st.sampled_from([b"\r\n--b0", b"\r\n--b", b"\r", b"\n", b"--b0", b"-", b"\0", b"x" * 50])).map(
    b"".join
)


def part(name: str, data: bytes, more: str = "") -> bytes:
    return (
        f'--b0\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n{more}\r\n'.encode()
        + data
        + b"\r\n"
    )


def read(pieces: Any, content_type: str = TYPE) -> tuple[bytes, bytes, bytes]:
    zipped: list[bytes] = []
    form = SaveForm(content_type, zipped.append)
    for piece in pieces:
        form.write(piece)
    return (*form.end(), b"".join(zipped))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def outcome(pieces: list[bytes]) -> Any:
    try:
        return read(pieces)
    except (InvalidRequest, RequestTooLarge) as error:
        return type(error)


@given(st.tuples(tricky, tricky, tricky), st.permutations(NAMES), st.lists(st.integers(0, 5000)))
def test_any_split_of_the_bytes_gives_the_same(contents: Any, order: Any, places: Any) -> None:
    files = {name: data.replace(b"\r\n--b0", b"") for name, data in zip(NAMES, contents, strict=True)}
    body = b"".join(part(name, files[name]) for name in order) + b"--b0--\r\n"
    expected = tuple(files[name] for name in NAMES)
    assert read([body]) == expected
    assert read(cut(body, places)) == expected
    assert read(body[index : index + 1] for index in range(len(body))) == expected


@given(tricky, st.lists(st.integers(0, 500)))
def test_what_is_no_form_is_none_however_it_comes(junk: bytes, places: list[int]) -> None:
    for body in (junk, part("mod.info", b"{}") + junk, part("mod.info", b"{}")[:-2] + junk):
        whole = outcome([body])
        assert whole in (InvalidRequest, RequestTooLarge)
        assert outcome(cut(body, places)) in (InvalidRequest, RequestTooLarge)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_no_bytes_raise_anything_else(data: bytes, places: list[int]) -> None:
    outcome(cut(data, places))


def test_each_prefix_of_a_form_is_cut_short() -> None:
    body = b"".join(part(name, b"data") for name in NAMES) + b"--b0--"
    for length in range(len(body)):
        with pytest.raises(InvalidRequest):
            read([body[:length]])
    assert read([body]) == (b"data", b"data", b"data")


def test_small_files_have_their_limits() -> None:
    rest = part("mod.zip", b"") + b"--b0--"
    for name, limit, other in (("mod.info", INFO_LIMIT, "mod.mod"), ("mod.mod", MOD_LIMIT, "mod.info")):
        assert len(b"".join(read([part(name, bytes(limit)), part(other, b""), rest]))) == limit
        with pytest.raises(RequestTooLarge, match=name):
            read([part(name, bytes(limit + 1))])


@pytest.mark.parametrize(
    "start",
    [
        part("x", b"") * (MAX_PARTS + 1),
        b"--b0\r\n" + b"a: b\r\n" * 100,
        b"--b0\r\na: " + b"b" * 9000,
    ],
)
def test_headers_and_parts_are_bounded(start: bytes) -> None:
    with pytest.raises(RequestTooLarge):
        read([start])


def test_a_length_within_the_form_must_be_right() -> None:
    body = part("mod.info", b"{}", "Content-Length: 3\r\n")
    with pytest.raises(InvalidRequest):
        read([body, part("mod.mod", b""), part("mod.zip", b""), b"--b0--"])
