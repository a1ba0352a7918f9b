"""A checksum database as one can ask it: what is kept first, then the network, once for all who ask the same."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from athens_tx.errors import BadUpstream
from athens_tx.module.note import open_note
from athens_tx.module.tlog import parse_record, parse_tree
from athens_tx.singleflight.waiters import Waiters
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.paths import Question
from athens_tx.sumdb.reach import DatabaseResponse, Reach

#: Headers of an answer that are passed on; all others are the business of the connection it came by.
PASSED_ON = ("Content-Type", "Cache-Control", "ETag", "Last-Modified", "Expires", "Retry-After")

_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_BYTES = ("Content-Type", "application/octet-stream")
#: A lookup brings a signed tree, of which clients like a recent one; a tile stays what it is.
_LOOKUP_AGE = ("Cache-Control", "public, max-age=10800")
_TILE_AGE = ("Cache-Control", "public, max-age=31536000, immutable")


@attrs.frozen
class SumDBAnswer:
    """An answer as it goes to a client. C{headers} are pairs of names and values."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def text(cls, status: int, text: str) -> SumDBAnswer:
        """@return: an answer of one line."""
        return cls(status, (_TEXT,), text.encode() + b"\n")


class Source:
    """
    One checksum database.

    Lookups and tiles never change and are kept. Of a tile the longest beginning is kept that was ever seen, and it
    answers for all shorter ones. What does not look like an answer, or is not signed by the database's key where that
    is known, is passed on but not kept.
    """

    def __init__(self, database: Database, store: Store, reach: Reach | None) -> None:
        """@param reach: C{None} if nothing may leave the machine."""
        self.database = database
        self.store = store
        self._reach = reach
        self._asking: dict[str, Waiters[SumDBAnswer]] = {}

    async def get(self, question: Question) -> SumDBAnswer:
        """
        @return: the answer, whatever its status; 404 for what is not kept if nothing may leave the machine.
        @raise FetchFailed: there is none.
        """
        if question.kept_as is not None:
            body = _enough(question, self.store.recall(self.database.name, question.kept_as))
            if body is not None:
                return _kept(question, body)
        asking = self._asking.get(question.path)
        if asking is None:
            asking = self._asking[question.path] = Waiters()
            Deferred.fromCoroutine(self._load(question)).addBoth(self._land, question.path)
        return await asking.wait()

    def forget(self, question: Question) -> None:
        """Keep the answer no longer: it turned out to be wrong."""
        if question.kept_as is not None:
            self.store.forget(self.database.name, question.kept_as)

    def _land(self, result: SumDBAnswer | Failure, path: str) -> None:
        self._asking.pop(path).land(result)

    async def _load(self, question: Question) -> SumDBAnswer:
        name, kept_as = self.database.name, question.kept_as
        if kept_as is not None:
            body = _enough(question, await self.store.get(name, kept_as))
            if body is not None:
                return _kept(question, body)
        if self._reach is None:
            return SumDBAnswer.text(404, "not found: not kept here, and NetworkMode is offline")
        response = await self._reach.get(question.path)
        if response.status != 200 or kept_as is None or not self._is_sound(question, response.body):
            return _passed_on(response)
        if len(response.body) > len(self.store.recall(name, kept_as) or b""):
            self.store.put(name, kept_as, response.body)
        return _kept(question, response.body)

    def _is_sound(self, question: Question, body: bytes) -> bool:
        if question.mv is None:
            return question.tile is not None and len(body) == question.tile.length
        try:
            record, note = parse_record(body)
            if self.database.key is not None:
                parse_tree(open_note(note, [self.database.key]))
        except BadUpstream:
            return False
        return record.text.startswith(f"{question.mv.path} {question.mv.version} ".encode())


def _enough(question: Question, body: bytes | None) -> bytes | None:
    """@return: as much as was asked for, if it is there."""
    if body is None or question.tile is None:
        return body
    return body[: question.tile.length] if len(body) >= question.tile.length else None


def _kept(question: Question, body: bytes) -> SumDBAnswer:
    headers = (_BYTES, _TILE_AGE) if question.tile is not None else (_TEXT, _LOOKUP_AGE)
    return SumDBAnswer(200, headers, body)


def _passed_on(response: DatabaseResponse) -> SumDBAnswer:
    headers = tuple((name, value) for name in PASSED_ON if (value := response.header(name)) is not None)
    return SumDBAnswer(response.status, headers, response.body)
