"""
The tree of a disk storage, C{<root>/<module path>/<version>/{<version>.info,go.mod,source.zip}}, as Athens has it.

A version directory is put together in the staging and appears by one rename. Athens itself writes in place, file by
file, so a directory may lack any of the three: such a version is absent for every question, and replaced by the next
save.
All of this blocks, and runs in threads. OSErrors that say no more than that the disk is in trouble go through.
"""

from __future__ import annotations

import builtins
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from athens_tx.errors import InvalidModule, NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.layout import INFO_LIMIT, MOD_LIMIT, check_names, is_listed
from athens_tx.storage.staging import Staging, fsync_directory

MOD = "go.mod"
ZIP = "source.zip"

#: How often to try again where others change the same directory at the same time.
_TRIES = 10


class Tree:
    """The blocking half of L{athens_tx.storage.disk.DiskStorage}; names were checked before."""

    log = Logger()

    def __init__(self, root: Path, staging: Staging) -> None:
        self._root = str(root)
        self._staging = staging

    def _directory(self, mv: ModuleVersion) -> str:
        return f"{self._root}/{mv.path}/{mv.version}"

    def _found(self, mv: ModuleVersion, wanted: str) -> os.stat_result:
        """
        @return: what is known of the file C{wanted}, of a version that has all three.

        It is looked at last, and read after that: if a save replaces an incomplete directory meanwhile, then what is
        wanted is looked for after what was missing, and so in the new directory. An empty C{.info} or C{go.mod} is
        none: it is what Athens has created and not yet written, or what a power cut left of it.
        """
        info = f"{mv.version}.info"
        directory = self._directory(mv)
        try:
            for name in sorted((info, MOD, ZIP), key=wanted.__eq__):
                found = os.lstat(f"{directory}/{name}")
                if stat.S_ISLNK(found.st_mode):  # as where it is opened: nobody's file but ours is served
                    raise IsADirectoryError(errno.ELOOP, "a link where a file should be", f"{directory}/{name}")
                if not stat.S_ISREG(found.st_mode):
                    raise IsADirectoryError(errno.EISDIR, "not a file", f"{directory}/{name}")
                if name != ZIP and not found.st_size:
                    raise FileNotFoundError
        except (FileNotFoundError, NotADirectoryError):
            self._staging.confirm()
            raise NotFound(f"{mv} is not stored") from None
        return found

    def _complete(self, mv: ModuleVersion) -> bool:
        try:
            self._found(mv, ZIP)
        except NotFound:
            return False
        return True

    def _shown(self, mv: ModuleVersion) -> bool:
        """@return: whether a list shows C{mv}; what is no version and never will be does not spoil the list."""
        try:
            return self._complete(mv)
        except IsADirectoryError as error:
            self.log.warn("{path} is not a file, so {mv} is left out", path=error.filename, mv=mv)
            return False

    def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}."""
        return self._complete(mv)

    def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        return self._read(mv, f"{mv.version}.info", INFO_LIMIT)

    def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        return self._read(mv, MOD, MOD_LIMIT)

    def zip(self, mv: ModuleVersion) -> tuple[Path, os.stat_result]:
        """@return: where the zip lies, and what is known of it."""
        found = self._found(mv, ZIP)
        return Path(self._directory(mv), ZIP), found

    def _read(self, mv: ModuleVersion, name: str, limit: int) -> bytes:
        self._found(mv, name)
        try:
            descriptor = os.open(f"{self._directory(mv)}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # deleted just now
            raise NotFound(f"{mv} is not stored") from None
        try:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise StorageUnavailable(f"the {name} of {mv} has {size} bytes, more than the {limit} it may have")
            data = os.read(descriptor, size)
        finally:
            os.close(descriptor)
        return data

    def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}."""
        try:
            names = os.listdir(f"{self._root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            self._staging.confirm()
            return ()
        return [name for name in names if is_listed(name) and self._shown(ModuleVersion(path, name))]

    def stage(self, mv: ModuleVersion, mod: bytes, staged: str) -> bool:
        """@return: whether C{staged} was made, for the zip to be put there; if not, the version is complete already."""
        if self._complete(mv):
            return False
        self._staging.make(staged)
        _write(f"{staged}/{MOD}", mod)
        return True

    def publish(self, mv: ModuleVersion, staged: str, info: bytes) -> None:
        """
        Make what is staged the version, unless somebody else has made it one meanwhile.

        Until the directory is at its place its C{.info} has that name only for an instant: the catalog of Athens takes
        every such file for a version.
        """
        _write(f"{staged}/info", info)
        os.rename(f"{staged}/info", f"{staged}/{mv.version}.info")
        fsync_directory(staged)
        target = self._directory(mv)
        parent = os.path.dirname(target)
        for _ in range(_TRIES):
            try:
                self._make_directories(parent)
                os.rename(staged, target)
            except FileNotFoundError:  # somebody tidies empty directories up
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if self._complete(mv) or self._yield_to(mv, staged, target):
                    self._staging.discard(staged)
                    return
                continue
            fsync_directory(parent)
            return
        raise StorageUnavailable(f"{mv} can't be put at its place: others write there at the same time")

    def _yield_to(self, mv: ModuleVersion, staged: str, target: str) -> bool:
        """
        Deal with an incomplete version that is in the way: take it away whole, so that nobody ever sees files of two
        saves together.

        @return: whether the version is complete now.
        """
        with self._staging.exclusive():
            if self._complete(mv):
                return True
            if not _foreign_directories(mv, target):
                with suppress(FileNotFoundError):  # what was in the way was deleted before we had the lock
                    self._staging.trash(target)
                return False
            # A module lies below this version; it stays. Without its .info the version is absent until the last step.
            with suppress(FileNotFoundError):
                os.unlink(f"{target}/{mv.version}.info")
            for name in (MOD, ZIP, f"{mv.version}.info"):
                os.rename(f"{staged}/{name}", f"{target}/{name}")
            fsync_directory(target)
            return True

    def _make_directories(self, path: str) -> None:
        """Make C{path} and what it lies in, and wait until they are on the disk."""
        missing = []
        while path != self._root and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(directory)
                fsync_directory(os.path.dirname(directory))

    def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        target = self._directory(mv)
        with self._staging.exclusive():
            there = [name for name in (f"{mv.version}.info", ZIP, MOD) if _is_there(f"{target}/{name}")]
            if not there:
                self._staging.confirm()
                raise NotFound(f"{mv} is not stored")
            if not _foreign_directories(mv, target):
                self._staging.trash(target)
                return
            for name in there:
                os.unlink(f"{target}/{name}")
            fsync_directory(target)

    def probe(self) -> None:
        """Read and write, for L{IStorage.check}."""
        self._staging.probe()
        with os.scandir(self._root) as entries:
            next(entries, None)

    def catalog(self, after: tuple[str, ...], limit: int) -> builtins.list[ModuleVersion]:
        """@return: complete versions that follow C{after} in L{athens_tx.storage.layout.order}, at most C{limit}."""
        page: builtins.list[ModuleVersion] = []
        for mv, _, files in self._walk(after):
            if files >= _names(mv) and _valid(mv) and self._shown(mv):
                page.append(mv)
                if len(page) == limit:
                    break
        return page

    def incomplete(self) -> builtins.list[ModuleVersion]:
        """@return: see L{athens_tx.interfaces.IFindsIncomplete}; a directory without files is one by its name."""
        return [
            mv
            for mv, directories, files in self._walk(())
            if (files & _names(mv) or (is_listed(mv.version) and _names(mv).issuperset(directories)))
            and _valid(mv)
            and not self._shown(mv)
        ]

    def _walk(self, after: tuple[str, ...]) -> Iterator[tuple[ModuleVersion, builtins.list[str], set[str]]]:
        """
        Go through the tree in order: each directory, as the version that it would be, and the names of the directories
        and the files in it. One sorted directory for each level of depth is all that is held.

        The part of C{after} that is still ahead goes down with each level, and is empty beside its way.
        """
        self._staging.confirm()
        names, _ = _entries(self._root, follow=True)
        root: tuple[str, ...] = ()
        levels = [(root, _from(after, [name for name in names if name != "lost+found"]), after)]
        while levels:
            elements, waiting, ahead = levels[-1]
            if not waiting:
                levels.pop()
                continue
            name = waiting.pop()
            inner = (*elements, name)
            on_the_way = bool(ahead) and name == ahead[0]
            directories, files = _entries("/".join((self._root, *inner)))
            mv = ModuleVersion("/".join(elements), name)
            if not on_the_way:
                yield mv, directories, files
            rest = ahead[1:] if on_the_way else ()
            levels.append((inner, _from(rest, directories), rest))


def _from(ahead: tuple[str, ...], names: list[str]) -> list[str]:
    """@return: the names that are not before C{ahead}, the first one last."""
    return sorted((name for name in names if not ahead or name >= ahead[0]), reverse=True)


def _names(mv: ModuleVersion) -> set[str]:
    return {f"{mv.version}.info", MOD, ZIP}


def _valid(mv: ModuleVersion) -> bool:
    try:
        check_names(mv)
    except InvalidModule:
        return False
    return True


def _entries(path: str, *, follow: bool = False) -> tuple[list[str], set[str]]:
    """@return: the names of directories, without hidden and linked ones, and of all else."""
    directories, files = [], set()
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        directories.append(entry.name)
                else:
                    files.add(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        if follow:
            raise
    return directories, files


def _foreign_directories(mv: ModuleVersion, target: str) -> bool:
    """@return: whether the directory of a version holds another one, of a module whose path goes through it."""
    directories, _ = _entries(target)
    return bool(set(directories) - _names(mv))


def _is_there(path: str) -> bool:
    """@return: whether there is something, be it a broken link; trouble is no answer, as it is for C{lexists}."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _write(path: str, data: bytes) -> None:
    """Write a new file, and wait until it is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
