"""The C{h1:} hashes are those of go.sum."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from athens_tx.errors import BadUpstream
from athens_tx.module.hashes import hash_mod, hash_zip, summary


def test_a_go_mod_is_hashed_as_a_list_of_one_file() -> None:
    # A line of the go.sum of many projects.
    mod = b"module github.com/pkg/errors\n"
    assert hash_mod(mod) == "h1:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0="


def test_the_hash_is_over_sorted_lines() -> None:
    lines = "".join(
        f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in [("B", b"1"), ("a", b"2"), ("ä", b"3")]
    )
    expected = "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()
    files = [(name, hashlib.sha256(text).digest()) for name, text in [("ä", b"3"), ("a", b"2"), ("B", b"1")]]
    assert summary(files) == expected


def write(zip_file: Path | io.BytesIO, files: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(zip_file, "w", method) as writer:
        for name, content in files:
            writer.writestr(name, content)


def test_how_a_zip_is_packed_does_not_matter(tmp_path: Path) -> None:
    files = [("m@v1.0.0/go.mod", b"module m\n"), ("m@v1.0.0/a.go", b"package a\n" * 1000), ("m@v1.0.0/d/", b"")]
    write(tmp_path / "a.zip", files)
    write(tmp_path / "b.zip", files[::-1], zipfile.ZIP_STORED)
    in_memory = io.BytesIO()
    write(in_memory, files)
    expected = summary((name, hashlib.sha256(content).digest()) for name, content in files)
    assert hash_zip(tmp_path / "a.zip") == hash_zip(str(tmp_path / "b.zip")) == hash_zip(in_memory) == expected
    write(tmp_path / "c.zip", files[:2])
    assert hash_zip(tmp_path / "c.zip") != expected


def test_a_damaged_zip_has_no_hash(tmp_path: Path) -> None:
    write(tmp_path / "a.zip", [("a", b"hello")], zipfile.ZIP_STORED)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"hello", b"jello"))
    with pytest.raises(BadUpstream, match="damaged"):
        hash_zip(tmp_path / "a.zip")


def test_a_name_of_two_lines_has_no_hash() -> None:
    with pytest.raises(BadUpstream, match="more than one line"):
        summary([("a\nb", b"")])
