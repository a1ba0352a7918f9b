"""Reloading: whoever asks while it goes on gets what is there now, and not what was read before."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.config import load
from athens_tx.daemon import Daemon

check = SynchronousTestCase()


class Files:
    """An assembly whose files take a while to be read."""

    def __init__(self) -> None:
        self.text, self.known = "old", ""
        self.reading: list[Deferred[None]] = []

    async def reload(self) -> tuple[list[str], int]:
        read = self.text
        self.reading.append(Deferred())
        await self.reading[-1]
        self.known = read
        return [], 0


class Silent:
    """Nobody to tell what we do."""

    def reloading(self) -> None:
        """Tell nobody."""

    def ready(self) -> None:
        """Tell nobody."""


def running(files: Files, tmp_path: Any) -> Daemon:
    loaded = load(None, {"ATHENS_STORAGE_TYPE": "memory"}, cwd=tmp_path)
    reactor: Any = Clock()
    assembly: Any = files
    notifier: Any = Silent()
    daemon = Daemon(
        reactor,
        loaded,
        assemble=lambda loaded: assembly,
        load=lambda: loaded,
        environ={},
        notifier=lambda: notifier,
    )
    daemon._assembly, daemon._notifier = assembly, notifier
    return daemon


def test_what_changes_during_a_reload_is_read_by_the_next_one(tmp_path: Any) -> None:
    files = Files()
    daemon = running(files, tmp_path)
    first = daemon.reload()
    files.text = "new"
    others = [daemon.reload(), daemon.reload()]
    files.reading[0].callback(None)
    assert (files.known, len(files.reading)) == ("old", 2)
    check.assertNoResult(others[0])
    files.reading[1].callback(None)
    for each in (first, *others):
        check.successResultOf(each)
    assert (files.known, len(files.reading)) == ("new", 2)


def test_a_reload_that_breaks_does_not_stop_the_next_one(tmp_path: Any) -> None:
    files = Files()
    daemon = running(files, tmp_path)
    daemon.log = Quiet()
    first = daemon.reload()
    daemon.reload()
    files.reading[0].errback(RuntimeError("no"))
    files.reading[1].callback(None)
    check.successResultOf(first)
    assert (files.known, daemon.log.broken) == ("old", ["reloading failed"])


class Quiet:
    """Counts what breaks."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def failure(self, text: str) -> None:
        self.broken.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None
