"""How lines of an index are written into a file, and how files are kept whole; all of this blocks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from athens_tx.interfaces import IndexLine


def written(line: IndexLine) -> bytes:
    """@return: the line, with its end."""
    time = line.time.astimezone(UTC).isoformat()
    return json.dumps([line.path, line.version, time], separators=(",", ":")).encode() + b"\n"


def parse(data: bytes) -> tuple[list[IndexLine], int]:
    """
    @param data: whole lines. NULs in front of one are a page that the disk did not write before the power failed.
    @return: the lines, and how many can't be read.
    """
    lines, bad = [], 0
    for piece in data.split(b"\n")[:-1]:
        try:
            path, version, time = json.loads(piece.lstrip(b"\0"))
            if not (isinstance(path, str) and isinstance(version, str)):
                raise ValueError("no names")
            (path + version).encode()  # a half of a character has no UTF-8, which no database takes
            lines.append(IndexLine(path, version, datetime.fromisoformat(time).astimezone(UTC)))
        except (ValueError, TypeError, OverflowError, RecursionError):
            bad += 1
    return lines, bad


def write_at(file: int, data: bytes, place: int) -> None:
    """Write all of C{data}; a disk that is nearly full takes some of it first, and then says so."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], place + done)


def copy(source: int, start: int, end: int, target: int) -> None:
    """Write what a file has from C{start} to C{end} to the beginning of another one."""
    place = start
    while place < end and (data := os.pread(source, min(end - place, 1 << 20), place)):
        write_at(target, data, place - start)
        place += len(data)


def same(file: int, path: Path) -> bool:
    """@return: whether a path still is that of an open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def create(path: Path, flags: int = 0) -> int:
    """@return: a file to read and write, for this user only; never what a link points at."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)


def close(*descriptors: int) -> None:
    """Close files, of which some may not be open."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def fsync_directories(paths: Sequence[Path]) -> None:
    """Force the names of what is in these folders to the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
