"""How the answers of stores are read: a large one in a thread, so that nobody else has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from athens_tx.http_client import Response
from athens_tx.storage.threads import computed

T = TypeVar("T")

_MONTHS = {
    name: f"{number:02}"
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}


async def parsed(reactor: Any, parse: Callable[[bytes], T], body: bytes) -> T:
    """
    @param reactor: has a thread pool.
    @return: what C{parse}, which must be a pure function, makes of C{body}; raise what it raises.
    """
    return await computed(reactor, lambda: parse(body), len(body))


def answered(response: Response) -> datetime:
    """@return: when the store answered, by its own clock if it tells; raise C{ValueError}."""
    date = response.header("Date")
    return http_date(date) if date else datetime.now(UTC)


def http_date(text: str) -> datetime:
    """@return: a time as HTTP writes it, aware; raise C{ValueError}. Lists have thousands in the usual form."""
    if len(text) == 29 and text[3:5] == ", " and text[25:] == " GMT" and text[8:11] in _MONTHS:
        return datetime.fromisoformat(f"{text[12:16]}-{_MONTHS[text[8:11]]}-{text[5:7]}T{text[17:25]}+00:00")
    time = parsedate_to_datetime(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
