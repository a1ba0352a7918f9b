"""Locks in etcd: the queue that is shared with Athens, the ways in, and trouble on the line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.web.resource import Resource

from athens_tx import starting
from athens_tx.errors import ConfigError, LockLost, LockUnavailable
from athens_tx.singleflight import etcd, etcd_gateway
from athens_tx.singleflight.etcd_servers import EtcdServer, parse
from tests.singleflight.etcds import connected, locks_at, reactor, started
from tests.support import servers
from tests.support.daemon import free_port
from tests.support.faults import FaultProxy
from tests.support.loopback import LoopbackServer
from tests.support.servers_etcd import PASSWORD, USER, Etcd, Peer, coded, name
from tests.support.servers_process import HOST


@pytest.fixture
def server() -> Etcd:
    return servers.etcd()


@pytest_twisted.async_yield_fixture
async def proxy(server: Etcd) -> AsyncIterator[FaultProxy]:
    """In front of the session's server."""
    made = FaultProxy(reactor, server.port)
    yield made
    await made.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    made = servers.own("etcd", tmp_path / "etcd")
    yield made
    made.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_gateway, "ATTEMPT_LIMIT", 0.3)
    monkeypatch.setattr(etcd_gateway, "CALL_LIMIT", 0.6)


def seconds_since(begun: float) -> float:
    return float(reactor.seconds() - begun)


# -- the setting


@pytest.mark.parametrize(
    ("setting", "urls"),
    [
        ("localhost:2379,localhost:22379", ["http://localhost:2379", "http://localhost:22379"]),
        (" a , , b:1 ", ["http://a:2379", "http://b:1"]),
        ("https://a, http://b:1/", ["https://a:2379", "http://b:1"]),
        ("[::1]:7,https://[fe80::2]", ["http://[::1]:7", "https://[fe80::2]:2379"]),
    ],
)
def test_the_servers_of_the_setting(setting: str, urls: list[str]) -> None:
    found = parse(setting)
    assert [server.url for server in found] == urls
    assert {server.user for server in found} == {""}


def test_the_first_login_is_for_all() -> None:
    first, second, third = parse("https://a,https://ada:s%40%2Cx@b,https://eve:y@c")
    assert first == EtcdServer("https://a:2379", "a:2379", "ada", "s@,x")
    assert (second.user, second.password, second.url) == ("ada", "s@,x", "https://b:2379")
    assert (third.user, third.password) == ("eve", "y")
    assert "s@,x" not in repr(first)


@pytest.mark.parametrize(
    "setting",
    ["", " , ", "ftp://a", "http://", "a:x", "http://a/path", "http://a?q=hush", "hush:hush@a:1", "a b:1", "[::1"],
)
def test_a_setting_that_can_not_be_read(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"^SingleFlight\.Etcd\.Endpoints: ") as caught:
        parse(setting)
    assert "hush" not in str(caught.value)


# -- the queue


@pytest_twisted.ensureDeferred
async def test_the_key_is_that_of_athens(server: Etcd) -> None:
    lock_name = name()
    async with connected(server.port) as locks:
        lock = locks.lock(lock_name)
        assert await lock.take()
        (key,) = server.keys(lock_name)
        lease = server.lease_of(key)
        assert key == f"{lock_name}/{lease:x}"
        assert 28 <= server.life(lease) <= 30
        assert "value" not in server.ask("kv/range", {"key": coded(key)})["kvs"][0]
        await lock.release()
        assert server.keys(lock_name) == []
        assert server.life(lease) == -1, "revoked"


@pytest_twisted.ensureDeferred
async def test_athens_and_we_stand_in_one_queue(server: Etcd) -> None:
    lock_name = name()
    first, last = Peer(server, lock_name), Peer(server, lock_name)
    async with connected(server.port) as locks:
        assert first.enter()
        lock = locks.lock(lock_name)
        assert not await lock.take()
        assert not last.enter()
        ours = server.keys(lock_name)[1]
        assert last.waits_for() == ours
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        assert not waiting.called
        begun = reactor.seconds()
        assert first.leave()
        await waiting
        assert seconds_since(begun) < 0.5
        assert await lock.take()
        assert not last.enter()
        await lock.release()
        assert last.enter()
        assert last.waits_for() is None
        assert last.leave()


