"""Locks in a Redis Cluster: where keys are, and that they move."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from txredisapi import ResponseError

from athens_tx.client_tls import ClientTls
from athens_tx.errors import ConfigError, LockUnavailable
from athens_tx.http_endpoints import Trust
from athens_tx.singleflight.redis import RENEW, TAKE, RedisLocks, redis_locks
from athens_tx.singleflight.redis_cluster import Cluster as RedisCluster
from athens_tx.singleflight.redis_cluster import _elsewhere, slot
from athens_tx.singleflight.redis_link import Dialer
from athens_tx.singleflight.redis_node import GRACE, Node
from athens_tx.singleflight.redis_trouble import Unusable
from athens_tx.singleflight.redis_url import RedisServer
from tests.singleflight.redises import address, connected, reactor, table
from tests.support import servers
from tests.support.servers_redis import PASSWORD, Cluster, Redis, name


def settings(cluster: Cluster) -> Any:
    return table(address(cluster.members[0].port), PASSWORD, cluster=True)


def ids(cluster: Cluster) -> dict[int, str]:
    """@return: the names of the servers, by their ports."""
    return {member.port: member.ask("CLUSTER", "MYID").decode() for member in cluster.members}


def owner(cluster: Cluster, key: str) -> Redis:
    for member in cluster.members:
        for first, last, (_, port, *_), *_ in member.ask("CLUSTER", "SLOTS"):
            if first <= slot(key.encode()) <= last:
                return next(other for other in cluster.members if other.port == port)
    raise AssertionError


def test_slots_are_those_of_the_server() -> None:
    member = servers.redis_cluster().members[0]
    for key in ("123456789", "github.com/lib/pq@v1.12.3", "example.com/\N{SNOWMAN}@v1.0.0", ""):
        assert slot(key.encode()) == member.ask("CLUSTER", "KEYSLOT", key)


def test_where_a_server_sends_us() -> None:
    assert _elsewhere("15495 127.0.0.1:7002", ("a", 1)) == ("127.0.0.1", 7002)
    assert _elsewhere("1 :7002", ("a", 1)) == ("a", 7002)
    assert _elsewhere("1 ::1:7002", ("a", 1)) == ("::1", 7002)


@pytest_twisted.ensureDeferred
async def test_keys_of_all_servers_and_one_seed() -> None:
    cluster = servers.redis_cluster()
    async with connected(settings(cluster)) as locks:
        keys = [name() for _ in range(60)]
        assert {owner(cluster, key).port for key in keys} == {member.port for member in cluster.members}
        wanted = [locks.lock(key) for key in keys]
        assert await gatherResults([Deferred.fromCoroutine(lock.take()) for lock in wanted]) == [True] * 60
        assert all(len(cluster.ask("GET", key)) == 22 for key in keys)
        for lock in wanted:
            await lock.release()
        await locks.check()


@pytest_twisted.ensureDeferred
async def test_a_seed_that_is_down_is_passed_over_and_all_of_them_are_an_error() -> None:
    cluster = servers.redis_cluster()
    endpoint = f"127.0.0.1:1,redis://127.0.0.1:{cluster.members[1].port}"
    async with connected(table(endpoint, PASSWORD, cluster=True)) as locks:
        await locks.check()
    locks = redis_locks(reactor, table("127.0.0.1:1,127.0.0.1:2", PASSWORD, cluster=True), {})
    with pytest.raises(ConfigError, match=r"SingleFlight.Redis.Endpoint: 127.0.0.1:1, 127.0.0.1:2: can't connect"):
        await locks.connect()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_a_key_that_moves_is_followed(tmp_path: Path) -> None:
    cluster = servers.own("redis-cluster", tmp_path / "cluster")
    try:
        async with connected(settings(cluster)) as locks, connected(settings(cluster)) as others:
            key = name()
            lock, other = locks.lock(key), others.lock(key)
            assert await lock.take()
            number, names = slot(key.encode()), ids(cluster)
            source = owner(cluster, key)
            target = next(member for member in cluster.members if member is not source)
            # half way: what is not at the source any more is asked of the target
            target.ask("CLUSTER", "SETSLOT", number, "IMPORTING", names[source.port])
            source.ask("CLUSTER", "SETSLOT", number, "MIGRATING", names[target.port])
            assert await lock.renew()
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000, "AUTH", PASSWORD)
            assert not await other.take()
            assert await lock.renew()
            # there
            for member in cluster.members:
                member.ask("CLUSTER", "SETSLOT", number, "NODE", names[target.port])
            assert not await other.take()
            assert await lock.renew()
            assert len(target.ask("GET", key)) == 22
            await lock.release()
            assert await other.take()
            await other.release()
            assert target.ask("GET", key) is None
            assert await again_settled(locks)
    finally:
        cluster.stop()


async def again_settled(locks: Any) -> bool:
    """@return: whether the table of slots is asked for no more."""
    while locks._servers._looking is not None:
        await deferLater(reactor, 0.01)
    return not locks._servers._moved


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_down_is_no_reason_to_do_without_the_others(tmp_path: Path) -> None:
    cluster = servers.own("redis-cluster", tmp_path / "cluster")
    try:
        for member in cluster.members:
            member.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with connected(settings(cluster)) as locks:
            lost = cluster.members[2]
            keys = [name() for _ in range(40)]
            there = next(key for key in keys if owner(cluster, key) is not lost)
            gone = next(key for key in keys if owner(cluster, key) is lost)
            held = locks.lock(gone)
            assert await held.take()
            lost.kill()
            with pytest.raises(LockUnavailable):
                await held.renew()
            lock = locks.lock(there)
            assert await lock.take()
            await lock.release()
            with pytest.raises(LockUnavailable):
                await locks.check()
            lost.start()
            cluster.wait("no cluster", cluster.well)
            end = reactor.seconds() + 10
            while True:
                try:
                    assert await held.renew()
                    break
                except LockUnavailable:
                    assert reactor.seconds() < end
                    await deferLater(reactor, 0.05)
            await held.release()
            await locks.check()
    finally:
        cluster.stop()


@pytest_twisted.ensureDeferred
async def test_a_replica_that_took_over_is_found(tmp_path: Path) -> None:
    cluster = servers.own("redis-cluster", tmp_path / "cluster")
    try:
        master = cluster.members[2]
        replica = cluster.add_replica(master)
        async with connected(settings(cluster)) as locks, connected(settings(cluster)) as others:
            key = next(key for key in (name() for _ in range(60)) if owner(cluster, key) is master)
            lock, other = locks.lock(key), others.lock(key)
            assert await lock.take()
            master.kill()
            taken, end = None, reactor.seconds() + 25
            while taken is None:
                assert reactor.seconds() < end
                await deferLater(reactor, 0.1)
                with suppress(LockUnavailable):
                    taken = await other.take() or (False if replica.ask("GET", key) else None)
            assert replica.ask("ROLE")[0] == b"master"
            assert not taken
            assert await lock.renew()
            assert len(replica.ask("GET", key)) == 22
            await lock.release()
            await other.release()
    finally:
        cluster.stop()


class Script:
    """A server that answers as it is told to: what is an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[bool] = []

    async def run(self, script: Any, key: bytes, *rest: Any, asking: bool = False, taking: bool = False) -> Any:
        self.asked.append(asking)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def scripted(**nodes: Script) -> RedisCluster:
    """@return: a cluster of these servers, C{one} of which has all slots; it is not looked for changes."""
    cluster = RedisCluster(reactor, Dialer(reactor, ClientTls(Trust(""))), [], "SingleFlight.Redis.Endpoint")
    cluster._nodes = {(host, 1): node for host, node in nodes.items()}  # type: ignore[misc]
    cluster._owners = [(0, 16383, ("one", 1))]

    async def look() -> None:
        """Nothing has changed."""

    cluster._look = look  # type: ignore[method-assign]
    return cluster


