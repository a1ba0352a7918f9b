"""Zip files are read whole or refused, at a cost that they do not choose."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import BadUpstream
from athens_tx.module.archive import Archive


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", method) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return into.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    archive = Archive(io.BytesIO(data))
    return {entry.name: b"".join(archive.read(entry)) for entry in archive.entries}


NOISE = os.urandom(700_000)
FILES = {
    "a.go": b"package a\n",
    "empty": b"",
    "dir/": b"",
    "ä/b": b"x" * 1_000_000,
    "noise": NOISE,
    "runs": b"ab" * 130 + NOISE[:100] + b"\0" * 3_000_000,
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_was_packed_comes_out(method: int) -> None:
    assert unpacked(packed(FILES, method)) == FILES


@given(
    st.sampled_from([1, 6, 9]),
    st.lists(st.binary(max_size=20) | st.integers(0, 300_000).map(lambda n: b"\0" * n), max_size=4).map(b"".join),
)
def test_any_content_comes_out(level: int, content: bytes) -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as writer:
        writer.writestr("x", content)
    assert unpacked(into.getvalue()) == {"x": content}


def test_the_rest_of_an_entry_that_is_packed_into_its_last_bits_comes_out() -> None:
    # A run that goes on after a piece is full, when all that is packed has been read.
    files = {f"{more}": b"\0" * ((256 << 10) + more) for more in range(0, 300, 7)}
    assert unpacked(packed(files)) == files


def test_an_archive_may_have_a_comment_and_no_entries() -> None:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as writer:
        writer.comment = b"nothing in here"
    assert unpacked(into.getvalue()) == {}


def test_a_written_stream_with_data_descriptors_is_read() -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    into = Stream()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a", b"x" * 1000)
        writer.writestr("b", b"y")
    assert unpacked(into.getvalue()) == {"a": b"x" * 1000, "b": b"y"}


def test_a_directory_of_more_than_65535_entries_is_read() -> None:
    names = {f"{n}": b"" for n in range(65_536)}
    assert unpacked(packed(names, zipfile.ZIP_STORED)) == names


def test_sizes_in_a_zip64_extra_field_are_read() -> None:
    data = packed({"a": b"hello"}, zipfile.ZIP_STORED)
    at = data.index(b"PK\1\2")
    entry = bytearray(data[at : at + 46])
    entry[20:28] = b"\xff" * 8  # sizes
    entry[42:46] = b"\xff" * 4  # offset
    extra = struct.pack("<HHxx", 0x5455, 2) + struct.pack("<HHQQQ", 1, 24, 5, 5, 0)
    entry[30:32] = struct.pack("<H", len(extra))
    directory = bytes(entry) + b"a" + extra
    end = bytearray(data[-22:])
    end[12:16] = struct.pack("<I", len(directory))
    assert unpacked(data[:at] + directory + bytes(end)) == {"a": b"hello"}


GOOD = packed({"a.go": b"package a\n" * 100, "b.go": b"package b\n"})


def changed(at: int, new: bytes) -> bytes:
    return GOOD[:at] + new + GOOD[at + len(new) :]


DIRECTORY = GOOD.index(b"PK\1\2")
END = GOOD.rindex(b"PK\5\6")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"\0" * 20,
        b"PK\5\6",
        b"<html>not found</html>" * 10,
        GOOD[:-1],
        GOOD[:-22],
        GOOD[:END],
        GOOD[: len(GOOD) // 2],
        GOOD + b"\0",
        GOOD + b"more",
        b"more" + GOOD,
        GOOD[:DIRECTORY] + b"hidden" + GOOD[DIRECTORY:],
        GOOD[:END] + b"hidden" + GOOD[END:],
        changed(DIRECTORY, b"PK\1\3"),
        changed(DIRECTORY + 8, b"\1"),  # encrypted
        changed(DIRECTORY + 10, b"\x63"),  # method 99
        changed(DIRECTORY + 28, b"\xff"),  # length of the name
        changed(DIRECTORY + 46, b"\xff"),  # not UTF-8
        changed(END + 8, b"\1\0\1\0"),  # one entry less
        changed(END + 8, b"\3\0\3\0"),  # one more
        changed(END + 10, b"\xff\xff"),  # count is elsewhere, but is not
        changed(END + 12, b"\xff\xff\xff\xff"),
        changed(END + 16, b"\0\0\0\0"),
    ],
    ids=range(24),
)
def test_a_file_that_is_not_a_whole_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BadUpstream, match="zip file"):
        unpacked(data)


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_cut_file_is_refused(cut: int) -> None:
    with pytest.raises(BadUpstream):
        unpacked(GOOD[:cut])


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (changed(0, b"PK\3\5"), "is not where it should be"),
        (changed(30, b"x"), "is not where it should be"),
        (changed(40, b"\xff\xff\xff\xff"), "damaged"),
        (changed(DIRECTORY + 16, b"\0\0\0\0"), "damaged"),  # checksum
        (changed(DIRECTORY + 24, b"\1\0\0\0"), "damaged"),  # says one byte
        (changed(DIRECTORY + 24, b"\xff\xff\0\0"), "damaged"),  # says more than there is
        (changed(DIRECTORY + 20, b"\5\0\0\0"), "is cut"),  # packed to less
        (changed(DIRECTORY + 42, b"\xff\xff\0\0"), "cut or malformed"),  # offset
    ],
)
def test_a_damaged_entry_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(BadUpstream, match=fault):
        unpacked(data)


def test_a_stored_entry_that_is_shorter_than_it_says_is_refused() -> None:
    data = bytearray(packed({"a": b"hello"}, zipfile.ZIP_STORED))
    at = data.index(b"PK\1\2")
    data[at + 20 : at + 24] = b"\4\0\0\0"
    with pytest.raises(BadUpstream, match="damaged"):
        unpacked(bytes(data))


def test_a_zip64_end_that_is_none_is_refused() -> None:
    data = bytearray(packed({f"{n}": b"" for n in range(65_536)}, zipfile.ZIP_STORED))
    at = data.index(b"PK\6\6")
    data[at : at + 4] = b"PK\0\0"
    with pytest.raises(BadUpstream, match="malformed"):
        unpacked(bytes(data))


def test_a_directory_with_content_is_refused() -> None:
    with pytest.raises(BadUpstream, match="a directory with content"):
        unpacked(packed({"d/": b"x"}))


def test_entries_are_counted_before_they_are_read() -> None:
    data = packed({f"{n}": b"" for n in range(11)})
    assert len(Archive(io.BytesIO(data), max_entries=11).entries) == 11
    with pytest.raises(BadUpstream, match="11 entries, more than 10"):
        Archive(io.BytesIO(data), max_entries=10)


def test_a_bomb_costs_no_memory() -> None:
    data = packed({"bomb": b"\0" * (64 << 20)})
    tracemalloc.start()
    archive = Archive(io.BytesIO(data))
    assert sum(map(len, archive.read(archive.entries[0]))) == 64 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_bomb_that_lies_about_its_size_ends_at_it() -> None:
    data = bytearray(packed({"bomb": b"\0" * (32 << 20)}))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 1 << 20)
    archive = Archive(io.BytesIO(bytes(data)))
    came = 0
    with pytest.raises(BadUpstream, match="damaged"):  # noqa: PT012
        for piece in archive.read(archive.entries[0]):
            came += len(piece)
    assert came <= 1 << 20


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_a_flipped_bit_never_changes_what_comes_out(bit: int) -> None:
    read: Callable[[bytes], dict[str, bytes]] = unpacked
    try:
        files = read(flipped(GOOD, bit))
    except BadUpstream:
        return
    assert sorted(files.values()) == sorted(read(GOOD).values())


@given(st.binary(max_size=100))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    for whole in (data, data + GOOD, GOOD[:DIRECTORY] + data + GOOD[END:]):
        try:
            unpacked(whole)
        except BadUpstream:
            continue
        assert data == b""
