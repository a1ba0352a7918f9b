"""The public upstream of this machine's go command, with the checksum database on: a small real project."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted

from tests.support.daemon import MakeDaemon, go_variables
from tests.support.goclient import GoClient

MAIN = """package main

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
)

func main() {
	fmt.Println(uuid.NameSpaceDNS, mux.NewRouter() != nil)
}
"""


def go_env(name: str) -> str:
    """@return: a setting of this machine's go command."""
    return subprocess.run(["go", "env", name], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.upstream
@pytest.mark.timeout(300)
@pytest_twisted.ensureDeferred
async def test_a_real_project_cold_warm_and_offline(
    make_daemon: MakeDaemon, make_client: Callable[..., GoClient], tmp_path: Path
) -> None:
    proxy, sumdb = go_env("GOPROXY"), go_env("GOSUMDB")
    if proxy in ("", "off", "direct"):
        pytest.skip("go env GOPROXY names no proxy")
    name = sumdb.split()[0].split("+")[0]
    daemon = await make_daemon(
        env={
            "ATHENS_GO_BINARY_ENV_VARS": go_variables(GOPROXY=proxy, GOSUMDB=sumdb),
            "ATHENS_SUM_DBS": f"https://{name}",
            "ATHENS_SUM_DB_CACHE_DIR": str(tmp_path / "sumdb"),
        }
    ).start()
    client = make_client(daemon.url, GOSUMDB=sumdb)
    for state in ("cold", "warm", "offline"):
        if state == "offline":
            assert await daemon.stop() == 0
            daemon.env["ATHENS_NETWORK_MODE"] = "offline"
            await daemon.start()
        client.forget()
        folder = client.project(state, {})
        (folder / "main.go").write_text(MAIN)
        (folder / "go.mod").write_text(
            f"module example.test/{state}\n\ngo 1.21\n\n"
            "require (\n\tgithub.com/google/uuid v1.6.0\n\tgithub.com/gorilla/mux v1.8.1\n)\n"
        )
        assert "true" in await client.build_and_run(folder)  # without a go.sum: the database is asked each time
    listed = await client.versions("github.com/google/uuid")
    assert "v1.6.0" in listed["Versions"]
