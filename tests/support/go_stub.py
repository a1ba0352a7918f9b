"""
Stand-ins for the go command (and for git): scripts that write down how they were called, then do as they are told.

What a script does is read from a file next to it at each call, so a test can change it while a daemon runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import attrs

from tests.support.goclient import real_go

# Run by an interpreter that imports nothing but the standard library (-I -S), so that it starts quickly.
SCRIPT = """#!{python} -IS
import json, os, signal, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = os.path.basename(__file__)
with open(os.path.join(HERE, NAME + ".json")) as f:
    orders = json.load(f)
call = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "pid": os.getpid(), "time": time.time()}}
line = json.dumps(call)
log = os.open(os.path.join(HERE, NAME + ".log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(log, line.encode() + b"\\n")
os.close(log)
words = [word for word in sys.argv[1:]]
while words[:1] == ["-C"]:
    words = words[2:]
order = {{"do": "run"}}
for each in orders:
    if each["on"] == words[: len(each["on"])] and each.get("has", "") in " ".join(words):
        order = each
        break
what = order["do"]
if what == "hang":
    # A child that holds the pipes as well, as git does below go.
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)
elif what == "flood":
    block, left = b"x" * 65536, order["size"]
    try:
        while left > 0:
            left -= os.write(order.get("fd", 1), block[: min(left, len(block))])
    except OSError:
        sys.exit(1)
    sys.exit(order.get("status", 0))
elif what == "fail":
    os.write(1, order.get("stdout", "").encode())
    os.write(2, order.get("stderr", "").encode())
    sys.exit(order.get("status", 1))
elif what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "delay":
    time.sleep(order["seconds"])
elif what == "hold":
    while not os.path.exists(os.path.join(HERE, "released")):
        time.sleep(0.02)
os.execv(order.get("program", {program!r}), [{name!r}] + sys.argv[1:])
"""


@attrs.frozen
class Call:
    """One call of a stub."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    pid: int
    time: float


@attrs.define
class GoStub:
    """
    A folder with one script, C{go} unless told otherwise.

    @ivar folder: put in front of PATH where the script is to be found by its name.
    """

    folder: Path
    name: str = "go"
    program: str = attrs.Factory(real_go)
    _orders: list[dict[str, Any]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(SCRIPT.format(python=sys.executable, program=self.program, name=self.name))
        self.path.chmod(0o755)
        self._write()

    @property
    def path(self) -> Path:
        """The script."""
        return self.folder / self.name

    def _write(self) -> None:
        draft = self.folder / f"{self.name}.json.new"
        draft.write_text(json.dumps(self._orders))
        draft.replace(self.folder / f"{self.name}.json")

    def order(self, on: str, do: str, **details: Any) -> None:
        """
        @param on: the first words of the command line that this is for: C{mod download}; empty for every call.
        @param do: C{hang}, C{flood} (C{size}, C{fd}, C{status}), C{fail} (C{stdout}, C{stderr}, C{status}), C{killed},
            C{delay} (C{seconds}), C{hold} (until L{release}), C{run}.
        @param details: C{has}: only where the command line holds this text.
        """
        self._orders.insert(0, {"on": on.split(), "do": do, **details})
        self._write()

    def clear(self) -> None:
        """Only run the real command from now on."""
        self._orders.clear()
        self._write()

    def old(self, version: str = "go1.16.15") -> None:
        """Claim to be another version, to C{go version} and to C{go env}."""
        self.order("version", "fail", stdout=f"go version {version} linux/amd64\n", status=0)
        self.order("env", "fail", stdout=f"{version}\n", status=0)

    def release(self) -> None:
        """Let every held call go on, and all later ones."""
        (self.folder / "released").touch()

    def calls(self, on: str = "") -> list[Call]:
        """@return: the calls so far whose command line begins with these words, C{-C DIR} left out."""
        log = self.folder / f"{self.name}.log"
        if not log.exists():
            return []
        words = on.split()
        found = []
        for line in log.read_text().splitlines():
            call = Call(**json.loads(line))
            argv = call.argv
            while argv[:1] == ["-C"]:
                argv = argv[2:]
            if argv[: len(words)] == words:
                found.append(call)
        return found
