"""The three kinds of Redis, for the contract of locks."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.support import servers
from tests.support.servers_process import HOST
from tests.support.servers_redis import PASSWORD, SENTINEL_PASSWORD

# What Athens' library sends.
_OBTAIN = """
if redis.call("set", KEYS[1], ARGV[1], "NX", "PX", ARGV[3]) then return redis.status_reply("OK") end
local offset = tonumber(ARGV[2])
if redis.call("getrange", KEYS[1], 0, offset - 1) == string.sub(ARGV[1], 1, offset) then
  return redis.call("set", KEYS[1], ARGV[1], "PX", ARGV[3])
end
"""
_RELEASE = """if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end"""
#: Athens' own TTL, in milliseconds.
_TTL = 900_000


class _Redis:
    """What all of them have in common."""

    server_name: ClassVar[str]
    kind: ClassVar[str] = "redis"
    tells: ClassVar[bool] = True
    forgets: ClassVar[bool] = True

    def __init__(self, lease: int, own: Path | None = None) -> None:
        self._own = own is not None
        self.server: Any = (
            servers.session.server(self.server_name) if own is None else servers.own(self.server_name, own)
        )
        self._killed: Any = None
        self.environ: Mapping[str, str] = {
            "ATHENS_SINGLE_FLIGHT_TYPE": self.kind,
            "ATHENS_REDIS_LOCK_TTL": str(lease),
            "ATHENS_STASH_TIMEOUT": "1",
            **self.settings(),
        }

    def settings(self) -> Mapping[str, str]:
        return {"ATHENS_REDIS_ENDPOINT": f"{HOST}:{self.server.port}", "ATHENS_REDIS_PASSWORD": PASSWORD}

    def take(self, name: str) -> Any:
        token = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=")
        assert len(token) == 22
        return token if self.server.ask("EVAL", _OBTAIN, 1, name, token, 22, _TTL) == b"OK" else None

    def release(self, name: str, token: Any) -> bool:
        return bool(self.server.ask("EVAL", _RELEASE, 1, name, token))

    def lose(self, name: str) -> None:
        assert self.server.ask("DEL", name) == 1

    def value(self, name: str) -> tuple[bytes | None, int]:
        """@return: the key's value, and its life in milliseconds."""
        return self.server.ask("GET", name), self.server.ask("PTTL", name)

    def owner(self, name: str) -> Any:
        """@return: the server that has the key."""
        return self.server

    def away(self, name: str) -> None:
        self._killed = self.owner(name)
        self._killed.kill()

    def back(self) -> None:
        self._killed.start()

    def close(self) -> None:
        if self._own:
            self.server.stop()


class RedisOne(_Redis):
    """One server."""

    server_name = "redis"


class RedisCluster(_Redis):
    """Three that share the keys."""

    server_name = "redis-cluster"

    def settings(self) -> Mapping[str, str]:
        seeds = ",".join(f"{HOST}:{member.port}" for member in self.server.members[1:])
        return {"ATHENS_REDIS_ENDPOINT": seeds, "ATHENS_REDIS_PASSWORD": PASSWORD, "ATHENS_REDIS_CLUSTER": "true"}

    def owner(self, name: str) -> Any:
        slot = self.server.members[0].ask("CLUSTER", "KEYSLOT", name)
        for first, last, (_, port, *_), *_ in self.server.members[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(member for member in self.server.members if member.port == port)
        raise AssertionError("nobody has it")

    def back(self) -> None:
        self._killed.start()
        self.server.wait("no cluster", self.server.well)


class RedisSentinels(_Redis):
    """A master and a replica behind a sentinel."""

    server_name = "redis-sentinel"
    kind = "redis-sentinel"

    def settings(self) -> Mapping[str, str]:
        return {
            "ATHENS_REDIS_SENTINEL_ENDPOINTS": f"{HOST}:1,{HOST}:{self.server.port}",
            "ATHENS_REDIS_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
            "ATHENS_REDIS_PASSWORD": PASSWORD,
        }

    def owner(self, name: str) -> Any:
        return self.server.master

    def back(self) -> None:
        """The replica takes over by itself."""
