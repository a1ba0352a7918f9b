"""What is decided here, the real go command decides the same way."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from athens_tx.errors import BadUpstream, InvalidModule
from athens_tx.module.gomod import module_path, synthesize
from athens_tx.module.hashes import hash_mod, hash_zip
from athens_tx.module.info import check_info
from athens_tx.module.path import check_path
from athens_tx.module.version import ModuleVersion, is_pseudo, sort_key
from athens_tx.module.zipcheck import inspect_zip

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="there is no go command on this machine")

MOD = b"module example.com/m\n"
Go = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Runs go with a home of its own, gives the JSON documents that it prints."""
    (tmp_path / "work").mkdir()
    (tmp_path / "upstream").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GOPATH": str(tmp_path / "go"),
        "GOFLAGS": "-modcacherw",
        "GOPROXY": (tmp_path / "upstream").as_uri(),
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOENV": "off",
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def run(*arguments: str, **more: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["go", *arguments], cwd=tmp_path / "work", env={**environment, **more}, capture_output=True, check=False
        )
        documents, rest = [], done.stdout.decode().strip()
        while rest:
            document, end = json.JSONDecoder().raw_decode(rest)
            documents.append(document)
            rest = rest[end:].strip()
        assert documents, done.stderr.decode()
        return documents

    return run


PATHS = [
    "example.com/m",
    "example.com",
    "foo",
    "foo/bar.com",
    "Example.com/a",
    "ex_ample.com/a",
    "example.com/a..b",
    "example.com/.hidden",
    "example.com/a.",
    "example.com/a b",
    "example.com/a+b",
    "example.com/a!b",
    "example.com/a:b",
    "example.com/é",
    "example.com/con",
    "example.com/Aux.go/x",
    "example.com/com10",
    "example.com/x~1",
    "example.com/x~12.y",
    "example.com/x.y~1",
    "example.com/-x",
    "example.com//a",
    "example.com/m/v0",
    "example.com/m/v1",
    "example.com/m/v01",
    "example.com/m/v1.2",
    "example.com/v1/sub",
    "gopkg.in/yaml",
    "gopkg.in/yaml.v3",
    "gopkg.in/yaml.v0",
    "gopkg.in/yaml.v03",
    "gopkg.in/yaml.v0-unstable",
]


def test_about_module_paths(go: Go) -> None:
    def refused(path: str) -> bool:
        try:
            check_path(path)
        except InvalidModule:
            return True
        return False

    answers = {
        answer["Path"]: answer["Error"] for path in PATHS for answer in go("mod", "download", "-json", f"{path}@main")
    }
    assert {path: "malformed module path" in error for path, error in answers.items()} == {p: refused(p) for p in PATHS}


VERSIONS = [
    "v0.0.1",
    "v0.0.1-0",
    "v0.9.0",
    "v0.10.0",
    "v1.0.0",
    "v1.0.0-0",
    "v1.0.0-1",
    "v1.0.0-2",
    "v1.0.0-10",
    "v1.0.0--x",
    "v1.0.0-1a",
    "v1.0.0-A",
    "v1.0.0-Z",
    "v1.0.0-alpha",
    "v1.0.0-alpha.1",
    "v1.0.0-alpha.1.0",
    "v1.0.0-alpha.beta",
    "v1.0.0-beta",
    "v1.0.0-beta.2",
    "v1.0.0-beta.11",
    "v1.0.0-rc.1",
    "v1.10.0",
    "v1.2.0",
    "v1.0.0-99999999999999999999999",
    "v1.18446744073709551616.0",
    "v2.0.0-a+incompatible",
    "v2.0.0+incompatible",
    "v10.0.0+incompatible",
    "v0.0.0-20240102030405-0123456789ab",
    "v1.0.1-0.20240102030405-0123456789ab",
    "v1.0.1-rc-1",
]


def upstream(
    tmp_path: Path, version: str, mod: bytes, files: Sequence[tuple[str, bytes]], prefix: str | None = None
) -> Path:
    """Put a version where GOPROXY points to, and give its zip."""
    folder = tmp_path / "upstream/example.com/m/@v"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2024-01-02T03:04:05Z"}))
    (folder / f"{version}.mod").write_bytes(mod)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(folder / f"{version}.zip", "w") as writer:
            for name, content in files:
                writer.writestr((f"example.com/m@{version}/" if prefix is None else prefix) + name, content)
    return folder / f"{version}.zip"


def test_about_the_order_of_versions(go: Go, tmp_path: Path) -> None:
    shuffled = list(VERSIONS)
    random.Random(2).shuffle(shuffled)
    upstream(tmp_path, "v10.0.0+incompatible", MOD, [])
    upstream(tmp_path, "v1.18446744073709551616.0", MOD, [])
    (tmp_path / "upstream/example.com/m/@v/list").write_text("\n".join(shuffled))
    [answer] = go("list", "-m", "-versions", "-json", "example.com/m@v1.18446744073709551616.0")
    assert answer["Versions"] == [v for v in sorted(VERSIONS, key=sort_key) if not is_pseudo(v)]


