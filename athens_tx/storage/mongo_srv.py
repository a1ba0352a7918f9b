"""What DNS says of a C{mongodb+srv://} URL: the servers, and a few options."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import TimeoutError
from twisted.internet.error import TimeoutError as NoAnswer
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.error import DNSNameError, DomainError

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.mongo_url import Host, MongoUrl, parse_options, refused

#: What a TXT record may say; the URL itself has the last word.
_FROM_DNS = frozenset(("authsource", "replicaset", "loadbalanced"))


def name_servers(file: Path = Path("/etc/resolv.conf")) -> list[tuple[str, int]]:
    """@return: the name servers of this machine; Twisted reaches those with an IPv4 address."""
    text = file.read_text("utf-8", "replace") if file.exists() else ""
    found = re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", text, re.MULTILINE)
    return [(address, dns.PORT) for address in found] or [("127.0.0.1", dns.PORT)]


class Srv:
    """Asks for the servers of a URL whenever it is told to."""

    def __init__(self, reactor: Any, url: MongoUrl, servers: Sequence[tuple[str, int]] | None = None) -> None:
        """@param servers: the name servers, by default those of the machine."""
        self._url = url
        self._resolver = Resolver(servers=list(servers or name_servers()), timeout=(1, 2, 3), reactor=reactor)

    async def resolve(self) -> MongoUrl:
        """
        @return: the URL with its servers in place of the name, and the options of DNS.
        @raise ConfigError: DNS says what nobody should follow.
        @raise StorageUnavailable: it says nothing.
        """
        name = self._url.hosts[0][0]
        service = self._url.options.get("srvservicename", "mongodb")
        try:
            answers, _, _ = await self._resolver.lookupService(f"_{service}._tcp.{name}")
            hosts = [
                (str(answer.payload.target).lower().rstrip("."), answer.payload.port)
                for answer in answers
                if answer.type == dns.SRV
            ]
            options = await self._options(name)
        except (DomainError, NoAnswer, TimeoutError, OSError) as error:
            raise StorageUnavailable(
                "mongo storage: the servers are not known to DNS",
                detail=f"no SRV record for the host of Storage.Mongo.URL: {type(error).__name__}",
                retry_after=10,
            ) from error
        return attrs.evolve(self._url, hosts=self._checked(name, hosts), options={**options, **self._url.options})

    async def _options(self, name: str) -> dict[str, str]:
        try:
            answers, _, _ = await self._resolver.lookupText(name)
        except (DNSNameError, DomainError):
            return {}
        texts = [b"".join(answer.payload.data) for answer in answers if answer.type == dns.TXT]
        if len(texts) > 1:
            raise refused("its host has more than one TXT record")
        options = parse_options(texts[0].decode("utf-8", "replace")) if texts else {}
        if set(options) - _FROM_DNS:
            raise refused("the TXT record of its host may say authSource, replicaSet and loadBalanced, nothing else")
        return options

    def _checked(self, name: str, hosts: list[Host]) -> tuple[Host, ...]:
        """A server elsewhere would be one that somebody else has put there."""
        labels = name.split(".")
        parent = "." + ".".join(labels[1:] if len(labels) > 2 else labels)
        if not hosts:
            raise StorageUnavailable("mongo storage: DNS names no servers", retry_after=10)
        if any(not host.endswith(parent) for host, _ in hosts):
            raise refused("the SRV records of its host name servers of another domain")
        most = int(self._url.options.get("srvmaxhosts") or 0)
        if most and most < len(hosts):
            hosts = random.sample(hosts, most)
        return tuple(hosts)
