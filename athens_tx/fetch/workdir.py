"""
The directories that fetching works in, below C{GoGetDir}: one set for each running daemon, told apart by a lock.

    athens-tx-<uid>-<n>/      0700; <n> is the first whose lock is free
        lock                  held for as long as the daemon lives
        modcache/             C{GOMODCACHE}; stays, so that a repository is cloned once
        gopath/ gocache/      the rest of what go wants
        home/                 credentials; see L{athens_tx.fetch.credentials}
        staging/<random>/     one fetch or listing

All of this blocks and runs in threads or before the reactor.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from athens_tx.errors import ConfigError

#: What must not outlive its daemon.
_TRANSIENT = ("home", "staging")
_MOST = 64


def remove_tree(path: Path | str) -> None:
    """Remove a file or a tree, read-only directories too; what is not there, or goes meanwhile, is no error."""
    path = Path(path)
    if not path.is_dir() or path.is_symlink():
        with suppress(FileNotFoundError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _unlock(path)
        shutil.rmtree(path, ignore_errors=True)


def _unlock(path: Path) -> None:
    """Make the directories of a tree writable; go leaves those of its module cache read-only."""
    with suppress(OSError):
        path.chmod(0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            below = os.path.join(folder, name)
            with suppress(OSError):
                if not os.path.islink(below):
                    os.chmod(below, 0o700)


class WorkDirectory:
    """
    The directories of this daemon.

    @ivar path: the one that holds them, after L{open}.
    """

    log = Logger()

    def __init__(self, parent: str) -> None:
        """
        @param parent: C{GoGetDir}; where it is empty, the system's temporary directory, and all is removed at L{close}.
        """
        self._keep = bool(parent)
        self._parent = Path(os.path.abspath(parent or tempfile.gettempdir()))
        self._lock = -1
        self.path = self._parent

    @property
    def modcache(self) -> Path:
        """The module cache that all runs of go share."""
        return self.path / "modcache"

    @property
    def home(self) -> Path:
        """Where a private home may be made."""
        return self.path / "home"

    def open(self) -> None:
        """
        Take the first free set of directories, and remove what dead daemons left that must not stay.

        @raise ConfigError: C{GoGetDir} can't be written.
        """
        try:
            if self._keep:
                self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, _MOST + 1):
                self._visit(self._parent / f"athens-tx-{os.geteuid()}-{number}", number)
        except OSError as error:
            raise ConfigError([f"GoGetDir: {self._parent} can't be worked in: {error.strerror}"]) from error
        inside = [str(folder) for folder in self.path.parents if (folder / "go.mod").exists()]
        if inside:
            raise ConfigError([f"GoGetDir: {self._parent} is inside the Go module {inside[0]}, which go would work on"])
        if self._lock < 0:
            raise ConfigError([f"GoGetDir: {self._parent} has {_MOST} directories of other daemons, none of them free"])
        for name in ("modcache", "gopath", "gocache", "staging"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    def _visit(self, path: Path, number: int) -> None:
        """Take C{path} if we have none yet and it is free; clear it if it is free and we have one."""
        if self._lock >= 0 and not path.exists():
            return
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return  # somebody else's: nothing in it is to be trusted
        path.chmod(0o700)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return
        for name in _TRANSIENT:
            remove_tree(path / name)
        if self._lock < 0:
            self._lock, self.path = lock, path
        else:
            os.close(lock)

    def stage(self) -> Path:
        """@return: a new empty directory, 0700."""
        return Path(tempfile.mkdtemp(dir=self.path / "staging"))

    def close(self) -> None:
        """Remove what must not stay, and give the lock up."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        for name in _TRANSIENT:
            remove_tree(self.path / name)
        if not self._keep:
            remove_tree(self.path)
        os.close(lock)
