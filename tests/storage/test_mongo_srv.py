"""C{mongodb+srv://}, against a name server of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import fail, succeed
from twisted.internet.interfaces import IHostnameResolver
from twisted.names import dns, error
from twisted.names.server import DNSServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.storage.mongo_srv import Srv, name_servers
from athens_tx.storage.mongo_url import parse_url
from tests.contract.zips import whole
from tests.storage.mongos import MV, ZIP, opened, save
from tests.support import servers
from tests.support.faults import FaultProxy


class Zone:
    """
    A name server on loopback.

    @ivar records: what it knows, by name and type.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Any]] = {}
        self.asked = 0
        self._factory = DNSServerFactory(clients=[self])
        self._protocol = dns.DNSDatagramProtocol(self._factory)
        self._factory.noisy = False
        self._protocol.noisy = False
        self._port = reactor.listenUDP(0, self._protocol, "127.0.0.1")  # type: ignore[attr-defined]
        self.address = ("127.0.0.1", self._port.getHost().port)

    def query(self, query: Any, timeout: Any = None) -> Any:
        self.asked += 1
        name = str(query.name).lower()
        found = self.records.get((name, query.type), [])
        if not found:
            return fail(Failure(error.DNSNameError()))
        headers = [dns.RRHeader(name, query.type, payload=payload, ttl=60) for payload in found]
        return succeed((headers, [], []))

    def srv(self, name: str, *hosts: tuple[str, int]) -> None:
        self.records[name, dns.SRV] = [dns.Record_SRV(0, 0, port, host) for host, port in hosts]

    def txt(self, name: str, *texts: bytes) -> None:
        self.records[name, dns.TXT] = [dns.Record_TXT(text) for text in texts]

    async def stop(self) -> None:
        await self._port.stopListening()


@pytest_twisted.async_yield_fixture
async def zone() -> Any:
    zone = Zone()
    yield zone
    await zone.stop()


async def resolve(zone: Zone, url: str = "mongodb+srv://u:p@c.example.com/db?appName=x") -> Any:
    return await Srv(reactor, parse_url(url), [zone.address]).resolve()


@pytest_twisted.ensureDeferred
async def test_servers_and_options_come_from_dns_and_the_url_goes_before(zone: Zone) -> None:
    zone.srv("_mongodb._tcp.c.example.com", ("a.example.com", 1), ("B.c.example.com", 2))
    zone.txt("c.example.com", b"authSource=admin&replicaSet=rs")
    found = await resolve(zone, "mongodb+srv://u:p@c.example.com/db?replicaSet=mine")
    assert set(found.hosts) == {("a.example.com", 1), ("b.c.example.com", 2)}
    assert (found.options["replicaset"], found.options["authsource"]) == ("mine", "admin")
    assert (found.user, found.password, found.srv) == ("u", "p", True)


@pytest_twisted.ensureDeferred
async def test_another_service_and_a_limit(zone: Zone) -> None:
    zone.srv("_other._tcp.c.example.com", *((f"{name}.example.com", 1) for name in "abc"))
    found = await resolve(zone, "mongodb+srv://c.example.com/?srvServiceName=other&srvMaxHosts=2")
    assert len(found.hosts) == 2


@pytest_twisted.ensureDeferred
async def test_servers_of_another_domain_are_not_followed(zone: Zone) -> None:
    zone.srv("_mongodb._tcp.c.example.com", ("a.example.com", 1), ("a.evil.com", 1))
    with pytest.raises(ConfigError, match="another domain"):
        await resolve(zone)


@pytest.mark.parametrize("texts", [(b"authSource=a", b"replicaSet=b"), (b"tls=false",)])
@pytest_twisted.ensureDeferred
async def test_a_text_that_says_too_much_is_refused(zone: Zone, texts: tuple[bytes, ...]) -> None:
    zone.srv("_mongodb._tcp.c.example.com", ("a.example.com", 1))
    zone.txt("c.example.com", *texts)
    with pytest.raises(ConfigError, match="TXT record"):
        await resolve(zone)


@pytest_twisted.ensureDeferred
async def test_a_name_that_dns_does_not_know(zone: Zone) -> None:
    with pytest.raises(StorageUnavailable, match="not known to DNS"):
        await resolve(zone)
    with pytest.raises(ConfigError, match=r"Storage\.Mongo\.URL.*not known to DNS"):
        async with opened("mongodb+srv://c.example.com/", "x", name_servers=[zone.address]):
            pass


@implementer(IHostnameResolver)
class Loopback:
    """Takes every name for this machine, but one that C{dead} has."""

    def resolveHostName(self, receiver: Any, host: str, portNumber: int = 0, *more: Any) -> Any:
        receiver.resolutionBegan(self)
        if not host.startswith("dead"):
            receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return receiver


@pytest_twisted.ensureDeferred
async def test_a_storage_behind_a_name(zone: Zone) -> None:
    """DNS is asked again when the servers that it named are lost."""
    bucket = servers.mongo().bucket()
    before = reactor.installNameResolver(Loopback())  # type: ignore[attr-defined]
    proxy = FaultProxy(reactor, bucket.server.port, http=False)
    zone.srv("_mongodb._tcp.c.example.com", ("dead.example.com", 1), ("a.example.com", proxy.port))
    try:
        url = "mongodb+srv://c.example.com/?tls=false"
        async with opened(url, bucket.name, name_servers=[zone.address]) as storage:
            await save(storage)
            zone.srv("_mongodb._tcp.c.example.com", ("b.example.com", bucket.server.port))
            await proxy.stop()
            assert await whole(await storage.zip(MV)) == ZIP
            zone.records.clear()
            storage._opened.pool._drop_idle()
            assert await storage.exists(MV)
    finally:
        reactor.installNameResolver(before)  # type: ignore[attr-defined]
        await proxy.stop()
        bucket.drop()


def test_the_name_servers_of_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert name_servers(file) == [("127.0.0.1", 53)]
    file.write_text("# nameserver 9.9.9.9\nsearch x\nnameserver 10.0.0.1\n nameserver\t10.0.0.2 \nnameserver fe80::1\n")
    assert name_servers(file) == [("10.0.0.1", 53), ("10.0.0.2", 53)]
