"""Calls are tried again where that is safe and helps, never for longer than their limit; trouble is told once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from athens_tx.errors import BadUpstream, FetchTimeout, StorageUnavailable, UpstreamUnreachable
from athens_tx.http_client import AnswerCut, BodyTooLong, Response
from athens_tx.storage.calls import (
    ATTEMPT_LIMIT,
    ATTEMPTS,
    LONGEST_PAUSE,
    SLOWEST,
    TROUBLE_LIMIT,
    Calls,
    Request,
    to_the_end,
)
from athens_tx.storage.health import QUIET, Health
from athens_tx.storage.parts import PiecesBody

_case = SynchronousTestCase()
URL = "http://secret-host.example/bucket/key?signature=sesame"
HANG = "hang"


def answer(status: int, body: bytes = b"", **headers: str) -> Response:
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return Response(status, Headers(named), body, URL)


class Opened:
    """An answer whose body comes when C{body} fires."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers = Headers({})
        self.url = URL
        self.body: Deferred[bytes] = Deferred()

    async def read(self, *, limit: int, idle: float) -> bytes:
        return await self.body


class Http:
    """
    Answers as the script says, the last line for ever: with an answer, with an error, or never.

    @ivar times: when it was asked.
    @ivar limits: how long each attempt was to take.
    """

    def __init__(self, clock: Clock, script: list[Any]) -> None:
        self.clock = clock
        self.script = script
        self.times: list[float] = []
        self.limits: list[float] = []
        self.sent: list[tuple[str, str, Any, Any]] = []

    async def request(self, method: str, url: str, *, headers: Any, data: Any, limit: int, **times: float) -> Any:
        return await self.open(method, url, headers=headers, data=data, **times)

    async def open(self, method: str, url: str, *, headers: Any, data: Any, **times: float) -> Any:
        timeout = times["timeout"]
        self.times.append(self.clock.seconds())
        self.limits.append(timeout)
        self.sent.append((method, url, headers, data))
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if said == HANG:
            expired: Deferred[None] = Deferred()
            timer = self.clock.callLater(timeout, expired.callback, None)
            try:
                await expired
            finally:
                if timer.active():
                    timer.cancel()
            raise FetchTimeout(f"no complete answer within {timeout:g} s", detail=URL)
        if isinstance(said, Exception):
            raise said
        return said


class World:
    def __init__(self, *script: Any, limit: float = 100.0, chance: float = 1.0, **more: Any) -> None:
        self.clock = Clock()
        self.http = Http(self.clock, list(script))
        self.made = 0
        self.calls = Calls(
            self.clock,
            self.http,  # type: ignore[arg-type]
            "s3",
            limit=limit,
            chance=lambda: chance,
            **more,
        )
        self.calls.health.works()

    async def make(self) -> Request:
        self.made += 1
        return Request("PUT", URL, {"Authorization": f"sesame {self.made}"}, b"data")

    def small(self, expect: Any = (200, 404), **more: Any) -> Deferred[Response]:
        return Deferred.fromCoroutine(self.calls.small("get a/key", self.make, expect=expect, **more))

    def run(self, call: Deferred[Any]) -> Any:
        """@return: the result or the error of a call, after as much time as it takes, in small steps."""
        results: list[Any] = []
        call.addBoth(results.append)
        while not results:
            assert self.clock.seconds() < 10_000
            self.clock.advance(0.05)
        assert not self.clock.getDelayedCalls()
        failed = hasattr(results[0], "value")
        return results[0].value if failed else results[0]


def told(events: list[dict[str, Any]], *levels: str) -> list[str]:
    return [str(event.get("reason", "")) for event in events if event["log_level"].name in levels]


# --- tried again


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_and_signed_anew(status: int) -> None:
    world = World(answer(status), answer(status), answer(200, b"fine"))
    assert world.run(world.small()).body == b"fine"
    assert [headers["Authorization"] for _, _, headers, _ in world.http.sent] == ["sesame 1", "sesame 2", "sesame 3"]


@pytest.mark.parametrize("trouble", [UpstreamUnreachable("x"), AnswerCut("x"), FetchTimeout("x")])
def test_a_connection_that_breaks_is_tried_again(trouble: Exception) -> None:
    world = World(trouble, answer(200))
    assert world.run(world.small()).status == 200
    assert world.made == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405, 409, 412, 501])
