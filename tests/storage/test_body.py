"""Zips on their way out."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.storage.body import CHUNK, BytesZip, FileZip, MemorySink
from tests.contract.zips import Mouthful, whole

DATA = os.urandom(3 * CHUNK + 17)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.zip"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=["bytes", "file"])
def body(request: pytest.FixtureRequest, file: Path) -> Any:
    return BytesZip(DATA) if request.param == "bytes" else FileZip(reactor, file, len(DATA))


class Faulty:
    """A consumer that is no more after so many pieces: C{error}, or stop the body."""

    def __init__(self, body: Any, pieces: int, error: Exception | None = None) -> None:
        self.body = body
        self.pieces = pieces
        self.error = error
        self.taken = 0

    def write(self, data: bytes) -> None:
        self.taken += 1
        if self.taken == self.pieces:
            if self.error is not None:
                raise self.error
            self.body.stopProducing()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Descriptors of zips that are open now."""
    known: dict[int, str] = {}
    real_open, real_close = os.open, os.close

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        descriptor = real_open(path, *args, **kwargs)
        if str(path).endswith(".zip"):
            known[descriptor] = str(path)
        return descriptor

    def close(descriptor: int) -> None:
        known.pop(descriptor, None)
        real_close(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "close", close)
    return known


async def until_closed(opened: dict[int, str]) -> None:
    for _ in range(500):
        if not opened:
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError(opened)


@pytest_twisted.ensureDeferred
async def test_a_consumer_that_raises_fails_the_body(body: Any, opened: dict[int, str]) -> None:
    consumer = Faulty(body, 2, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await body.startProducing(consumer)
    body.resumeProducing()
    assert consumer.taken == 2
    await until_closed(opened)


@pytest_twisted.ensureDeferred
async def test_a_consumer_may_stop_the_body_from_within(body: Any, opened: dict[int, str]) -> None:
    consumer = Faulty(body, 2)
    produced = body.startProducing(consumer)
    for _ in range(500):
        if consumer.taken == 2:
            break
        await deferLater(reactor, 0.01, lambda: None)
    body.resumeProducing()
    await until_closed(opened)
    assert (consumer.taken, produced.called) == (2, False)  # never fired, as IBodyProducer says
    produced.cancel()
    with pytest.raises(CancelledError):
        await produced


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_done_takes_orders_that_come_late(body: Any, opened: dict[int, str]) -> None:
    sink = MemorySink(len(DATA))
    produced = body.startProducing(sink)
    await produced
    assert not opened
    assert sink.value() == DATA
    body.pauseProducing()
    body.resumeProducing()
    body.stopProducing()
    assert sink.length == len(DATA)


@pytest_twisted.ensureDeferred
async def test_a_consumer_may_pause_and_resume_from_within(body: Any) -> None:
    class Restless(MemorySink):
        def write(self, data: bytes) -> None:
            super().write(data)
            body.pauseProducing()
            body.resumeProducing()

    sink = Restless(len(DATA))
    await body.startProducing(sink)
    assert sink.value() == DATA


@pytest_twisted.ensureDeferred
async def test_a_file_is_not_opened_before_the_start(tmp_path: Path) -> None:
    body = FileZip(reactor, tmp_path / "none.zip", 5)
    with pytest.raises(NotFound, match="the zip was deleted meanwhile"):
        await body.startProducing(MemorySink(5))


@pytest_twisted.ensureDeferred
async def test_an_empty_part_needs_no_file(tmp_path: Path) -> None:
    assert await whole(FileZip(reactor, tmp_path / "none.zip", 0)) == b""


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_shorter_gives_nothing(file: Path, opened: dict[int, str]) -> None:
    sink = MemorySink(1 << 30)
    with pytest.raises(StorageUnavailable) as caught:
        await FileZip(reactor, file, len(DATA) + 1).startProducing(sink)
    assert sink.length == 0
    assert str(file) not in str(caught.value)
    await until_closed(opened)


@pytest_twisted.ensureDeferred
async def test_a_file_that_becomes_shorter_fails(file: Path, opened: dict[int, str]) -> None:
    body = FileZip(reactor, file, len(DATA))
    sink = Mouthful(body)
    produced = body.startProducing(sink)
    await sink.full
    os.truncate(file, CHUNK + 5)
    while not produced.called:
        body.resumeProducing()
        await deferLater(reactor, 0, lambda: None)
    with pytest.raises(StorageUnavailable, match="ended early"):
        await produced
    assert sink.data == DATA[: CHUNK + 5]
    await until_closed(opened)


@pytest_twisted.ensureDeferred
async def test_a_file_that_became_longer_gives_what_was_promised(file: Path) -> None:
    body = FileZip(reactor, file, len(DATA))
    with file.open("ab") as more:
        more.write(b"more")
    assert await whole(body) == DATA


@pytest_twisted.ensureDeferred
async def test_what_is_no_file_can_not_be_read(tmp_path: Path, opened: dict[int, str]) -> None:
    directory = tmp_path / "directory.zip"
    directory.mkdir()
    with pytest.raises(StorageUnavailable) as caught:
        await FileZip(reactor, directory, 5).startProducing(MemorySink(5))
    assert str(tmp_path) not in str(caught.value)
    assert str(directory) in caught.value.detail
    await until_closed(opened)


@pytest_twisted.ensureDeferred
async def test_a_file_stays_open_as_long_as_a_thread_reads_it(
    file: Path, opened: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        reading.set()
        go_on.wait(20)
        assert descriptor in opened
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    for stop in ("cancel", "stop"):
        reading.clear()
        go_on.clear()
        body = FileZip(reactor, file, len(DATA))
        sink = MemorySink(len(DATA))
        produced = body.startProducing(sink)
        while not reading.is_set():
            await deferLater(reactor, 0, lambda: None)
        if stop == "cancel":
            produced.cancel()
            with pytest.raises(CancelledError):
                await produced
        else:
            body.stopProducing()
        for _ in range(20):  # whatever might close it has its turn
            await deferLater(reactor, 0.001, lambda: None)
        assert len(opened) == 1
        go_on.set()
        await until_closed(opened)
        assert sink.length == 0


@pytest_twisted.ensureDeferred
async def test_nothing_is_read_on_the_reactor_thread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    for name in ("open", "pread", "fstat", "close"):
        real = getattr(os, name)

        def noted(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            threads.add(threading.current_thread())
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, noted)
    await whole(FileZip(reactor, file, len(DATA)))
    assert threads
    assert threading.main_thread() not in threads
