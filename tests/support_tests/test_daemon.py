"""What starts, watches and ends a daemon: tried with one that is a few lines long."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.support.daemon import Daemon, go_variables
from tests.support.processes import group_members

SCRIPT = """
import http.server, os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked for", self.path, flush=True)
        self.send_response(200)
        self.end_headers()
subprocess.Popen(["sleep", "600"], start_new_session=True)
time.sleep(0.2)
http.server.HTTPServer(("127.0.0.1", int(os.environ["ATHENS_PORT"].split(":")[1])), Handler).serve_forever()
"""


@pytest_twisted.async_yield_fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(reactor, tmp_path / "d", command=[sys.executable, "-c", SCRIPT])
    yield daemon
    await daemon.kill()


@pytest_twisted.ensureDeferred
async def test_it_is_started_watched_and_stopped(daemon: Daemon) -> None:
    await daemon.start()
    assert daemon.has_logged("asked for /healthz")
    line = daemon.logged("asked for /x")
    assert (await daemon.get("/x")).status == 200
    assert await line == "asked for /x"
    assert 1_000_000 < daemon.rss() <= daemon.peak_rss()
    daemon.forget_peak()
    (child,) = daemon.children()
    assert await daemon.stop() == 7
    assert daemon.status == 7
    assert daemon.children() == [child], "it holds the pipes, and is found though its parent is gone"
    await daemon.kill()
    assert not group_members(child)


@pytest_twisted.ensureDeferred
async def test_a_kill_takes_its_children_along(daemon: Daemon) -> None:
    await daemon.start()
    (child,) = daemon.children()
    await daemon.kill()
    assert daemon.status == -9
    assert not group_members(child)
    await daemon.kill()  # harmless


@pytest_twisted.ensureDeferred
async def test_one_that_ends_at_once_is_told_with_what_it_said(daemon: Daemon) -> None:
    daemon.command = [sys.executable, "-c", "print('no such storage'); raise SystemExit(1)"]
    with pytest.raises(AssertionError, match="status 1\nno such storage"):
        await daemon.start()


def test_go_variables_are_joined_as_athens_wants_them() -> None:
    assert go_variables(GOPROXY="direct", GOSUMDB="off") == "GOPROXY=direct;GOSUMDB=off"
