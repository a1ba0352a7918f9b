"""SIGTERM ends the daemon in good order and leaves no child; SIGHUP reads its policy files again, good ones only."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from tests.support.daemon import Daemon, MakeDaemon, direct
from tests.support.go_stub import GoStub
from tests.support.processes import group_members
from tests.support.repositories import Repositories

LIB = "/github.com/acme/lib"


async def held_fetch(daemon: Daemon, stub: GoStub) -> Deferred[object]:
    """@return: a request whose run of go has begun and does not end before C{stub} is released."""
    stub.order("mod download", "hold")
    asked: Deferred[object] = Deferred.fromCoroutine(daemon.get(f"{LIB}/@v/v1.0.0.info"))
    deadline = reactor.seconds() + 20  # type: ignore[attr-defined]
    while not stub.calls("mod download"):
        assert reactor.seconds() < deadline, daemon.lines  # type: ignore[attr-defined]
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    return asked


@pytest_twisted.ensureDeferred
async def test_sigterm_lets_a_running_fetch_finish(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    stub = GoStub(tmp_path / "stub")
    daemon = make_daemon(env=direct(repositories, GO_BINARY_PATH=str(stub.path), ATHENS_SHUTDOWN_TIMEOUT="20"))
    await daemon.start()
    asked = await held_fetch(daemon, stub)
    daemon.signal(signal.SIGTERM)
    # New connections are refused before the running request is answered.
    deadline = reactor.seconds() + 10  # type: ignore[attr-defined]
    while await accepts(daemon):
        assert reactor.seconds() < deadline  # type: ignore[attr-defined]
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    assert not asked.called
    stub.release()
    assert (await asked).status == 200  # type: ignore[attr-defined]
    assert await daemon.ended() == 0
    assert (daemon.storage / "github.com/acme/lib/v1.0.0/source.zip").is_file()


async def accepts(daemon: Daemon) -> bool:
    """@return: whether the daemon takes new connections."""
    from twisted.internet.error import ConnectError

    try:
        await daemon.get("/healthz")
    except ConnectError:
        return False
    except Exception:  # it took the connection and closed it again
        return True
    return True


@pytest_twisted.ensureDeferred
async def test_sigterm_does_not_wait_for_ever_and_leaves_no_child(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    stub = GoStub(tmp_path / "stub")
    daemon = make_daemon(env=direct(repositories, GO_BINARY_PATH=str(stub.path), ATHENS_SHUTDOWN_TIMEOUT="1"))
    await daemon.start()
    stub.order("mod download", "hang")
    asked = Deferred.fromCoroutine(daemon.get(f"{LIB}/@v/v1.0.0.info"))
    deadline = reactor.seconds() + 20  # type: ignore[attr-defined]
    while not stub.calls("mod download"):
        assert reactor.seconds() < deadline  # type: ignore[attr-defined]
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    go = stub.calls("mod download")[0].pid
    began = reactor.seconds()  # type: ignore[attr-defined]
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 1
    assert reactor.seconds() - began < 8  # type: ignore[attr-defined]
    await DeferredList([asked], consumeErrors=True)
    assert not group_members(go)
    left = [path for path in (daemon.folder / "tmp").rglob("*") if path.is_file()]
    assert not left, left


@pytest_twisted.ensureDeferred
async def test_sighup_takes_a_good_filter_file_and_refuses_a_bad_one(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "filter"
    rules.write_text("+\n")
    daemon = await make_daemon(env=direct(repositories, ATHENS_FILTER_FILE=str(rules))).start()
    assert (await daemon.get(f"{LIB}/@v/v1.0.0.info")).status == 200

    read = daemon.logged(r"\breloaded\b")
    rules.write_text("- github.com/acme/lib\n")
    daemon.signal(signal.SIGHUP)
    await read
    assert (await daemon.get(f"{LIB}/@v/v1.0.0.info")).status == 403

    refused, ended = daemon.logged("FilterFile line 2"), daemon.logged("reloaded, but 1 refused")
    rules.write_text("+\n? nonsense\n")
    daemon.signal(signal.SIGHUP)
    await refused
    await ended
    assert (await daemon.get(f"{LIB}/@v/v1.0.0.info")).status == 403
    assert (await daemon.get("/github.com/acme/base/@v/v1.0.0.info")).status == 200
