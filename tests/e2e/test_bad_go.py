"""A go command that is missing, too old, hangs, floods or dies: a clear error, and the daemon lives on."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from tests.support.daemon import Daemon, MakeDaemon, direct
from tests.support.go_stub import GoStub
from tests.support.repositories import Repositories

LIB = "/github.com/acme/lib"
MIB = 1024 * 1024


@pytest.fixture
def stub(tmp_path: Path) -> GoStub:
    return GoStub(tmp_path / "stub")


def settings(repositories: Repositories, stub: GoStub, **more: str) -> dict[str, str]:
    quick = {"ATHENS_LIST_CACHE_TTL": "0", "ATHENS_NOT_FOUND_TTL": "0", "GO_BINARY_PATH": str(stub.path)}
    return direct(repositories, **quick, **more)


async def still_works(daemon: Daemon, stub: GoStub) -> None:
    stub.clear()
    assert (await daemon.get(f"{LIB}/@v/v1.0.0.info")).status == 200
    assert (await daemon.get(f"{LIB}/@v/list")).status == 200
    assert not daemon.children()


@pytest_twisted.ensureDeferred
async def test_a_missing_go_stops_the_start(repositories: Repositories, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env=direct(repositories, GO_BINARY_PATH="/nonexistent/go"))
    daemon.launch()
    assert await daemon.ended() == 1
    text = "\n".join(daemon.lines)
    assert "/nonexistent/go" in text
    assert "GoBinary" in text
    assert "Traceback" not in text


@pytest_twisted.ensureDeferred
async def test_a_go_that_is_too_old_stops_the_start(
    repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub
) -> None:
    stub.old()
    daemon = make_daemon(env=settings(repositories, stub))
    daemon.launch()
    assert await daemon.ended() == 1
    text = "\n".join(daemon.lines)
    assert "go1.16" in text
    assert "1.21" in text
    assert "Traceback" not in text


@pytest_twisted.ensureDeferred
async def test_a_go_that_goes_missing_later(repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub) -> None:
    daemon = await make_daemon(env=settings(repositories, stub)).start()
    stub.path.rename(stub.folder / "gone")
    for path in (f"{LIB}/@v/v1.0.0.info", f"{LIB}/@v/list"):
        reply = await daemon.get(path)
        assert reply.status == 500, (path, reply)
        assert reply.text.strip()
    (stub.folder / "gone").rename(stub.path)
    await still_works(daemon, stub)


@pytest_twisted.ensureDeferred
async def test_a_go_that_hangs_is_killed_with_its_children(
    repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub
) -> None:
    daemon = await make_daemon(env=settings(repositories, stub, ATHENS_TIMEOUT="1", ATHENS_STASH_TIMEOUT="1")).start()
    stub.order("mod download", "hang")
    stub.order("list", "hang")
    for path in (f"{LIB}/@v/v1.0.0.info", f"{LIB}/@v/list", f"{LIB}/@latest"):
        reply = await daemon.get(path)
        assert reply.status == 504, (path, reply)
    assert not daemon.children()
    daemon.env.pop("ATHENS_TIMEOUT")
    await daemon.stop()
    await daemon.start()
    await still_works(daemon, stub)


@pytest.mark.parametrize(("descriptor", "size"), [(1, 1024 * MIB), (2, 256 * MIB)])
@pytest_twisted.ensureDeferred
async def test_a_go_that_prints_without_end_does_not_fill_the_memory(
    repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub, descriptor: int, size: int
) -> None:
    daemon = await make_daemon(env=settings(repositories, stub)).start()
    assert (await daemon.get("/healthz")).status == 200
    before = daemon.rss()
    daemon.forget_peak()
    stub.order("mod download", "flood", size=size, fd=descriptor, status=1)
    reply = await daemon.get(f"{LIB}/@v/v1.0.0.info")
    assert reply.status == 500, reply
    assert len(reply.body) < 8192
    assert daemon.peak_rss() - before < 32 * MIB
    await still_works(daemon, stub)


@pytest_twisted.ensureDeferred
async def test_a_go_that_is_killed(repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub) -> None:
    daemon = await make_daemon(env=settings(repositories, stub)).start()
    stub.order("mod download", "killed")
    stub.order("list", "killed")
    for path in (f"{LIB}/@v/v1.0.0.zip", f"{LIB}/@v/list"):
        assert (await daemon.get(path)).status == 500, path
    await still_works(daemon, stub)


@pytest_twisted.ensureDeferred
async def test_a_go_that_makes_no_sense(repositories: Repositories, make_daemon: MakeDaemon, stub: GoStub) -> None:
    daemon = await make_daemon(env=settings(repositories, stub)).start()
    stub.order("mod download", "fail", stdout="no JSON\n", status=0)
    stub.order("list", "fail", stdout="", stderr="panic: oh no\n", status=2)
    for path in (f"{LIB}/@v/v1.0.0.zip", f"{LIB}/@v/list"):
        reply = await daemon.get(path)
        assert reply.status in (404, 500, 502), (path, reply)
        assert reply.text.strip()
    await still_works(daemon, stub)