@pytest_twisted.ensureDeferred
async def test_the_youngest_before_us_is_watched_and_then_the_one_before_him(server: Etcd) -> None:
    lock_name = name()
    first, second = Peer(server, lock_name), Peer(server, lock_name)
    assert first.enter()
    assert not second.enter()
    async with connected(server.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        begun = reactor.seconds()
        assert second.leave(), "he gave up"
        await waiting
        assert not await lock.take(), "the first is still there"
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        assert first.leave()
        await waiting
        assert seconds_since(begun) < 5
        assert await lock.take()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_wait_ends_in_time_and_its_watch_serves_the_next_one(proxy: FaultProxy, server: Etcd) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(proxy.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        for _ in range(3):
            begun = reactor.seconds()
            await lock.changed(0.1)
            assert 0.09 < seconds_since(begun) < 1
        assert proxy.count("watch") == 1
        assert holder.leave()
        await deferLater(reactor, 0.2)
        begun = reactor.seconds()
        await lock.changed(5.0)
        assert seconds_since(begun) < 1, "what was told meanwhile is not forgotten"
        assert await lock.take()
        await lock.release()
        assert server.keys(lock_name) == []


@pytest_twisted.ensureDeferred
async def test_a_release_before_the_watch_is_not_missed(server: Etcd) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(server.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        assert holder.leave()
        begun = reactor.seconds()
        await lock.changed(5.0)
        assert seconds_since(begun) < 1
        assert await lock.take()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_place_in_the_queue_outlives_its_lease(server: Etcd) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(server.port, lease=2) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        place = server.keys(lock_name)[1]
        for _ in range(10):
            await lock.changed(0.5)
            assert not await lock.take()
        assert server.keys(lock_name) == [holder.key, place]
        assert holder.leave()
        await lock.release()
        assert server.keys(lock_name) == []


@pytest_twisted.ensureDeferred
async def test_who_lost_his_place_stands_in_the_queue_anew(server: Etcd) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(server.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        place = server.keys(lock_name)[1]
        server.ask("lease/revoke", {"ID": str(server.lease_of(place))})
        assert not await lock.take()
        begun = reactor.seconds()
        await lock.changed(5.0)
        assert seconds_since(begun) < 1
        assert not await lock.take()
        (_, again) = server.keys(lock_name)
        assert again != place
        assert holder.leave()
        await lock.changed(5.0)
        assert await lock.take()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_lease_that_ended_is_a_lock_that_is_lost(server: Etcd) -> None:
    lock_name = name()
    async with connected(server.port) as locks:
        lock = locks.lock(lock_name)
        assert await lock.take()
        assert await lock.renew()
        (key,) = server.keys(lock_name)
        server.ask("lease/revoke", {"ID": str(server.lease_of(key))})
        assert not await lock.renew()
        with pytest.raises(LockLost):
            await lock.release()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_lease_that_ended_before_the_place_was_taken(server: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(server.port) as locks:
        lock = locks.lock(name())
        grant = lock._grant

        async def lost(place: Any) -> None:
            await grant(place)
            server.ask("lease/revoke", {"ID": str(place.lease)})

        monkeypatch.setattr(lock, "_grant", lost)
        assert not await lock.take()
        monkeypatch.setattr(lock, "_grant", grant)
        assert await lock.take()
        await lock.release()


# -- the ways in


@pytest_twisted.ensureDeferred
async def test_tls_and_its_trust(server: Etcd) -> None:
    async with connected(server.tls_endpoint, SSL_CERT_FILE=str(server.authority_file)) as locks:
        lock = locks.lock(name())
        assert await lock.take()
        await lock.release()
    locks = locks_at(server.tls_endpoint)
    with pytest.raises(ConfigError, match=r"^SingleFlight\.Etcd\.Endpoints: .* no trusted TLS connection"):
        await locks.connect()
    await locks.close()


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_login_and_its_token(own: Etcd) -> None:
    own.guard()
    user = f"{USER}:{quote(PASSWORD, safe='')}"
    async with connected(f"http://{user}@{HOST}:{own.port}") as locks:
        lock = locks.lock(name())
        assert await lock.take()
        own.kill()
        own.start()
        own.ask("auth/user/changepw", {"name": USER, "password": PASSWORD})  # which ends all tokens
        renewed = await gatherResults([started(lock.renew()) for _ in range(10)])
        assert renewed == [True] * 10
        assert await started(locks.lock(name()).take())
        await lock.release()
    for endpoint in (f"http://{USER}:hush@{HOST}:{own.port}", f"http://{HOST}:{own.port}"):
        locks = locks_at(endpoint)
        with pytest.raises(ConfigError, match=r"^SingleFlight\.Etcd\.Endpoints: the login was refused") as caught:
            await locks.connect()
        assert "hush" not in str(caught.value)
        await locks.close()


@pytest_twisted.ensureDeferred
async def test_a_login_where_none_is_wanted(server: Etcd) -> None:
    locks = locks_at(f"http://ada:hush@{HOST}:{server.port}")
    with pytest.raises(ConfigError, match=r"the server wants no login: .*remove user and password") as caught:
        await locks.connect()
    assert "hush" not in str(caught.value)
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_one_server_that_answers_is_enough(server: Etcd, proxy: FaultProxy, impatient: None) -> None:
    proxy.frozen = True
    async with connected(free_port(), proxy.port, server.port) as locks:
        lock = locks.lock(name())
        begun = reactor.seconds()
        assert await lock.take()
        assert seconds_since(begun) < 0.2, "it stays with the one that answers"
        await lock.release()
    proxy.heal()


@pytest_twisted.ensureDeferred
async def test_another_server_takes_over_at_once(own: Etcd, server: Etcd) -> None:
    async with connected(own.port, server.port) as locks:
        assert await locks.lock(name()).take()
        own.kill()
        begun = reactor.seconds()
        lock = locks.lock(name())
        assert await lock.take()
        assert seconds_since(begun) < 1
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_nobody_answers_at_the_start() -> None:
    locks = locks_at(free_port(), f"http://ada:hush@{HOST}:{free_port()}")
    with pytest.raises(ConfigError) as caught:
        await locks.connect()
    (problem,) = caught.value.problems
    assert problem.startswith("SingleFlight.Etcd.Endpoints: no server answers as it should: ")
    assert problem.count("can't be connected") == 2
    assert "hush" not in problem
    await locks.close()


class Page(Resource):
    """Answers anything with the same."""

    isLeaf = True

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self.status, self.body = status, body

    def render_POST(self, request: Any) -> bytes:
        request.setResponseCode(self.status)
        return self.body


HEADER = {"header": {"revision": "7"}}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "status 200, not the answer of etcd's JSON gateway"),
        (404, b"404 page not found\n", "status 404, not the answer of etcd's JSON gateway"),
        (200, b"[" * 100_000, "not the answer of etcd's JSON gateway"),
        (200, b"{}", "not the answer of etcd"),
        (200, b'{"result": 7}', "no server answers as it should"),
        (503, b'{"error": "etcdserver: no leader", "code": 14}', "status 503 etcdserver: no leader"),
        (403, b'{"error": "x", "message": "permission denied", "code": 7}', "must read and write all keys"),
        (429, b'{"message": "etcdserver: mvcc: database space exceeded", "code": 8}', "look at its quota"),
        (400, b'{"message": "something new", "code": 3}', "the server refuses: something new"),
        (200, b'{"error": {"grpc_code": 14, "message": "stream broke"}}', "stream broke"),
        (200, b"x" * (2 << 20), "no server answers as it should"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_something_that_is_no_good_etcd(status: int, body: bytes, said: str) -> None:
    stub = LoopbackServer(reactor, Page(status, body))
    locks = locks_at(stub.port)
    with pytest.raises(ConfigError, match=r"^SingleFlight\.Etcd\.Endpoints: ") as caught:
        await locks.connect()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    await locks.close()
    await stub.stop()
    await deferLater(reactor, 0)


# -- trouble on the line


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_left_in_time(proxy: FaultProxy, impatient: None) -> None:
    locks = locks_at(proxy.port)
    proxy.frozen = True
    begun = reactor.seconds()
    with pytest.raises(ConfigError, match=r"SingleFlight\.Etcd\.Endpoints: .* no complete answer"):
        await locks.connect()
    assert seconds_since(begun) < 1.6
    proxy.heal()
    await locks.connect()
    lock = locks.lock(name())
    assert await lock.take()
    proxy.frozen = True
    for call in (lock.renew, locks.check, lock.take, locks.lock(name()).take):
        begun = reactor.seconds()
        with pytest.raises(LockUnavailable) as caught:
            await call()
        assert seconds_since(begun) < 1.6
        assert str(proxy.port) not in str(caught.value)
        assert caught.value.retry_after == 10
    begun = reactor.seconds()
    await lock.changed(0.2)
    assert seconds_since(begun) < 1
    proxy.heal()
    assert await lock.renew()
    await lock.release()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_the_start_waits_no_longer_than_its_limit(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "START_LIMIT", 0.3)
    proxy.frozen = True
    locks = locks_at(proxy.port)
    with pytest.raises(ConfigError, match=r"SingleFlight\.Etcd\.Endpoints: no answer within 0\.3 s"):
        await locks.connect()
    await locks.close()


@pytest.mark.parametrize("method", ["grant", "txn", "deleterange", "revoke"])
@pytest_twisted.ensureDeferred
async def test_a_lost_answer_does_no_harm(server: Etcd, proxy: FaultProxy, method: str) -> None:
    lock_name = name()
    async with connected(proxy.port) as locks:
        proxy.lose_answer(match=method)
        lock = locks.lock(lock_name)
        assert await lock.take()
        assert len(server.keys(lock_name)) == 1
        await lock.release()
        assert server.keys(lock_name) == []
        assert proxy.count(method) >= 2


@pytest_twisted.ensureDeferred
async def test_an_answer_that_never_comes_leaves_no_lock_behind(
    server: Etcd, proxy: FaultProxy, impatient: None
) -> None:
    lock_name = name()
    async with connected(proxy.port) as locks:
        proxy.lose_answer(times=2, match="txn")
        lock = locks.lock(lock_name)
        with pytest.raises(LockUnavailable):
            await lock.take()
        assert len(server.keys(lock_name)) == 1, "we do not know"
        begun = reactor.seconds()
        await lock.changed(0.1)
        assert seconds_since(begun) > 0.09, "no hurry where it does not answer"
        proxy.heal()
        await lock.release()
        assert server.keys(lock_name) == []


@pytest_twisted.ensureDeferred
async def test_a_watch_that_is_cut_is_made_anew(server: Etcd, proxy: FaultProxy) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(proxy.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        proxy.cut()
        with pytest.raises(LockUnavailable, match="etcd lock: watch "):
            await waiting
        assert not await lock.take()
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        assert holder.leave()
        await waiting
        assert await lock.take()
        await lock.release()
        assert proxy.count("watch") == 2


@pytest_twisted.ensureDeferred
async def test_a_watch_that_can_not_be_made(server: Etcd, proxy: FaultProxy) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(proxy.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        for status, body in ((503, b""), (400, b'{"code": 3, "message": "no"}')):
            proxy.answer(status, match="watch", body=body)
            with pytest.raises(LockUnavailable):
                await lock.changed(10.0)
        proxy.cut_request(0, match="watch")
        with pytest.raises(LockUnavailable):
            await lock.changed(10.0)
        assert holder.leave()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_watch_that_says_nothing_is_looked_after(
    server: Etcd, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_gateway, "WATCH_LIMIT", 0.2)
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(proxy.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        begun = reactor.seconds()
        await lock.changed(10.0)
        assert seconds_since(begun) < 2
        assert holder.leave()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_who_leaves_takes_his_watch_along(server: Etcd, proxy: FaultProxy) -> None:
    lock_name = name()
    holder = Peer(server, lock_name)
    assert holder.enter()
    async with connected(proxy.port) as locks:
        lock = locks.lock(lock_name)
        assert not await lock.take()
        waiting = started(lock.changed(10.0))
        await deferLater(reactor, 0.2)
        waiting.cancel()
        waiting.addErrback(lambda _: None)
        await lock.release()
        assert server.keys(lock_name) == [holder.key]
        assert proxy.connections == 2, "one watches, one asks"
        begun = reactor.seconds()
        while proxy.open > 1:
            assert seconds_since(begun) < 5, "a connection stays behind"
            await deferLater(reactor, 0.01)
        assert holder.leave()


def news(*lines: Any) -> bool:
    heard = etcd_gateway._Heard()
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    for start in range(0, len(data), 7):
        heard.write(data[start : start + 7])
    return heard.over


def test_the_lines_of_a_watch() -> None:
    created = {"result": {**HEADER, "created": True}}
    put = {"result": {**HEADER, "events": [{"kv": {"key": "YQ=="}}]}}
    delete = {"result": {**HEADER, "events": [{"kv": {}}, {"type": "DELETE", "kv": {}}]}}
    assert not news()
    assert not news(created, b"\n", put)
    assert not news(created, json.dumps(delete).encode()), "not to its end"
    assert news(created, put, delete)
    assert news(created, delete, delete)
    assert news({"result": {**HEADER, "canceled": True, "compact_revision": "3"}})
    assert news({"error": {"message": "gone"}})
    assert news(b"<html>\n")


@pytest_twisted.ensureDeferred
async def test_a_look_whether_it_works_writes_nothing(server: Etcd) -> None:
    async with connected(server.port) as locks:
        before = (await locks.ask("test", "kv/range", {"key": "AA=="})).revision
        for _ in range(3):
            await locks.check()
        assert (await locks.ask("test", "kv/range", {"key": "AA=="})).revision == before


@pytest_twisted.ensureDeferred
async def test_a_server_that_starts_late_is_waited_for(own: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PATIENCE", 10.0)
    locks = locks_at(own.port)
    own.kill()
    connecting = started(locks.connect())
    await deferLater(reactor, 0.2)
    assert not connecting.called
    own.start()
    await connecting
    await locks.close()