def test_what_does_not_pass_is_not_tried_again(status: int) -> None:
    world = World(answer(status))
    error = world.run(world.small())
    assert isinstance(error, StorageUnavailable)
    assert (str(error), error.retry_after) == (f"s3 storage: get a/key: status {status}", None)
    assert world.made == 1


@pytest.mark.parametrize("trouble", [BodyTooLong("x"), BadUpstream("x")])
def test_a_body_that_is_wrong_is_not_asked_for_again(trouble: Exception) -> None:
    world = World(trouble)
    assert isinstance(world.run(world.small()), StorageUnavailable)
    assert world.made == 1


def test_an_expected_status_is_an_answer_whatever_it_is() -> None:
    world = World(answer(503))
    assert world.run(world.small(expect=(503,))).status == 503


def test_an_answer_may_tell_of_trouble_in_spite_of_its_status() -> None:
    world = World(answer(200, b"bad"), answer(200, b"good"), answer(200, b"bad"))
    assert world.run(world.small(failed=lambda answer: answer.body == b"bad")).body == b"good"
    error = world.run(world.small(failed=lambda answer: answer.body == b"bad"))
    assert (str(error), error.retry_after) == ("s3 storage: get a/key: status 200", 10)


def test_it_is_tried_five_times() -> None:
    world = World(answer(503))
    error = world.run(world.small())
    assert (str(error), error.retry_after) == ("s3 storage: get a/key: status 503", 10)
    assert world.made == ATTEMPTS == 5


# --- when


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_the_pauses_double_and_have_jitter(chance: float, share: float) -> None:
    world = World(answer(503), chance=chance)
    world.run(world.small())
    times = world.http.times
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == pytest.approx([0.2 * share, 0.4 * share, 0.8 * share, 1.6 * share], abs=0.06)


@pytest.mark.parametrize(
    ("said", "waited"),
    [("3", 3), ("999999999", LONGEST_PAUSE), ("0", 0.2), ("Wed, 21 Oct", 0.2), ("²", 0.2), ("-1", 0.2)],
)
def test_retry_after_is_heeded_within_bounds(said: str, waited: float) -> None:
    world = World(answer(503, retry_after=said), answer(200))
    world.run(world.small())
    assert world.http.times[1] == pytest.approx(waited, abs=0.06)


@given(
    st.lists(
        st.sampled_from([HANG, answer(503), answer(503, retry_after="5"), AnswerCut("x")]), min_size=1, max_size=6
    ),
    st.floats(0.1, 60),
    st.booleans(),
)
def test_whatever_happens_a_call_ends_within_its_limit(script: list[Any], limit: float, patient: bool) -> None:
    world = World(*script, limit=limit)
    error = world.run(world.small(patient=patient))
    assert isinstance(error, StorageUnavailable)
    assert world.clock.seconds() <= limit + 0.2


def test_an_attempt_has_a_limit_of_its_own_that_grows_with_what_is_sent() -> None:
    world = World(answer(200), limit=1000)
    world.run(world.small())
    assert world.http.limits == [ATTEMPT_LIMIT]
    body = PiecesBody((b"x",), 100 * SLOWEST)

    async def make() -> Request:
        return Request("PUT", URL, {}, body)

    world.run(Deferred.fromCoroutine(world.calls.small("put", make, expect=(200,))))
    assert world.http.limits[-1] == ATTEMPT_LIMIT + 100
    world.run(world.small(patient=True))
    assert world.http.limits[-1] == 1000


def test_a_server_that_never_answers_is_given_up_at_the_limit() -> None:
    world = World(HANG, limit=25)
    error = world.run(world.small())
    assert isinstance(error, StorageUnavailable)
    assert 25 <= world.clock.seconds() <= 25.2
    assert world.made == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_black_hole_costs_the_first_forty_seconds_and_the_others_ten(stream: bool) -> None:
    world = World(HANG, limit=300)

    def took() -> float:
        begun = world.clock.seconds()
        assert isinstance(world.run(opened(world) if stream else world.small()), StorageUnavailable)
        return world.clock.seconds() - begun

    assert took() == pytest.approx(2 * ATTEMPT_LIMIT + 0.2, abs=0.2)
    assert [took(), took()] == pytest.approx([TROUBLE_LIMIT] * 2, abs=0.2)
    assert world.made == 4
    world.http.script = [answer(200)]
    world.run(world.small())
    world.http.script = [HANG]
    assert took() == pytest.approx(2 * ATTEMPT_LIMIT + 0.2, abs=0.2)


