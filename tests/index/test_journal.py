"""The journal of an index: what is in it survives whatever happens to the process, and is there once."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from athens_tx.index import journal as module
from athens_tx.index import journal_lines
from athens_tx.index.journal import Journal, JournalFull
from athens_tx.index.journal_folders import journal_folder
from athens_tx.index.journal_lines import create, written
from athens_tx.interfaces import IndexLine
from athens_tx.module.version import ModuleVersion as MV

START = datetime(2026, 1, 1, tzinfo=UTC)


def line(number: int) -> IndexLine:
    return IndexLine(f"example.com/\u00e9\n\r{number}", f"v1.{number}.0", START + timedelta(microseconds=number))


def opened(folder: Path, **options: Any) -> Journal:
    journal = Journal(folder, **options)
    journal.open()
    return journal


def drain(journal: Journal, limit: int = 7) -> list[IndexLine]:
    found: list[IndexLine] = []
    while journal.waiting:
        batch = journal.read(limit)
        found += batch.lines
        journal.advance(batch)
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)).partition("/")[2] for path in folder.rglob("*") if path.is_file())


def test_lines_come_out_as_they_went_in(tmp_path: Path) -> None:
    journal = opened(tmp_path / "a" / "b")
    assert (journal.waiting, journal.oldest) == (0, None)
    journal.append([line(1), line(2)])
    journal.append([line(3)])
    assert (journal.waiting, journal.oldest) == (3, line(1).time)
    assert journal.read(2).lines == [line(1), line(2)] == journal.read(2).lines
    journal.advance(journal.read(2))
    assert (journal.waiting, journal.oldest) == (1, line(3).time)
    assert drain(journal) == [line(3)]
    assert journal.oldest is None
    journal.close()
    assert files(tmp_path) == []


def test_what_waits_is_found_by_the_next_process(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([line(number) for number in range(20)])
    journal.advance(journal.read(5))
    journal.close()
    journal.close()
    again = opened(tmp_path)
    assert again.waiting == 20  # what was written already is written again: harmless
    assert drain(again) == [line(number) for number in range(20)]


def test_a_torn_last_line_is_cut_off(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    journal = opened(tmp_path)
    journal.append([line(1), IndexLine("example.com/" + "x" * 100, "v1.0.0", START)])
    journal.close()
    [path] = tmp_path.rglob("lines")
    whole = path.read_bytes()
    for end in range(len(whole) - 1, whole.index(b"\n") + 1, -1):
        path.write_bytes(whole[:end])
        again = opened(tmp_path)
        assert again.waiting == 1
        again.append([line(3)])
        again.close()
        last = opened(tmp_path)
        assert drain(last) == [line(1), line(3)]
        last.append([line(1)])  # so that the folder stays
        last.close()
        [path] = tmp_path.rglob("lines")
    assert "torn" in str([event["log_format"] for event in logged])


def test_a_line_that_is_none_is_passed_over(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    journal = opened(tmp_path)
    journal.append([line(1)])
    journal.close()
    [path] = tmp_path.rglob("lines")
    path.write_bytes(b'{"x":1}\n["a","b","yesterday"]\n[1,2,3]\n\0\0\0\n\n' + path.read_bytes())
    again = opened(tmp_path)
    assert drain(again) == [line(1)]
    assert again.waiting == 0
    assert [event["log_level"].name for event in logged if event["log_level"].name != "info"] == ["warn"]


def test_it_is_bounded(tmp_path: Path) -> None:
    journal = opened(tmp_path, most=1000)
    kept = 12
    journal.append([line(number) for number in range(kept)])
    with pytest.raises(JournalFull, match="12 lines wait"):
        journal.append([line(number) for number in range(kept)])
    journal.advance(journal.read(3))
    journal.append([line(99)])
    assert drain(journal) == [*map(line, range(3, kept)), line(99)]


def test_a_file_that_never_runs_dry_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 2000)
    journal = opened(tmp_path)
    journal.append([line(0)])
    seen = []
    for number in range(1, 500):
        journal.append([line(number)])
        batch = journal.read(1)
        seen += batch.lines
        journal.advance(batch)
        assert (journal.waiting, journal.oldest) == (1, line(number).time)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 15_000
    assert seen == [line(number) for number in range(499)]
    journal.close()
    assert drain(opened(tmp_path))[-1] == line(499)


def test_processes_do_not_touch_each_others_lines_before_they_are_gone(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.append([line(1)])
    other.append([line(2)])
    other.adopt()
    assert (one.waiting, other.waiting) == (1, 1)
    one.close()
    other.adopt()
    assert drain(other) == [line(2), line(1)]
    other.close()
    assert files(tmp_path) == []


def test_what_does_not_fit_stays_with_the_dead(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    one, other = opened(tmp_path), opened(tmp_path, most=200)
    one.append([line(number) for number in range(50)])
    one.close()
    other.append([line(100)])
    other.adopt()
    assert other.waiting == 1
    assert [event["log_level"].name for event in logged if event["log_level"].name == "error"] == ["error"]
    other.close()
    whole = opened(tmp_path)
    assert whole.waiting == 51


def test_a_process_that_is_killed_leaves_its_lines(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom datetime import UTC, datetime\n"
        "from athens_tx.index.journal import Journal\nfrom athens_tx.interfaces import IndexLine\n"
        "journal = Journal(Path(sys.argv[1]))\njournal.open()\nnumber = 0\n"
        "while True:\n"
        "    journal.append([IndexLine('example.com/a', f'v1.{number}.0', datetime.now(UTC))])\n"
        "    print(number, flush=True)\n    number += 1\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "journal")]
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        for said in process.stdout:
            told = int(said)
            if told == 50:
                process.kill()
    found = [each.version for each in drain(opened(tmp_path / "journal"))]
    assert found[: told + 1] == [f"v1.{number}.0" for number in range(told + 1)]
    assert len(found) <= told + 2


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append([line(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(OSError):
            journal.append([line(number) for number in range(2, 20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    journal.append([line(20)])
    assert drain(journal) == [line(1), line(20)]


def test_a_disk_that_takes_a_little_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 2000)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[:100], place))
    journal = opened(tmp_path)
    journal.append([line(number) for number in range(100)])
    assert drain(journal) == [line(number) for number in range(100)]


def test_a_file_that_can_not_be_made_shorter_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 500)
    journal = opened(tmp_path)
    journal.append([line(number) for number in range(100)])
    before = os.listdir("/proc/self/fd")

    def full(file: int, data: bytes, place: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    tries = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        patch.setattr(journal_lines, "copy", lambda *args: tries.append(full(-1, b"", 0)))
        patch.setattr(module, "create", lambda *args: tries.append(1) or create(*args))
        for number in range(50):
            batch = journal.read(1)
            assert batch.lines == [line(number)]
            journal.advance(batch)
        assert journal.oldest == line(50).time
    assert 1 <= len(tries) < 10  # some time later, and not at each batch
    assert os.listdir("/proc/self/fd") == before
    assert not list(tmp_path.rglob("rest"))
    assert drain(journal) == [line(number) for number in range(50, 100)]


@pytest.mark.parametrize(
    "damage",
    [
        b'["a","v1.0.0","0001-01-01T00:00:00+14:00"]\n',
        b'["a","v1.0.0","9999-12-31T23:59:59-14:00"]\n',
        b'["a\\ud800","v1.0.0","2026-01-01T00:00:00+00:00"]\n',
        b"[" * 100_000 + b"\n",
        b"[" * 300_000 + b"\n",
        b"\0" * 200_000,
        b"\0" * 300_000 + b"\n",
        b"half a line \r another \x85\n",
        b"\xff\xfe\n",
    ],
    ids=range(9),
)
def test_damage_costs_nothing_but_itself(tmp_path: Path, damage: bytes, logged: list[dict[str, Any]]) -> None:
    journal = opened(tmp_path)
    journal.append([line(1)])
    journal.close()
    [path] = tmp_path.rglob("lines")
    path.write_bytes(path.read_bytes() + damage + written(line(2)) + written(line(3)))
    again = opened(tmp_path)
    assert drain(again) == [line(1), line(2), line(3)]
    again.close()
    assert files(tmp_path) == []

    other, dead = opened(tmp_path), opened(tmp_path)
    dead.append([line(4)])
    dead.close()
    [path] = [path for path in tmp_path.rglob("lines") if path.stat().st_size]
    path.write_bytes(path.read_bytes() + damage + written(line(5)))
    other.adopt()
    assert drain(other) == [line(4), line(5)]


def test_a_file_that_somebody_cut_is_no_endless_work(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    journal = opened(tmp_path)
    journal.append([line(1), line(2)])
    [path] = tmp_path.rglob("lines")
    os.truncate(path, 0)
    assert drain(journal) == []
    journal.append([line(3)])
    assert drain(journal) == [line(3)]


@pytest.mark.parametrize("tried", [False, True])
@pytest.mark.parametrize("removed", ["folder", "lines", "intents", "lock"])
def test_a_journal_that_is_removed_is_written_anew(
    tmp_path: Path, removed: str, tried: bool, logged: list[dict[str, Any]]
) -> None:
    journal = opened(tmp_path / "journal")
    journal.append([line(1), line(2)])
    journal.advance(journal.read(1))
    journal.begin({MV("example.com/begun", "v1.0.0"): 5.0})
    if removed == "folder":
        shutil.rmtree(tmp_path / "journal")
    else:
        [path] = tmp_path.rglob(removed)
        path.unlink()
    if tried:
        journal.try_disk()
    journal.append([line(3)])
    assert journal.begun(5.0) == [(MV("example.com/begun", "v1.0.0"), 5.0)]
    alone = opened(tmp_path / "journal")  # who finds the rest of the old one, perhaps
    journal.close()
    alone.adopt()
    assert {MV("example.com/begun", "v1.0.0")} == {mv for mv, _ in alone.begun(0.0)}
    found = drain(alone)
    assert found[-2:] == [line(2), line(3)]
    assert set(found) == {line(1), line(2), line(3)}


def test_a_disk_is_tried_without_a_line(tmp_path: Path) -> None:
    journal = opened(tmp_path, most=5000)
    journal.append([line(1)])
    journal.try_disk()
    assert drain(journal) == [line(1)]
    journal.append([line(number) for number in range(30)])
    with pytest.raises(JournalFull):
        journal.try_disk()
    journal.close()
    with pytest.raises(OSError):
        journal.try_disk()
    assert len(list(tmp_path.iterdir())) == 1


def test_lines_for_another_database_are_not_forgotten_in_silence(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    def said() -> list[str]:
        found = [event["path"] for event in logged if "another database" in event["log_format"]]
        logged.clear()
        return found

    ours, other, third = (tmp_path / "mysql" / name for name in ("here-3306-a", "there-3306-a", "third-3306-a"))
    old = opened(other, base=tmp_path)
    old.append([line(1)])
    alive = opened(third, base=tmp_path)
    alive.append([line(2)])
    opened(ours, base=tmp_path).close()
    assert said() == []  # their process sees to them
    old.close()
    journal = opened(ours, base=tmp_path)
    assert said() == [str(other)]
    journal.close()
    again = opened(other, base=tmp_path)
    assert drain(again) == [line(1)]
    again.close()
    opened(ours, base=tmp_path).close()
    assert said() == []
    alive.close()


def test_somebody_elses_folder_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "athens").mkdir()
    opened(shared / "athens" / "mysql" / "x").close()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(PermissionError, match="another user"):
        opened(shared / "athens" / "mysql" / "x")


def test_where_journals_are(tmp_path: Path) -> None:
    systemd = {"STATE_DIRECTORY": "/var/lib/athens:/var/lib/athens/storage"}
    assert journal_folder("/srv/journal", "/var/cache/athens", systemd) == Path("/srv/journal")
    assert journal_folder("", "/var/cache/athens", systemd) == Path("/var/lib/athens/index-journal")
    assert journal_folder("", "/var/cache/athens", {}) == Path("/var/cache/athens/index-journal")
    assert journal_folder("", "", {}).name == f"athens-tx-index-{os.geteuid()}"
