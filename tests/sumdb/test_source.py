"""One database: what is kept, what is passed on, what is asked once."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import UpstreamUnreachable
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.paths import Question
from athens_tx.sumdb.reach import Reach
from athens_tx.sumdb.source import Source, SumDBAnswer
from tests.sumdb.logclient import LogClient, Reply, grow, small_log

CASE = SynchronousTestCase()
LOOKUP = "lookup/a.example/m1@v1.0.0"


def make(size: int = 300, *, key: bool = True) -> tuple[LogClient, Source]:
    client, clock = LogClient(small_log(size)), Clock()
    database = Database.parse(client.log.key if key else client.log.name)
    return client, Source(database, Store(clock), Reach(database, (), client, clock))


def start(source: Source, path: str) -> Deferred[SumDBAnswer]:
    question = Question.parse(path)
    assert question is not None
    return Deferred.fromCoroutine(source.get(question))


def ask(source: Source, path: str) -> SumDBAnswer:
    return CASE.successResultOf(start(source, path))


@pytest.mark.parametrize("path", [LOOKUP, "tile/8/0/000", "tile/8/0/001.p/44", "tile/8/1/000.p/1"])
def test_lookups_and_tiles_are_asked_for_once(path: str) -> None:
    client, source = make()
    first, second = ask(source, path), ask(source, path)
    assert first == second
    assert first.status == 200
    assert first.body == client.log.answer(path)
    assert client.count() == 1
    expected = "text/plain; charset=utf-8" if path == LOOKUP else "application/octet-stream"
    assert dict(first.headers)["Content-Type"] == expected
    assert "ETag" not in dict(first.headers)  # it is that of another length, perhaps


def test_the_longest_beginning_of_a_tile_answers_for_all_shorter_ones() -> None:
    client, source = make(100)
    assert len(ask(source, "tile/8/0/000.p/60").body) == 60 * 32
    assert len(ask(source, "tile/8/0/000.p/90").body) == 90 * 32
    assert client.count() == 2
    grow(client.log, 256)
    for width in (60, 90, 1):
        path = f"tile/8/0/000.p/{width}"
        assert ask(source, path).body == client.log.answer(path)
    assert client.count() == 2
    assert ask(source, "tile/8/0/000").body == client.log.answer("tile/8/0/000")
    assert ask(source, "tile/8/0/000.p/255").body == client.log.answer("tile/8/0/000.p/255")
    assert client.count() == 3


def test_a_shorter_beginning_that_comes_later_does_not_replace_a_longer_one() -> None:
    client, source = make(100)
    client.held["p/60"] = slow = Deferred()
    waiting = start(source, "tile/8/0/000.p/60")
    ask(source, "tile/8/0/000.p/90")
    slow.callback(None)
    assert len(CASE.successResultOf(waiting).body) == 60 * 32
    assert len(ask(source, "tile/8/0/000.p/90").body) == 90 * 32
    assert client.count("p/90") == 1


@pytest.mark.parametrize("path", ["latest", "tile/8/data/000"])
def test_all_else_is_passed_on_with_its_headers(path: str) -> None:
    client, source = make()
    passed = {"ETag": '"1"', "Cache-Control": "max-age=3", "Content-Type": "x/y", "Retry-After": "7"}
    client.replies[path] = Reply(200, b"body", {**passed, "Set-Cookie": "a=b", "Server": "x", "Connection": "close"})
    for _ in range(2):
        answer = ask(source, path)
        assert (answer.status, answer.body, dict(answer.headers)) == (200, b"body", passed)
    assert client.count() == 2


@pytest.mark.parametrize("status", [403, 404, 410, 429, 500])
def test_a_failure_is_passed_on_and_not_kept(status: int) -> None:
    client, source = make()
    client.replies["v1.0.0"] = Reply(status, b"why\n")
    assert (ask(source, LOOKUP).status, ask(source, LOOKUP).body) == (status, b"why\n")
    client.replies.clear()
    assert ask(source, LOOKUP).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOOKUP, b"<html>please log in</html>"),
        (LOOKUP, small_log(2, "sum.other.test").lookup("a.example/m1", "v1.0.0")),
        (LOOKUP, small_log(2).lookup("a.example/m0", "v1.0.0")),
        ("tile/8/0/000", b"x" * 100),
        ("tile/8/0/000.p/3", b"x" * 97),
    ],
)
def test_what_does_not_look_like_an_answer_is_not_kept(path: str, body: bytes) -> None:
    client, source = make()
    client.replies[path] = Reply(200, body)
    assert ask(source, path).body == body
    client.replies.clear()
    assert ask(source, path).body == client.log.answer(path)
    assert client.count() == 2


def test_without_a_key_a_signature_can_not_be_looked_at() -> None:
    client, source = make(key=False)
    client.replies[LOOKUP] = Reply(200, small_log(2, "sum.other.test").lookup("a.example/m1", "v1.0.0") or b"")
    assert ask(source, LOOKUP) == ask(source, LOOKUP)
    assert client.count() == 1


def test_what_is_forgotten_is_asked_for_again() -> None:
    client, source = make()
    for path in (LOOKUP, "tile/8/0/000.p/7", "latest"):
        ask(source, path)
        question = Question.parse(path)
        assert question is not None
        source.forget(question)
        ask(source, path)
        assert client.count(path) == 2


def test_simultaneous_questions_are_one_and_who_leaves_ends_nothing() -> None:
    client, source = make()
    client.hold = held = Deferred()
    asking = [start(source, LOOKUP) for _ in range(3)]
    asking[0].cancel()
    CASE.failureResultOf(asking[0], CancelledError)
    held.callback(None)
    assert {CASE.successResultOf(each).status for each in asking[1:]} == {200}
    assert client.count() == 1


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    client, source = make()
    client.hold = held = Deferred()
    client.replies[LOOKUP] = UpstreamUnreachable("gone")
    asking = [start(source, LOOKUP) for _ in range(2)]
    held.callback(None)
    for each in asking:
        CASE.failureResultOf(each, UpstreamUnreachable)
    client.hold = None
    client.replies.clear()
    assert ask(source, LOOKUP).status == 200


@pytest_twisted.ensureDeferred
async def test_offline_what_was_seen_is_answered_and_nothing_leaves(tmp_path: Path) -> None:
    client = LogClient(small_log(300))
    database = Database.parse(client.log.key)
    online = Source(database, Store(reactor, tmp_path), Reach(database, (), client, Clock()))
    seen = [LOOKUP, "tile/8/0/000", "tile/8/0/001.p/44"]
    for path in seen:
        assert (await start(online, path)).status == 200
    await online.store.settle()

    offline = Source(database, Store(reactor, tmp_path), None)
    for path in [*seen, "tile/8/0/000.p/9", "tile/8/0/001.p/43"]:
        assert (await start(offline, path)).body == client.log.answer(path)
    for path in ("latest", "lookup/a.example/m2@v1.0.0", "tile/8/0/001.p/45", "tile/8/data/000"):
        assert (await start(offline, path)).status == 404
