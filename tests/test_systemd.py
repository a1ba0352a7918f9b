"""What the daemon tells systemd, over a real socket, and the units themselves."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from athens_tx.config import load
from athens_tx.systemd import Notifier, activated_endpoints

PID = 4242
UNITS = Path(__file__).parent.parent / "systemd"


class Systemd:
    """The other end: a datagram socket, and what an environment says of it."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self.setting = address.replace("\0", "@")

    def told(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path) -> Iterator[Systemd]:
    end = Systemd(str(tmp_path / "notify") if request.param == "path" else f"\0athens-tx-test-{os.getpid()}")
    yield end
    end.socket.close()


def environ(systemd: Systemd, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.setting, "HOME": "/", **more}


def test_each_state_is_told_with_its_status(systemd):
    notifier = Notifier(environ(systemd), Clock(), pid=PID)
    notifier.ready("listening on 3000")
    notifier.status("two\nlines")
    notifier.stopping()
    assert systemd.told() == ["READY=1\nSTATUS=listening on 3000", "STATUS=two lines", "STOPPING=1"]


def test_a_reload_says_when_it_began(systemd):
    Notifier(environ(systemd), Clock(), pid=PID).reloading("reading")
    state, stamp, status = systemd.told()[0].split("\n")
    name, _, value = stamp.partition("=")
    assert (state, name, status) == ("RELOADING=1", "MONOTONIC_USEC", "STATUS=reading")
    assert 0 <= time.monotonic() * 1e6 - int(value) < 60e6


def test_the_settings_leave_the_environment(systemd):
    given = environ(systemd, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(PID))
    Notifier(given, Clock(), pid=PID)
    assert given == {"HOME": "/"}


def test_signs_of_life_come_at_half_the_time_and_only_while_the_daemon_is_well(systemd, logged):
    clock, health = Clock(), [True]
    notifier = Notifier(environ(systemd, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(PID)), clock, pid=PID)
    notifier.start_watchdog(lambda: health[0])
    notifier.start_watchdog(lambda: True)  # one is enough
    assert systemd.told() == ["WATCHDOG=1"]
    clock.advance(14.9)
    assert systemd.told() == []
    clock.advance(0.1)
    assert systemd.told() == ["WATCHDOG=1"]
    health[0] = False
    clock.pump([15.0, 15.0])
    assert systemd.told() == []
    assert len([event for event in logged if "not healthy" in event["log_format"]]) == 1
    health[0] = True
    clock.advance(15.0)
    assert systemd.told() == ["WATCHDOG=1"]
    notifier.stop_watchdog()
    notifier.stop_watchdog()
    clock.advance(60.0)
    assert systemd.told() == []
    assert clock.getDelayedCalls() == []


def test_a_health_check_that_fails_is_no_sign_of_life_and_is_asked_again(systemd, logged):
    clock, health = Clock(), [0]
    notifier = Notifier(environ(systemd, WATCHDOG_USEC="2000000"), clock, pid=PID)
    notifier.start_watchdog(lambda: bool(1 / health[0]))
    assert systemd.told() == []
    health[0] = 1
    clock.advance(1.0)
    assert systemd.told() == ["WATCHDOG=1"]
    notifier.stop_watchdog()
    logged.clear()


@pytest.mark.parametrize(
    "setting",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_no_watchdog_unless_it_is_meant_for_this_process(systemd, setting):
    clock = Clock()
    notifier = Notifier(environ(systemd, **setting), clock, pid=PID)
    notifier.start_watchdog(lambda: True)
    assert (systemd.told(), clock.getDelayedCalls()) == ([], [])


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_systemd_nothing_happens(address, logged):
    given = {"WATCHDOG_USEC": "30000000"} | ({} if address is None else {"NOTIFY_SOCKET": address})
    clock = Clock()
    notifier = Notifier(given, clock, pid=PID)
    notifier.ready()
    notifier.start_watchdog(lambda: True)
    notifier.stopping()
    assert (clock.getDelayedCalls(), logged) == ([], [])


def test_a_systemd_that_is_gone_is_logged_and_harms_nobody(tmp_path, logged):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, Clock(), pid=PID).ready()
    assert [event["log_level"].name for event in logged] == ["warn"]


def test_a_systemd_that_does_not_listen_does_not_block_the_daemon(systemd, logged):
    notifier = Notifier(environ(systemd), Clock(), pid=PID)
    for _ in range(2000):
        notifier.status("x" * 400)
    assert any("could not be told" in event["log_format"] for event in logged)


def test_the_sockets_of_systemd_are_named_by_their_family(tmp_path):
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "socket"))
    sockets = [socket.socket(socket.AF_INET), socket.socket(socket.AF_INET6), unix]
    for index, each in enumerate(sockets):
        each.listen()
        os.dup2(each.fileno(), 200 + index)
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    os.dup2(datagram.fileno(), 203)
    given = {"LISTEN_PID": str(PID), "LISTEN_FDS": "5", "LISTEN_FDNAMES": "a:b:c:d:e"}
    try:
        assert activated_endpoints(given, pid=PID, first=200) == [
            "systemd:domain=INET:index=0",
            "systemd:domain=INET6:index=1",
            "systemd:domain=UNIX:index=2",
        ]
        for descriptor in range(200, 204):
            os.fstat(descriptor)  # still open
    finally:
        for descriptor in range(200, 204):
            os.close(descriptor)
        for each in (*sockets, datagram):
            each.close()


def test_a_socket_that_does_not_listen_is_not_served():
    idle = socket.socket(socket.AF_INET)
    try:
        given = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}
        assert activated_endpoints(given, pid=PID, first=idle.fileno()) == []
    finally:
        idle.close()


@pytest.mark.parametrize("given", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(PID)}])
def test_without_socket_activation_there_are_no_endpoints(given):
    assert activated_endpoints(given, pid=PID) == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for unit in UNITS.iterdir():
        # Only what is installed can be checked: the daemon itself is not, here.
        text = unit.read_text().replace("/usr/lib/athens-tx/bin/twistd", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(unit) for unit in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_what_the_daemon_expects():
    lines = (UNITS / "athens-tx.service").read_text().splitlines()
    for line in ("Type=notify", "ProtectSystem=strict", "NoNewPrivileges=yes", "UMask=0007", "User=athens"):
        assert line in lines
    assert any(line.startswith("ExecReload=") and "-HUP" in line for line in lines)
    assert any(line.startswith("WatchdogSec=") for line in lines)


def test_what_the_unit_makes_and_sets_fits_the_shipped_settings():
    values: dict[str, list[str]] = {}
    for line in (UNITS / "athens-tx.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(name, []).extend(value.split())
    made = {f"/var/lib/{name}" for name in values["StateDirectory"]}
    made |= {f"/var/cache/{name}" for name in values["CacheDirectory"]}
    variables = dict(item.split("=", 1) for item in values["Environment"])
    home = variables.pop("HOME")
    variables.pop("PYTHONFAULTHANDLER")
    config = load(UNITS.parent / "etc" / "athens.toml", variables, cwd=Path("/")).config
    root = config.storage.disk.root_path
    assert {root, home, config.go_get_dir, *values["WorkingDirectory"]} <= made
    assert config.sum_db_cache_dir.startswith("/var/cache/athens/")
    for path in (home, config.go_get_dir, config.sum_db_cache_dir):
        assert not Path(path).is_relative_to(root)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd-analyze")
def test_systemd_thinks_the_service_is_well_shut_in():
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=30", str(UNITS / "athens-tx.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
