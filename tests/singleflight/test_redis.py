"""Locks in one Redis server: the ways in, what is wrong with them, and trouble on the line."""

from __future__ import annotations

import gc
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from athens_tx import starting
from athens_tx.errors import ConfigError, LockUnavailable
from athens_tx.singleflight import redis_link, redis_node
from athens_tx.singleflight.redis import redis_locks
from tests.singleflight.redises import address, connected, reactor, table, url
from tests.support import servers
from tests.support.faults import FaultProxy
from tests.support.servers_redis import MUTE, MUTE_PASSWORD, PASSWORD, USER, USER_PASSWORD, name


@pytest_twisted.async_yield_fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of the session's server."""
    made = FaultProxy(reactor, servers.redis().port, http=False)
    yield made
    await made.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("CONNECT_LIMIT", "COMMAND_LIMIT"):
        monkeypatch.setattr(redis_link, limit, 0.3)


async def works(locks: Any) -> bytes:
    """@return: the value of a lock that was taken and released."""
    key = name()
    lock = locks.lock(key)
    assert await lock.take()
    value: bytes = servers.redis().ask("GET", key)
    await lock.release()
    assert servers.redis().ask("GET", key) is None
    return value


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until something becomes true."""
    end = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < end
        await deferLater(reactor, 0.01)


@pytest_twisted.ensureDeferred
async def test_the_key_is_that_of_athens() -> None:
    key = name()
    async with connected(table(address(servers.redis().port), PASSWORD, ttl=900)) as locks:
        lock = locks.lock(key)
        assert await lock.take()
        value, life = servers.redis().ask("GET", key), servers.redis().ask("PTTL", key)
        assert len(value) == 22
        assert 29_000 < life <= 30_000, "not the fifteen minutes of the setting"
        servers.redis().ask("PEXPIRE", key, 100)
        assert await lock.renew()
        assert 29_000 < servers.redis().ask("PTTL", key) <= 30_000
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_the_ways_in() -> None:
    server = servers.redis()
    trusted = {"SSL_CERT_FILE": str(server.authority_file)}
    for endpoint, password, environ in (
        (address(server.port), PASSWORD, {}),
        (url(server.port), "", {}),
        (url(server.port), PASSWORD, {}),
        (url(server.port, USER, USER_PASSWORD), "", {}),
        (f"unix://:{'s%40cret:of redis'}@{server.socket}", "", {}),
        (url(server.tls_port, USER, USER_PASSWORD, scheme="rediss"), "", trusted),
        (url(server.tls_port, scheme="rediss", rest="?skip_verify=true"), "", {}),
    ):
        async with connected(table(endpoint, password), **environ) as locks:
            assert len(await works(locks)) == 22


@pytest_twisted.ensureDeferred
async def test_the_database_of_the_url() -> None:
    key = name()
    async with connected(table(url(servers.redis().port, rest="/3"))) as locks:
        lock = locks.lock(key)
        assert await lock.take()
        assert servers.redis().ask("GET", key) is None
        with servers.redis().raw() as raw:
            raw("SELECT", 3)
            assert len(raw("GET", key)) == 22
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_at_the_start_names_the_setting_and_no_secret(impatient: None) -> None:
    server = servers.redis()
    secret = "hidden-away"
    for endpoint, said in (
        (url(server.port, password=secret), "the login was refused"),
        (url(server.port, "nobody", secret), "the login was refused"),
        (address(server.port), "the login was refused"),
        (url(server.port, rest="/99"), "no such database"),
        (address(1), "can't connect"),
        ("nowhere.invalid:6379", "its name is not known"),
        (url(server.tls_port, scheme="rediss"), "no trusted TLS connection"),
        (url(server.tls_port), "the connection broke"),
        (url(server.port, scheme="rediss"), "."),
        (f"unix://{server.socket}.not", "can't connect"),
    ):
        locks = redis_locks(reactor, table(endpoint), {})
        began = reactor.seconds()
        with pytest.raises(ConfigError) as caught:
            await locks.connect()
        await locks.close()
        (problem,) = caught.value.problems
        assert problem.startswith("SingleFlight.Redis.Endpoint: "), problem
        assert said in problem, problem
        assert secret not in problem
        assert PASSWORD not in problem
        assert reactor.seconds() - began < 5


@pytest_twisted.ensureDeferred
async def test_a_server_that_repeats_the_password_is_not_quoted() -> None:
    class NoLogins(Protocol):
        def dataReceived(self, data: bytes) -> None:
            said = b"-ERR unknown command 'AUTH', with args beginning with: '%b'\r\n" % data.split(b"\r\n")[-2]
            self.transport.write(said)

    factory = Factory.forProtocol(NoLogins)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    locks = redis_locks(reactor, table(address(port.getHost().port), "hidden-away"), {})
    with pytest.raises(ConfigError, match="ERR is its answer to a login") as caught:
        await locks.connect()
    assert "hidden-away" not in "".join(traceback.format_exception(caught.value))
    await locks.close()
    await port.stopListening()


def test_two_passwords_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="the two passwords differ"):
        redis_locks(reactor, table("redis://:one@host", "two"), {})


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_no_cluster_and_one_that_is() -> None:
    locks = redis_locks(reactor, table(address(servers.redis().port), PASSWORD, cluster=True), {})
    with pytest.raises(ConfigError, match=r"this is no cluster \(unset SingleFlight.Redis.Cluster\)"):
        await locks.connect()
    await locks.close()
    locks = redis_locks(reactor, table(address(servers.redis_cluster().port), PASSWORD), {})
    with pytest.raises(ConfigError, match=r"this is a cluster \(set SingleFlight.Redis.Cluster\)"):  # noqa: PT012  some keys are its own
        for _ in range(50):
            await locks.connect()
            await locks.close()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_something_that_is_no_redis(impatient: None) -> None:
    class Babbler(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"\xff\xfe$x\r\n*y\r\n:z\r\n")

    factory = Factory.forProtocol(Babbler)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    locks = redis_locks(reactor, table(address(port.getHost().port)), {})
    with pytest.raises(ConfigError, match=r"SingleFlight\.Redis\.Endpoint"):
        await locks.connect()
    await locks.close()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_who_may_not_publish_looks_again_once_a_second(logged: list[dict[str, Any]]) -> None:
    settings = table(url(servers.redis().port, MUTE, MUTE_PASSWORD))
    async with connected(settings) as locks:
        assert len(await works(locks)) == 22
        lock = locks.lock(name())
        began = reactor.seconds()
        await lock.changed(0.2)
        assert reactor.seconds() - began > 0.15
        await lock.release()
    assert [event for event in logged if "no word of released locks" in event["log_format"]]


@pytest_twisted.ensureDeferred
async def test_a_value_of_another_kind_is_somebody_elses() -> None:
    key = name()
    servers.redis().ask("RPUSH", key, "x")
    async with connected(table(address(servers.redis().port), PASSWORD)) as locks:
        lock = locks.lock(key)
        assert not await lock.take()
        assert not await lock.renew()
        await lock.release()
    assert servers.redis().ask("DEL", key) == 1


@pytest_twisted.ensureDeferred
async def test_a_release_between_the_look_and_the_wait_is_not_missed() -> None:
    settings = table(address(servers.redis().port), PASSWORD)
    async with connected(settings) as one, connected(settings) as other:
        key = name()
        mine, yours = one.lock(key), other.lock(key)
        assert await mine.take()
        assert not await yours.take()
        heard: Deferred[None] = Deferred()
        before = yours.news
        yours.news = lambda: (before(), heard.callback(None))  # type: ignore[method-assign,func-returns-value]
        await mine.release()
        await heard
        began = reactor.seconds()
        await yours.changed(5.0)
        assert reactor.seconds() - began < 1
        assert await yours.take()
        await yours.release()
        assert not one._wanted, "forgotten"
        assert not one._held


@pytest_twisted.ensureDeferred
async def test_a_look_whether_it_works_writes_nothing() -> None:
    def changes() -> bytes:
        lines = servers.redis().ask("INFO", "persistence").splitlines()
        return next(line for line in lines if line.startswith(b"rdb_changes_since_last_save"))

    async with connected(table(address(servers.redis().port), PASSWORD)) as locks:
        before = changes()
        for _ in range(3):
            await locks.check()
        assert changes() == before
        await works(locks)
        assert changes() != before


@pytest_twisted.ensureDeferred
async def test_a_black_hole_is_left_in_time(proxy: FaultProxy, impatient: None) -> None:
    async with connected(table(address(proxy.port), PASSWORD)) as locks:
        lock = locks.lock(name())
        assert await lock.take()
        proxy.frozen = True
        for call in (lock.renew, locks.check, lock.take):
            began = reactor.seconds()
            with pytest.raises(LockUnavailable) as caught:
                await call()
            assert reactor.seconds() - began < 1.3
            assert str(proxy.port) not in str(caught.value)
        proxy.heal()
        node: Any = locks._servers._node  # type: ignore[attr-defined]
        await until(lambda: node._ear.alive)
        assert await lock.renew()
        await lock.release()


@pytest_twisted.ensureDeferred
async def test_a_silent_connection_that_died_is_found_out(
    proxy: FaultProxy, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_node, "PING_EVERY", 0.1)
    async with connected(table(address(proxy.port), PASSWORD)) as locks:
        node: Any = locks._servers._node  # type: ignore[attr-defined]
        await deferLater(reactor, 0.35)
        ear = node._ear
        assert ear.alive
        proxy.frozen = True
        await until(lambda: not ear.alive)
        with pytest.raises(LockUnavailable, match="the server is away"):
            await locks.lock(name()).take()
        proxy.heal()
        await until(lambda: node._ear.alive)


@pytest_twisted.ensureDeferred
async def test_a_server_that_was_away_is_told_of_what_is_held_before_others_take_it(tmp_path: Path) -> None:
    server = servers.own("redis", tmp_path / "redis")
    settings = table(address(server.port), PASSWORD)
    try:
        async with connected(settings) as one, connected(settings) as other:
            key = name()
            mine, yours = one.lock(key), other.lock(key)
            assert await mine.take()
            server.kill()
            server.start()
            assert server.ask("GET", key) is None
            outcomes = []
            while len(outcomes) < 20 or outcomes[-1] is not False:
                try:
                    outcomes.append(await yours.take())
                except LockUnavailable:
                    outcomes.append(None)
                await deferLater(reactor, 0.1)
            assert True not in outcomes
            assert len(server.ask("GET", key)) == 22
            assert await mine.renew()
            await mine.release()
            assert await yours.take()
            await yours.release()
    finally:
        server.stop()


@pytest_twisted.ensureDeferred
async def test_a_lock_that_is_released_while_a_server_is_told_of_all_is_not_made_again() -> None:
    async with connected(table(address(servers.redis().port), PASSWORD)) as locks:
        first, second = locks.lock(name()), locks.lock(name())
        assert await first.take()
        assert await second.take()
        locks._held = [first, second]  # type: ignore[assignment]  # in this order
        locks.leave = lambda key, lock: None  # type: ignore[method-assign]
        renew, told = first.renew, []
        second.renew = lambda: told.append(2)  # type: ignore[method-assign,assignment,return-value,func-returns-value]

        async def late() -> bool:
            told.append(1)
            await second.release()
            await first.release()  # overtaken by the renewal
            return await renew()

        first.renew = late  # type: ignore[method-assign]
        await locks.hold_on()
        assert told == [1], "what is released by then is not renewed"
        for lock in (first, second):
            assert servers.redis().ask("GET", lock._key) is None


@pytest_twisted.ensureDeferred
async def test_connections_that_break_are_made_anew(proxy: FaultProxy) -> None:
    async with connected(table(address(proxy.port), PASSWORD)) as locks:
        assert proxy.connections == 2
        keys = [name() for _ in range(50)]
        wanted = [locks.lock(key) for key in keys]
        taken = gatherResults([Deferred.fromCoroutine(lock.take()) for lock in wanted])
        assert await taken == [True] * 50
        assert proxy.connections == 2, "one for all commands, one that listens"
        proxy.cut()
        await until(lambda: proxy.connections >= 3)
        renewed = await gatherResults([Deferred.fromCoroutine(lock.renew()) for lock in wanted])
        assert renewed == [True] * 50
        assert proxy.connections == 4
        for lock in wanted:
            await lock.release()


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost_leaves_no_lock_behind(proxy: FaultProxy) -> None:
    key = name()
    async with connected(table(address(proxy.port), PASSWORD)) as locks:
        lock = locks.lock(key)
        proxy.cut_after(down=1)
        with pytest.raises(LockUnavailable):
            await lock.take()
        assert servers.redis().ask("GET", key) is not None
        proxy.heal()
        await lock.release()
        assert servers.redis().ask("GET", key) is None


@pytest_twisted.ensureDeferred
async def test_a_script_that_the_server_forgot_is_sent_again() -> None:
    async with connected(table(address(servers.redis().port), PASSWORD)) as locks:
        await works(locks)
        servers.redis().ask("SCRIPT", "FLUSH")
        await works(locks)


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_when_it_is_closed(proxy: FaultProxy) -> None:
    async with connected(table(address(proxy.port), PASSWORD)):
        pass
    await until(lambda: not proxy.open)
    gc.collect()


@pytest_twisted.ensureDeferred
async def test_a_server_that_starts_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PATIENCE", 10.0)
    server = servers.own("redis", tmp_path / "redis")
    locks = redis_locks(reactor, table(address(server.port), PASSWORD), {})
    try:
        server.kill()
        connecting = Deferred.fromCoroutine(locks.connect())
        await deferLater(reactor, 0.2)
        assert not connecting.called
        server.start()
        await connecting
        await locks.check()
    finally:
        await locks.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_a_server_that_refuses_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PATIENCE", 10.0)
    server = servers.redis()
    for settings in (table(address(server.port), "wrong"), table(url(server.port, rest="/99"))):
        locks = redis_locks(reactor, settings, {})
        began = reactor.seconds()
        with pytest.raises(ConfigError):
            await locks.connect()
        assert reactor.seconds() - began < 0.4
        await locks.close()
