"""The local repositories are the same on every machine, and go sees them as ones on github.com."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted

from tests.support.goclient import GoClient
from tests.support.repositories import Commit, Repositories, module, noise, standard


def test_a_commit_has_the_same_hash_everywhere(tmp_path: Path) -> None:
    repository = standard(tmp_path)["github.com/acme/lib"]
    assert (
        repository.commits[3].pseudo("v1.1.0-beta.1")
        == "v1.1.0-beta.1.0.20240101030000-" + repository.commits[3].hash[:12]
    )
    assert repository.commits[0].hash == "73ee62462f4d14e3c1bdaa1396e67cdd8997bfd2"


def test_later_commits_follow_the_earlier_ones(tmp_path: Path) -> None:
    repository = Repositories(tmp_path).repository("github.com/acme/x", Commit(module("github.com/acme/x"), ["v1.0.0"]))
    (made,) = repository.add(Commit({"more.go": "package x\n"}, ["v1.1.0"]))
    assert repository.commits[1] is made
    assert made.pseudo("v1.0.0") == f"v1.0.1-0.20240101010000-{made.hash[:12]}"
    assert made.pseudo("v2.0.0+incompatible") == f"v2.0.1-0.20240101010000-{made.hash[:12]}+incompatible"
    assert made.pseudo() == f"v0.0.0-20240101010000-{made.hash[:12]}"


def test_noise_is_as_big_as_asked_for_and_repeatable() -> None:
    assert sum(len(data) for data in noise(0.5).values()) == 512 * 1024
    assert noise(0.1) == noise(0.1)
    assert noise(0.1) != noise(0.1, seed=2)


@pytest_twisted.ensureDeferred
async def test_go_finds_every_kind_of_version(tmp_path: Path) -> None:
    from twisted.internet import reactor

    repos = standard(tmp_path / "r")
    client = GoClient(reactor, tmp_path / "c", "direct", {"HOME": str(repos.home)})
    lib = repos["github.com/acme/lib"]
    queries: dict[str, Any] = {
        "github.com/acme/lib@v1.0.0": "v1.0.0",
        "github.com/acme/lib@main": lib.commits[3].pseudo("v1.1.0-beta.1"),
        "github.com/acme/lib@feature": lib.commits[4].pseudo("v1.0.0"),
        "github.com/acme/untagged@main": repos["github.com/acme/untagged"].commits[0].pseudo(),
        "github.com/acme/old@v3.0.0": "v3.0.0+incompatible",
        "github.com/acme/major@latest": "v1.0.0",
        "github.com/acme/major/v2@latest": "v2.1.0",
        "github.com/acme/mono/sub@v1.2.0": "v1.2.0",
        "github.com/acme/retracted@latest": "v1.2.0",
        "github.com/Acme/Top@v1.0.0": "v1.0.0",
    }
    found = {f"{d['Path']}@{d.get('Query', d['Version'])}": d["Version"] for d in await client.download(*queries)}
    assert sorted(found.values()) == sorted(queries.values())
    repos.move_away()
    client.forget()
    assert all("Error" in document for document in await client.download("github.com/acme/lib@v1.0.0"))
    repos.come_back()
    assert "Error" not in (await client.download("github.com/acme/lib@v1.0.0"))[0]
