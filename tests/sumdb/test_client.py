"""Only what is proven is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from athens_tx.errors import (
    BadUpstream,
    ChecksumMismatch,
    ConfigError,
    NotFound,
    RateLimited,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.interfaces import Checksums, IChecksumDatabase
from athens_tx.module.version import ModuleVersion
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.client import SumDBClient
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.reach import Reach
from athens_tx.sumdb.source import Source
from tests.sumdb.logclient import LogClient, Reply, grow, small_log
from tests.support.checksum_log import ChecksumLog

CASE = SynchronousTestCase()


def client_of(log: ChecksumLog, store: Store | None = None) -> tuple[LogClient, SumDBClient]:
    http, clock = LogClient(log), Clock()
    database = Database.parse(log.key)
    return http, SumDBClient(Source(database, store or Store(clock), Reach(database, (), http, clock)))


def module(number: int) -> ModuleVersion:
    return ModuleVersion(f"a.example/m{number}", "v1.0.0")


def ask(client: SumDBClient, number: int) -> Checksums:
    return CASE.successResultOf(Deferred.fromCoroutine(client.checksums(module(number))))


def fail(client: SumDBClient, number: int, kind: type[Exception]) -> Any:
    return CASE.failureResultOf(Deferred.fromCoroutine(client.checksums(module(number))), kind).value


def test_it_keeps_to_the_interface() -> None:
    assert verifyObject(IChecksumDatabase, client_of(small_log(1))[1])


def test_without_a_key_nothing_can_be_proven() -> None:
    database = Database.parse("sum.corp")
    with pytest.raises(ConfigError, match=r"key of sum\.corp"):
        SumDBClient(Source(database, Store(Clock()), None))


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 700])
def test_every_record_is_proven(size: int) -> None:
    http, client = client_of(small_log(size))
    for number in {0, size // 2, size - 1}:
        assert ask(client, number) == Checksums(f"h1:zip{number}", f"h1:mod{number}")
    assert http.often == []


def test_a_tree_that_grows_is_followed_forth_and_back() -> None:
    log = small_log(3)
    old = log.lookup("a.example/m2", "v1.0.0") or b""
    http, client = client_of(log)
    for size in (4, 200, 256, 300, 1000):
        grow(log, size)
        assert ask(client, size - 1).zip == f"h1:zip{size - 1}"
    http.replies["m2@v1.0.0"] = Reply(200, old)
    assert ask(client, 2).mod == "h1:mod2"
    assert http.often == []


def test_what_the_database_does_not_know_is_not_found_in_its_words() -> None:
    http, client = client_of(small_log(3))
    assert "a.example/m7@v1.0.0: not found: no such thing" in str(fail(client, 7, NotFound))
    http.replies["m1@v1.0.0"] = Reply(410, b"gone\nfor good\n" + b"x" * 1000)
    text = str(fail(client, 1, NotFound))
    assert "gone for good" in text
    assert len(text) < 400


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401), UpstreamForbidden),
        (Reply(403), UpstreamForbidden),
        (Reply(429), RateLimited),
        (Reply(500), UpstreamUnreachable),
        (Reply(302), BadUpstream),
        (UpstreamUnreachable("no network"), UpstreamUnreachable),
    ],
)
@pytest.mark.parametrize("path", ["m1@v1.0.0", "tile/8/0/000.p/3"])
def test_trouble_is_told_apart(path: str, reply: Reply | Exception, kind: type[Exception]) -> None:
    http, client = client_of(small_log(3))
    http.replies[path] = reply
    fail(client, 1, kind)
    http.replies.clear()
    assert ask(client, 1).zip == "h1:zip1"


def forged(log: ChecksumLog, change: Callable[[bytes], bytes]) -> Reply:
    return Reply(200, change(log.lookup("a.example/m1", "v1.0.0") or b""))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda body: body.replace(b"h1:zip1", b"h1:evil"), ChecksumMismatch),  # the record is not the one in the tree
        (lambda body: body.replace(b"tree\n300\n", b"tree\n301\n"), ChecksumMismatch),  # the tree is not signed
        (lambda body: body.replace(b"1\n", b"2\n", 1), ChecksumMismatch),  # it is another record's number
        (lambda body: body.replace(b"1\n", b"300\n", 1), BadUpstream),  # a number that the tree does not have
        (lambda body: body.rpartition(b"\n\n")[0] + b"\n\n", BadUpstream),  # no signature at all
        (lambda body: b"<html>", BadUpstream),
    ],
)
def test_a_forged_record_is_refused(change: Callable[[bytes], bytes], kind: type[Exception]) -> None:
    log = small_log(300)
    http, client = client_of(log)
    http.replies["m1@v1.0.0"] = forged(log, change)
    fail(client, 1, kind)
    assert http.count("m1@v1.0.0") == 2  # once more, in case something kept was damaged
    http.replies.clear()
    assert ask(client, 1).zip == "h1:zip1"


def test_a_record_about_something_else_is_refused() -> None:
    log = small_log(300)
    http, client = client_of(log)
    http.replies["m1@v1.0.0"] = Reply(200, log.lookup("a.example/m2", "v1.0.0") or b"")
    assert "does not speak of it" in str(fail(client, 1, ChecksumMismatch))


@pytest.mark.parametrize("record", [("h2:zip", "h1:mod"), ("h1:zip", "mod"), ("h1:zip more", "h1:mod")])
def test_hashes_of_another_kind_are_refused(record: tuple[str, str]) -> None:
    log = ChecksumLog()
    log.add("a.example/m0", "v1.0.0", *record)
    fail(client_of(log)[1], 0, ChecksumMismatch)


@pytest.mark.parametrize("tile", ["tile/8/0/000", "tile/8/0/001.p/44", "tile/8/1/000.p/1"])
@pytest.mark.parametrize("wrong", [b"\0" * 32, b""])
def test_a_forged_tile_is_refused(tile: str, wrong: bytes) -> None:
    log = small_log(300)
    http, client = client_of(log)
    http.replies[tile] = Reply(200, wrong + (log.answer(tile) or b"")[32:])
    fail(client, 1, BadUpstream)
    http.replies.clear()
    assert ask(client, 1).zip == "h1:zip1"


@pytest.mark.parametrize("sizes", [(10, 10), (10, 300), (300, 10)])
def test_two_histories_are_refused(sizes: tuple[int, int], logged: list[dict[str, Any]]) -> None:
    http, client = client_of(small_log(sizes[0]))
    assert ask(client, 1).zip == "h1:zip1"
    http.log = small_log(sizes[1], salt="other")
    fail(client, 2, ChecksumMismatch)
    http.log = small_log(sizes[0])
    assert ask(client, 2).zip == "h1:zip2"  # the first history is still the one believed
    assert any("asking sum.example.test again for a.example/m2@v1.0.0" in formatEvent(event) for event in logged)


def test_a_partial_tile_that_is_gone_is_taken_from_the_full_one() -> None:
    log = small_log(200)
    answer = log.lookup("a.example/m1", "v1.0.0") or b""
    grow(log, 300)
    http, client = client_of(log)
    http.replies["m1@v1.0.0"] = Reply(200, answer)
    http.replies["tile/8/0/000.p/200"] = Reply(404)
    assert ask(client, 1).zip == "h1:zip1"
    assert http.count("tile/8/0/000") == 1


def test_a_full_tile_that_is_missing_proves_nothing() -> None:
    http, client = client_of(small_log(300))
    http.replies["tile/8/0/000"] = Reply(404)
    assert "answered 404" in str(fail(client, 1, BadUpstream))


def test_many_may_ask_at_once_while_the_tree_grows() -> None:
    log = small_log(600)
    http, client = client_of(log)
    http.replies["m0@v1.0.0"] = Reply(200, small_log(10).lookup("a.example/m0", "v1.0.0") or b"")
    ask(client, 0)
    for number, size in ((1, 300), (2, 600)):
        http.replies[f"m{number}@v1.0.0"] = Reply(200, small_log(size).lookup(f"a.example/m{number}", "v1.0.0") or b"")
    # All want tiles to prove the growth from 10 records. Those of the tree of 300 come when the tree of 600 is known.
    slow, fast = Deferred[None](), Deferred[None]()
    http.held = {"tile/8/0/001.p/44": slow, "tile/8/1/000.p/2": fast}
    answers = [Deferred.fromCoroutine(client.checksums(module(number))) for number in (1, 2)]
    fast.callback(None)
    assert [answer.called for answer in answers] == [False, True]
    slow.callback(None)
    assert [CASE.successResultOf(answer).zip for answer in answers] == ["h1:zip1", "h1:zip2"]
    assert ask(client, 599).zip == "h1:zip599"


def test_a_mismatch_does_not_end_as_not_found() -> None:
    log = small_log(300)
    http, client = client_of(log)
    replies = iter([forged(log, lambda body: body.replace(b"h1:zip1", b"h1:evil")), Reply(404)])
    http.replies["m1@v1.0.0"] = lambda: next(replies)
    fail(client, 1, ChecksumMismatch)


@pytest_twisted.ensureDeferred
async def test_the_tree_is_remembered_over_a_restart(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    store = Store(reactor, tmp_path)
    _, client = client_of(small_log(10), store)
    await client.checksums(module(1))
    await store.settle()

    again = Store(reactor, tmp_path)
    http, client = client_of(small_log(300, salt="other"), again)
    both = [Deferred.fromCoroutine(client.checksums(module(number))) for number in (2, 3)]
    for asking in both:
        with pytest.raises(ChecksumMismatch):
            await asking
    http.log = small_log(300)
    assert (await client.checksums(module(2))).zip == "h1:zip2"
    await again.settle()

    head = tmp_path / "sum.example.test" / "head"
    assert b"tree\n300\n" in head.read_bytes()
    head.write_bytes(b"nonsense")
    _, client = client_of(small_log(5), Store(reactor, tmp_path))
    assert (await client.checksums(module(4))).zip == "h1:zip4"
    assert any("that was kept is no good" in formatEvent(event) for event in logged)
    await client._source.store.settle()


@pytest_twisted.ensureDeferred
async def test_a_damaged_file_heals(tmp_path: Path) -> None:
    store = Store(reactor, tmp_path)
    http, client = client_of(small_log(300), store)
    await client.checksums(module(1))
    await store.settle()
    folder = tmp_path / "sum.example.test"
    for file in ("lookup/a.example/m1@v1.0.0", "tile/8/0/000"):
        good = (folder / file).read_bytes()
        (folder / file).write_bytes(good[:-9] + b"x" * 9)
        again = Store(reactor, tmp_path)
        http, client = client_of(small_log(300), again)
        assert (await client.checksums(module(1))).zip == "h1:zip1"
        assert http.count(file) == 1
        await again.settle()
        assert (folder / file).read_bytes() == good
