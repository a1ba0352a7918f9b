"""The checksum databases for the clients of this proxy, below C{/sumdb/NAME/}."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from twisted.logger import Logger

from athens_tx.errors import AthensError
from athens_tx.module.pattern import matches_any
from athens_tx.sumdb.paths import Question
from athens_tx.sumdb.source import Source, SumDBAnswer

__all__ = ["SumDBAnswer", "SumDBProxy"]


class SumDBProxy:
    """
    Answers for the databases it knows.

    Only questions that a database has an answer to go out, and of a client's request nothing but the question: no
    header, no credentials, no query. Modules that no database may learn of are refused here.
    """

    log = Logger()

    def __init__(self, sources: Iterable[Source], no_sum_patterns: Sequence[str] = ()) -> None:
        """@param no_sum_patterns: C{NoSumPatterns}."""
        # A name may begin with another one.
        self._sources = sorted(sources, key=lambda source: -len(source.database.name))
        self._no_sum_patterns = tuple(no_sum_patterns)

    async def answer(self, host: str, rest: str, query: object = None, headers: object = None) -> SumDBAnswer:
        """
        @param host: the first path element behind C{/sumdb/}.
        @param rest: what follows, as the client wrote it, with or without its slash in front.
        @param query: of the request, as C{headers}: not looked at and not passed on.
        """
        found = self._find(host, unquote(rest).removeprefix("/"))
        if found is None:
            return SumDBAnswer.text(404, "not found: this checksum database is not offered here")
        source, path = found
        if path == "supported":
            return SumDBAnswer(200)
        question = Question.parse(path)
        if question is None:
            return SumDBAnswer.text(404, "not found: a checksum database has no such path")
        if question.mv is not None and matches_any(self._no_sum_patterns, question.mv.path):
            return SumDBAnswer(403)
        try:
            return await source.get(question)
        except AthensError as error:
            self.log.error(
                "{name} gave no answer to {path}: {reason} {detail}",
                name=source.database.name,
                path=path,
                reason=str(error),
                detail=error.detail,
            )
            return SumDBAnswer.text(502, f"the checksum database can't be reached: {error}")

    def _find(self, host: str, rest: str) -> tuple[Source, str] | None:
        """A database's name may have a path, so it may end later than the host does."""
        whole = f"{unquote(host)}/{rest}"
        for source in self._sources:
            if whole.startswith(source.database.name + "/"):
                return source, whole[len(source.database.name) + 1 :]
        return None
