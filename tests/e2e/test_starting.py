"""Ways to start the daemon, and what it says when it can't."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from twisted.internet.threads import deferToThread

from tests.support.daemon import BIN, MakeDaemon, through
from tests.support.upstream import Upstream

LIB = "/github.com/acme/lib/@v/v1.0.0.info"


def raw(address: tuple[str, int] | str, request: str, context: ssl.SSLContext | None = None) -> str:
    """Ask in plain HTTP/1.1 over any kind of socket; @return: all that comes."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        client.settimeout(10)
        client.connect(address)
        connection = client if context is None else context.wrap_socket(client, server_hostname="localhost")
        connection.sendall(f"GET {request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received.decode()


@pytest.mark.parametrize("command", ["serve", "twistd"])
@pytest_twisted.ensureDeferred
async def test_by_either_command_with_a_file(make_daemon: MakeDaemon, upstream: Upstream, command: str) -> None:
    daemon = make_daemon(command=command, env=through(upstream), config='LogFormat = "json"\nLogLevel = "info"\n')
    daemon.launch()
    assert daemon.url in await daemon.logged("ready:")
    assert (await daemon.get(LIB)).status == 200
    assert any('"http-status":"200"' in line and '"source":"upstream"' in line for line in daemon.lines)
    assert await daemon.stop() == 0


@pytest_twisted.ensureDeferred
async def test_what_is_announced_is_what_a_client_exports(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"ATHENS_LOG_LEVEL": "error", "ATHENS_PATH_PREFIX": "/go"})
    daemon.launch()
    assert (await daemon.logged("export GOPROXY=")).strip() == f"export GOPROXY={daemon.url}/go"


@pytest_twisted.ensureDeferred
async def test_all_that_is_wrong_is_said_before_the_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"ATHENS_NETWORK_MODE": "bogus", "ATHENS_GOGET_WORKERS": "0", "ATHENS_TIMEOUT": "x"})
    daemon.launch()
    assert await daemon.ended() == 1
    for variable in ("ATHENS_NETWORK_MODE", "ATHENS_GOGET_WORKERS", "ATHENS_TIMEOUT"):
        assert len([line for line in daemon.lines if variable in line]) == 1, daemon.lines
    assert "Traceback" not in "\n".join(daemon.lines)


