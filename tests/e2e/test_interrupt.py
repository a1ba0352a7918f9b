"""A command that is interrupted ends what it started, removes the credentials, and says by its status why it ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.daemon import BIN, MakeDaemon, direct
from tests.support.go_stub import GoStub
from tests.support.processes import having_in_environment
from tests.support.repositories import Repositories

LIB = "github.com/acme/lib"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("hanging", ["mod download", "version"])
@pytest_twisted.ensureDeferred
async def test_nothing_stays_behind(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path, number: signal.Signals, hanging: str
) -> None:
    stub, netrc, work = GoStub(tmp_path / "stub"), tmp_path / "netrc", tmp_path / "work"
    stub.order(hanging, "hang")
    netrc.write_text("machine git.test login me password hunter22\n")
    work.mkdir()
    settings = direct(
        repositories,
        GO_BINARY_PATH=str(stub.path),
        ATHENS_NETRC_PATH=str(netrc),
        ATHENS_GOGET_DIR=str(work),
    )
    command = make_daemon(env=settings, command=[str(BIN / "athens-tx"), "fetch", f"{LIB}@v1.0.0", f"{LIB}@v0.9.0"])
    command.launch()
    deadline = reactor.seconds() + 20  # type: ignore[attr-defined]
    while not stub.calls(hanging):
        assert reactor.seconds() < deadline, command.lines  # type: ignore[attr-defined]
        assert command.status is None, command.lines
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
    assert list(work.rglob(".netrc"))
    command.signal(number)
    assert await command.ended() == 128 + number
    assert not [path for path in work.rglob("*") if path.name in (".netrc", "home") or path.parent.name == "staging"]
    assert not having_in_environment(f"{tmp_path}/")
    assert "Traceback" not in "\n".join(command.lines)
