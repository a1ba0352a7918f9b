"""C{athens-tx check-config} finds what would stop the start, and the start agrees with it."""

from __future__ import annotations

import json

import pytest_twisted

from tests.support.daemon import MakeDaemon


@pytest_twisted.ensureDeferred
async def test_what_stops_the_start_is_found_before(make_daemon: MakeDaemon) -> None:
    wrong = {"ATHENS_FILTER_FILE": "/none/filter", "ATHENS_NETRC_PATH": "/none/netrc", "ATHENS_INDEX_TYPE": "mysql"}
    daemon = make_daemon(env=wrong)
    checked = await daemon.cli("check-config")
    assert checked.status == 1
    problems = json.loads((await daemon.cli("check-config", "--json")).stdout)["problems"]
    for name in ("FilterFile", "NETRCPath", "IndexType"):
        assert name in checked.stderr
        assert any(name in problem for problem in problems)
    started = await daemon.cli("serve")
    assert started.status == 1
    for name in ("FilterFile", "NETRCPath", "IndexType"):
        assert name in started.stdout + started.stderr


@pytest_twisted.ensureDeferred
async def test_what_this_version_can_not_do_is_a_warning_unless_strict(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"ATHENS_ENABLE_PPROF": "true"})
    checked = await daemon.cli("check-config")
    assert (checked.status, "EnablePprof: this version" in checked.stderr) == (0, True)
    strict = await daemon.cli("check-config", "--strict")
    assert (strict.status, strict.stdout, "EnablePprof: this version" in strict.stderr) == (1, "", True)
