"""The validation hook, asked through a client of our own and once over a real connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from athens_tx.errors import FetchTimeout, HookFailed, Refused
from athens_tx.http_client import HttpClient
from athens_tx.policy.validator import ValidatorHook

CASE = SynchronousTestCase()


@attrs.frozen
class Answer:
    status: int
    body: bytes = b""


class FakeClient:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Answer]] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109
        limit: int = 0,
        follow_redirects: bool = False,
    ) -> Answer:
        self.asked.append((method, url, headers, data, timeout, follow_redirects))
        answer: Deferred[Answer] = Deferred()
        self.waiting.append(answer)
        return await answer


def make(ttl: float = 0.0) -> tuple[FakeClient, Clock, Callable[[str, str], Deferred[None]]]:
    client, clock = FakeClient(), Clock()
    hook = ValidatorHook(client, "https://hook/v?a=b", clock, timeout=3.0, cache_ttl=ttl)
    return client, clock, lambda path, version: Deferred.fromCoroutine(hook.check(path, version))


def warnings(logged: list[dict[str, Any]]) -> list[str]:
    return [formatEvent(event) for event in logged if event["log_level"] is LogLevel.warn]


def test_the_question_is_exactly_what_athens_asks() -> None:
    client, _, check = make()
    asking = check("github.com/Acme/x", "v1.0.0")
    assert client.asked == [
        (
            "POST",
            "https://hook/v?a=b",
            {"Content-Type": "application/json"},
            b'{"Module":"github.com/Acme/x","Version":"v1.0.0"}',
            3.0,
            False,
        )
    ]
    client.waiting.pop().callback(Answer(200))
    CASE.successResultOf(asking)


@pytest.mark.parametrize(
    ("status", "error"), [(403, Refused), (204, HookFailed), (302, HookFailed), (404, HookFailed), (500, HookFailed)]
)
def test_only_200_is_a_yes(status: int, error: type[Exception]) -> None:
    client, _, check = make()
    asking = check("a.b/c", "v1.0.0")
    client.waiting.pop().callback(Answer(status))
    CASE.failureResultOf(asking, error)


def test_trouble_on_the_way_is_no_answer() -> None:
    client, _, check = make()
    asking = check("a.b/c", "v1.0.0")
    client.waiting.pop().errback(FetchTimeout("no complete answer within 3 s", detail="https://hook"))
    error = CASE.failureResultOf(asking, HookFailed).value
    assert "a.b/c@v1.0.0" in str(error)
    assert "https" not in str(error)
    assert "https://hook" in error.detail


@pytest.mark.parametrize("status", [200, 403, 500])
def test_the_text_is_logged_shortened(status: int, logged: list[dict[str, Any]]) -> None:
    client, _, check = make()
    check("a.b/c", "v1.0.0").addErrback(lambda failure: None)
    client.waiting.pop().callback(Answer(status, b"{because}\n" + b"x" * 2000))
    [text] = warnings(logged)
    assert text.startswith("the validator hook says of a.b/c@v1.0.0: {because}\nxxx")
    assert text.count("x") == 1024 - len("{because}\n")


def test_no_text_is_not_logged(logged: list[dict[str, Any]]) -> None:
    client, _, check = make()
    check("a.b/c", "v1.0.0")
    client.waiting.pop().callback(Answer(200, b" \n"))
    assert warnings(logged) == []


def test_without_a_cache_each_question_is_a_call_that_its_asker_can_end() -> None:
    client, _, check = make()
    first, second = check("a.b/c", "v1.0.0"), check("a.b/c", "v1.0.0")
    assert len(client.waiting) == 2
    first.cancel()
    CASE.failureResultOf(first, CancelledError)
    client.waiting[1].callback(Answer(200))
    CASE.successResultOf(second)


def test_a_yes_is_remembered_for_its_time() -> None:
    client, clock, check = make(ttl=10.0)
    for wait, calls in ((0.0, 1), (9.9, 1), (0.1, 2)):
        clock.advance(wait)
        asking = check("a.b/c", "v1.0.0")
        while client.waiting:
            client.waiting.pop().callback(Answer(200))
        CASE.successResultOf(asking)
        assert len(client.asked) == calls
    check("a.b/c", "v1.0.1").addErrback(lambda failure: None)
    assert len(client.asked) == 3


@pytest.mark.parametrize("status", [403, 500])
def test_anything_else_is_asked_again(status: int) -> None:
    client, _, check = make(ttl=10.0)
    for calls in (1, 2):
        asking = check("a.b/c", "v1.0.0")
        client.waiting.pop().callback(Answer(status))
        CASE.failureResultOf(asking)
        assert len(client.asked) == calls


def test_with_a_cache_simultaneous_questions_are_one_call_and_who_leaves_ends_nothing() -> None:
    client, _, check = make(ttl=10.0)
    first, second, other = check("a.b/c", "v1.0.0"), check("a.b/c", "v1.0.0"), check("a.b/d", "v1.0.0")
    assert len(client.waiting) == 2
    first.cancel()
    CASE.failureResultOf(first, CancelledError)
    client.waiting[0].callback(Answer(200))
    CASE.successResultOf(second)
    client.waiting[1].callback(Answer(403))
    CASE.failureResultOf(other, Refused)


class Hook(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, bytes, bytes]] = []

    def render(self, request: Request) -> bytes:
        self.seen.append((request.method, request.path, request.content.read()))
        if request.path == b"/moved":
            request.setResponseCode(302)
            request.setHeader(b"Location", b"/ok")
        elif request.path == b"/no":
            request.setResponseCode(403)
        return b""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("path", "error"), [("ok", None), ("no", Refused), ("moved", HookFailed)])
async def test_over_a_real_connection_a_redirect_is_not_followed(path: str, error: type[Exception] | None) -> None:
    from twisted.internet import reactor

    site = Hook()
    port = reactor.listenTCP(0, Site(site, timeout=None), interface="127.0.0.1")  # type: ignore[attr-defined]
    client = HttpClient(reactor, {})
    hook = ValidatorHook(client, f"http://127.0.0.1:{port.getHost().port}/{path}", reactor, timeout=5.0)  # type: ignore[arg-type]
    try:
        if error is None:
            await hook.check("a.b/C", "v1.0.0")
        else:
            with pytest.raises(error):
                await hook.check("a.b/C", "v1.0.0")
        assert site.seen == [(b"POST", b"/" + path.encode(), b'{"Module":"a.b/C","Version":"v1.0.0"}')]
    finally:
        await client.close()
        await port.stopListening()
