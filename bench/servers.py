"""The servers that a measurement without URLs needs: an athens-tx of its own, and the reference."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

#: Seconds that a server may take to answer its first request, and to end.
START, STOP = 30.0, 15.0

_SETTINGS = """\
LogLevel = "info"
LogFormat = "plain"
Port = "127.0.0.1:{port}"
StorageType = "disk"
NetworkMode = "offline"
EnablePprof = false
HomeTemplatePath = ""

[Storage]
[Storage.Disk]
RootPath = "{root}"
"""


class ServerError(Exception):
    """A server did not start."""


@contextmanager
def daemon(root: Path, work: Path) -> Iterator[str]:
    """Run an athens-tx over the storage at C{root}; everything it writes goes below C{work}. Gives its URL."""
    with daemon_process(root, work) as (url, _):
        yield url


@contextmanager
def daemon_process(root: Path, work: Path, settings: Mapping[str, str] = {}) -> Iterator[tuple[str, int]]:
    """The same with more settings, as variables. Gives its URL and its process id."""
    port = _free_port()
    config = work / "athens.toml"
    config.write_text(_SETTINGS.format(port=port, root=root))
    main = "import sys; from athens_tx.cli import main; main(prog_name='athens-tx')"
    with _running(
        [sys.executable, "-c", main, "serve", "--config", str(config)], work / "athens.log", settings
    ) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, work / "athens.log")
        yield url, process.pid


@contextmanager
def reference(root: Path, work: Path) -> Iterator[str]:
    """Run the reference; see L{bench.reference}. Gives its URL."""
    log = work / "reference.log"
    with _running([sys.executable, "-m", "bench.reference", str(root)], log) as process:
        deadline = time.monotonic() + START
        while not log.read_text().strip().isdigit():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"the reference did not start:\n{log.read_text()}")
            time.sleep(0.05)
        url = f"http://127.0.0.1:{log.read_text().strip()}"
        _wait_for(url, process, log)
        yield url


@contextmanager
def _running(
    command: list[str],
    log: Path,
    variables: Mapping[str, str] = {},
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, with its output in C{log}, and end the whole group afterwards."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | dict(variables)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(errors="replace")[-4000:]
                raise ServerError(f"the server at {url} did not start ({error}):\n{text}") from error
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
