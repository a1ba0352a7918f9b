"""Module zips are held to the rules by which the go command unpacks them."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from athens_tx.errors import BadUpstream
from athens_tx.module.gomod import MAX_GO_MOD
from athens_tx.module.hashes import hash_zip
from athens_tx.module.version import ModuleVersion
from athens_tx.module.zipcheck import MAX_LICENSE, inspect_zip

LIB = ModuleVersion("example.com/Lib", "v1.0.0")
MOD = b"module example.com/Lib\n\ngo 1.21\n"
Files = list[tuple[str, bytes]]


def made(tmp_path: Path, files: Files, prefix: str = f"{LIB}/") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as writer:
            for name, content in files:
                writer.writestr(prefix + name, content)
    return tmp_path / "m.zip"


@pytest.mark.parametrize(
    "files",
    [
        [],
        [("a.go", b"package a\n"), ("sub/b.go", b"package b\n"), ("LICENSE", b"MIT")],
        [("", b""), ("d/", b""), ("d/a", b""), ("d/", b"")],
        [("d/a", b""), ("d/", b"")],
        [(".gitignore", b""), (".github/x.yml", b""), ("-x", b""), ("a..b", b"")],
        [("PROGRA~1/a b", b""), ("!#$%&()+,-.=@[]^_{}~ ", b"")],
        [("ä/ß.go", b""), ("ä/ss.go", b""), ("中文", b""), ("ẞ2", b""), ("İ", b""), ("i̇"[0], b"")],
        [("vendor/example.com/x/x.go", b""), ("internal/mygo.mod", b""), ("go.mod.tmpl", b"")],
        [("sub/LICENSE", b"x" * 100), ("console", b""), ("com10", b"")],
    ],
    ids=range(9),
)
def test_a_good_zip_passes_and_is_hashed(tmp_path: Path, files: Files) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD), *files])
    inspect_zip(zip_file, LIB, MOD)
    assert inspect_zip(str(zip_file), LIB, MOD) == hash_zip(zip_file)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ([("../x", b"")], "name that is not allowed"),
        ([("a/../x", b"")], "name that is not allowed"),
        ([("a/./x", b"")], "name that is not allowed"),
        ([("/x", b"")], "name that is not allowed"),
        ([("a//x", b"")], "name that is not allowed"),
        ([("d//", b"")], "name that is not allowed"),
        ([("..", b"")], "name that is not allowed"),
        ([("a.", b"")], "name that is not allowed"),
        ([("a\\b", b"")], "name that is not allowed"),
        ([("a:b", b"")], "name that is not allowed"),
        ([("a*b", b"")], "name that is not allowed"),
        ([("a\nb", b"")], "name that is not allowed"),
        ([("☺", b"")], "name that is not allowed"),
        ([("e\N{COMBINING ACUTE ACCENT}", b"")], "name that is not allowed"),
        ([("aux", b"")], "name that is not allowed"),
        ([("x/Con.txt", b"")], "name that is not allowed"),
        ([("a.go", b"1"), ("a.go", b"2")], "'a.go' twice"),
        ([("a.go", b""), ("A.go", b"")], "'a.go' and 'A.go', which differ only in case"),
        ([("d/a", b""), ("D/b", b"")], "'d' and 'D', which differ only in case"),
        ([("ä", b""), ("Ä", b"")], "differ only in case"),
        ([("ß", b""), ("ẞ", b"")], "differ only in case"),
        ([("k", b""), ("\N{KELVIN SIGN}", b"")], "differ only in case"),
        ([("d", b""), ("d/a", b"")], "'d' as a file and as a directory"),
        ([("d/a", b""), ("d", b"")], "'d' as a file and as a directory"),
        ([("d/", b""), ("d", b"")], "'d' as a file and as a directory"),
        ([("d/", b"x")], "a directory with content"),
        ([("sub/go.mod", MOD)], "a go.mod where none may be"),
        ([("sub/GO.mod", MOD)], "a go.mod where none may be"),
        ([("GO.MOD", MOD)], "a go.mod where none may be"),
        ([("LICENSE", b"x" * (MAX_LICENSE + 1))], "LICENSE has 16777217 bytes, more than"),
    ],
)
def test_what_go_refuses_is_refused(tmp_path: Path, files: Files, fault: str) -> None:
    with pytest.raises(BadUpstream, match=fault) as caught:
        inspect_zip(made(tmp_path, [("go.mod", MOD), *files]), LIB, MOD)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "prefix", ["", "/", "example.com/lib@v1.0.0/", "example.com/Lib@v1.0.1/", "example.com/Lib@v1.0.0"]
)
def test_every_name_begins_with_the_version(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(BadUpstream, match=r"does not begin with 'example.com/Lib@v1.0.0/'"):
        inspect_zip(made(tmp_path, [("go.mod", MOD)], prefix), LIB, MOD)


def test_a_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD), ("a_b", b"")])
    zip_file.write_bytes(zip_file.read_bytes().replace(b"a_b", b"a\0b"))
    with pytest.raises(BadUpstream, match="not allowed"):
        inspect_zip(zip_file, LIB, MOD)


def test_the_go_mod_is_the_one_in_the_zip(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD)])
    for other in (MOD + b"\n", b"module example.com/Lib\n", b"module example.com/other\n"):
        with pytest.raises(BadUpstream, match="is not the one in its zip file"):
            inspect_zip(zip_file, LIB, other)


def test_without_a_go_mod_in_the_zip_it_is_made_up(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("a.go", b"")])
    inspect_zip(zip_file, LIB, b"module example.com/Lib\n")
    for other in (MOD, b"module example.com/lib\n", b"module example.com/Lib\r\n"):
        with pytest.raises(BadUpstream, match="is not the one in its zip file"):
            inspect_zip(zip_file, LIB, other)


def test_the_go_mod_may_name_another_module(tmp_path: Path) -> None:
    fork = b"module example.com/original\n"
    inspect_zip(made(tmp_path, [("go.mod", fork)]), LIB, fork)


def test_the_go_mod_must_name_a_module(tmp_path: Path) -> None:
    with pytest.raises(BadUpstream, match="names no module"):
        inspect_zip(made(tmp_path, [("go.mod", b"go 1.21\n")]), LIB, b"go 1.21\n")


def test_a_large_go_mod_is_refused_by_what_the_zip_says(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD + b"\n" * MAX_GO_MOD)])
    with pytest.raises(BadUpstream, match=r"go\.mod has"):
        inspect_zip(zip_file, LIB, MOD)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(b"<html>Sorry</html>")
    with pytest.raises(BadUpstream, match="zip file is cut, or is none"):
        inspect_zip(tmp_path / "m.zip", LIB, MOD)


def test_sizes_are_limited(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD), ("a", b"\0" * 1000), ("b", b"\0" * 1000)])
    together = len(MOD) + 2000
    inspect_zip(zip_file, LIB, MOD, max_size=together)
    with pytest.raises(BadUpstream, match=f"more than {together - 1} bytes together"):
        inspect_zip(zip_file, LIB, MOD, max_size=together - 1)
    size = zip_file.stat().st_size
    with pytest.raises(BadUpstream, match=f"the zip file has {size} bytes, more than 100"):
        inspect_zip(zip_file, LIB, MOD, max_size=100)


def test_a_bomb_is_refused_before_it_is_unpacked_whatever_it_says(tmp_path: Path) -> None:
    zip_file = made(tmp_path, [("go.mod", MOD), ("bomb", b"\0" * (100 << 20))])
    data = bytearray(zip_file.read_bytes())
    for says, fault in ((100 << 20, "bytes together"), (10, "damaged")):
        at = data.rindex(b"PK\1\2")
        data[at + 24 : at + 28] = struct.pack("<I", says)
        zip_file.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(BadUpstream, match=fault):
            inspect_zip(zip_file, LIB, MOD, max_size=50 << 20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20
