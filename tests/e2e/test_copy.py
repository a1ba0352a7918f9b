"""C{athens-tx copy} as a person types it, and what happens when it is cut short."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from athens_tx.storage.layout import STAGING
from tests.copying.stores import files, versions
from tests.support.daemon import BIN, Daemon, MakeDaemon, through
from tests.support.processes import Finished, run
from tests.support.upstream import Upstream

reactor: Any = _reactor
LIB = "github.com/acme/lib"
ROOT = "ATHENS_DISK_STORAGE_ROOT"
#: Only files say where stores are, not the variables that each daemon of a test has.
COPY = ["env", "-u", ROOT, "-u", "ATHENS_STORAGE_TYPE", str(BIN / "athens-tx"), "copy"]
MANY = 600


def settings(root: Path) -> str:
    """@return: the path of a file of settings for a store on disk, which is made."""
    root.mkdir(exist_ok=True)
    file = root.with_suffix(".toml")
    file.write_text(f'StorageType = "disk"\n[Storage.Disk]\nRootPath = "{root}"\n')
    return str(file)


def stored(root: Path) -> dict[str, bytes]:
    """All files of a store, without what a running storage keeps for itself."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(STAGING)}


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A store with many versions, as Athens would write them."""
    root = tmp_path / "full"
    for mv in versions(MANY):
        folder = root / mv.path / mv.version
        folder.mkdir(parents=True)
        info, mod, zip = files(mv, b"// much\n" * 4000)
        for name, data in ((f"{mv.version}.info", info), ("go.mod", mod), ("source.zip", zip)):
            (folder / name).write_bytes(data)
    return root


async def copy(daemon: Daemon, *arguments: str) -> Finished:
    """Run it to its end."""
    return await run(reactor, [*COPY, *arguments], daemon.environment(), cwd=daemon.folder)


@pytest_twisted.ensureDeferred
async def test_what_was_fetched_is_served_from_the_copy(
    make_daemon: MakeDaemon, upstream: Upstream, tmp_path: Path
) -> None:
    daemon = make_daemon(env=through(upstream, ATHENS_LOG_LEVEL="error"))
    (await daemon.cli("fetch", f"{LIB}@v1.0.0", f"{LIB}@v0.9.0")).check()
    old, new = daemon.storage, tmp_path / "new"
    ends = settings(old), settings(new)
    done = (await copy(daemon, "--verify", *ends)).check()
    assert done.stdout.startswith("2 versions copied, 0 there already, 0 failed; ")
    assert stored(old) == stored(new)
    second = make_daemon("second", env={"ATHENS_LOG_LEVEL": "error", "ATHENS_NETWORK_MODE": "offline", ROOT: str(new)})
    assert (await second.cli("verify")).check().stdout.strip() == "2 versions verified, 0 broken"
    await second.start()
    assert (await second.get(f"/{LIB}/@v/v1.0.0.zip")).status == 200
    again = json.loads((await copy(daemon, "--json", "disk", ends[1], "-c", ends[0])).check().stdout)
    assert (again["copied"], again["there"], again["failed"], again["complete"]) == (0, 2, 0, True)


@pytest_twisted.ensureDeferred
async def test_a_wrong_command_line_and_wrong_settings(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon()
    file = settings(tmp_path / "store")
    for arguments, status, says in (
        (("memory", file), 2, "FROM: "),
        ((file, "nowhere"), 2, "TO: nowhere"),
        ((file,), 2, "Missing argument 'TO'"),
        (("--parallel", "0", "disk", file), 2, "--parallel"),
        (("gcp", file), 1, "FROM: Storage.GCP.Bucket"),
        ((file, file), 1, "are the same store"),
        (("s3", "gcp", "-c", "absent.toml"), 1, "FROM and TO: "),
    ):
        refused = await copy(daemon, *arguments)
        assert (refused.status, refused.stdout, "Traceback" in refused.stderr) == (status, "", False), refused
        assert says in refused.stderr
    as_json = await copy(daemon, "--json", "memory", "nowhere")
    assert (as_json.status, len(json.loads(as_json.stdout)["problems"])) == (2, 2)
    both = await daemon.cli("copy", file, "disk")  # here a variable says where both are
    assert (both.status, f"({ROOT}, ATHENS_STORAGE_TYPE in the environment" in both.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest_twisted.ensureDeferred
async def test_a_copy_that_is_cut_short_goes_on_when_it_is_started_again(
    make_daemon: MakeDaemon, full: Path, tmp_path: Path, number: signal.Signals
) -> None:
    new = tmp_path / "new"
    ends = settings(full), settings(new)
    command = make_daemon(command=[*COPY, *ends])
    command.launch()
    deadline = reactor.seconds() + 20
    while len(list(new.glob("example.com/*/*"))) < 20:
        assert reactor.seconds() < deadline, command.lines
        assert command.status is None, command.lines
        await deferLater(reactor, 0.005)
    command.signal(number)
    ended = await command.ended()
    there, whole = stored(new), stored(full)
    assert 20 <= len(there) // 3 < MANY
    assert len(there) % 3 == 0
    assert all(whole[name] == data for name, data in there.items())
    if number == signal.SIGKILL:
        assert ended == -number
    else:
        assert ended == 128 + number
        assert "athens-tx: the copy was cut short; run it again to go on" in command.lines
        # What a thread was putting at its place is there, though nobody waited for it any more.
        [counted] = [int(line.split()[0]) for line in command.lines if " versions copied, " in line]
        assert counted <= len(there) // 3 <= counted + 8
        assert not [path for path in (new / STAGING).rglob("*") if path.is_file() and path.name != "lock"]
    again = (await copy(command, *ends)).check()
    missing = MANY - len(there) // 3
    assert again.stdout.startswith(f"{missing} versions copied, {len(there) // 3} there already, 0 failed; ")
    assert stored(new) == whole


@pytest_twisted.ensureDeferred
async def test_a_version_that_can_not_be_read_is_told_and_the_rest_goes_on(
    make_daemon: MakeDaemon, full: Path, tmp_path: Path
) -> None:
    broken = full / "example.com/m3/v1.2.0"
    (broken / "source.zip").write_bytes(b"PK nonsense")
    ends = settings(full), settings(tmp_path / "new")
    done = await copy(make_daemon(), "--verify", *ends)
    assert done.status == 1
    assert done.stderr == "example.com/m3@v1.2.0: FROM: the zip file is cut, or is none\n"
    assert done.stdout.startswith(f"{MANY - 1} versions copied, 0 there already, 1 failed; ")
    looked = (await copy(make_daemon(), "--dry-run", *ends)).check()
    assert looked.stdout == f"1 versions to copy, {MANY - 1} there already, 0 failed\n"


@pytest_twisted.ensureDeferred
async def test_who_has_read_enough_of_a_catalog(make_daemon: MakeDaemon, full: Path) -> None:
    daemon = make_daemon(env={ROOT: str(full)})
    command = f"{BIN / 'athens-tx'} catalog | head -1; echo ${{PIPESTATUS[0]}}"
    done = await run(reactor, ["bash", "-c", command], daemon.environment())
    assert (done.stdout.split(), done.stderr) == (["example.com/m0@v1.0.0", "141"], "")
