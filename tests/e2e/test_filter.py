"""The filter file over the wire: what a query means is judged like what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted

from tests.support.daemon import MakeDaemon, direct
from tests.support.repositories import Repositories

LIB = "/github.com/acme/lib"


@pytest_twisted.ensureDeferred
async def test_no_query_gets_an_excluded_version(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "filter"
    rules.write_text("- github.com/acme/lib v1.0.0\n")
    daemon = await make_daemon(env=direct(repositories, ATHENS_FILTER_FILE=str(rules))).start()
    for question in ("v1.0.0.info", "v1.info", "v1.zip", "latest.mod", "latest.zip", "v1.info"):
        reply = await daemon.get(f"{LIB}/@v/{question}")
        assert (reply.status, b"PK" in reply.body, "v1.0.0" in reply.text) == (403, False, True), question
    assert not list(daemon.storage.glob("github.com/acme/lib/v*"))
    assert (await daemon.get(f"{LIB}/@v/v0.info")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_filtered_list_leaves_out_versions_and_serves_the_rest(
    repositories: Repositories, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "filter"
    rules.write_text("- github.com/acme/lib v1.0.0,v1.1.0-beta.1\n")
    settings = direct(repositories, ATHENS_FILTER_FILE=str(rules), ATHENS_FILTER_LISTS="true")
    daemon = await make_daemon(env=settings).start()
    listed = await daemon.get(f"{LIB}/@v/list")
    assert (listed.status, listed.text.split()) == (200, ["v0.9.0"])
    latest = await daemon.get(f"{LIB}/@latest")
    assert (latest.status, '"v0.9.0"' in latest.text) == (200, True)
