"""What is kept, and since when: C{/catalog} and C{/index}."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IReactorTime

from athens_tx.errors import InvalidRequest
from athens_tx.fetch.pool import Pool
from athens_tx.interfaces import IIndex, IndexLine, IStorage
from athens_tx.module.version import ModuleVersion
from athens_tx.web.bodies import send_pages, send_pieces
from athens_tx.web.request import JSON, WebRequest

#: How many entries one answer has at most, whatever is asked for, and without a word.
MAX_ENTRIES = 100_000
PAGE_SIZE = 1000
INDEX_LIMIT = 2000

#: Answers of C{/index} that are written at once, of up to L{INDEX_LIMIT} lines and longer ones, which cost seconds
#: each; how many more may wait, for how many seconds; and after how many a client that takes nothing is cut off.
SHORT_AT_ONCE, LONG_AT_ONCE = 32, 4
MOST_WAITING = 100
PATIENCE = 10.0
STALLED = 60.0

#: How many entries are written at once.
_PIECE = 1000

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
# As Go writes JSON: safe to put into a page.
_JSON_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False).translate(_JSON_ESCAPES)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)  # half a character has no UTF-8


def _parameter(request: WebRequest, name: str) -> str | None:
    """@return: the first value of a parameter of the query, if there is one that is not empty."""
    values = (request.args or {}).get(name.encode())
    if not values or not values[0]:
        return None
    try:
        return str(values[0].decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8") from error


def _count(request: WebRequest, name: str, default: int) -> int:
    text = _parameter(request, name)
    if text is None:
        return default
    if _INTEGER.fullmatch(text) is None:
        raise InvalidRequest(f"{name} is not a number")
    count = int(text)
    if count <= 0:
        raise InvalidRequest(f"{name} must be more than 0")
    return min(count, MAX_ENTRIES)


def parse_time(text: str) -> datetime:
    """
    @param text: a time as of RFC 3339, with at most 18 decimals; those beyond microseconds don't count.
    @raise InvalidRequest: it is none.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise InvalidRequest("since is not a time as of RFC 3339, such as 2006-01-02T15:04:05Z")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    micros = int((found[7] or "").ljust(6, "0")[:6])
    try:
        zone = UTC
        if found[8]:
            offset = timedelta(hours=int(found[9]), minutes=int(found[10]))
            zone = timezone(offset if found[8] == "+" else -offset)
        return datetime(year, month, day, hour, minute, second, micros, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("since is not a time that there is") from error


def format_time(time: datetime) -> str:
    """@return: C{time} as of RFC 3339 in UTC, without zeros at the end of the fraction."""
    time = time.astimezone(UTC)
    text = time.replace(tzinfo=None, microsecond=0).isoformat()
    fraction = f".{time.microsecond:06}".rstrip("0") if time.microsecond else ""
    return f"{text}{fraction}Z"


def _catalog(versions: Sequence[ModuleVersion], token: str) -> Iterator[bytes]:
    lead = '{"modules":['
    entries = iter(versions)
    while batch := list(islice(entries, _PIECE)):
        text = ",".join(f'{{"module":{_text(mv.path)},"version":{_text(mv.version)}}}' for mv in batch)
        yield (lead + text).encode()
        lead = ","
    tail = f'],"next":{_text(token)}}}\n' if token else "]}\n"
    yield (tail if lead == "," else lead + tail).encode()


async def _index(pages: AsyncGenerator[Sequence[IndexLine], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pages):
        async for page in pages:
            yield "".join(
                f'{{"Path":{_text(line.path)},"Version":{_text(line.version)},"Timestamp":"{format_time(line.time)}"}}\n'
                for line in page
            ).encode()


def _joined(pieces: Iterator[bytes], few: bool) -> Iterator[bytes]:
    """One piece where there is not much, so that the answer has a length."""
    return iter([b"".join(pieces)]) if few else pieces


class Listings:
    """Pages of the storage's catalog, and of the index."""

    def __init__(self, storage: IStorage, index: IIndex, clock: IReactorTime) -> None:
        self._storage = storage
        self._index = index
        self._clock = clock
        limits: dict[str, Any] = {"clock": clock, "wait_limit": PATIENCE, "doing": "read of the index"}
        self._short, self._long = (Pool(most, MOST_WAITING, **limits) for most in (SHORT_AT_ONCE, LONG_AT_ONCE))

    async def catalog(self, request: WebRequest) -> bytes | None:
        """C{/catalog?token=...&pagesize=...}: what is stored, in the storage's own order."""
        limit = _count(request, "pagesize", PAGE_SIZE)
        versions, token = await self._storage.catalog(_parameter(request, "token") or "", limit)
        return await send_pieces(request, JSON, _joined(_catalog(versions, token), len(versions) <= _PIECE))

    async def index(self, request: WebRequest) -> bytes | None:
        """C{/index?since=...&limit=...}: what was stored since then, in the order of time."""
        limit = _count(request, "limit", INDEX_LIMIT)
        since = _parameter(request, "since")
        start = None if since is None else parse_time(since)
        async with (self._short if limit <= INDEX_LIMIT else self._long).slot():
            pages = _index(self._index.lines(start, limit))
            return await send_pages(request, JSON, pages, self._clock, STALLED)