@pytest_twisted.ensureDeferred
async def test_all_that_is_wrong_is_said_at_the_start(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    rules = tmp_path / "filter"
    rules.write_text("? nonsense\n")
    daemon = make_daemon(
        env={
            "ATHENS_FILTER_FILE": str(rules),
            # The long form wins, and the test bed makes no folder for it.
            "ATHENS_STORAGE_DISK_ATHENS_DISK_STORAGE_ROOT": str(tmp_path / "absent"),
            "ATHENS_DOWNLOAD_MODE": f"file:{tmp_path / 'absent.hcl'}",
            "GO_BINARY_PATH": str(tmp_path / "no-go"),
            "ATHENS_TLSCERT_FILE": str(tmp_path / "absent.pem"),
            "ATHENS_TLSKEY_FILE": str(tmp_path / "absent.key"),
            "ATHENS_INDEX_TYPE": "mysql",
            "ATHENS_INDEX_MYSQL_PROTOCOL": "udp",
            "ATHENS_SINGLE_FLIGHT_TYPE": "etcd",
        }
    )
    daemon.launch()
    assert await daemon.ended() == 1
    said = [line for line in daemon.lines if "can't start" in line]
    for word in (
        "FilterFile",
        "Storage.Disk.RootPath",
        "absent.hcl",
        "GoBinary",
        "TLSKeyFile",
        "Index.MySQL.Protocol",
        "SingleFlight.Etcd.Endpoints",
    ):
        assert any(word in line for line in said), (word, daemon.lines)
    assert "Traceback" not in "\n".join(daemon.lines)


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken(make_daemon: MakeDaemon) -> None:
    first = await make_daemon().start()
    second = make_daemon("second", port=first.port)
    second.launch()
    assert await second.ended() == 1
    assert second.has_logged("Address already in use")


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_alone(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    daemon = make_daemon(env={"ATHENS_UNIX_SOCKET": str(path)})
    daemon.launch()
    announced = daemon.logged("Unix socket")
    assert f"unix:{path}" in await daemon.logged("ready:")
    assert f"Unix socket {path}: put a web server in front" in await announced
    assert not daemon.has_logged("GOPROXY=")
    assert "200 OK" in await deferToThread(raw, str(path), "/healthz")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", daemon.port)) != 0
    assert await daemon.stop() == 0
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_tls_and_a_new_certificate_at_sighup(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    authority = trustme.CA()

    def issue() -> None:
        certificate = authority.issue_cert("localhost")
        (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        (tmp_path / "key.pem").write_bytes(certificate.private_key_pem.bytes())

    issue()
    files = {"ATHENS_TLSCERT_FILE": str(tmp_path / "cert.pem"), "ATHENS_TLSKEY_FILE": str(tmp_path / "key.pem")}
    daemon = make_daemon(env=files)
    daemon.launch()
    assert f"https://127.0.0.1:{daemon.port}" in await daemon.logged("ready:")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert "200 OK" in await deferToThread(raw, ("127.0.0.1", daemon.port), "/healthz", context)
    assert "HTTP request to an HTTPS server" in await deferToThread(raw, ("127.0.0.1", daemon.port), "/healthz")

    def negotiated() -> str | None:
        offering = ssl.create_default_context()
        authority.configure_trust(offering)
        offering.set_alpn_protocols(["h2", "http/1.1"])
        client = socket.create_connection(("127.0.0.1", daemon.port), 10)
        with offering.wrap_socket(client, server_hostname="localhost") as wrapped:
            return wrapped.selected_alpn_protocol()

    assert await deferToThread(negotiated) == "h2"

    def serial() -> str:
        client = socket.create_connection(("127.0.0.1", daemon.port), 10)
        with context.wrap_socket(client, server_hostname="localhost") as wrapped:
            shown = wrapped.getpeercert()
            assert shown
            return str(shown["serialNumber"])

    first = await deferToThread(serial)
    issue()
    reloaded = daemon.logged(r"\breloaded\b")
    daemon.signal(1)
    await reloaded
    second = await deferToThread(serial)
    assert second != first
    in_part = daemon.logged("reloaded")
    (tmp_path / "cert.pem").write_text("nonsense")
    daemon.signal(1)
    while "not reloaded" in (line := await in_part):
        in_part = daemon.logged("reloaded")
    assert "WARN" in line
    assert "reloaded, but 1 refused: there the old stays in use" in line
    assert await deferToThread(serial) == second


class Notified:
    """systemd's end of C{NOTIFY_SOCKET}."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)

    def until(self, word: str) -> list[str]:
        """@return: all messages up to the first that holds C{word}."""
        messages = []
        while not messages or word not in messages[-1]:
            messages.append(self.socket.recv(4096).decode())
        return messages


@pytest_twisted.ensureDeferred
async def test_systemd_hears_of_start_reload_life_and_stop(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    systemd = Notified(tmp_path / "notify")
    daemon = make_daemon(env={"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"})
    daemon.launch()
    await deferToThread(systemd.until, "READY=1")
    assert (await daemon.get("/healthz")).status == 200
    await deferToThread(systemd.until, "WATCHDOG=1")
    daemon.signal(1)
    await deferToThread(systemd.until, "RELOADING=1")
    await deferToThread(systemd.until, "READY=1")
    daemon.signal(15)
    await deferToThread(systemd.until, "STOPPING=1")
    assert await daemon.ended() == 0
    systemd.socket.close()


#: Does what systemd does for a socket unit: listens, and becomes the daemon with the socket as descriptor 3.
ACTIVATE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="athens-tx.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("command", ["athens-tx", "twistd"])
@pytest_twisted.ensureDeferred
async def test_a_socket_that_systemd_passes(make_daemon: MakeDaemon, command: str) -> None:
    daemon = make_daemon(env={"ATHENS_PORT": "127.0.0.1:1"})
    arguments = ["serve"] if command == "athens-tx" else ["-n", "--pidfile=", "athens"]
    daemon.command = [sys.executable, "-c", ACTIVATE, str(daemon.port), str(BIN / command), *arguments]
    await daemon.start()
    assert (await daemon.get("/version")).status == 200
    assert await daemon.stop() == 0


@pytest_twisted.ensureDeferred
async def test_as_a_daemon_in_the_background_with_a_log_file(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon()
    log, pid = tmp_path / "athens.log", tmp_path / "twistd.pid"
    daemon.folder.mkdir(parents=True)
    start = [str(BIN / "twistd"), f"--pidfile={pid}", f"--logfile={log}", "athens"]
    await deferToThread(subprocess.run, start, env=daemon.environment(), cwd=daemon.folder, check=True, timeout=30)
    number = int(pid.read_text())
    try:
        await daemon.ready()
        log.rename(tmp_path / "old.log")
        os.kill(number, 1)
        for _ in range(200):
            if log.exists() and "reloaded" in log.read_text():
                break
            await daemon.get("/healthz")
        assert "reloaded" in log.read_text()
    finally:
        os.kill(number, 15)
    for _ in range(600):
        if not pid.exists():
            break
        await deferToThread(subprocess.run, ["sleep", "0.05"], check=True)
    assert not pid.exists()


@pytest.mark.parametrize("ground", ["front", "back"])
@pytest_twisted.ensureDeferred
async def test_a_failed_start_leaves_no_pid_file(make_daemon: MakeDaemon, tmp_path: Path, ground: str) -> None:
    daemon = make_daemon()
    log, pid = tmp_path / "athens.log", tmp_path / "twistd.pid"
    options = [f"--pidfile={pid}", f"--logfile={log}", *(["--nodaemon"] if ground == "front" else [])]
    daemon.command = [str(BIN / "twistd"), *options, "athens"]
    with socket.create_server(("127.0.0.1", daemon.port)):
        daemon.launch()
        assert await daemon.ended() == (1 if ground == "front" else 0)
        # In the background the parent ends when the child may start; the pid file is there by then.
        for _ in range(600):
            if not pid.exists():
                break
            await deferToThread(subprocess.run, ["sleep", "0.05"], check=True)
    assert "Address already in use" in log.read_text()
    assert not pid.exists()
