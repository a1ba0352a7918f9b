"""The keys of the object stores are those of Athens, and a listing cut anywhere gives every complete version once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import InvalidRequest
from athens_tx.interfaces import StoredObject
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.keys import INFO, MOD, ZIP, ByFolder, ByVersion, Group, Groups, Layout
from athens_tx.storage.layout import is_listed

LAYOUTS: dict[str, Layout] = {"s3, gcp, azureblob": ByVersion(), "minio": ByFolder()}

#: Table 2.0 of the specification, key by key: module, version; info, mod, zip of s3, gcp and azureblob; of minio.
GOLDEN = (
    (
        MV("github.com/BurntSushi/toml", "v1.4.0"),
        (
            "github.com/BurntSushi/toml/@v/v1.4.0.info",
            "github.com/BurntSushi/toml/@v/v1.4.0.mod",
            "github.com/BurntSushi/toml/@v/v1.4.0.zip",
        ),
        (
            "github.com/BurntSushi/toml/v1.4.0/v1.4.0.info",
            "github.com/BurntSushi/toml/v1.4.0/go.mod",
            "github.com/BurntSushi/toml/v1.4.0/source.zip",
        ),
    ),
    (
        MV("github.com/Azure/azure-sdk-for-go", "v68.0.0+incompatible"),
        (
            "github.com/Azure/azure-sdk-for-go/@v/v68.0.0+incompatible.info",
            "github.com/Azure/azure-sdk-for-go/@v/v68.0.0+incompatible.mod",
            "github.com/Azure/azure-sdk-for-go/@v/v68.0.0+incompatible.zip",
        ),
        (
            "github.com/Azure/azure-sdk-for-go/v68.0.0+incompatible/v68.0.0+incompatible.info",
            "github.com/Azure/azure-sdk-for-go/v68.0.0+incompatible/go.mod",
            "github.com/Azure/azure-sdk-for-go/v68.0.0+incompatible/source.zip",
        ),
    ),
    (
        MV("gopkg.in/yaml.v3", "v3.0.0-RC1.0.20200121155420-0123456789ab"),
        (
            "gopkg.in/yaml.v3/@v/v3.0.0-RC1.0.20200121155420-0123456789ab.info",
            "gopkg.in/yaml.v3/@v/v3.0.0-RC1.0.20200121155420-0123456789ab.mod",
            "gopkg.in/yaml.v3/@v/v3.0.0-RC1.0.20200121155420-0123456789ab.zip",
        ),
        (
            "gopkg.in/yaml.v3/v3.0.0-RC1.0.20200121155420-0123456789ab/v3.0.0-RC1.0.20200121155420-0123456789ab.info",
            "gopkg.in/yaml.v3/v3.0.0-RC1.0.20200121155420-0123456789ab/go.mod",
            "gopkg.in/yaml.v3/v3.0.0-RC1.0.20200121155420-0123456789ab/source.zip",
        ),
    ),
    (
        MV("example.com/~tilde/a_b/v2", "v2.0.0"),
        (
            "example.com/~tilde/a_b/v2/@v/v2.0.0.info",
            "example.com/~tilde/a_b/v2/@v/v2.0.0.mod",
            "example.com/~tilde/a_b/v2/@v/v2.0.0.zip",
        ),
        (
            "example.com/~tilde/a_b/v2/v2.0.0/v2.0.0.info",
            "example.com/~tilde/a_b/v2/v2.0.0/go.mod",
            "example.com/~tilde/a_b/v2/v2.0.0/source.zip",
        ),
    ),
)

#: What lies in buckets besides: of Athens' minio and its locks, of people, and of old versions of anything.
FOREIGN = (
    "lease/github.com/BurntSushi/toml@v1.4.0",
    "parts/github.com/BurntSushi/toml/v1.4.0/0",
    "readme.info",
    "a.zip",
    ".info",
    "go.mod",
    "v1.0.0/go.mod",
    "a/@v/",
    "a/@v/list",
    "a/@v/.info",
    "a/@v/x/v1.0.0.info",
    "a/@v/v1.0.0.zip.tmp",
    "/@v/v1.0.0.info",
    "../@v/v1.0.0.info",
    "a/..hidden/go.mod",
    "a//v1.0.0/go.mod",
    "a/v1.0.0/v1.0.1.info",
    "a/v1.0.0/source.zip/x",
)

VERSIONS = ("v1.0.0", "v1.0.0-a", "v1.0.0-a.b", "v1.0.0-a.k", "v1.0.0-a.n", "v1.0.0-a.zz", "v1.0.0-a-b", "v1", "h1")
#: Some are below others, some begin like others, one is named as a version of another.
MODULES = ("g/a", "g/a-b", "g/a/v1", "g/a/v1.0.0-a", "g/a0", "g", "z")


@pytest.mark.parametrize(("mv", "versioned", "foldered"), GOLDEN)
def test_the_keys_are_those_of_athens(mv: MV, versioned: tuple[str, ...], foldered: tuple[str, ...]) -> None:
    for layout, keys in ((ByVersion(), versioned), (ByFolder(), foldered)):
        assert layout.files(mv) == keys
        assert [layout.place(key) for key in keys] == [(mv, INFO), (mv, MOD), (mv, ZIP)]
        assert all(key.startswith(layout.group(mv)) for key in keys)
        assert not is_listed(mv.version) or all(key.startswith(layout.listed(mv.path)) for key in keys)
        assert layout.cursor(layout.token(mv)) == keys[INFO]


def test_the_content_types_are_those_of_athens() -> None:
    assert ByVersion.types == ("application/json", "text/plain", "application/octet-stream")
    assert ByFolder.types == ("application/octet-stream",) * 3


def test_a_token_is_the_last_info_key_and_in_minio_as_in_a_url() -> None:
    mv = MV("github.com/Azure/sdk", "v68.0.0+incompatible")
    assert ByVersion().token(mv) == "github.com/Azure/sdk/@v/v68.0.0+incompatible.info"
    assert ByFolder().token(mv) == "github.com/Azure/sdk/v68.0.0%2Bincompatible/v68.0.0%2Bincompatible.info"


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("key", FOREIGN)
def test_what_is_no_file_of_a_version_is_told_apart(layout: Layout, key: str) -> None:
    assert layout.place(key) is None
    with pytest.raises(InvalidRequest):
        layout.cursor(key)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_only_an_info_is_a_token(layout: Layout) -> None:
    assert layout.cursor("") == ""
    _, mod, zipped = layout.files(MV("a", "v1.0.0"))
    for key in (mod, zipped):
        with pytest.raises(InvalidRequest):
            layout.cursor(key)


def test_each_layout_knows_nothing_of_the_other() -> None:
    mv = MV("a/b", "v1.0.0")
    assert [ByVersion().place(key) for key in ByFolder().files(mv)] == [None] * 3
    assert [ByFolder().place(key) for key in ByVersion().files(mv)] == [None] * 3


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_version_is_complete_with_its_three_files_of_which_the_info_is_not_empty(layout: Layout) -> None:
    mv = MV("a", "v1.0.0")
    keys = layout.files(mv)
    for present in range(8):
        files = {index: _object(keys[index]) for index in range(3) if present >> index & 1}
        assert Group(mv, "", files).complete is (present == 7)
    files = {index: _object(keys[index]) for index in range(3)}
    assert not Group(mv, "", files | {INFO: StoredObject(keys[INFO], "", 0, 0.0)}).complete


def test_files_of_a_version_belong_together_though_others_stand_between_them() -> None:
    keys = sorted(
        key for version in ("v1-a", "v1-a.b", "v1-a.k", "v1-a.n") for key in ByVersion().files(MV("g", version))
    )
    assert keys.index("g/@v/v1-a.mod") - keys.index("g/@v/v1-a.info") == 4  # the three of v1-a.k
    assert _read(ByVersion(), keys) == ([MV("g", v) for v in ("v1-a.b", "v1-a", "v1-a.k", "v1-a.n")], [])


# --- cut anywhere


_stored = st.sets(st.tuples(st.sampled_from(MODULES), st.sampled_from(VERSIONS), st.integers(1, 7)), max_size=14)
_layouts = st.sampled_from(list(LAYOUTS.values()))


@given(_layouts, _stored)
def test_a_whole_listing_gives_every_version_once(layout: Layout, stored: set[tuple[str, str, int]]) -> None:
    keys, whole, partial = _bucket(layout, stored)
    complete, rest = _read(layout, keys)
    assert sorted(map(str, complete)) == sorted(map(str, whole))
    assert sorted(map(str, rest)) == sorted(map(str, partial))
    assert complete == sorted(whole, key=lambda mv: layout.files(mv)[INFO].encode())  # what tokens count


@given(_layouts, _stored, st.data())
def test_resumed_behind_any_info_nothing_is_lost_or_given_twice(
    layout: Layout, stored: set[tuple[str, str, int]], data: st.DataObject
) -> None:
    keys, whole, _ = _bucket(layout, stored)
    infos = [key for key in keys if (place := layout.place(key)) is not None and place[1] == INFO]
    behind = data.draw(st.sampled_from(["", *infos]))
    groups = Groups(layout, behind)
    for key in keys:
        if key.encode() > behind.encode():
            groups.add(_object(key))
    groups.end()
    got = list(groups.take())
    sure = [group.mv for group in got if group.complete]
    unsure = [group.mv for group in got if not group.complete and group.uncertain and group.mv in whole]
    expected = [mv for mv in whole if layout.files(mv)[INFO].encode() > behind.encode()]
    assert sorted(map(str, sure + unsure)) == sorted(map(str, expected))


@given(_stored, st.data())
def test_a_page_cut_anywhere_says_of_what_it_is_not_sure(
    stored: set[tuple[str, str, int]], data: st.DataObject
) -> None:
    layout = ByVersion()
    keys, whole, _ = _bucket(layout, stored)
    cut = data.draw(st.integers(0, len(keys)))
    groups = Groups(layout)
    for key in keys[:cut]:
        groups.add(_object(key))
    groups.end(cut=cut < len(keys))
    for group in groups.take():
        assert group.complete or group.uncertain or group.mv not in whole
        assert not group.complete or group.mv in whole


def _bucket(layout: Layout, stored: set[tuple[str, str, int]]) -> tuple[list[str], list[MV], list[MV]]:
    """@return: the keys in the order of a listing, the complete versions, the others."""
    files: dict[MV, int] = {}
    for path, version, present in stored:
        files[MV(path, version)] = files.get(MV(path, version), 0) | present
    keys = {layout.files(mv)[index] for mv, present in files.items() for index in range(3) if present >> index & 1}
    whole = [mv for mv, present in files.items() if present == 7]
    return sorted({*keys, *FOREIGN}, key=str.encode), whole, [mv for mv, present in files.items() if present != 7]


def _read(layout: Layout, keys: Sequence[str]) -> tuple[list[MV], list[MV]]:
    groups = Groups(layout)
    complete: list[MV] = []
    partial: list[MV] = []
    for key in keys:
        groups.add(_object(key))
        for group in (*groups.take(), *groups.without_info()):
            (complete if group.complete else partial).append(group.mv)
    groups.end()
    for group in (*groups.take(), *groups.without_info()):
        (complete if group.complete else partial).append(group.mv)
    return complete, partial


def _object(key: str) -> StoredObject:
    return StoredObject(key, f'"{key}"', 1, 0.0)
