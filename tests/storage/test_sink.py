"""Zips on their way in."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from athens_tx.errors import BadUpstream, FetchFailed, StorageUnavailable
from athens_tx.storage.body import BytesZip, FileSink, MemorySink, pour
from athens_tx.storage.sink import SINK_LIMIT
from tests.contract.zips import HandZip


class Transport:
    """A push producer that counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class Gate:
    """Lets the writes of a file wait, in their thread; then fail, if it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "write") -> None:
        self.waiting, self.open = threading.Event(), threading.Event()
        self.error: OSError | None = None
        self.sizes: list[int] = []
        self._real = getattr(os, name)
        monkeypatch.setattr(os, name, self._pass)

    def _pass(self, descriptor: int, *data: Any) -> Any:
        if not os.readlink(f"/proc/self/fd/{descriptor}").endswith("file.zip"):
            return self._real(descriptor, *data)
        self.waiting.set()
        self.open.wait(20)
        if self.error is not None:
            raise self.error
        self.sizes += [len(piece) for piece in data]
        return self._real(descriptor, *data)

    async def until_waiting(self) -> None:
        while not self.waiting.is_set():
            await deferLater(reactor, 0, lambda: None)


def make(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def content(path: Path) -> bytes | None:
    """@return: C{None} where there is no file."""
    return path.read_bytes() if path.exists() else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.zip"


@pytest_twisted.ensureDeferred
async def test_a_download_is_written_piece_by_piece(path: Path) -> None:
    sink = FileSink(reactor, path)
    transport = Transport()
    sink.registerProducer(transport, True)
    for number in range(100):
        sink.write(bytes([number]) * 1000)
        await deferLater(reactor, 0, lambda: None)
    sink.unregisterProducer()
    assert await sink.finish() == 100_000
    assert content(path) == b"".join(bytes([number]) * 1000 for number in range(100))
    assert "stop" not in transport.told


@pytest_twisted.ensureDeferred
async def test_the_source_goes_no_faster_than_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    sink = FileSink(reactor, path)
    transport = Transport()
    sink.registerProducer(transport, True)
    sink.write(b"first")
    await gate.until_waiting()
    pieces = 0
    while not transport.told:
        sink.write(b"x" * 10_000)
        pieces += 1
    assert transport.told == ["pause"]
    assert pieces * 10_000 <= SINK_LIMIT + 10_000
    sink.write(b"y")  # was on its way already
    assert transport.told == ["pause"]
    gate.open.set()
    assert await sink.finish() == 5 + pieces * 10_000 + 1
    assert transport.told == ["pause", "resume"]
    assert gate.sizes == [5, pieces * 10_000 + 1]  # what waited is one write


@pytest_twisted.ensureDeferred
async def test_an_empty_file_is_a_file(path: Path) -> None:
    assert await FileSink(reactor, path).finish() == 0
    assert content(path) == b""


@pytest_twisted.ensureDeferred
async def test_the_file_is_on_the_disk_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for sync, expected in ((False, []), (True, [3])):
        sink = FileSink(reactor, path)
        sink.write(b"abc")
        await sink.finish(sync=sync)
        assert synced == expected
        await sink.abort()


@pytest_twisted.ensureDeferred
async def test_a_full_disk_stops_the_source_and_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    gate.error = OSError(errno.ENOSPC, "No space left on device", str(path))
    sink = FileSink(reactor, path)
    transport = Transport()
    sink.registerProducer(transport, True)
    sink.write(b"abc")
    sink.write(b"def")
    gate.open.set()
    with pytest.raises(StorageUnavailable, match="No space left on device") as caught:
        await sink.finish()
    assert str(path) not in str(caught.value)
    assert transport.told == ["stop"]
    sink.write(b"ghi")
    await sink.abort()
    await sink.abort()
    assert content(path) is None


@pytest_twisted.ensureDeferred
async def test_an_error_at_the_end_fails_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "fsync")
    gate.error = OSError(errno.EIO, "Input/output error")
    gate.open.set()
    sink = FileSink(reactor, path)
    sink.write(b"abc")
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await sink.finish()
    await sink.abort()
    assert content(path) is None


@pytest_twisted.ensureDeferred
async def test_a_file_of_somebody_else_is_neither_overwritten_nor_removed(path: Path) -> None:
    make(path, b"theirs")
    sink = FileSink(reactor, path)
    sink.write(b"ours")
    with pytest.raises(StorageUnavailable):
        await sink.finish()
    await sink.abort()
    assert content(path) == b"theirs"


@pytest_twisted.ensureDeferred
async def test_more_than_the_limit_stops_the_source(path: Path) -> None:
    sink = FileSink(reactor, path, limit=5)
    transport = Transport()
    sink.registerProducer(transport, True)
    sink.write(b"abc")
    sink.write(b"def")
    sink.write(b"ghi")
    assert transport.told == ["stop"]
    with pytest.raises(BadUpstream, match="5 bytes"):
        await sink.finish()
    await sink.abort()


@pytest_twisted.ensureDeferred
async def test_to_abort_waits_for_the_thread_and_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    sink = FileSink(reactor, path)
    sink.write(b"abc")
    await gate.until_waiting()
    sink.write(b"def")
    aborted = gatherResults([Deferred.fromCoroutine(sink.abort()) for _ in range(3)])
    sink.write(b"ghi")
    await deferLater(reactor, 0, lambda: None)
    assert not aborted.called
    gate.open.set()
    await aborted
    assert content(path) is None
    assert gate.sizes == [3]


@pytest_twisted.ensureDeferred
async def test_one_who_waits_may_leave_and_the_file_is_still_closed_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "fsync")
    sink = FileSink(reactor, path)
    sink.write(b"abc")
    finishing = Deferred.fromCoroutine(sink.finish())
    await gate.until_waiting()
    finishing.cancel()
    with pytest.raises(CancelledError):
        await finishing
    aborted = Deferred.fromCoroutine(sink.abort())
    left = Deferred.fromCoroutine(sink.abort())
    left.cancel()
    with pytest.raises(CancelledError):
        await left
    await deferLater(reactor, 0, lambda: None)
    assert (aborted.called, content(path)) == (False, b"abc")
    gate.open.set()
    await aborted
    assert content(path) is None


@pytest_twisted.ensureDeferred
async def test_of_two_who_wait_for_the_thread_one_works_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "fsync")
    sink = FileSink(reactor, path)
    sink.write(b"abc")
    finished = Deferred.fromCoroutine(sink.finish())
    aborted = Deferred.fromCoroutine(sink.abort())
    await gate.until_waiting()
    for _ in range(20):
        await deferLater(reactor, 0.001, lambda: None)
    assert (aborted.called, content(path)) == (False, b"abc")
    gate.open.set()
    assert await finished == 3
    await aborted
    assert content(path) is None


def test_a_pull_producer_is_refused(path: Path) -> None:
    with pytest.raises(ValueError):
        FileSink(reactor, path).registerProducer(Transport(), False)


@pytest.fixture(params=["file", "memory"])
def sink(request: pytest.FixtureRequest, path: Path) -> Any:
    return FileSink(reactor, path, 10) if request.param == "file" else MemorySink(10)


@pytest_twisted.ensureDeferred
async def test_a_body_is_poured_into_a_sink(sink: Any) -> None:
    await pour(BytesZip(b"0123456789"), sink)
    assert (sink.length, sink.error) == (10, None)


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_long_is_cancelled_wherever_it_is(sink: Any) -> None:
    with pytest.raises(BadUpstream):  # within startProducing
        await pour(BytesZip(b"0123456789a"), sink)
    body = HandZip(11)
    fresh = MemorySink(10)
    poured = Deferred.fromCoroutine(pour(body, fresh))
    await body.started
    body.give(b"0123456789a")
    assert body.cancelled
    with pytest.raises(BadUpstream):
        await poured
    with pytest.raises(BadUpstream):
        fresh.value()


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_too_short_is_bad(sink: Any) -> None:
    body = HandZip(5)
    poured = Deferred.fromCoroutine(pour(body, sink))
    await body.started
    body.give(b"0123")
    body.end()
    with pytest.raises(BadUpstream, match="4 bytes came instead of 5"):
        await poured


@pytest_twisted.ensureDeferred
async def test_a_body_that_fails_fails_as_it_says(sink: Any) -> None:
    body = HandZip(5)
    poured = Deferred.fromCoroutine(pour(body, sink))
    await body.started
    body.break_off(FetchFailed("the connection broke"))
    with pytest.raises(FetchFailed, match="the connection broke"):
        await poured


@pytest_twisted.ensureDeferred
async def test_to_cancel_the_pouring_cancels_the_body(sink: Any) -> None:
    body = HandZip(5)
    poured = Deferred.fromCoroutine(pour(body, sink))
    await body.started
    poured.cancel()
    assert body.cancelled
    with pytest.raises(CancelledError):
        await poured


@pytest_twisted.ensureDeferred
async def test_a_full_disk_cancels_the_body(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    gate.error = OSError(errno.ENOSPC, "No space left on device")
    gate.open.set()
    body = HandZip(500)
    file = FileSink(reactor, path)
    poured = Deferred.fromCoroutine(pour(body, file))
    await body.started
    body.give(b"abc")
    with pytest.raises(StorageUnavailable):
        await poured
    assert body.cancelled
    await file.abort()


@pytest_twisted.ensureDeferred
async def test_the_disk_pauses_a_body(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    body = HandZip(SINK_LIMIT)
    file = FileSink(reactor, path)
    poured = Deferred.fromCoroutine(pour(body, file))
    await body.started
    body.give(b"x" * SINK_LIMIT)
    assert body.paused
    gate.open.set()
    while body.paused:
        await deferLater(reactor, 0, lambda: None)
    body.end()
    await poured
    await file.finish()
