"""Where a Redis server is, from what the settings say."""

from __future__ import annotations

import pytest

from athens_tx.errors import ConfigError
from athens_tx.singleflight.redis_url import RedisServer, parse, seeds

SETTING = "SingleFlight.Redis.Endpoint"


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1:6379", RedisServer("127.0.0.1", 6379)),
        ("redis.example.com:7000", RedisServer("redis.example.com", 7000)),
        ("redis.example.com", RedisServer("redis.example.com", 6379)),
        (":7000", RedisServer("localhost", 7000)),
        ("[::1]:7000", RedisServer("::1", 7000)),
        ("[::1]", RedisServer("::1", 6379)),
        ("redis://", RedisServer()),
        ("redis://host", RedisServer("host")),
        ("redis://:pw@host:7000/3", RedisServer("host", 7000, password="pw", database=3)),
        ("rediss://ada:p%40w%2F@host", RedisServer("host", user="ada", password="p@w/", tls=True)),
        ("redis://[::1]:7000?db=4", RedisServer("::1", 7000, database=4)),
        ("redis://host/2?db=4", RedisServer("host", database=2)),
        ("rediss://host?skip_verify=true&pool_size=3", RedisServer("host", tls=True, verify=False)),
        ("rediss://host?skip_verify=0", RedisServer("host", tls=True)),
        ("unix:///run/redis.sock", RedisServer(path="/run/redis.sock")),
        ("unix://ada:pw@/run/r.sock?db=5", RedisServer(path="/run/r.sock", user="ada", password="pw", database=5)),
    ],
)
def test_an_endpoint_is_read(text: str, server: RedisServer) -> None:
    assert parse(text, SETTING) == server


@pytest.mark.parametrize(
    "text",
    [
        "host:port",
        "host:70000",
        "redis://:secret@host:x",
        "http://:secret@host",
        "redis://:secret@host/one",
        "redis://:secret@host/1/2",
        "redis://:secret@host?colour=red",
        "redis://:secret@[::1",
    ],
)
def test_what_can_not_be_read_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, SETTING)
    assert SETTING in str(caught.value)
    assert "secret" not in str(caught.value)


def test_people_see_no_secrets() -> None:
    server = parse("rediss://ada:secret@host:7000/1", SETTING)
    assert server.address == "host:7000"
    assert "secret" not in repr(server)
    assert "ada" not in repr(server)
    assert parse("[::1]:1", SETTING).address == "[::1]:1"
    assert parse("unix:///run/redis.sock", SETTING).address == "/run/redis.sock"


def test_the_servers_of_a_cluster_let_us_in_by_what_the_first_says_that_says_something() -> None:
    found = seeds("one:1, rediss://two:2?skip_verify=1 ,redis://ada:pw@three:3,redis://bob:no@four", SETTING)
    assert [server.address for server in found] == ["one:1", "two:2", "three:3", "four:6379"]
    assert {(server.user, server.password, server.tls, server.verify) for server in found} == {
        ("ada", "pw", True, False)
    }


@pytest.mark.parametrize("text", ["", " , ", "one:1,redis://two/3", "unix:///run/redis.sock"])
def test_a_cluster_has_servers_and_no_databases(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SingleFlight\.Redis\.Endpoint"):
        seeds(text, SETTING)