ZIPS: list[tuple[bytes, list[tuple[str, bytes]], bool]] = [
    (MOD, [("go.mod", MOD), ("a.go", b"package a\n")], True),
    (MOD, [("a.go", b"package a\n")], True),
    (MOD, [], True),
    (b"module example.com/fork\n", [("go.mod", b"module example.com/fork\n")], True),
    (MOD, [("go.mod", MOD), ("", b""), ("d/", b""), ("d/a", b"x"), ("d/", b"")], True),
    (MOD, [("go.mod", MOD), ("ä/中.go", b""), ("ä/ß", b""), ("ä/ss", b"")], True),
    (MOD, [("PROGRA~1/a b", b""), (".x", b""), ("!#$%&()+,-.=@[]^_{}~", b"")], True),
    (MOD, [("vendor/example.com/x/x.go", b"")], True),
    (MOD, [("go.mod", MOD), ("d/", b"content")], False),
    (MOD, [("a.go", b"1"), ("a.go", b"2")], False),
    (MOD, [("a.go", b"1"), ("A.go", b"2")], False),
    (MOD, [("ß", b"1"), ("ẞ", b"2")], False),
    (MOD, [("k", b"1"), ("\N{KELVIN SIGN}", b"2")], False),
    (MOD, [("İ", b"1"), ("i", b"2"), ("ı", b"3")], True),
    (MOD, [("d", b""), ("d/a", b"")], False),
    (MOD, [("sub/go.mod", MOD)], False),
    (MOD, [("GO.MOD", MOD)], False),
    (MOD, [("a:b", b"")], False),
    (MOD, [("☺", b"")], False),
    (MOD, [("a\nb", b"")], False),
    (MOD, [("aux.go", b"")], False),
    (MOD, [("../x", b"")], False),
    (MOD, [("a.", b"")], False),
]


def test_about_module_zips(go: Go, tmp_path: Path) -> None:
    expected, found = {}, {}
    for patch, (mod, files, good) in enumerate(ZIPS):
        mv = ModuleVersion("example.com/m", f"v1.0.{patch}")
        zip_file = upstream(tmp_path, mv.version, mod, files)
        try:
            found[patch] = inspect_zip(zip_file, mv, mod), hash_mod(mod)
        except BadUpstream:
            found[patch] = "", ""
        assert (found[patch] != ("", "")) == good, files
    for answer in go("mod", "download", "-json", *(f"example.com/m@v1.0.{patch}" for patch in found)):
        sums = (answer["Sum"], answer["GoModSum"]) if "Error" not in answer else ("", "")
        expected[int(answer["Version"].rpartition(".")[2])] = sums
    assert found == expected


def test_about_a_zip_of_another_version(go: Go, tmp_path: Path) -> None:
    zip_file = upstream(tmp_path, "v1.0.0", MOD, [("go.mod", MOD)], "example.com/m@v1.0.1/")
    with pytest.raises(BadUpstream, match="does not begin with"):
        inspect_zip(zip_file, ModuleVersion("example.com/m", "v1.0.0"), MOD)
    [answer] = go("mod", "download", "-json", "example.com/m@v1.0.0")
    assert "has unexpected file" in answer["Error"]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *identity, *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def test_about_a_repository(go: Go, tmp_path: Path) -> None:
    repository = tmp_path / "repositories/acme/Lib"
    repository.mkdir(parents=True)
    git(repository, "init", "-q", "-b", "main")
    (repository / "a.go").write_text("package lib\n")
    (repository / "sub").mkdir()
    (repository / "sub/b.go").write_text("package sub\n" * 1000)
    for tag in ("v1.0.0", "v2.0.0"):
        (repository / "VERSION").write_text(tag)
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", tag)
        git(repository, "tag", tag)
    (repository / "go.mod").write_text("module github.com/acme/Lib\n\ngo 1.20\n\nretract v1.0.0 // by mistake\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "v1.1.0")
    git(repository, "tag", "v1.1.0")
    git(repository, "commit", "-q", "--allow-empty", "-m", "more")
    (tmp_path / "gitconfig").write_text(f'[url "file://{tmp_path}/repositories/"]\n\tinsteadOf = https://github.com/\n')

    path = "github.com/acme/Lib"
    queries = ["v1.0.0", "v2.0.0", "v1.1.0", "main", "v1"]
    answers = go(
        "mod",
        "download",
        "-json",
        *(f"{path}@{query}" for query in queries),
        GOPROXY="direct",
        GIT_CONFIG_GLOBAL=str(tmp_path / "gitconfig"),
    )
    versions = []
    for query, answer in zip(queries, answers, strict=True):
        mv = ModuleVersion(path, answer["Version"])
        mod = Path(answer["GoMod"]).read_bytes()
        assert check_info(Path(answer["Info"]).read_bytes(), ModuleVersion(path, query)) == mv.version
        assert inspect_zip(answer["Zip"], mv, mod) == hash_zip(answer["Zip"]) == answer["Sum"]
        assert hash_mod(mod) == answer["GoModSum"]
        assert module_path(mod) == path
        versions.append(mv.version)
        if query in ("v1.0.0", "v2.0.0"):
            assert mod == synthesize(path)
    pseudo = versions[3]
    assert re.fullmatch(r"v1\.1\.1-0\.\d{14}-[0-9a-f]{12}", pseudo)
    assert is_pseudo(pseudo)
    assert versions == ["v1.0.0", "v2.0.0+incompatible", "v1.1.0", pseudo, "v1.1.0"]
