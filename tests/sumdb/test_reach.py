"""By which way a checksum database is reached."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import AthensError, FetchTimeout, UpstreamUnreachable
from athens_tx.sumdb.database import Database
from athens_tx.sumdb.reach import DECISION, DECISION_IN_TROUBLE, Reach
from tests.sumdb.logclient import LogClient, Reply, small_log

CASE = SynchronousTestCase()
NAME = "sum.example.test"
DOWN = UpstreamUnreachable("the server can't be connected")


def make(*proxies: str, base: str = "", entry: str = NAME) -> tuple[LogClient, Clock, Reach]:
    client, clock = LogClient(small_log(3), base), Clock()
    return client, clock, Reach(Database.parse(entry), proxies, client, clock)


def ask(reach: Reach, path: str = "latest") -> Reply:
    return CASE.successResultOf(Deferred.fromCoroutine(reach.get(path)))  # type: ignore[return-value]


def test_without_proxies_the_database_itself_is_asked() -> None:
    client, _, reach = make()
    assert ask(reach).body == client.log.latest()
    assert client.asked == [f"https://{NAME}/latest"]


def test_the_first_proxy_that_offers_it_is_used_for_everything() -> None:
    client, _, reach = make("https://one/", "https://two/go", "https://three", base=f"https://two/go/sumdb/{NAME}")
    client.replies["https://one/sumdb/sum.example.test/supported"] = Reply(404)
    for _ in range(2):
        assert ask(reach).status == 200
    assert client.asked == [
        f"https://one/sumdb/{NAME}/supported",
        f"https://two/go/sumdb/{NAME}/supported",
        f"https://two/go/sumdb/{NAME}/latest",
        f"https://two/go/sumdb/{NAME}/latest",
    ]


@pytest.mark.parametrize("answer", [Reply(404), Reply(410), Reply(204), Reply(500), DOWN])
def test_no_proxy_that_offers_it_leads_to_the_database(answer: Reply | Exception) -> None:
    client, _, reach = make("https://one")
    client.replies["/supported"] = answer
    assert ask(reach).status == 200
    assert client.asked == [f"https://one/sumdb/{NAME}/supported", f"https://{NAME}/latest"]


def test_a_folder_of_modules_is_not_asked() -> None:
    client, clock, reach = make("file:///srv/modules")
    ask(reach)
    clock.advance(DECISION - 1)
    ask(reach)
    assert client.asked == [f"https://{NAME}/latest"] * 2


@pytest.mark.parametrize("end", ["direct", "off"])
def test_no_proxy_behind_direct_or_off_is_asked(end: str) -> None:
    client, _, reach = make(end, "https://one", base=f"https://{NAME}")
    ask(reach)
    assert client.asked == [f"https://{NAME}/latest"]


def test_an_address_given_with_the_name_goes_past_all_proxies() -> None:
    client, _, reach = make("https://one", base="http://mirror/db", entry=f"{NAME} http://mirror/db/")
    ask(reach)
    assert client.asked == ["http://mirror/db/latest"]


@pytest.mark.parametrize(("refusal", "held"), [(Reply(404), DECISION), (Reply(503), DECISION_IN_TROUBLE)])
def test_a_decision_holds_for_a_while(refusal: Reply, held: float) -> None:
    client, clock, reach = make("https://one")
    client.replies["/supported"] = refusal
    for wait, decisions in ((0.0, 1), (held - 0.1, 1), (0.1, 2)):
        clock.advance(wait)
        ask(reach)
        assert client.count("/supported") == decisions


def test_when_the_chosen_way_fails_another_one_is_found_at_once() -> None:
    client, _, reach = make("https://one", base=f"https://{NAME}")
    client.replies["/supported"] = Reply(200)
    client.replies[f"one/sumdb/{NAME}/latest"] = Reply(200, b"from one")
    assert ask(reach).body == b"from one"
    client.replies.clear()
    client.asked.clear()
    assert ask(reach).body == client.log.latest()
    assert client.asked == [
        f"https://one/sumdb/{NAME}/latest",
        f"https://one/sumdb/{NAME}/supported",
        f"https://{NAME}/latest",
    ]


def test_when_there_is_no_other_way_the_failure_is_told() -> None:
    client, _, reach = make()
    client.replies["/latest"] = FetchTimeout("no complete answer within 30 s")
    CASE.failureResultOf(Deferred.fromCoroutine(reach.get("latest")), AthensError).trap(FetchTimeout)
    assert client.count("/latest") == 1


def test_an_answer_of_a_server_in_trouble_is_given_and_the_way_is_decided_anew() -> None:
    client, _, reach = make("https://one")
    client.replies["/supported"] = Reply(200)
    client.replies["/latest"] = Reply(503, b"busy")
    assert [ask(reach).status for _ in range(2)] == [503, 503]
    assert client.count("/supported") == 2


def test_all_who_ask_wait_for_one_decision() -> None:
    client, _, reach = make("https://one")
    client.hold = Deferred()
    asking = [Deferred.fromCoroutine(reach.get("latest")) for _ in range(3)]
    assert client.asked == [f"https://one/sumdb/{NAME}/supported"]
    asking[0].cancel()
    CASE.failureResultOf(asking[0], CancelledError)
    client.hold, held = None, client.hold
    held.callback(None)
    assert [CASE.successResultOf(each).status for each in asking[1:]] == [200, 200]


def test_paths_are_escaped_for_a_url_and_credentials_go_along() -> None:
    client = LogClient(small_log(1))
    reach = Reach(
        Database.parse(NAME), ["https://one"], client, Clock(), authorize=lambda url: {"Authorization": f"to {url}"}
    )
    client.replies["/supported"] = Reply(200)
    client.replies["x"] = Reply(200)
    ask(reach, "lookup/a.b/!c@v1.0.0+incompatible#x")
    url = f"https://one/sumdb/{NAME}/lookup/a.b/!c@v1.0.0+incompatible%23x"
    assert client.asked[-1] == url
    assert client.sent[-1] == {"Authorization": f"to {url}"}
