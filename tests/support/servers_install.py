"""
How the programs of the test servers are had: built or fetched by the ordinary package clients, in pinned versions.

Each lies in a folder of its own, C{NAME-VERSION}, in C{~/.cache/athens-tx-tests} or where C{ATHENS_TX_TEST_SERVERS}
says. It is made under another name and moved there when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

_POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>athens-tx</groupId><artifactId>tests</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency>
<groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version>
</dependency></dependencies></project>
"""
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class NotInstalled(Exception):
    """A program could not be had; the message is one line."""


def cache() -> Path:
    """@return: the folder of all the programs."""
    return Path(os.environ.get("ATHENS_TX_TEST_SERVERS") or Path.home() / ".cache" / "athens-tx-tests")


@attrs.frozen
class Program:
    """
    A program that a server is, and how to get it.

    @ivar client: the package client.
    @ivar package: what that client calls it.
    @ivar runs_with: the command that runs it, if it is not one itself.
    """

    name: str
    version: str
    client: str
    package: str
    runs_with: str | None = None

    @property
    def folder(self) -> Path:
        return cache() / f"{self.name}-{self.version}"

    def lacking(self) -> str | None:
        """@return: why it can't be run, or nothing."""
        if self.runs_with is not None and shutil.which(self.runs_with) is None:
            return f"{self.name} {self.version} needs the command {self.runs_with}"
        if not self.folder.is_dir():
            return f"{self.name} {self.version} is not installed: python -m tests.support.servers install"
        return None

    def install(self, limit: float) -> None:
        """
        Get it, in at most two attempts and C{limit} seconds. Whoever else is at it in another process is waited for.

        @raise NotInstalled: it can't be had.
        """
        for command in (self.client, self.runs_with):
            if command is not None and shutil.which(command) is None:
                raise NotInstalled(f"needs the command {command}")
        end = time.monotonic() + limit
        cache().mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self.folder.is_dir():
                return
            try:
                self._attempt(end)
            except NotInstalled:
                if time.monotonic() > end:
                    raise
                self._attempt(end)

    def _attempt(self, end: float) -> None:
        part = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=cache()))
        try:
            argv, env = self._command(part)
            _run(argv, env, part, end)
            part.chmod(0o755)
            part.rename(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _command(self, part: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        if self.client == "go":
            env = {"GOBIN": str(part), "GOFLAGS": "-buildvcs=false -modcacherw", "GO111MODULE": "on"}
            return ["go", "install", "-trimpath", "-ldflags=-s -w", f"{self.package}@{self.version}"], env
        if self.client == "npm":
            options = ["--no-audit", "--no-fund", "--no-update-notifier", "--silent", "--prefix", str(part)]
            return ["npm", "install", *options, f"{self.package}@{self.version}"], {}
        assert self.client == "mvn", self.client
        group, _, name = self.package.partition(":")
        pom = part / "pom.xml"
        pom.write_text(_POM.format(group=group, name=name, version=self.version))
        return ["mvn", "-q", "-B", "-f", str(pom), _COPY_DEPENDENCIES, f"-DoutputDirectory={part}"], {}

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (cache() / f".{self.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _run(argv: Sequence[str], env: Mapping[str, str], cwd: Path, end: float) -> None:
    """Run a package client in a process group of its own, which does not outlive this call."""
    process = subprocess.Popen(
        argv,
        env={**os.environ, **env},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{argv[0]} was not done in time") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
        raise NotInstalled(f"{argv[0]}: exit status {process.returncode}: {lines[-1][:300]}")
