"""The directories that fetching works in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from athens_tx.errors import ConfigError
from athens_tx.fetch import workdir
from athens_tx.fetch.workdir import WorkDirectory, remove_tree


def test_two_daemons_don_t_share_and_a_dead_one_s_cache_is_used_again(tmp_path: Path) -> None:
    parent = tmp_path / "new"
    one, two = WorkDirectory(str(parent)), WorkDirectory(str(parent))
    one.open()
    two.open()
    assert one.path != two.path
    assert one.path.stat().st_mode & 0o777 == 0o700
    (one.modcache / "kept").touch()
    stage = one.stage()
    assert stage.parent == one.path / "staging"
    one.close()
    one.close()
    assert not stage.exists()
    three = WorkDirectory(str(parent))
    three.open()
    assert three.path == one.path
    assert (three.modcache / "kept").exists()
    two.close()
    three.close()


def test_what_a_killed_daemon_left_is_swept(tmp_path: Path) -> None:
    one, two = WorkDirectory(str(tmp_path)), WorkDirectory(str(tmp_path))
    one.open()
    two.open()
    for work in (one, two):
        work.home.mkdir()
        (work.home / ".netrc").write_text("secret")
        (work.stage() / "zip").touch()
        os.close(work._lock)  # as the kernel does for one that is killed
    three = WorkDirectory(str(tmp_path))
    three.open()
    for work in (one, two):
        assert not work.home.exists()
        assert not list(work.path.glob("staging/*"))
    three.close()


def test_a_living_neighbour_is_left_alone(tmp_path: Path) -> None:
    one = WorkDirectory(str(tmp_path))
    one.open()
    stage = one.stage()
    two = WorkDirectory(str(tmp_path))
    two.open()
    assert stage.exists()
    two.close()
    one.close()


def test_below_the_system_s_temporary_directory_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workdir.tempfile, "gettempdir", lambda: str(tmp_path))
    work = WorkDirectory("")
    work.open()
    assert list(tmp_path.iterdir()) == [work.path]
    work.close()
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_has_put_there_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"athens-tx-{os.geteuid()}-1").symlink_to("/nowhere")
    (tmp_path / f"athens-tx-{os.geteuid()}-2").touch()
    work = WorkDirectory(str(tmp_path))
    work.open()
    assert work.path.name.endswith("-3")
    work.close()


def test_a_place_that_cannot_be_used_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="GoGetDir"):
        WorkDirectory(str(tmp_path / "file" / "below")).open()
    monkeypatch.setattr(workdir, "_MOST", 1)
    (tmp_path / f"athens-tx-{os.geteuid()}-1").touch()
    with pytest.raises(ConfigError, match="none of them free"):
        WorkDirectory(str(tmp_path)).open()


def test_not_inside_a_go_module(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n")
    work = WorkDirectory(str(tmp_path / "var"))
    with pytest.raises(ConfigError, match="inside the Go module"):
        work.open()
    work.close()


def test_read_only_trees_files_and_links_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, kept = tmp_path / "tree", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    (tree / "link").symlink_to(kept)
    for folder in (tree / "a" / "b", tree / "a", tree):
        folder.chmod(0o555)
    if os.geteuid() == 0:  # root may do all: let the first attempt fail as it does for others
        original, calls = workdir.shutil.rmtree, []

        def rmtree(path: Path, **options: bool) -> None:
            calls.append(path)
            if len(calls) > 1:
                original(path, **options)

        monkeypatch.setattr(workdir.shutil, "rmtree", rmtree)
    remove_tree(tree)
    assert not tree.exists()
    assert (kept / "file").exists()
    link = tmp_path / "link"
    link.symlink_to(kept)
    remove_tree(link)
    remove_tree(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == [kept]
