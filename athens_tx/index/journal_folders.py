"""
Where the journals of indexes are: a folder for each index, below that a directory for each process.

A process holds a lock on the file C{lock} in its directory for as long as it lives. All of this blocks.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from athens_tx.index import intents
from athens_tx.index.journal_lines import close

#: The files of a process.
LINES, INTENTS, LOCK, REST = "lines", "intents", "lock", "rest"


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


def forgotten(base: Path, folder: Path) -> list[Path]:
    """
    @param base: below which the journals of all indexes are, two folders deep.
    @param folder: that of ours.
    @return: the other folders in which lines wait, and no process that lives sees to them.
    """
    found = []
    for other in sorted(path for path in base.glob("*/*") if path != folder and path.is_dir()):
        with suppress(OSError):
            if any(_waits(path) for path in directories(other)):
                found.append(other)
    return found


def _waits(path: Path) -> bool:
    if not any((path / name).exists() and (path / name).stat().st_size for name in (LINES, INTENTS)):
        return False
    lock = locked(path)
    close(lock)
    return lock >= 0


def remove(path: Path) -> None:
    """Remove the directory of a process; its lock is ours."""
    for name in (LINES, INTENTS, REST, intents.new_name(INTENTS), LOCK):
        with suppress(FileNotFoundError):
            os.unlink(path / name)
    with suppress(OSError):  # somebody else is about to take it
        os.rmdir(path)


def directories(folder: Path) -> list[Path]:
    """@return: those of the processes."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def locked(path: Path) -> int:
    """@return: the descriptor that holds the lock of a directory; -1 if somebody else has it, or removed it."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return -1
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path / LOCK)):
            kept, descriptor = descriptor, -1
            return kept
    if descriptor >= 0:
        os.close(descriptor)
    return -1
