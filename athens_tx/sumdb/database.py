"""Which checksum database: its name, its address, its key."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import attrs

from athens_tx.errors import ConfigError
from athens_tx.module.note import KNOWN_KEYS, VerifierKey

#: Another address of the well-known database; the go command knows it too.
_ALIASES = {"sum.golang.google.cn": "sum.golang.org https://sum.golang.google.cn"}


@attrs.frozen
class Database:
    """
    One entry of C{SumDBs}, or the value of C{GOSUMDB}.

    @ivar name: host, port and perhaps a path; what stands in the URLs of clients and in its signatures.
    @ivar url: where it is if not where its name says, without a final slash; no proxy is then asked for it.
    @ivar key: checks its signatures; C{None} if it is not known, and then it can only be passed on.
    """

    name: str
    url: str | None = None
    key: VerifierKey | None = None

    @property
    def address(self) -> str:
        """Its own URL, without a final slash."""
        return self.url or f"https://{self.name}"

    @classmethod
    def parse(cls, entry: str) -> Database:
        """
        @param entry: an https URL, of which Athens takes host and port only; or, as in C{GOSUMDB}, a name or a key
            C{name+hash+key}, with a URL behind it or not.
        @raise ValueError: it is none of these, in one line.
        """
        if "://" in entry.split(" ", 1)[0]:
            return cls._of_url(entry)
        name, *urls = _ALIASES.get(entry, entry).split() or [""]
        if len(urls) > 1:
            raise ValueError(f"{entry!r} has more than a name and a URL")
        url = urls[0].rstrip("/") if urls else None
        if url is not None and not _is_url(url, ("http", "https")):
            raise ValueError(f"{urls[0]!r} is not an http(s) URL")
        key = VerifierKey.parse(name) if "+" in name or name in KNOWN_KEYS else None
        name = name.partition("+")[0]
        parts = urlsplit(f"https://{name}")
        if not _is_url(f"https://{name}", ("https",)) or name.endswith("/") or parts.query or parts.fragment:
            raise ValueError(f"{name!r} is no name of a checksum database (host, or host/path)")
        return cls(name, url, key)

    @classmethod
    def _of_url(cls, entry: str) -> Database:
        if not _is_url(entry, ("https",)):
            raise ValueError(f"{entry!r} is not an https URL")
        name = urlsplit(entry).netloc
        return cls(name, None, VerifierKey.parse(name) if name in KNOWN_KEYS else None)


def parse_databases(entries: Iterable[str]) -> list[Database]:
    """
    @param entries: C{SumDBs}.
    @raise ConfigError: with all bad entries, and those that name one database twice.
    """
    found: dict[str, Database] = {}
    problems = []
    for entry in entries:
        try:
            database = Database.parse(entry)
        except ValueError as error:
            problems.append(f"SumDBs: {error}")
            continue
        if database.name in found:
            problems.append(f"SumDBs: {database.name} is there twice")
        found[database.name] = database
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in url
    return plain and parts.scheme in schemes and bool(parts.hostname) and port != 0
