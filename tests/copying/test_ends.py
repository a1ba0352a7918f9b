"""What the command line means by FROM and TO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.backends import Backends
from athens_tx.copying.ends import KINDS, open_ends, read_ends, wrong_names
from athens_tx.errors import ConfigError
from athens_tx.storage.disk import DiskStorage


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a file of settings into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, kind: str, **tables: dict[str, str]) -> str:
        lines = [f'StorageType = "{kind}"', 'SingleFlightType = "gcp"']
        for table, values in tables.items():
            lines += [f"[Storage.{table}]", *(f'{key} = "{value}"' for key, value in values.items())]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return name

    return write


def problems(*names: str, file: str = "", **environ: str) -> list[str]:
    """What keeps these from being read."""
    with pytest.raises(ConfigError) as caught:
        read_ends(names[0], names[1], file, environ)
    return caught.value.problems


def disk(root: object) -> dict[str, dict[str, str]]:
    return {"Disk": {"RootPath": str(root)}}


def test_names_are_kinds_or_files(settings: Any) -> None:
    settings("old.toml", "disk")
    assert wrong_names("old.toml", "s3") == []
    assert wrong_names("s3", "gcp") == []
    memory, nothing = wrong_names("memory", "absent.toml")
    assert memory.startswith("FROM: ")
    assert "memory" in memory
    assert nothing.startswith("TO: absent.toml is neither")
    assert all(kind in nothing for kind in KINDS)


def test_kinds_mean_tables_of_one_file_and_of_the_environment(settings: Any, tmp_path: Path) -> None:
    settings("athens.toml", "mongo", S3={"Region": "r", "Bucket": "b"})
    source, target = read_ends("s3", "disk", "", {"ATHENS_DISK_STORAGE_ROOT": str(tmp_path)})
    assert (source.side, source.kind, source.config.storage.s3.bucket) == ("FROM", "s3", "b")
    assert (target.side, target.kind, target.config.storage.disk.root_path) == ("TO", "disk", str(tmp_path))
    settings("other.toml", "disk", S3={"Region": "r", "Bucket": "c"})
    assert read_ends("s3", "disk", "other.toml", {"ATHENS_DISK_STORAGE_ROOT": "/x"})[0].config.storage.s3.bucket == "c"


def test_a_file_means_its_storage(settings: Any, tmp_path: Path) -> None:
    old, new = (settings(f"{name}.toml", "disk", **disk(tmp_path / name)) for name in ("old", "new"))
    source, target = read_ends(old, new, "", {})
    assert [end.config.storage.disk.root_path for end in (source, target)] == [
        str(tmp_path / n) for n in ("old", "new")
    ]
    gcp = settings("gcp.toml", "gcp", GCP={"Bucket": "b"})
    assert [end.kind for end in read_ends("disk", gcp, old, {})] == ["disk", "gcp"]


def test_the_tables_in_use_are_checked_and_the_problems_have_a_side(settings: Any) -> None:
    settings("athens.toml", "memory", Minio={"Endpoint": "e"}, AzureBlob={"AccountName": "a"})
    found = problems("minio", "azureblob")
    assert [line.partition(" = ")[0] for line in found] == [
        *(f"FROM: Storage.Minio.{name}" for name in ("Key", "Secret", "Bucket")),
        "TO: Storage.AzureBlob.ContainerName",
        "TO: Storage.AzureBlob.AccountKey",
    ]
    assert 'where the storage "minio" is used' in found[0]


def test_what_is_wrong_with_both_is_said_once_and_warnings_last(settings: Any) -> None:
    settings("athens.toml", "memory", Disk={"RootPth": "x"})
    found = problems("disk", "s3", ATHENS_GOGET_WORKERS="0")
    assert found[0].startswith("FROM and TO: GoGetWorkers")
    assert [": warning: " in line for line in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].startswith("FROM and TO: warning: ")


def test_a_file_that_means_memory_is_refused(settings: Any) -> None:
    assert (
        "FROM: old.toml: StorageType is memory"
        in problems(settings("old.toml", "memory"), "s3", AWS_REGION="r", ATHENS_S3_BUCKET_NAME="b")[0]
    )


def test_a_broken_file_is_told(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("nonsense")
    good = settings("good.toml", "disk", **disk(tmp_path))
    [problem, *_] = problems(good, "bad.toml")
    assert problem.startswith("TO: ")
    assert "bad.toml" in problem


SAME: dict[str, tuple[str, dict[str, str], dict[str, str], bool]] = {
    "s3": ("S3", {"Region": "r", "Bucket": "b"}, {"Region": "r", "Bucket": "b", "Key": "k", "Secret": "s"}, True),
    "s3 servers": (
        "S3",
        {"Region": "r", "Bucket": "b", "Endpoint": "https://S3.test/"},
        {"Region": "r", "Bucket": "b", "Endpoint": "s3.test"},
        True,
    ),
    "s3 elsewhere": (
        "S3",
        {"Region": "r", "Bucket": "b"},
        {"Region": "r", "Bucket": "b", "Endpoint": "s3.test"},
        False,
    ),
    "mongo": (
        "Mongo",
        {"URL": "mongodb://u:p@a:1,b:2/x?y=z"},
        {"URL": "mongodb://b:2,a:1"},
        True,
    ),
    "mongo elsewhere": ("Mongo", {"URL": "mongodb://a"}, {"URL": "mongodb://b"}, False),
    "gcp": ("GCP", {"Bucket": "b"}, {"Bucket": "c"}, False),
    "azureblob": (
        "AzureBlob",
        {"AccountName": "a", "AccountKey": "eA==", "ContainerName": "c"},
        {"AccountName": "a", "AccountKey": "eQ==", "ContainerName": "c"},
        True,
    ),
    "external": ("External", {"URL": "http://a/x"}, {"URL": "http://a/x/"}, True),
    "external elsewhere": ("External", {"URL": "http://a/x"}, {"URL": "http://a/y"}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAME))
def test_one_store_is_not_copied_onto_itself(settings: Any, name: str) -> None:
    table, old, new, same = SAME[name]
    kind = name.split()[0]
    ends = settings("old.toml", kind, **{table: old}), settings("new.toml", kind, **{table: new})
    if same:
        [problem] = problems(*ends)
        assert problem.startswith(f"FROM and TO are the same store, by Storage.{table}.")
    else:
        read_ends(*ends, "", {})


def test_nor_is_one_disk(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "a" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    ends = {
        name: settings(f"{name}.toml", "disk", **disk(tmp_path / name))
        for name in ("a", "a/../link", "ab")
        if "/" not in name
    }
    link = settings("link.toml", "disk", **disk(tmp_path / "link"))
    inner = settings("inner.toml", "disk", **disk(tmp_path / "a" / "inner"))
    assert problems(ends["a"], link) == ["FROM and TO are the same store, by Storage.Disk.RootPath"]
    assert "lie one in the other" in problems(inner, link)[0]
    read_ends(ends["a"], ends["ab"], "", {})
    [problem] = problems(ends["a"], ends["ab"], ATHENS_DISK_STORAGE_ROOT="/x")
    assert problem.endswith("(ATHENS_DISK_STORAGE_ROOT in the environment count for both)")
    [problem] = problems("disk", "disk", file=ends["a"])
    assert "are the same store" in problem


@pytest_twisted.ensureDeferred
async def test_both_are_opened_or_all_that_is_wrong_is_said(settings: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b, c, d = (settings(f"{name}.toml", "disk", **disk(tmp_path / name)) for name in "abcd")
    backends = Backends(reactor, {})
    stores = await open_ends(backends, read_ends(a, b, "", {}))
    assert all(isinstance(store, DiskStorage) and store.running for store in stores)
    with pytest.raises(ConfigError) as caught:
        await open_ends(backends, read_ends(c, d, "", {}))
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["FROM", "TO"]
    await backends.close()
    assert not any(store.running for store in stores)
