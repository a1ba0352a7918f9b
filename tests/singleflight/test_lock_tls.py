"""TLS to lock services, as the options of their URLs say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from athens_tx import client_tls
from athens_tx.config.backends import RedisSentinel
from athens_tx.errors import ConfigError
from athens_tx.singleflight.etcd_servers import parse as parse_etcd
from athens_tx.singleflight.redis import redis_locks
from athens_tx.singleflight.redis_link import Dialer
from athens_tx.singleflight.redis_sentinel import redis_sentinel_locks
from athens_tx.singleflight.redis_trouble import described
from athens_tx.singleflight.redis_url import RedisServer, parse, seeds, sentinels
from athens_tx.tls_options import TlsOptions
from tests.singleflight import etcds
from tests.singleflight.redises import connected, reactor, table
from tests.support import servers
from tests.support.servers_etcd import Etcd
from tests.support.servers_process import HOST
from tests.support.servers_redis import MASTER, PASSWORD, SENTINEL_PASSWORD, Redis, SecureSentinel, name


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """One that wants to see a certificate."""
    server = servers.own("redis", tmp_path / "redis")
    server.kill()
    server.more.append("tls-auth-clients yes")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """The same."""
    server = servers.own("etcd", tmp_path / "etcd")
    server.kill()
    server.more = {"client-cert-auth": "true", "trusted-ca-file": str(server.authority_file)}
    server.start()
    yield server
    server.stop()


def own_files(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """@return: the files of a certificate, and of its key."""
    made = authority.issue_cert("daemon.example")
    certificate, key = folder / "own.pem", folder / "own.key"
    made.cert_chain_pems[0].write_to_path(str(certificate))
    made.private_key_pem.write_to_path(str(key))
    return certificate, key


def rediss(server: Redis, **options: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"rediss://localhost:{server.tls_port}?{query}"


async def takes_one(locks: Any) -> None:
    lock = locks.lock(name())
    assert await lock.take()
    await lock.release()


@pytest_twisted.ensureDeferred
async def test_redis_with_an_authority_of_its_own_and_our_certificate(redis: Redis, tmp_path: Path) -> None:
    certificate, key = own_files(redis.authority, tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    for own in ({"cert_file": certificate, "key_file": key}, {"cert_file": both}):
        async with connected(table(rediss(redis, ca_file=redis.authority_file, **own), PASSWORD)) as locks:
            await takes_one(locks)
    for options in ({"ca_file": redis.authority_file}, {"cert_file": both}):
        locks = redis_locks(reactor, table(rediss(redis, **options), PASSWORD), {})
        with pytest.raises(ConfigError, match=r"^SingleFlight\.Redis\.Endpoint: "):
            await locks.connect()
        await locks.close()


@pytest_twisted.ensureDeferred
async def test_the_name_that_is_expected() -> None:
    server = servers.redis()
    trusted = {"ca_file": server.authority_file}
    async with connected(table(rediss(server, server_name=HOST, **trusted), PASSWORD)) as locks:
        await takes_one(locks)
    locks = redis_locks(reactor, table(rediss(server, server_name="elsewhere.example", **trusted), PASSWORD), {})
    with pytest.raises(ConfigError, match=r"no trusted TLS connection \(DNSMismatch; check SSL_CERT_FILE or ca_file"):
        await locks.connect()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_an_authority_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    server = servers.redis()
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    environ = {"SSL_CERT_FILE": str(server.authority_file)}
    locks = redis_locks(reactor, table(rediss(server, ca_file=other), PASSWORD), environ)
    with pytest.raises(ConfigError, match="no trusted TLS connection"):
        await locks.connect()
    await locks.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_found_by_its_address_has_the_name_of_the_one_that_named_it() -> None:
    server = servers.redis()
    seed = RedisServer("localhost", server.tls_port, password=PASSWORD, tls=True)
    assert seed.at("10.0.0.1", 1).known_as == seed.at("10.0.0.1", 1).at("10.0.0.2", 1).known_as == "localhost"
    assert (seed.at("b.example", 1).known_as, RedisServer("10.0.0.9").at("10.0.0.1", 1).known_as) == ("", "")
    dialer = Dialer(reactor, client_tls.load(TlsOptions(str(server.authority_file)), "x", {}))
    link = await dialer.connect(seed.at(HOST, server.tls_port))
    link.abort()
    with pytest.raises(Exception) as caught:
        await dialer.connect(RedisServer("elsewhere.example", password=PASSWORD, tls=True).at(HOST, server.tls_port))
    assert described(caught.value)[0] == "no trusted TLS connection"
    await dialer.close()


@pytest_twisted.ensureDeferred
async def test_a_sentinel_and_its_master(tmp_path: Path) -> None:
    master = servers.own("redis", tmp_path / "redis")
    sentinel = SecureSentinel(tmp_path / "sentinel", master)
    try:
        sentinel.start()
        endpoint = f"rediss://localhost:{sentinel.tls_port}?ca_file={master.authority_file}"
        settings = RedisSentinel(
            endpoints=[endpoint],
            master_name=MASTER,
            sentinel_password=SENTINEL_PASSWORD,
            redis_password=PASSWORD,
        )
        locks = redis_sentinel_locks(reactor, settings, {})
        await locks.connect()
        await takes_one(locks)
        assert locks._servers._node._commands.server.tls  # type: ignore[attr-defined]
        await locks.close()
    finally:
        sentinel.stop()
        master.stop()


@pytest_twisted.ensureDeferred
async def test_etcd_with_an_authority_of_its_own_and_our_certificate(etcd: Etcd, tmp_path: Path) -> None:
    certificate, key = own_files(etcd.authority, tmp_path)
    options = f"?ca_file={etcd.authority_file}&cert_file={certificate}&key_file={key}&server_name={HOST}"
    async with etcds.connected(etcd.tls_endpoint + options) as locks:
        await takes_one(locks)
    locks = etcds.locks_at(f"{etcd.tls_endpoint}?ca_file={etcd.authority_file}")
    with pytest.raises(ConfigError, match=r"^SingleFlight\.Etcd\.Endpoints: "):
        await locks.connect()
    await locks.close()


def test_files_that_can_not_be_used_name_the_setting(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    for options, said in (
        ({"ca_file": empty}, "ca_file: can't read certificates from"),
        ({"cert_file": tmp_path / "none"}, "can't be read: No such file"),
        ({"cert_file": empty}, "cert_file must hold a certificate and its key in PEM"),
        ({"cert_file": empty, "key_file": empty}, "cert_file and key_file must hold"),
    ):
        text = f"rediss://h?{'&'.join(f'{key}={value}' for key, value in options.items())}"
        with pytest.raises(ConfigError, match=said) as caught:
            redis_locks(reactor, table(text), {})
        assert str(caught.value).startswith("SingleFlight.Redis.Endpoint: ")


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (parse, "rediss://h?key_file=/k", "key_file needs cert_file"),
        (parse, "redis://h?ca_file=/k", "the options of TLS need rediss://"),
        (parse_etcd, "http://h?ca_file=/k", "the options of TLS need https://"),
        (parse_etcd, "https://h?key_file=/k", "key_file needs cert_file"),
        (parse_etcd, "https://h?a=b", "the only options of a URL are ca_file, cert_file, key_file, server_name"),
        (sentinels, ["rediss://user:secret@h"], "user and password have settings of their own"),
        (sentinels, ["rediss://h/3"], "host:port, or rediss://host:port for TLS"),
    ],
)
def test_options_that_make_no_sense(read: Any, text: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(text, *([] if read is parse_etcd else ["A.Setting"]))
    assert "secret" not in str(caught.value)


def test_those_of_one_server_are_for_all() -> None:
    options = TlsOptions(ca_file="/ca")
    assert {(one.tls, one.options) for one in seeds("h:1,rediss://i?ca_file=/ca", "x")} == {(True, options)}
    found = sentinels(["h", "rediss://i:7?ca_file=/ca"], "x")
    assert [(one.host, one.port, one.tls, one.options) for one in found] == [
        ("h", 26379, True, options),
        ("i", 7, True, options),
    ]
    assert {one.options for one in parse_etcd("h,https://i?ca_file=/ca")} == {options}
