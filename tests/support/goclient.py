"""The real go command as a client of a proxy, with caches and a home of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tests.support.processes import Finished, run


def real_go() -> str:
    """@return: the go command of the machine."""
    go = shutil.which("go")
    assert go, "the tests need the go command on PATH"
    return go


def environment(root: Path, **more: str) -> dict[str, str]:
    """@return: all that a go command needs, nothing of the tester's own settings; what it keeps is below C{root}."""
    home = root / "home"
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GOPATH": str(root / "gopath"),
        "GOMODCACHE": str(root / "modcache"),
        "GOCACHE": str(build_cache()),
        "GOENV": "off",
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GOPROXY": "off",
        "GOSUMDB": "off",
        **more,
    }


def build_cache() -> Path:
    """
    @return: where go keeps compiled packages. One for all tests, because compiling the standard library anew takes
        half a minute and has nothing to do with a proxy: go looks a package up there by the hash of its source.
    """
    cache = os.environ.get("ATHENS_TX_TEST_GOCACHE")
    if not cache:
        cache = subprocess.run(["go", "env", "GOCACHE"], check=True, capture_output=True, text=True).stdout.strip()
        os.environ["ATHENS_TX_TEST_GOCACHE"] = cache
    return Path(cache)


@attrs.define
class GoClient:
    """
    A user's go command.

    @ivar root: where its home, caches and projects lie.
    @ivar proxy: what C{GOPROXY} is.
    @ivar env: more environment, C{GOSUMDB} for one.
    """

    reactor: Any
    root: Path
    proxy: str
    env: Mapping[str, str] = attrs.Factory(dict)

    async def run(self, *args: str, cwd: Path | None = None, limit: float = 60.0, **env: str) -> Finished:
        """Run C{go ARGS}; in an empty folder unless C{cwd} is given."""
        if cwd is None:
            cwd = self.root / "empty"
            cwd.mkdir(parents=True, exist_ok=True)
        values = environment(self.root, GOPROXY=self.proxy)
        values.update(self.env)
        values.update(env)
        return await run(self.reactor, [real_go(), *args], values, cwd=cwd, limit=limit)

    async def download(self, *queries: str, **env: str) -> list[dict[str, Any]]:
        """Run C{go mod download -json}; return its documents, failures (C{Error}) included."""
        result = await self.run("mod", "download", "-json", *queries, **env)
        documents = json_documents(result.stdout)
        assert documents, result.stderr
        return documents

    async def versions(self, path: str, **env: str) -> dict[str, Any]:
        """Run C{go list -m -versions -json PATH@latest}; return what it says."""
        result = await self.run("list", "-m", "-versions", "-json", f"{path}@latest", **env)
        document: dict[str, Any] = json.loads(result.check().stdout)
        return document

    def forget(self) -> None:
        """Throw the module cache away: the next run is a cold one."""
        shutil.rmtree(self.root / "modcache", ignore_errors=True)
        shutil.rmtree(self.root / "gopath", ignore_errors=True)

    def project(self, name: str, imports: Mapping[str, str]) -> Path:
        """
        Write a program that prints the C{Name()} of each of C{imports}.

        @param imports: by import path, the version its module is required at.
        @return: its folder.
        """
        folder = self.root / "projects" / name
        folder.mkdir(parents=True)
        required = "".join(f"require {path} {version}\n" for path, version in imports.items())
        (folder / "go.mod").write_text(f"module example.test/{name}\n\ngo 1.21\n\n{required}")
        lines = "".join(f'\tm{i} "{path}"\n' for i, path in enumerate(imports))
        calls = "".join(f"\tfmt.Println(m{i}.Name())\n" for i in range(len(imports)))
        (folder / "main.go").write_text(f'package main\n\nimport (\n\t"fmt"\n{lines})\n\nfunc main() {{\n{calls}}}\n')
        return folder

    async def build_and_run(self, folder: Path, **env: str) -> str:
        """Tidy, download, verify and build a project with the proxy, then run it; return what it prints."""
        for args in (["mod", "tidy"], ["mod", "download"], ["mod", "verify"], ["build", "-o", "program", "."]):
            (await self.run(*args, cwd=folder, **env)).check()
        result = await run(self.reactor, [str(folder / "program")], {}, limit=10)
        return result.check().stdout


def json_documents(text: str) -> list[dict[str, Any]]:
    """@return: the JSON objects that stand one after the other in C{text}."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (start := text.find("{", at)) >= 0:
        document, at = decoder.raw_decode(text, start)
        found.append(document)
    return found