@pytest_twisted.ensureDeferred
async def test_a_cluster_that_is_being_changed_is_asked_again() -> None:
    one = Script(ResponseError("TRYAGAIN Multiple keys"), ResponseError("CLUSTERDOWN The cluster is down"), 1)
    assert await scripted(one=one).run(TAKE, b"a@b") == 1
    assert one.asked == [False] * 3
    with pytest.raises(ResponseError, match="CLUSTERDOWN"):
        await scripted(one=Script(ResponseError("CLUSTERDOWN Hash slot not served"))).run(TAKE, b"a@b")


@pytest_twisted.ensureDeferred
async def test_where_the_servers_send_us() -> None:
    one, two = Script(ResponseError("ASK 1 two:1")), Script(1)
    cluster = scripted(one=one, two=two)
    assert [await cluster.run(TAKE, b"a@b") for _ in range(2)] == [1, 1]
    assert (len(one.asked), two.asked) == (2, [True, True]), "it is not there yet"
    one, two = Script(ResponseError("MOVED 1 two:1")), Script(1)
    cluster = scripted(one=one, two=two)
    assert [await cluster.run(TAKE, b"a@b") for _ in range(2)] == [1, 1]
    assert (len(one.asked), two.asked) == (1, [False, False]), "it is known after that"
    circle = scripted(one=Script(ResponseError("MOVED 1 two:1")), two=Script(ResponseError("MOVED 1 one:1")))
    with pytest.raises(Unusable, match="in circles"):
        await circle.run(TAKE, b"a@b")


@pytest_twisted.ensureDeferred
async def test_what_the_servers_say_besides_is_passed_on() -> None:
    with pytest.raises(ResponseError, match="OOM"):
        await scripted(one=Script(ResponseError("OOM command not allowed"))).run(TAKE, b"a@b")
    cluster = scripted()
    cluster._owners = []
    with pytest.raises(Unusable, match="no server has the slot"):
        await cluster.run(TAKE, b"a@b")