def test_a_store_in_trouble_is_asked_once_until_it_works(logged: list[dict[str, Any]]) -> None:
    world = World(answer(503))
    world.run(world.small())
    assert world.made == ATTEMPTS
    world.run(world.small())
    assert world.made == ATTEMPTS + 1
    world.run(world.small(patient=True))
    assert world.http.limits[-1] == pytest.approx(100, abs=0.1)  # what takes long there takes as long as ever
    world.http.script = [answer(200), answer(503), answer(200)]
    world.run(world.small())
    assert world.run(world.small()).status == 200
    assert len(told(logged, "error")) == 1


def test_credentials_that_never_come_are_given_up_at_the_limit() -> None:
    world = World(answer(200), limit=10)

    async def make() -> Request:
        await Deferred()
        raise AssertionError

    call = Deferred.fromCoroutine(world.calls.small("get a/key", make, expect=(200,)))
    error = world.run(call)
    assert isinstance(error, StorageUnavailable)
    assert str(error) == "s3 storage: get a/key: not done within 10 s"
    assert world.clock.seconds() == pytest.approx(10, abs=0.1)


def test_without_credentials_the_error_says_for_what_they_were_wanted(logged: list[dict[str, Any]]) -> None:
    world = World(answer(200))

    async def make() -> Request:
        raise StorageUnavailable("there are no credentials", detail="Key and Secret: none", retry_after=30)

    error = world.run(Deferred.fromCoroutine(world.calls.small("get a/key", make, expect=(200,))))
    assert str(error) == "s3 storage: get a/key: there are no credentials"
    assert (error.detail, error.retry_after) == ("Key and Secret: none", 30)
    assert told(logged, "error") == [str(error)]


@pytest.mark.parametrize("when", [0.0, 0.1, 0.3])
def test_who_gives_up_leaves_nothing_behind(when: float) -> None:
    world = World(answer(503), HANG)
    call = world.small()
    world.clock.advance(when)
    call.cancel()
    _case.failureResultOf(call, CancelledError)
    assert not world.clock.getDelayedCalls()


# --- other credentials


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_tried_again_once_with_other_credentials(status: int) -> None:
    asked: list[Request] = []

    def renew(request: Request, response: Response) -> bool:
        asked.append(request)
        assert (response.status, response.body) == (status, b"why")
        return True

    world = World(answer(status, b"why"), answer(200), renew=renew)
    assert world.run(world.small()).status == 200
    assert [request.headers["Authorization"] for request in asked] == ["sesame 1"]
    world = World(answer(status, b"why"), renew=renew)
    assert str(world.run(world.small())).endswith(f"status {status}")
    assert world.made == 2


def test_a_401_is_final_where_there_are_no_others() -> None:
    world = World(answer(401), renew=lambda request, response: False)
    assert str(world.run(world.small())).endswith("status 401")
    assert world.made == 1


# --- streams


def opened(world: World) -> Deferred[Any]:
    return Deferred.fromCoroutine(world.calls.open("get a/key", world.make, expect=(200, 404)))


def test_an_answer_is_opened_and_its_body_left_alone() -> None:
    wanted = Opened(200)
    world = World(answer_of(503), wanted)
    assert world.run(opened(world)) is wanted
    assert not wanted.body.called


def answer_of(status: int, body: bytes = b"<Error/>") -> Opened:
    made = Opened(status)
    made.body.callback(body)
    return made


def test_the_body_of_trouble_is_described() -> None:
    world = World(answer_of(403, b"why"), describe=lambda response: f"because {response.body!r}")
    error = world.run(opened(world))
    assert (str(error), error.detail) == ("s3 storage: get a/key: status 403", "because b'why'")


def test_the_body_of_trouble_may_not_come_for_ever() -> None:
    world = World(Opened(503), Opened(503), limit=100)
    error = world.run(opened(world))
    assert str(error).startswith("s3 storage: get a/key: not done within ")
    assert world.made == 2
    assert world.clock.seconds() <= 2 * ATTEMPT_LIMIT + 0.4


# --- what is told


