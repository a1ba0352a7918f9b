"""C{athens-tx check-config} finds what would stop the start, and the start agrees with it."""

from __future__ import annotations

import json

import pytest
import pytest_twisted

from tests.support.daemon import MakeDaemon


@pytest_twisted.ensureDeferred
async def test_what_stops_the_start_is_found_before(make_daemon: MakeDaemon) -> None:
    wrong = {"ATHENS_FILTER_FILE": "/none/filter", "ATHENS_NETRC_PATH": "/none/netrc"}
    wrong |= {"ATHENS_INDEX_TYPE": "mysql", "ATHENS_INDEX_MYSQL_PROTOCOL": "udp"}
    daemon = make_daemon(env=wrong)
    checked = await daemon.cli("check-config")
    assert checked.status == 1
    problems = json.loads((await daemon.cli("check-config", "--json")).stdout)["problems"]
    for name in ("FilterFile", "NETRCPath", "Index.MySQL.Protocol"):
        assert name in checked.stderr
        assert any(name in problem for problem in problems)
    started = await daemon.cli("serve")
    assert started.status == 1
    for name in ("FilterFile", "NETRCPath", "Index.MySQL.Protocol"):
        assert name in started.stdout + started.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"ATHENS_SINGLE_FLIGHT_TYPE": "redis", "ATHENS_REDIS_ENDPOINT": "user:HUSH@h:1"}, "Redis.Endpoint"),
        ({"ATHENS_SINGLE_FLIGHT_TYPE": "redis", "ATHENS_REDIS_ENDPOINT": "redis:/:HUSH@h"}, "Redis.Endpoint"),
        ({"ATHENS_SINGLE_FLIGHT_TYPE": "redis", "ATHENS_REDIS_ENDPOINT": "redis://:HUSH@h/abc"}, "Redis.Endpoint"),
        (
            {"ATHENS_SINGLE_FLIGHT_TYPE": "redis-sentinel", "ATHENS_REDIS_SENTINEL_ENDPOINTS": "u:HUSH@h:1"},
            "RedisSentinel.Endpoints",
        ),
        ({"ATHENS_SINGLE_FLIGHT_TYPE": "etcd", "ATHENS_ETCD_ENDPOINTS": "http:/u:HUSH@h"}, "Etcd.Endpoints"),
        ({"ATHENS_INDEX_TYPE": "mysql", "ATHENS_INDEX_MYSQL_PROTOCOL": "udp"}, "Index.MySQL.Protocol"),
        ({"ATHENS_INDEX_TYPE": "mysql", "ATHENS_INDEX_MYSQL_PARAMS": "tls:/none"}, "Index.MySQL.Params tls"),
        ({"ATHENS_INDEX_TYPE": "mysql", "ATHENS_INDEX_MYSQL_PARAMS": "charset:x"}, "Index.MySQL.Params charset"),
        ({"ATHENS_INDEX_TYPE": "mysql", "ATHENS_INDEX_MYSQL_PARAMS": "timeout:x"}, "Index.MySQL.Params timeout"),
        ({"ATHENS_INDEX_TYPE": "postgres", "ATHENS_INDEX_POSTGRES_PARAMS": "sslmode:x"}, "Params sslmode"),
        (
            {"ATHENS_INDEX_TYPE": "postgres", "ATHENS_INDEX_POSTGRES_PARAMS": "connect_timeout:abc"},
            "Params connect_timeout",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest_twisted.ensureDeferred
async def test_settings_that_serve_refuses_are_refused(make_daemon: MakeDaemon, env: dict[str, str], said: str) -> None:
    daemon = make_daemon(env=env)
    for done in (await daemon.cli("check-config"), await daemon.cli("serve")):
        printed = done.stdout + done.stderr
        assert done.status == 1
        assert said in printed
        assert "HUSH" not in printed
        assert "Traceback" not in printed


@pytest_twisted.ensureDeferred
async def test_what_this_version_can_not_do_is_a_warning_unless_strict(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(env={"ATHENS_ENABLE_PPROF": "true"})
    checked = await daemon.cli("check-config")
    assert (checked.status, "EnablePprof: this version" in checked.stderr) == (0, True)
    strict = await daemon.cli("check-config", "--strict")
    assert (strict.status, strict.stdout, "EnablePprof: this version" in strict.stderr) == (1, "", True)
