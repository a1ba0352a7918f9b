"""What the README says one should type, typed: with another port, another module, and a local upstream."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from tests.support.daemon import Daemon
from tests.support.goclient import real_go
from tests.support.processes import Finished, run
from tests.support.repositories import standard
from tests.support.upstream import Upstream, module_tree

ROOT = Path(__file__).parents[1]
LIB = "github.com/acme/lib"
#: What `make serve` would set up is there: nothing is to be installed by a test.
MAKE = ("make", "-o", ".venv/.setup")
#: Settings that tests give to other daemons, and that would win over those of the README.
OTHERS = ("ATHENS_PORT", "ATHENS_STORAGE_TYPE", "ATHENS_DISK_STORAGE_ROOT", "ATHENS_LOG_LEVEL")


def commands() -> list[str]:
    """@return: each command of a console block, a here-document with its lines."""
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [command.rstrip("\n") for block in blocks for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


@pytest_twisted.async_yield_fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Upstream]:
    repositories = standard(tmp_path / "repositories")
    tree = await module_tree(reactor, tmp_path / "tree", repositories, [f"{LIB}@v1.0.0", f"{LIB}@v0.9.0"])
    upstream = Upstream(reactor, tree)
    yield upstream
    await upstream.stop()


class Reader:
    """Somebody in a fresh copy of this folder who types what the README says."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.daemon = Daemon(reactor, folder)
        self._folder = folder
        self._upstream = upstream
        folder.mkdir()
        for name in ("Makefile", "README.md", "bin", "etc"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])

    def environment(self) -> dict[str, str]:
        values = {name: value for name, value in self.daemon.environment().items() if name not in OTHERS}
        path = f"{Path(real_go()).parent}{os.pathsep}{values['PATH']}"
        return {**values, "PATH": path, "GOPROXY": self._upstream.url, "GOSUMDB": "off"}

    async def type(self, command: str) -> Finished:
        """Run a command, with what a test has otherwise."""
        for written, here in (
            ("127.0.0.1:3000", f"127.0.0.1:{self.daemon.port}"),
            ("github.com/google/uuid@latest", f"{LIB}@v0.9.0"),
            ('$(go env GOPROXY)"', '$(go env GOPROXY)", "GOSUMDB=off"'),
        ):
            command = command.replace(written, here)
        done = await run(reactor, ["sh", "-ec", command], self.environment(), cwd=self._folder, limit=60)
        assert done.status == 0, (command, done.stdout, done.stderr)
        return done

    async def serve(self, *variables: str) -> None:
        """C{make serve}, until it answers."""
        without = [word for name in OTHERS for word in ("-u", name)]
        words = (f"GOPROXY={self._upstream.url}", f"PATH={self.environment()['PATH']}", *variables)
        address = f"ADDRESS=127.0.0.1:{self.daemon.port}"
        self.daemon.command = ["env", *without, *words, *MAKE, "serve", address]
        await self.daemon.start()


@pytest_twisted.async_yield_fixture
async def reader(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Reader]:
    reader = Reader(tmp_path / "copy", upstream)
    yield reader
    await reader.daemon.kill()


def test_every_command_that_is_ours_is_typed_as_it_can_be_run() -> None:
    text = (ROOT / "README.md").read_text()
    for command in commands():
        assert not re.match(r"(athens-tx|twistd)\b", command)
    assert not re.search(r"`(athens-tx|twistd) ", text)


def test_what_it_links_to_is_there() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


@pytest.mark.timeout(120)
@pytest_twisted.ensureDeferred
async def test_the_tour(reader: Reader, upstream: Upstream) -> None:
    typed = [command for command in commands() if command not in ("make serve", "make test")]
    await reader.serve("ATHENS_GO_BINARY_ENV_VARS=GOPROXY=" + upstream.url + ";GOSUMDB=off")
    assert (await reader.daemon.get(f"/{LIB}/@v/v1.0.0.zip")).status == 200
    assert reader.daemon.has_logged(f"export GOPROXY={reader.daemon.url}")
    for command in typed[:2]:
        done = await reader.type(command)
    assert (typed[0].split()[0], typed[1].split()[0]) == ("export", "curl")
    assert LIB in done.stdout
    assert await _stopped(reader.daemon)

    answers = {command.split()[1]: await reader.type(command) for command in typed[2:-1]}
    assert str(reader.daemon.port) in answers["check-config"].stdout
    assert answers["catalog"].stdout.split() == [f"{LIB}@v0.9.0", f"{LIB}@v1.0.0"]  # what the daemon stored, too
    assert "2 versions verified, 0 broken" in answers["verify"].stdout

    variable, *rest = typed[-1].split()
    assert (variable, rest) == ("ATHENS_NETWORK_MODE=offline", ["make", "serve"])
    requests = len(upstream.log)
    await reader.serve(variable, "GO_BINARY_PATH=/none/go")
    assert (await reader.daemon.get(f"/{LIB}/@v/v0.9.0.zip")).status == 200
    assert (await reader.daemon.get(f"/{LIB}/@v/list")).text.split() == ["v0.9.0", "v1.0.0"]
    assert (await reader.daemon.get("/github.com/acme/other/@v/v1.0.0.info")).status == 404
    assert len(upstream.log) == requests
    assert await _stopped(reader.daemon)


async def _stopped(daemon: Daemon) -> bool:
    """@return: whether all of it has ended: make has passed the signal on, and waited."""
    await daemon.stop()
    return not daemon.children()
