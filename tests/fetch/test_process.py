"""Processes: real ones, and what is left of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from athens_tx.errors import ConfigError, FetchFailed, FetchTimeout
from athens_tx.fetch import process
from athens_tx.fetch.process import Finished, HeadTail, ProcessRunner

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def runner() -> Iterator[ProcessRunner]:
    runner = ProcessRunner(reactor, grace=0.3)
    yield runner
    pytest_twisted.blockon(Deferred.fromCoroutine(runner.stop_all()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it never happened")


LEAVER = "setsid sh -c 'echo $$ > left; exec sleep 60' & while [ ! -s left ]; do sleep 0.02; done; echo done"


async def sh(runner: ProcessRunner, script: str, cwd: Path, limit: float = 20, **options: Any) -> Finished:
    return await runner.run(["/bin/sh", "-c", script, "sh"], ENV, limit_seconds=limit, cwd=cwd, **options)


@pytest_twisted.ensureDeferred
async def test_output_status_folder_and_environment(runner: ProcessRunner, tmp_path: Path) -> None:
    got = await sh(runner, 'pwd; echo "$HOME|$PATH"; echo trouble >&2; exit 3', tmp_path)
    assert got == Finished(3, f"{tmp_path}\n|{ENV['PATH']}\n".encode(), "trouble\n")
    assert runner.running == 0


@pytest_twisted.ensureDeferred
async def test_arguments_arrive_as_they_are(runner: ProcessRunner, tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.symlink_to(sys.executable)
    words = ["$(id)", "a b", "-x", "'", "*", "é"]
    script = "import sys; print(sys.argv[1:])"
    got = await runner.run([str(odd), "-c", script, *words], ENV, limit_seconds=20, cwd=tmp_path)
    assert got.stdout.decode() == f"{words}\n"


@pytest_twisted.ensureDeferred
async def test_stdin_is_closed_and_it_leads_its_own_group(runner: ProcessRunner, tmp_path: Path) -> None:
    got = await sh(runner, "read x; echo $?; echo $$ $(ps -o pgid= -o sid= -p $$)", tmp_path)
    status, ids = got.stdout.decode().splitlines()
    assert status == "1"
    assert len(set(ids.split())) == 1


@pytest_twisted.ensureDeferred
async def test_what_overstays_is_ended_with_all_its_children(runner: ProcessRunner, tmp_path: Path) -> None:
    script = "trap '' TERM; echo started >&2; sleep 60 & echo $! > child; echo $$ > own; while :; do sleep 1; done"
    with pytest.raises(FetchTimeout, match=r"longer than 0\.3 s") as caught:
        await sh(runner, script, tmp_path, limit=0.3)
    assert caught.value.detail == "started\n"
    for name in ("child", "own"):
        pid = int((tmp_path / name).read_text())
        await until(lambda pid=pid: not alive(pid))


@pytest_twisted.ensureDeferred
async def test_one_that_heeds_a_term_may_tidy_up(runner: ProcessRunner, tmp_path: Path) -> None:
    script = "trap 'touch tidy; exit 0' TERM; while :; do sleep 0.05; done"
    with pytest.raises(FetchTimeout):
        await sh(runner, script, tmp_path, limit=0.3)
    assert (tmp_path / "tidy").exists()


@pytest_twisted.ensureDeferred
async def test_stray_children_are_killed_after_a_normal_end(runner: ProcessRunner, tmp_path: Path) -> None:
    got = await sh(runner, "sleep 60 & echo $!", tmp_path)
    pid = int(got.stdout)
    assert got.status == 0
    await until(lambda: not alive(pid))


@pytest_twisted.ensureDeferred
async def test_a_pipe_held_by_one_who_left_the_group_keeps_nobody_waiting(
    runner: ProcessRunner, tmp_path: Path
) -> None:
    before = reactor.seconds()
    got = await sh(runner, LEAVER, tmp_path)
    assert got.stdout == b"done\n"
    assert reactor.seconds() - before < 10
    pid = int((tmp_path / "left").read_text())
    try:
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_endless_output_is_cut_short(runner: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="printed more than 1000000 bytes") as caught:
        await sh(runner, "head -c 1073741824 /dev/zero", tmp_path, stdout_limit=1_000_000)
    assert not isinstance(caught.value, FetchTimeout)


@pytest_twisted.ensureDeferred
async def test_long_stderr_keeps_its_head_and_tail(runner: ProcessRunner, tmp_path: Path) -> None:
    got = await sh(runner, "echo first >&2; head -c 3000000 /dev/zero >&2; echo last >&2", tmp_path, stderr_limit=1000)
    assert got.stderr.startswith("first\n")
    assert got.stderr.endswith("last\n")
    assert len(got.stderr) < 1100
    assert "2999011 bytes left out" in got.stderr


@pytest_twisted.ensureDeferred
async def test_killed_by_a_signal(runner: ProcessRunner, tmp_path: Path) -> None:
    assert (await sh(runner, "kill -9 $$", tmp_path)).status == -9


@pytest_twisted.ensureDeferred
async def test_a_missing_program_is_status_127(runner: ProcessRunner, tmp_path: Path) -> None:
    got = await runner.run([str(tmp_path / "none")], ENV, limit_seconds=5, cwd=tmp_path)
    assert got.status == 127


@pytest_twisted.ensureDeferred
async def test_cancelling_kills(runner: ProcessRunner, tmp_path: Path) -> None:
    running = Deferred.fromCoroutine(sh(runner, "sleep 60 & echo $! > child; wait", tmp_path))
    await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    pid = int((tmp_path / "child").read_text())
    await until(lambda: not alive(pid) and not runner.running)


@pytest_twisted.ensureDeferred
async def test_cancelling_at_once_kills_too(runner: ProcessRunner, tmp_path: Path) -> None:
    running = Deferred.fromCoroutine(sh(runner, "sleep 60", tmp_path))
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await until(lambda: not runner.running)


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_none_and_starts_none(runner: ProcessRunner, tmp_path: Path) -> None:
    running = [Deferred.fromCoroutine(sh(runner, "trap '' TERM; sleep 60", tmp_path)) for _ in range(3)]
    assert runner.running == 3
    await runner.stop_all()
    assert runner.running == 0
    for each in running:
        with pytest.raises(FetchFailed, match="stopping"):
            await each
    with pytest.raises(FetchFailed, match="stopping"):
        await sh(runner, "true", tmp_path)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_started(runner: ProcessRunner, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="can't be started"):
        await runner.run(["/bin/true", "x" * 10_000_000], ENV, limit_seconds=5, cwd=tmp_path)


def test_a_machine_without_the_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="env"):
        ProcessRunner(reactor)


class Immortal(Clock):
    """A reactor whose processes never end."""

    def spawnProcess(self, protocol: Any, *args: Any, **kwargs: Any) -> None:
        class Transport:
            pid = 4242

            def closeStdin(self) -> None:
                pass

            def loseConnection(self) -> None:
                pass

        protocol.makeConnection(Transport())


def test_nobody_waits_for_one_that_nothing_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(process.os, "killpg", lambda pid, number: sent.append((pid, number)))
    clock = Immortal()
    runner = ProcessRunner(clock, grace=2)
    failed: list[Any] = []
    Deferred.fromCoroutine(sh(runner, "", tmp_path, limit=5)).addErrback(failed.append)
    for seconds in (5, 2, 2):
        assert not failed
        clock.advance(seconds)
    assert failed[0].check(FetchTimeout)
    assert sent == [(4242, signal.SIGTERM), (4242, signal.SIGKILL)]


def test_head_and_tail() -> None:
    kept = HeadTail(10)
    for number in range(10):
        kept.write(b"%d" % number)
    assert kept.text() == "0123456789"
    for _ in range(100):
        kept.write(b"abc")
    assert kept.text() == "01234\n[... 300 bytes left out ...]\nbcabc"