@pytest.mark.parametrize(
    "trouble",
    [
        UpstreamUnreachable("the server can't be connected", detail=URL),
        AnswerCut("the connection broke", detail=URL),
        FetchTimeout("no complete answer within 3 s", detail=URL),
        BodyTooLong("more than 5 bytes", detail=URL),
        BadUpstream("no gzip", detail=URL),
        answer(503, b"<Error>sesame</Error>"),
        answer(403),
    ],
)
def test_a_message_names_backend_operation_and_key_and_neither_host_nor_secret(
    trouble: Any, logged: list[dict[str, Any]]
) -> None:
    error = World.run(world := World(trouble), world.small())
    assert str(error).startswith("s3 storage: get a/key: ")
    for word in ("://", "secret-host", "sesame"):
        assert word not in str(error)
        assert word not in repr(Request("GET", "x", {"Authorization": "sesame"}))
    assert told(logged, "error") == [str(error)]


def test_an_outage_is_told_once_with_its_cause_and_its_end_once(logged: list[dict[str, Any]]) -> None:
    world = World(
        UpstreamUnreachable("the server can't be connected", detail="look there"),
        describe=lambda response: "x",
    )
    for _ in range(3):
        world.run(world.small())
    troubles = [event for event in logged if event["log_level"].name == "error"]
    assert [(event["reason"], event["detail"]) for event in troubles] == [
        ("s3 storage: get a/key: the server can't be connected", "look there")
    ]
    world.http.script = [answer(200)]
    for _ in range(3):
        world.run(world.small())
    works = [event for event in logged if "works again" in event["log_format"]]
    assert len(works) == 1
    world.http.script = [answer(500)]
    world.run(world.small())
    assert len(told(logged, "error")) == 2


def test_a_store_that_refuses_to_be_written_does_not_come_and_go(logged: list[dict[str, Any]]) -> None:
    world = World(answer(200))

    def refused(*statuses: int) -> None:
        for status in statuses:
            world.http.script = [answer(status)]
            world.run(world.small())
            world.http.script = [answer(200)]
            world.run(world.small())

    refused(*[403] * 10, 400)
    assert told(logged, "error") == [f"s3 storage: get a/key: status {status}" for status in (403, 400)]
    assert not any("works again" in event["log_format"] for event in logged)
    world.clock.advance(QUIET - 1)
    refused(403)
    assert len(told(logged, "error")) == 2
    world.clock.advance(1)
    refused(403, 403)
    assert len(told(logged, "error")) == 3


def test_those_who_ask_one_store_tell_of_its_trouble_once(logged: list[dict[str, Any]]) -> None:
    clock = Clock()
    health = Health(clock, "s3")
    world, other = (World(UpstreamUnreachable("down"), health=health) for _ in range(2))
    world.run(world.small())
    other.run(other.small())
    assert len(told(logged, "error")) == 1
    assert other.made == 1
    other.http.script = world.http.script = [answer(200)]
    world.run(world.small())
    other.run(other.small())
    assert len([event for event in logged if "works again" in event["log_format"]]) == 1


def test_trouble_before_anything_has_worked_is_left_to_the_start(logged: list[dict[str, Any]]) -> None:
    world = World(UpstreamUnreachable("the server can't be connected"))
    world.calls = Calls(world.clock, world.http, "s3", limit=9.0)  # type: ignore[arg-type]
    world.run(world.small())
    world.http.script = [answer(200)]
    world.run(world.small())
    assert [event["log_format"] for event in logged if event["log_level"].name != "debug"] == []


def test_what_succeeds_at_the_second_attempt_is_not_told(logged: list[dict[str, Any]]) -> None:
    world = World(answer(503), answer(200))
    world.run(world.small())
    assert not [event for event in logged if event["log_level"].name != "debug"]


# --- to the end


def test_work_is_done_to_its_end_though_the_one_who_waits_gives_up() -> None:
    for end in ("callback", "errback"):
        go_on: Deferred[Any] = Deferred()
        done: list[str] = []

        async def work(go_on: Deferred[Any] = go_on, done: list[str] = done) -> str:
            result: str = await go_on
            done.append(result)
            return result

        waiting = Deferred.fromCoroutine(to_the_end(work()))
        for _ in range(3):
            waiting.cancel()
            _case.assertNoResult(waiting)
        finish: Callable[[Any], None] = getattr(go_on, end)
        if end == "callback":
            finish("done")
            assert _case.successResultOf(waiting) == "done" == done[0]
        else:
            finish(StorageUnavailable("broken"))
            _case.failureResultOf(waiting, StorageUnavailable)