@pytest_twisted.ensureDeferred
async def test_a_server_that_breaks_off_is_asked_again_if_it_has_a_successor() -> None:
    one, two = Script(TimeoutError("no answer")), Script(1)
    cluster = scripted(one=one, two=two)
    looks = []

    async def look() -> None:
        looks.append(1)
        cluster._owners = [(0, 16383, ("two", 1))]

    cluster._look = look  # type: ignore[method-assign]
    assert await cluster.run(TAKE, b"a@b") == 1
    assert looks == [1]
    two.answers = [TimeoutError("no answer")]
    with pytest.raises(TimeoutError):
        await cluster.run(TAKE, b"a@b")


@pytest_twisted.ensureDeferred
async def test_all_whose_server_breaks_off_share_one_look_at_the_others() -> None:
    one, two = Script(TimeoutError("no answer")), Script(1)
    cluster = scripted(one=one, two=two)
    looks, seen = [], Deferred[None]()

    async def look() -> None:
        looks.append(1)
        await seen
        cluster._owners = [(0, 16383, ("two", 1))]

    cluster._look = look  # type: ignore[method-assign]
    running = [Deferred.fromCoroutine(cluster.run(TAKE, b"a@b")) for _ in range(20)]
    assert len(looks) == 1
    seen.callback(None)
    assert await gatherResults(running) == [1] * 20


@pytest_twisted.ensureDeferred
async def test_who_did_not_answer_is_asked_last_who_has_which_slots() -> None:
    cluster = scripted(one=Script(TimeoutError("no answer")), two=Script(1), three=Script(1))
    del cluster._look
    cluster._seeds = [RedisServer("one", 1)]
    asked = []

    async def ask(server: RedisServer) -> Any:
        asked.append(server.host)
        if server.host != "three":
            raise TimeoutError("no answer")
        return [(0, 16383, ("three", 1))]

    async def learn(table: Any) -> None:
        cluster._owners = table

    cluster._asked = ask  # type: ignore[method-assign]
    cluster._learn = learn  # type: ignore[method-assign]
    assert await cluster.run(TAKE, b"a@b") == 1
    assert asked == ["two", "three"]
    asked.clear()
    await cluster._look()
    assert asked == ["three"], "those who did not answer are known"


class FakeLink:
    """A connection to a server that says yes to everything."""

    alive = True

    def __init__(self) -> None:
        self.scripts: list[Any] = []
        self.heard: Any = None

    async def ask(self, *command: Any) -> None:
        """Done."""

    async def run(self, script: Any, key: bytes, *arguments: Any, asking: bool = False) -> int:
        self.scripts.append(script)
        return 1

    def ended(self) -> Deferred[None]:
        return Deferred()

    def abort(self) -> None:
        self.alive = False


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("known", [True, False])
async def test_a_server_that_took_over_gives_no_new_locks_at_once(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, links = Clock(), []

    async def connect(server: Any) -> FakeLink:
        links.append(FakeLink())
        return links[-1]

    dialer = Dialer(reactor, ClientTls(Trust("")))
    monkeypatch.setattr(Dialer, "connect", lambda self, server: connect(server))
    cluster = RedisCluster(clock, dialer, [RedisServer()], "SingleFlight.Redis.Endpoint")
    locks: Any = RedisLocks(dialer, cluster, 30)
    cluster._locks, cluster._began = locks, True
    cluster._owners = [(0, 16383, ("one", 1) if known else ("two", 1))]

    async def look() -> None:
        cluster._owners = [(0, 16383, ("two", 1))]

    if known:  # it breaks off, and the other one is found out by that
        cluster._nodes = {("one", 1): Script(TimeoutError("no answer"))}  # type: ignore[dict-item]
        cluster._look = look  # type: ignore[method-assign]
    assert await cluster.run(TAKE, b"a@b", taking=True) == 0
    assert not any(link.scripts for link in links)
    assert await cluster.run(RENEW, b"a@b") == 1, "who has one is not kept waiting"
    clock.advance(GRACE)
    assert await cluster.run(TAKE, b"a@b", taking=True) == 1
    cluster._nodes.pop(("one", 1), None)
    await cluster.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_connected_anew_gives_no_new_locks_at_once() -> None:
    clock, links = Clock(), []

    async def dial() -> Any:
        links.append(FakeLink())
        return links[-1]

    async def back() -> None:
        """Nothing is held."""

    node = Node(clock, dial, lambda name: None, back)
    await node.connect()
    assert await node.run(TAKE, b"a@b", taking=True) == 1
    links[0].alive = False  # and the other connection has not noticed
    assert await node.run(TAKE, b"a@b", taking=True) == 0
    assert await node.run(RENEW, b"a@b") == 1
    clock.advance(GRACE)
    assert await node.run(TAKE, b"a@b", taking=True) == 1
    assert len(links) == 3
    await node.close()
