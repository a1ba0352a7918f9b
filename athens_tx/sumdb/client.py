"""A client of a checksum database that believes only what is proven."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.errors import (
    AthensError,
    BadUpstream,
    ChecksumMismatch,
    ConfigError,
    NotFound,
    RateLimited,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.interfaces import Checksums, IChecksumDatabase
from athens_tx.module.note import open_note
from athens_tx.module.tlog import (
    EMPTY_TREE,
    Tile,
    Tree,
    check_growth,
    check_record,
    parse_record,
    parse_tree,
    tiles_for_growth,
    tiles_for_record,
)
from athens_tx.module.version import ModuleVersion
from athens_tx.sumdb.paths import Question
from athens_tx.sumdb.source import Source, SumDBAnswer

#: Where the last proven tree is kept in the store.
HEAD = "head"

_TEXT_LIMIT = 300


@attrs.define
class _Used:
    """The questions whose answers a proof was built on."""

    questions: set[Question] = attrs.Factory(set)


@implementer(IChecksumDatabase)
class SumDBClient:
    """
    Asks one database.

    A record counts when its tree is signed by the database's key, the tree goes on where the trees seen before ended,
    and the record is in it. The largest tree seen is remembered, in the store's directory too if it has one.
    """

    log = Logger()

    def __init__(self, source: Source) -> None:
        """@raise ConfigError: the key of the database is not known."""
        key = source.database.key
        if key is None:
            raise ConfigError([f"SumDBs: the key of {source.database.name} is not known; give it as name+hash+key"])
        self._source = source
        self._key = key
        self._name = source.database.name
        self._head: Tree = EMPTY_TREE
        self._loaded = False

    async def checksums(self, mv: ModuleVersion) -> Checksums:
        """See L{IChecksumDatabase.checksums}."""
        used = _Used()
        try:
            return await self._proven(mv, used)
        except BadUpstream as error:
            first = error
        # Perhaps what was kept is damaged: once more, with nothing of it.
        self.log.warn("asking {name} again for {mv}: {reason}", name=self._name, mv=str(mv), reason=str(first))
        self._forget(used)
        used = _Used()
        try:
            return await self._proven(mv, used)
        except AthensError as error:
            if isinstance(error, BadUpstream):
                self._forget(used)
            if isinstance(first, ChecksumMismatch):  # which must not end as a 404
                raise first from error
            raise

    def _forget(self, used: _Used) -> None:
        for question in used.questions:
            self._source.forget(question)

    async def _proven(self, mv: ModuleVersion, used: _Used) -> Checksums:
        await self._load_head()
        question = Question.lookup(mv)
        used.questions.add(question)
        answer = await self._source.get(question)
        if answer.status in (404, 410):
            raise NotFound(f"{self._name} does not know {mv}: {_line(answer.body)}")
        record, note = parse_record(self._body(answer))
        await self._grow(parse_tree(open_note(note, [self._key])), note, used)
        head = self._head
        check_record(head, record, await self._tiles(tiles_for_record(head, record.id), used))
        return _checksums(mv, record.text)

    async def _load_head(self) -> None:
        if self._loaded:
            return
        note = await self._source.store.get(self._name, HEAD)
        if self._loaded:  # somebody else was faster
            return
        self._loaded = True
        if note is not None:
            try:
                self._head = parse_tree(open_note(note, [self._key]))
            except BadUpstream as error:
                self.log.error(
                    "the tree of {name} that was kept is no good: {reason}", name=self._name, reason=str(error)
                )

    async def _grow(self, tree: Tree, note: bytes, used: _Used) -> None:
        """Prove that the tree and the largest one known are two ages of one tree; the larger one is known then."""
        while True:
            head = self._head
            older, newer = (tree, head) if tree.size <= head.size else (head, tree)
            check_growth(older, newer, await self._tiles(tiles_for_growth(older.size, newer), used))
            if newer is head:
                return
            if self._head is head:  # nobody has come in between
                self._head = tree
                self._source.store.put(self._name, HEAD, note)
                return

    async def _tiles(self, tiles: Iterable[Tile], used: _Used) -> dict[Tile, bytes]:
        wanted = list(tiles)
        coming = [Deferred.fromCoroutine(self._tile(tile, used)) for tile in wanted]
        try:
            bodies = await gatherResults(coming, consumeErrors=True)
        except FirstError as error:
            raise cast(Exception, error.subFailure.value) from None
        return dict(zip(wanted, bodies, strict=True))

    async def _tile(self, tile: Tile, used: _Used) -> bytes:
        question = Question.of_tile(tile)
        used.questions.add(question)
        answer = await self._source.get(question)
        if answer.status in (404, 410) and tile != tile.full:
            # Grown over since, and only the full one is still there.
            answer = await self._source.get(Question.of_tile(tile.full))
        return self._body(answer)[: tile.length]

    def _body(self, answer: SumDBAnswer) -> bytes:
        if answer.status == 200:
            return answer.body
        raise self._failure(answer)

    def _failure(self, answer: SumDBAnswer) -> AthensError:
        said = f"{self._name} answered {answer.status}"
        detail = _line(answer.body)
        if answer.status in (401, 403, 407):
            return UpstreamForbidden(said, detail=detail)
        if answer.status == 429:
            return RateLimited(said, detail=detail)
        if answer.status >= 500:
            return UpstreamUnreachable(said, detail=detail)
        return BadUpstream(said, detail=detail)


def _checksums(mv: ModuleVersion, text: bytes) -> Checksums:
    """@return: the hashes in the text of a record, whose lines are those of a go.sum."""
    fields = [line.split(" ") for line in text.decode().splitlines()]
    found = {(field[0], field[1]): field[2] for field in fields if len(field) == 3}
    whole, mod = found.get((mv.path, mv.version)), found.get((mv.path, f"{mv.version}/go.mod"))
    if whole is None or mod is None or not (whole.startswith("h1:") and mod.startswith("h1:")):
        raise ChecksumMismatch(f"the checksum database's record of {mv} does not speak of it")
    return Checksums(whole, mod)


def _line(body: bytes) -> str:
    text = body[:_TEXT_LIMIT].decode(errors="replace").strip()
    return " ".join(text.split())
