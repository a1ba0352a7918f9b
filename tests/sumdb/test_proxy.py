"""What clients get below /sumdb/."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import UpstreamUnreachable
from athens_tx.sumdb.cache import Store
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.proxy import SumDBAnswer, SumDBProxy
from athens_tx.sumdb.reach import Reach
from athens_tx.sumdb.source import Source
from tests.sumdb.logclient import LogClient, small_log

CASE = SynchronousTestCase()
NAME = "sum.example.test"


def make(*patterns: str, name: str = NAME) -> tuple[LogClient, SumDBProxy]:
    client, clock = LogClient(small_log(300, name)), Clock()
    database = Database.parse(name)
    return client, SumDBProxy([Source(database, Store(clock), Reach(database, (), client, clock))], patterns)


def ask(proxy: SumDBProxy, rest: str, host: str = NAME) -> SumDBAnswer:
    return CASE.successResultOf(
        Deferred.fromCoroutine(proxy.answer(host, rest, b"a=b", {b"Authorization": [b"Basic c2VjcmV0"]}))
    )


def test_supported_is_answered_without_asking() -> None:
    client, proxy = make()
    assert ask(proxy, "/supported") == SumDBAnswer(200)
    assert client.asked == []


@pytest.mark.parametrize("rest", ["/latest", "/lookup/a.example/m1@v1.0.0", "/tile/8/0/000", "tile/8/0/001.p/44"])
def test_questions_are_answered_and_nothing_of_the_request_goes_along(rest: str) -> None:
    client, proxy = make()
    answer = ask(proxy, rest)
    path = rest.removeprefix("/")
    assert (answer.status, answer.body) == (200, client.log.answer(path))
    assert client.asked == [f"https://{NAME}/{path}"]
    assert client.sent == [{}]


def test_a_path_escaped_for_a_url_is_the_same_question() -> None:
    client, proxy = make()
    assert ask(proxy, "/lookup/a.example%2fm1%40v1.0.0").status == 200
    assert client.asked == [f"https://{NAME}/lookup/a.example/m1@v1.0.0"]


@pytest.mark.parametrize(
    ("host", "rest"),
    [
        ("sum.golang.org", "/supported"),
        ("sum.golang.org", "/latest"),
        (NAME, ""),
        (NAME, "/"),
        (NAME, "/secrets"),
        (NAME, "/supported/x"),
        (NAME, "/lookup/../latest"),
        (NAME, "/%2e%2e/latest"),
        (NAME + "x", "/supported"),
    ],
)
def test_all_else_is_not_found_and_nothing_is_asked(host: str, rest: str) -> None:
    client, proxy = make()
    answer = ask(proxy, rest, host)
    assert answer.status == 404
    assert answer.body.startswith(b"not found: ")
    assert client.asked == []


def test_what_the_database_does_not_know_is_told_in_its_words() -> None:
    _, proxy = make()
    answer = ask(proxy, "/lookup/a.example/other@v1.0.0")
    assert (answer.status, answer.body) == (404, b"not found: no such thing\n")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("github.com/priv/*", "github.com/priv/x@v1.0.0"),
        ("github.com/priv/*", "github.com/priv/x/sub@v1"),
        ("github.com/exact/repo", "github.com/exact/repo@v1.0.0"),
        ("github.com/exact/repo", "github.com/exact/repo/v2@v2.0.0"),
        ("github.com/MyCo/*", "github.com/!my!co/x@v1.0.0"),
        ("*.corp", "git.corp/x@v1.0.0"),
    ],
)
def test_private_names_are_refused_and_not_told(pattern: str, path: str) -> None:
    client, proxy = make("other.org", pattern)
    assert ask(proxy, f"/lookup/{path}") == SumDBAnswer(403)
    assert ask(proxy, f"/lookup/{path}".replace("!", "%21").replace("@", "%40")) == SumDBAnswer(403)
    assert client.asked == []
    assert ask(proxy, "/latest").status == 200


@pytest.mark.parametrize(
    "path", ["github.com/priv@v1.0.0", "github.com/myco/x@v1.0.0", "github.com/exact/repos@v1.0.0"]
)
def test_other_names_are_asked(path: str) -> None:
    client, proxy = make("github.com/priv/*", "github.com/MyCo/*", "github.com/exact/repo")
    assert ask(proxy, f"/lookup/{path}").status == 404
    assert client.count() == 1


def test_a_private_name_written_wrongly_is_not_told_either() -> None:
    client, proxy = make("github.com/MyCo/*")
    assert ask(proxy, "/lookup/github.com/MyCo/x@v1.0.0").status == 404
    assert client.asked == []


def test_a_database_that_can_not_be_reached_is_a_502(logged: list[dict[str, Any]]) -> None:
    client, proxy = make()
    client.replies["latest"] = UpstreamUnreachable("the server can't be connected", detail="10.0.0.1")
    answer = ask(proxy, "/latest")
    assert answer.status == 502
    assert answer.body == b"the checksum database can't be reached: the server can't be connected\n"
    assert formatEvent(logged[-1]) == f"{NAME} gave no answer to latest: the server can't be connected 10.0.0.1"


def test_a_name_may_have_a_path_and_begin_with_another_name() -> None:
    clock = Clock()
    clients, sources = [], []
    for name in ("sum.corp", "sum.corp/db"):
        clients.append(LogClient(small_log(3, name)))
        database = Database.parse(name)
        sources.append(Source(database, Store(clock), Reach(database, (), clients[-1], clock)))
    proxy = SumDBProxy(sources)
    assert ask(proxy, "/latest", "sum.corp").body == clients[0].log.latest()
    assert ask(proxy, "/db/latest", "sum.corp").body == clients[1].log.latest()
    assert ask(proxy, "/db/supported", "sum.corp").status == 200
