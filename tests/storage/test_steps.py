"""
A save and a delete, stopped before each of their steps on the disk, and the order of these steps.

What F{test_kill} does by chance is done here one step after the other; and what a power cut would do is told by what
was on the disk (fsync) before what (rename).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from tests.storage.disks import content, is_whole, leftovers, save, started, tree

MV = ModuleVersion("github.com/Azure/x", "v1.0.0")
DIRECTORY = "github.com/Azure/x/v1.0.0"
INNER = ModuleVersion("github.com/Azure/x/v1.0.0", "v1.2.3")


class Killed(Exception):
    """The process is no more; nothing catches it but the test."""


class Steps:
    """
    Everything that changes what is on the disk below a root.

    @ivar taken: what was done, as C{(name, path)}, with the target of a rename as third.
    """

    CHANGES = ("mkdir", "rename", "rmdir", "unlink", "open", "write", "fsync")

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, last: int = 1 << 30) -> None:
        self.taken: list[tuple[str, ...]] = []
        self._root = str(root)
        self._last = last
        for name in self.CHANGES:
            monkeypatch.setattr(os, name, self._step(name, getattr(os, name)))

    def _step(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(path: Any, *args: Any, **kwargs: Any) -> Any:
            where = self._where(path, kwargs.get("dir_fd"))
            if not where.startswith(self._root) or (name == "open" and not args[0] & os.O_CREAT):
                return real(path, *args, **kwargs)
            if len(self.taken) >= self._last:
                raise Killed(name)
            target = (os.path.relpath(args[0], self._root),) if name == "rename" else ()
            self.taken.append((name, os.path.relpath(where, self._root), *target))
            return real(path, *args, **kwargs)

        return step

    @staticmethod
    def _where(path: Any, directory: int | None) -> str:
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}")
        return os.path.join(os.readlink(f"/proc/self/fd/{directory}"), path) if directory is not None else str(path)


def partial(root: Path, *names: str) -> None:
    directory = root / DIRECTORY
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text("torn")


async def nothing(storage: Any, root: Path) -> None:
    """Where nothing is yet."""


async def torn(storage: Any, root: Path) -> None:
    """One more file, and it would look complete."""
    partial(root, "v1.0.0.info", "source.zip")


async def torn_around(storage: Any, root: Path) -> None:
    """Another module lies within what is torn."""
    partial(root, "v1.0.0.info", "source.zip")
    await save(storage, INNER)


async def there(storage: Any, root: Path) -> None:
    """A version to be deleted."""
    await save(storage, MV)


async def there_around(storage: Any, root: Path) -> None:
    """Another module lies within what is to be deleted."""
    await save(storage, MV)
    await save(storage, INNER)


async def delete(storage: Any, mv: ModuleVersion) -> None:
    await storage.delete(mv)


CASES = ((nothing, save), (torn, save), (torn_around, save), (there, delete), (there_around, delete))


def names(case: Any) -> str:
    return case.__name__


@pytest.mark.parametrize(("before", "act"), CASES, ids=names)
@pytest_twisted.ensureDeferred
async def test_whatever_the_last_step_was_a_version_is_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Any, act: Any
) -> None:
    seen = set()
    for last in range(100):
        root = tmp_path / str(last)
        os.mkdir(root)
        storage = await started(reactor, root)
        await before(storage, root)
        ended = False
        with monkeypatch.context() as patch:
            steps = Steps(root, patch, last)
            try:
                await act(storage, MV)
                ended = True
            except (Killed, StorageUnavailable):  # the latter from a file that can't be written
                pass
        os.close(storage._staging._lock)  # the system does that for the dead
        storage._staging._lock = -1
        after = await started(reactor, root)
        seen.add(await is_whole(after, MV))
        assert leftovers(root) == []
        assert before not in (torn_around, there_around) or await is_whole(after, INNER)
        if act is save:
            await save(after, MV)
            assert await is_whole(after, MV)
        else:
            try:
                await after.delete(MV)
            except NotFound:
                assert last > 0
            assert not await is_whole(after, MV)
        await after.stopService()
        if ended:
            break
    assert len(steps.taken) == last > 4
    assert seen == {True, False}


@pytest.mark.parametrize("before", [nothing, torn, torn_around], ids=names)
@pytest_twisted.ensureDeferred
async def test_a_version_is_on_the_disk_before_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Any
) -> None:
    storage = await started(reactor, tmp_path)
    await before(storage, tmp_path)
    with monkeypatch.context() as patch:
        steps = Steps(tmp_path, patch).taken
        await save(storage, MV)
    renames = [step for step in steps if step[0] == "rename"]
    info = f"{DIRECTORY}/v1.0.0.info"
    commit = [step for step in renames if step[2] in (DIRECTORY, info)][-1]  # one before may have failed
    before_it = steps[: steps.index(commit)]
    staged = commit[1] if commit[2] == DIRECTORY else os.path.dirname(commit[1])
    for name in ("go.mod", "source.zip", "info"):
        written = max(index for index, step in enumerate(steps) if step == ("write", f"{staged}/{name}"))
        assert steps.index(("fsync", f"{staged}/{name}")) > written
        assert ("fsync", f"{staged}/{name}") in before_it
    named = ("rename", f"{staged}/info", f"{staged}/v1.0.0.info")
    assert before_it.index(("fsync", staged)) > before_it.index(named)
    for index, step in enumerate(before_it):  # each new directory, too
        if step[0] == "mkdir" and not step[1].startswith(".athens"):
            assert ("fsync", os.path.dirname(step[1]) or ".") in before_it[index:]
    after_it = steps[steps.index(commit) :]
    assert ("fsync", os.path.dirname(commit[2])) in after_it
    assert before is not nothing or len([step for step in steps if step[0] == "fsync"]) == 8
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_version_that_is_deleted_is_gone_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(reactor, tmp_path)
    await save(storage, MV)
    with monkeypatch.context() as patch:
        steps = Steps(tmp_path, patch).taken
        await storage.delete(MV)
    changes = [step for step in steps if step[0] != "open"]
    assert changes[0][:2] == ("rename", DIRECTORY)
    assert changes[1] == ("fsync", "github.com/Azure/x")
    assert tree(tmp_path) == {}
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_complete_version_is_not_touched_by_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(reactor, tmp_path)
    await save(storage, MV)
    with monkeypatch.context() as patch:
        steps = Steps(tmp_path, patch).taken
        await save(storage, MV, 5)
    assert steps == []
    assert await storage.info(MV) == content(MV)[0]
    await storage.stopService()
