"""
The lines of an index that are not in its database yet, in a file, so that neither a database that is down nor a power
failure loses one.

Below the folder of an index every process has a directory of its own, and holds a lock on the file C{lock} in it for
as long as it lives: so another one can tell what a dead process has left, and takes that over. All of this blocks, and
runs in threads.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import attrs
from twisted.logger import Logger

from athens_tx.index import intents, journal_lines
from athens_tx.index.intents import LONG_AGO, Intents
from athens_tx.index.journal_folders import INTENTS, LINES, LOCK, REST, directories, forgotten, locked, remove
from athens_tx.index.journal_lines import close, create
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion

#: Bytes that may wait: some 500,000 lines.
MOST_BYTES = 64 << 20
#: Bytes that are read at once, much more than a line has; and those that may be behind us in the file before it is made
#: shorter.
_CHUNK = 128 << 10
_SLACK = 4 << 20
#: Bytes by which it is tried whether the disk takes some.
_PROBE = 4096


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

    def __init__(self, folder: Path, *, base: Path | None = None, most: int = MOST_BYTES) -> None:
        """
        @param folder: for one index, of one database; is made if it is absent.
        @param base: see L{forgotten}.
        """
        self.waiting = 0
        self.oldest: datetime | None = None
        self._folder = folder
        self._base = base
        self._most = most
        self._path = folder
        self._lock = -1
        self._file = -1
        self._intents: Intents | None = None
        self._start = self._end = 0
        self._shorten_at = _SLACK
        self._turn = threading.Lock()
        #: Whoever has a turn may ask for this one too, never the other way round: an intent waits for no line.
        self._noting = threading.Lock()

    # -- whose it is

    def open(self) -> None:
        """Take over what dead processes have left, or begin a new one; OSError where that can't be done."""
        with self._turn:
            self._make_folder()
            self._path, self._lock = self._free()
            self._file = create(self._path / LINES)
            self._intents = Intents(self._path / INTENTS)
            journal_lines.fsync_directories([self._path, self._folder])
            self._count()
        self.adopt()
        for other in forgotten(self._base, self._folder) if self._base is not None else ():
            text = (
                "lines of the index of another database wait in {path}; if it is gone, or has another name now, remove"
            )
            text += " the folder: athens-tx index rebuild adds what is missing"
            self.log.warn(text, path=str(other))

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self._folder, *self._folder.parents[:-1]):
            if path.parent.stat().st_mode & stat.S_ISVTX and path.lstat().st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it is below a folder of another user", str(path))

    def _free(self) -> tuple[Path, int]:
        """@return: a directory that nobody has, and its lock."""
        for path in self._others():
            lock = locked(path)
            if lock >= 0:
                return path, lock
        return self._new()

    def _new(self) -> tuple[Path, int]:
        while True:
            path = self._folder / secrets.token_hex(8)
            path.mkdir(mode=0o700)
            lock = locked(path)
            if lock >= 0:
                return path, lock

    def _others(self) -> list[Path]:
        return [path for path in directories(self._folder) if path != self._path]

    def adopt(self) -> None:
        """Take over what processes have left that are gone."""
        for path in self._others():
            lock = locked(path)
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
        with suppress(FileNotFoundError), (path / LINES).open("rb") as file:
            rest = b""
            while data := file.read(_CHUNK):
                whole, end, rest = (rest + data).rpartition(b"\n")
                rest = rest.lstrip(b"\0")[-_CHUNK:]
                if end:
                    self._write(whole + end)
        begun = intents.read(path / INTENTS)
        with self._noting:
            assert self._intents is not None
            self._intents.begin({mv: LONG_AGO for mv in begun if mv not in self._intents.open_since})
        remove(path)

    def _keep_name(self) -> None:
        """Our files may have been removed, with all that is in them, by somebody who tidied up: write them anew."""
        if self._lock < 0:
            raise OSError(errno.EBADF, "it is closed", str(self._path))
        assert self._intents is not None
        there = journal_lines.same(self._file, self._path / LINES)
        if there and self._intents.there() and journal_lines.same(self._lock, self._path / LOCK):
            return
        self._make_folder()
        path, lock = self._new()
        file = -1
        try:
            file = create(path / LINES)
            journal_lines.copy(self._file, 0, self._end, file)
            os.fsync(file)
            with self._noting:
                self._intents.move(path / INTENTS)
            journal_lines.fsync_directories([path, self._folder])
        except BaseException:
            close(file, lock)
            raise
        close(self._file, self._lock)
        self._path, self._file, self._lock = path, file, lock
        self.log.error("the index journal was removed while it was in use; it is at {path} now", path=str(path))

    def close(self) -> None:
        """Give it up; what waits is left for the next process."""
        with self._turn, self._noting:
            if self._lock < 0:
                return
            assert self._intents is not None
            if not self.waiting and not self._intents.open_since:
                with suppress(OSError):
                    remove(self._path)
            self._intents.close()
            close(self._file, self._lock)
            self._lock = self._file = -1

    # -- lines

    def _count(self) -> None:
        """Look at what somebody else wrote into our file; what he did not finish is cut off."""
        place = 0
        while data := os.pread(self._file, _CHUNK, place):
            if b"\n" in data:
                self._end = place + data.rindex(b"\n") + 1
                self.waiting += data.count(b"\n")
            place += len(data)
        if place > self._end:
            self.log.warn("the last line of the index journal {path} is torn", path=str(self._path))
            os.ftruncate(self._file, self._end)
        if self.waiting:
            self.oldest = self._first_time()
            self.log.info("{count} lines are to be written to the index yet", count=self.waiting)

    def append(self, lines: Sequence[IndexLine]) -> None:
        """
        Write lines down; they are on the disk when this returns, and the saves that they are of are over.

        @raise JournalFull: they would be too many.
        """
        self._write(b"".join(map(journal_lines.written, lines)))
        self.settle([ModuleVersion(line.path, line.version) for line in lines])

    def _write(self, data: bytes) -> None:
        with self._turn:
            self._keep_name()
            if self._end - self._start + len(data) > self._most:
                raise JournalFull(f"{self.waiting} lines wait")
            self._put(data)
            self._end += len(data)
            self.waiting += data.count(b"\n")
            if self.oldest is None:
                self.oldest = self._first_time()

    def _put(self, data: bytes) -> None:
        try:
            journal_lines.write_at(self._file, data, self._end)
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise

    def try_disk(self) -> None:
        """Find out whether lines are taken, and whether those that wait are still there; raises as L{append}."""
        with self._turn:
            self._keep_name()
            if self._end - self._start + _PROBE > self._most:
                raise JournalFull(f"{self.waiting} lines wait")
            self._put(bytes(_PROBE))  # a crash leaves them as the end of a torn line
            os.ftruncate(self._file, self._end)

    def read(self, limit: int) -> Batch:
        """@return: the oldest lines, at most C{limit} of them."""
        with self._turn:
            data = os.pread(self._file, min(_CHUNK, self._end - self._start), self._start)
            if b"\n" not in data:
                return self._damaged(data)
            start = self._start
        pieces = data.split(b"\n")[:-1][:limit]
        lines, bad = journal_lines.parse(b"".join(piece + b"\n" for piece in pieces))
        if bad:
            self.log.warn("{count} lines of the index journal {path} are no lines", count=bad, path=str(self._path))
        return Batch(lines, start + sum(map(len, pieces)) + len(pieces), len(pieces))

    def _damaged(self, data: bytes) -> Batch:
        """@return: how much is to be passed over of what is no line: the disk's fault, or somebody else's."""
        if not data:
            if self._end > self._start:
                self.log.error("the index journal {path} has been cut", path=str(self._path))
            return Batch([], self._end, self.waiting)
        if data.startswith(b"\0"):
            return Batch([], self._start + len(data) - len(data.lstrip(b"\0")), 0)
        place = self._start + len(data)
        while b"\n" not in data and place < self._end and (data := os.pread(self._file, _CHUNK, place)):
            place += len(data)
        if b"\n" in data:
            place -= len(data) - data.index(b"\n") - 1
        size = place - self._start
        self.log.warn("{size} bytes of the index journal {path} are no line", size=size, path=str(self._path))
        return Batch([], place, 1)

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
                self._shorten_at = _SLACK
            else:
                if self._start > self._shorten_at:
                    self._shorten()
                self.oldest = self._first_time()

    def _shorten(self) -> None:
        """Leave away what is behind us; where there is no room for that, it is tried again some time later."""
        rest, file = self._path / REST, -1
        try:
            file = create(rest, os.O_TRUNC)
            journal_lines.copy(self._file, self._start, self._end, file)
            os.fsync(file)
            os.rename(rest, self._path / LINES)
        except OSError as error:
            self.log.debug("the index journal {path} stays long: {reason}", path=str(self._path), reason=str(error))
            close(file)
            with suppress(OSError):
                os.unlink(rest)
            self._shorten_at = self._start + _SLACK
            return
        os.close(self._file)
        self._file, self._start, self._end = file, 0, self._end - self._start
        self._shorten_at = _SLACK
        with suppress(OSError):
            journal_lines.fsync_directories([self._path])

    def _first_time(self) -> datetime | None:
        lines, _ = journal_lines.parse(os.pread(self._file, 4096, self._start).partition(b"\n")[0] + b"\n")
        return lines[0].time if lines else None

    # -- saves that have begun

    def begin(self, versions: Mapping[ModuleVersion, float]) -> None:
        """Note that these are about to be stored, since when; outlives this process, not this machine."""
        with self._noting:
            assert self._intents is not None
            self._intents.begin(versions)

    def begun(self, before: float) -> list[tuple[ModuleVersion, float]]:
        """@return: the saves that began before some time and of which nothing is known, and since when."""
        with self._noting:
            assert self._intents is not None
            return [(mv, since) for mv, since in self._intents.open_since.items() if since <= before]

    def settle(self, versions: Collection[ModuleVersion], before: float = float("inf")) -> None:
        """They have their line, or are not stored: forget that their save began, if that was before some time."""
        with self._noting:
            assert self._intents is not None
            known = self._intents.open_since
            self._intents.settle([mv for mv in versions if known.get(mv, before) <= before])
