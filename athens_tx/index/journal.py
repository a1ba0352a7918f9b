"""
The lines of an index that are not in its database yet, in a file, so that neither a database that is down nor a power
failure loses one.

Below the folder of an index every process has a directory of its own, and holds a lock on the file C{lock} in it for
as long as it lives: so another one can tell what a dead process has left, and takes that over. All of this blocks, and
runs in threads.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import attrs
from twisted.logger import Logger

from athens_tx.interfaces import IndexLine

#: Bytes that may wait: some 500,000 lines.
MOST_BYTES = 64 << 20
#: Bytes that are read at once, and those that may be behind us in the file before it is made shorter.
_CHUNK = 128 << 10
_SLACK = 4 << 20


def journal_folder(chosen: str, go_get_dir: str, environ: Mapping[str, str]) -> Path:
    """
    @param chosen: C{IndexJournal}.
    @return: where journals are; if nobody said so, in the first place of those that outlive a restart.
    """
    if chosen:
        return Path(os.path.abspath(chosen))
    kept = environ.get("STATE_DIRECTORY", "").partition(":")[0] or go_get_dir
    if kept:
        return Path(os.path.abspath(kept)) / "index-journal"
    return Path(tempfile.gettempdir()) / f"athens-tx-index-{os.geteuid()}"


class JournalFull(Exception):
    """No more lines fit."""


@attrs.frozen
class Batch:
    """
    Some of the lines that wait, the oldest ones.

    @ivar end: where the next ones begin; C{count} how many lines that is, unreadable ones too.
    """

    lines: Sequence[IndexLine]
    end: int
    count: int


class Journal:
    """
    The journal of one process.

    @ivar waiting: how many lines are in it.
    @ivar oldest: the time of the first one; C{None} where there is none.
    """

    log = Logger()

    def __init__(self, folder: Path, *, most: int = MOST_BYTES) -> None:
        """@param folder: for one index, of one database; is made if it is absent."""
        self.waiting = 0
        self.oldest: datetime | None = None
        self._folder = folder
        self._most = most
        self._path = folder
        self._lock = -1
        self._file = -1
        self._start = self._end = 0
        self._turn = threading.Lock()

    def open(self) -> None:
        """Take over what dead processes have left, or begin a new one; OSError where that can't be done."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self._folder, *self._folder.parents[:-1]):
            if path.parent.stat().st_mode & stat.S_ISVTX and path.lstat().st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it is below a folder of another user", str(path))
        with self._turn:
            self._path, self._lock = self._free()
            self._file = os.open(self._path / "lines", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _fsync_directory(self._path)
            _fsync_directory(self._folder)
            self._count()
        self.adopt()

    def _free(self) -> tuple[Path, int]:
        """@return: a directory that nobody has, and its lock."""
        for path in self._others():
            lock = _locked(path)
            if lock >= 0:
                return path, lock
        while True:
            path = self._folder / secrets.token_hex(8)
            path.mkdir(mode=0o700)
            lock = _locked(path)
            if lock >= 0:
                return path, lock

    def _others(self) -> list[Path]:
        with os.scandir(self._folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return [path for name in names if (path := self._folder / name) != self._path]

    def _count(self) -> None:
        """Look at what somebody else wrote into our file; what he did not finish is cut off."""
        while data := os.pread(self._file, _CHUNK, self._end):
            whole = data[: data.rfind(b"\n") + 1]
            if not whole:
                break
            self._end += len(whole)
            self.waiting += whole.count(b"\n")
        if os.fstat(self._file).st_size > self._end:
            self.log.warn("the last line of the index journal {path} is torn", path=str(self._path))
            os.ftruncate(self._file, self._end)
        if self.waiting:
            self.oldest = self._first_time()
            self.log.info("{count} lines are to be written to the index yet", count=self.waiting)

    def adopt(self) -> None:
        """Take over what processes have left that are gone."""
        for path in self._others():
            lock = _locked(path)
            if lock < 0:
                continue
            try:
                self._take(path)
            except (OSError, JournalFull) as error:
                reason = str(error)
                self.log.error("the index journal {path} can't be taken over: {reason}", path=str(path), reason=reason)
            finally:
                os.close(lock)

    def _take(self, path: Path) -> None:
        with suppress(FileNotFoundError), (path / "lines").open("rb") as file:
            rest = b""
            while data := file.read(_CHUNK):
                whole, end, rest = (rest + data).rpartition(b"\n")
                if end:
                    self._write(whole + end)
            os.unlink(path / "lines")
        os.unlink(path / "lock")
        with suppress(OSError):  # somebody else is about to take it
            os.rmdir(path)

    def append(self, lines: Sequence[IndexLine]) -> None:
        """
        Write lines down; they are on the disk when this returns.

        @raise JournalFull: they would be too many.
        """
        self._write(b"".join(map(_written, lines)))

    def _write(self, data: bytes) -> None:
        with self._turn:
            if self._end - self._start + len(data) > self._most:
                raise JournalFull(f"{self.waiting} lines wait")
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(self._file, data[done:], self._end + done)
                os.fsync(self._file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise
            self._end += len(data)
            self.waiting += data.count(b"\n")
            if self.oldest is None:
                self.oldest = self._first_time()

    def read(self, limit: int) -> Batch:
        """@return: the oldest lines, at most C{limit} of them."""
        with self._turn:
            data = os.pread(self._file, min(_CHUNK, self._end - self._start), self._start)
        pieces = data.splitlines(keepends=True)[:limit]
        if pieces and not pieces[-1].endswith(b"\n"):
            pieces.pop()
        whole = b"".join(pieces)
        if data and not whole:
            raise OSError(errno.EIO, f"the index journal {self._path} is damaged")
        lines, bad = _parse(whole)
        if bad:
            self.log.warn("{count} lines of the index journal {path} are no lines", count=bad, path=str(self._path))
        return Batch(lines, self._start + len(whole), len(pieces))

    def advance(self, batch: Batch) -> None:
        """These lines are in the database: forget them."""
        with self._turn:
            self._start = batch.end
            self.waiting -= batch.count
            self.oldest = None
            if self._start == self._end:
                # If a crash brings them back, they are written again, which is harmless.
                os.ftruncate(self._file, 0)
                self._start = self._end = self.waiting = 0
            else:
                if self._start > _SLACK:
                    self._shorten()
                self.oldest = self._first_time()

    def _shorten(self) -> None:
        rest = self._path / "rest"
        file = os.open(rest, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        at, done = self._start, 0
        while data := os.pread(self._file, _SLACK, at):
            os.pwrite(file, data, done)
            at, done = at + len(data), done + len(data)
        os.fsync(file)
        os.rename(rest, self._path / "lines")
        _fsync_directory(self._path)
        os.close(self._file)
        self._file, self._start, self._end = file, 0, done

    def _first_time(self) -> datetime | None:
        lines, _ = _parse(os.pread(self._file, 4096, self._start).partition(b"\n")[0] + b"\n")
        return lines[0].time if lines else None

    def close(self) -> None:
        """Give it up; what waits is left for the next process."""
        with self._turn:
            if self._lock < 0:
                return
            with suppress(OSError):
                if not self.waiting:
                    os.unlink(self._path / "lines")
                    os.unlink(self._path / "lock")
                    os.rmdir(self._path)
            for descriptor in (self._file, self._lock):
                with suppress(OSError):
                    os.close(descriptor)
            self._lock = self._file = -1


def _written(line: IndexLine) -> bytes:
    time = line.time.astimezone(UTC).isoformat()
    return json.dumps([line.path, line.version, time], separators=(",", ":")).encode() + b"\n"


def _parse(data: bytes) -> tuple[list[IndexLine], int]:
    """@return: the lines, and how many can't be read: one, where the power failed while it was written."""
    lines, bad = [], 0
    for piece in data.splitlines(keepends=True):
        try:
            path, version, time = json.loads(piece)
            if not (piece.endswith(b"\n") and isinstance(path, str) and isinstance(version, str)):
                raise ValueError("torn")
            lines.append(IndexLine(path, version, datetime.fromisoformat(time).astimezone(UTC)))
        except (ValueError, TypeError):
            bad += 1
    return lines, bad


def _locked(path: Path) -> int:
    """@return: the descriptor that holds the lock of a directory; -1 if somebody else has it, or removed it."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return -1
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path / "lock")):
            kept, descriptor = descriptor, -1
            return kept
    if descriptor >= 0:
        os.close(descriptor)
    return -1


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
