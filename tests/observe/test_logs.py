"""Log lines: their form, what they show of a value, and that nothing makes the observer raise."""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import json
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from athens_tx.errors import NotFound
from athens_tx.module.version import ModuleVersion
from athens_tx.observe.fields import ITEMS_LIMIT, MESSAGE_LIMIT, TRACEBACK_LIMIT, VALUE_LIMIT
from athens_tx.observe.logs import LogObserver, make_observer, parse_level

WHEN = datetime(2026, 11, 20, 23, 7, 14, 500000, tzinfo=UTC).timestamp()


def observer(stream: Any, log_format: str = "plain", **more: Any) -> LogObserver:
    given = {"level": "debug", "cloud_runtime": "none", "is_tty": False} | more
    return make_observer(stream, log_format=log_format, **given)


def written(event: dict[str, Any], log_format: str = "plain", **more: Any) -> str:
    """What an observer writes for an event, which is at info and at the time WHEN unless it says otherwise."""
    stream = io.StringIO()
    observer(stream, log_format, **more)({"log_level": LogLevel.info, "log_time": WHEN, **event})
    return stream.getvalue()


def fields(**given: Any) -> dict[str, Any]:
    """The fields of a JSON line, without time, level and message."""
    line = json.loads(written({"log_format": "said", **given}, "json"))
    return {key: value for key, value in line.items() if key not in ("time", "level", "msg")}


REQUEST = {
    "log_format": "incoming request",
    "http_method": "GET",
    "http_path": "/M/@v/v1.0.0.info",
    "http_status": 200,
    "request_id": "063649d7",
    "ms": 1.25,
    "bytes": 63,
    "source": "memory",
}


@pytest.fixture
def zone(monkeypatch):
    """Local time is what the test says."""
    import time

    def be(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield be
    monkeypatch.undo()
    time.tzset()


def test_it_is_an_observer():
    assert verifyObject(ILogObserver, observer(io.StringIO()))


@pytest.mark.parametrize(
    ("name", "clock"), [("UTC", "11:07PM"), ("XXX-1", "12:07AM"), ("XXX-4", "3:07AM"), ("XXX-13", "12:07PM")]
)
def test_a_plain_line_is_that_of_athens_with_extra_fields(zone, name, clock):
    zone(name)
    assert written(REQUEST) == (
        f"INFO[{clock}]: incoming request\tbytes=63 duration-ms=1.25 http-method=GET http-path=/M/@v/v1.0.0.info "
        "http-status=200 request-id=063649d7 source=memory \n"
    )


def test_a_json_line_is_that_of_athens_with_extra_fields():
    assert written(REQUEST, "json") == (
        '{"time":"2026-11-20T23:07:14Z","level":"INFO","msg":"incoming request","http-method":"GET",'
        '"http-path":"/M/@v/v1.0.0.info","request-id":"063649d7","bytes":63,"duration-ms":1.25,'
        '"http-status":"200","source":"memory"}\n'
    )


@pytest.mark.parametrize("log_format", ["plain", "json", ""])
def test_googles_cloud_has_its_own_names_and_overrides_the_format(log_format):
    line = written({"log_format": "x", "log_level": LogLevel.warn}, log_format, cloud_runtime="GCP")
    assert line == '{"timestamp":"2026-11-20T23:07:14Z","severity":"WARNING","message":"x"}\n'


def test_an_empty_format_is_plain():
    assert written({"log_format": "x"}, "").startswith("INFO[")


@pytest.mark.parametrize(("log_format", "level"), [("logfmt", "info"), ("JSON", "info"), ("plain", "loud")])
def test_an_unknown_format_or_level_is_refused(log_format, level):
    with pytest.raises(ValueError, match="no log"):
        observer(io.StringIO(), log_format, level=level)


@pytest.mark.parametrize(
    ("level", "plain", "cloud"),
    [
        (LogLevel.debug, "DEBUG", "DEBUG"),
        (LogLevel.info, "INFO", "INFO"),
        (LogLevel.warn, "WARN", "WARNING"),
        (LogLevel.error, "ERROR", "ERROR"),
        (LogLevel.critical, "ERROR", "ERROR"),
        (None, "INFO", "INFO"),
    ],
)
def test_the_levels_have_the_names_of_athens(level, plain, cloud):
    event = {"log_format": "x", "log_level": level}
    assert written(event).startswith(plain + "[")
    assert json.loads(written(event, "json"))["level"] == plain
    assert json.loads(written(event, cloud_runtime="GCP"))["severity"] == cloud


def test_a_plain_line_says_no_sentence_twice():
    event = {"log_format": "can't start: {problem}", "problem": "Port :1\ttaken", "error": "another"}
    assert written(event).endswith(": can't start: Port :1\\ttaken\terror=another \n")
    assert fields(problem="said not") == {"problem": "said not"}
    assert json.loads(written(event, "json"))["problem"] == "Port :1\ttaken"
    assert written({"log_format": "{now}", "now": "debug"}).endswith(": debug\tnow=debug \n")


def test_colours_are_for_terminals_and_for_plain_lines():
    event = {"log_format": "x", "http_status": 404}
    painted = written(event, is_tty=True)
    assert painted.startswith("\x1b[36mINFO\x1b[0m[")
    assert "\x1b[35mhttp-status\x1b[0m=404 " in painted
    assert "\x1b" not in written(event)
    assert "\x1b" not in written(event, "json", is_tty=True)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("trace", "DIWEC"),
        ("Debug", "DIWEC"),
        ("info", "IWEC"),
        (" WARN ", "WEC"),
        ("warning", "WEC"),
        ("error", "EC"),
        ("FATAL", "EC"),
        ("panic", "EC"),
    ],
)
def test_the_level_can_be_changed_while_it_runs(name, seen):
    stream = io.StringIO()
    watching = observer(stream, level="panic")
    watching.set_level(name)
    logger = Logger(observer=watching)
    logger.debug("D"), logger.info("I"), logger.warn("W"), logger.error("E"), logger.critical("C")
    assert "".join(line.split(": ")[1][0] for line in stream.getvalue().splitlines()) == seen


def test_an_unknown_level_changes_nothing():
    stream = io.StringIO()
    watching = observer(stream, level="error")
    with pytest.raises(ValueError, match="no log level 'loud': trace, debug"):
        watching.set_level("loud")
    Logger(observer=watching).info("x")
    assert stream.getvalue() == ""
    assert parse_level("warn") is LogLevel.warn


def test_what_twisted_says_of_its_ports_is_for_debugging():
    stream = io.StringIO()
    watching = observer(stream, level="info")
    twistd = "twisted.scripts._twistd_unix.UnixAppLogger"
    for namespace in ("twisted.internet.protocol.Factory", "log_legacy", twistd, "athens_tx.web.app"):
        Logger(namespace=namespace, observer=watching).info("from {x}", x=namespace)
    Logger(namespace="twisted.internet.tcp", observer=watching).error("from an error")
    assert [line.split(": ")[1].split("\t")[0] for line in stream.getvalue().splitlines()] == [
        "from athens_tx.web.app",
        "from an error",
    ]


def test_values_are_shown_by_their_kind():
    class Colour(enum.Enum):
        RED = 1

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    loop: list[Any] = []
    loop.append(loop)
    assert fields(
        text="é",
        raw=b"a\xff",
        view=memoryview(b"ab"),
        yes=True,
        none=None,
        number=7,
        huge=1 << 70,
        status=HTTPStatus.NOT_FOUND,
        ratio=0.1234567,
        endless=float("inf"),
        nan=float("nan"),
        when=datetime(2026, 1, 2, tzinfo=UTC),
        items=(1, "b", b"c"),
        names={"a": {1: [2]}},
        colour=Colour.RED,
        odd=Odd(),
        loop=loop,
    ) == {
        "text": "é",
        "raw": "a\\xff",
        "view": "ab",
        "yes": True,
        "none": None,
        "number": 7,
        "huge": "an integer of 71 bits",
        "status": 404,
        "ratio": 0.123457,
        "endless": "inf",
        "nan": "nan",
        "when": "2026-01-02T00:00:00+00:00",
        "items": [1, "b", "c"],
        "names": {"a": {"1": [2]}},
        "colour": "Colour.RED",
        "odd": "<Odd that can't be shown>",
        "loop": [[[["[[...]]"]]]],
    }


def test_plain_lists_and_mappings_are_written_as_go_prints_them():
    line = written({"log_format": "x", "ops": ["a.B", "c"], "map": {"k": "v", "n": 1}, "yes": True})
    assert line.split("\t")[1] == "map=map[k:v n:1] ops=[a.B c] yes=true \n"


def test_long_values_are_cut():
    found = fields(text="x" * 10**6, items=list(range(1000)), raw=b"y" * 10**6)
    assert len(found["text"]) < VALUE_LIMIT + 30
    assert len(found["raw"]) < VALUE_LIMIT + 30
    assert len(found["items"]) == ITEMS_LIMIT + 1
    assert found["items"][-1] == f"({1000 - ITEMS_LIMIT} more)"
    assert len(json.loads(written({"log_format": "m" * 10**6}, "json"))["msg"]) < MESSAGE_LIMIT + 30


def test_the_keys_of_the_logging_machinery_are_no_fields():
    stream = io.StringIO()
    watching = observer(stream)
    event = {"message": ("old",), "time": WHEN, "system": "-", "isError": 0, "log_system": "-", "_hidden": 1, "mine": 2}
    watching({**event, "log_format": "old", "log_level": LogLevel.info, "log_time": WHEN})
    assert stream.getvalue().split("\t")[1] == "mine=2 \n"


def test_a_field_can_not_pass_for_the_head_of_a_line():
    line = written({"log_format": "real", "time": "never", "level": "NONE", "msg": "forged", "traceback": "t"}, "json")
    assert json.loads(line) == {
        "time": "2026-11-20T23:07:14Z",
        "level": "INFO",
        "msg": "real",
        "fields.time": "never",
        "fields.level": "NONE",
        "fields.msg": "forged",
        "fields.traceback": "t",
    }


def test_a_client_can_not_forge_a_field():
    line = written(REQUEST | {"http_path": "/x http-status=500 ", "request_id": "a\nERROR[1:00PM]: b\tc=d"})
    assert "http-path=/x\\x20http-status=500\\x20 http-status=200" in line
    assert "request-id=a\\nERROR[1:00PM]:\\x20b\\tc=d source" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_message_can_not_begin_a_line_of_its_own(log_format):
    line = written({"log_format": "asked for {what}", "what": "x\nERROR[1:00PM]: forged\u2028\x1b[2J"}, log_format)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


@pytest.mark.parametrize("mv", [ModuleVersion("github.com/acme/lib", "v1.0.0"), "github.com/acme/lib@v1.0.0"])
def test_a_module_version_becomes_two_fields(mv):
    line = json.loads(written({"log_format": "stashed {mv}", "mv": mv, "detail": ""}, "json"))
    assert line["msg"] == "stashed github.com/acme/lib@v1.0.0"
    assert (line["module"], line["version"]) == ("github.com/acme/lib", "v1.0.0")
    assert {"mv", "detail"}.isdisjoint(line)


def failed(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException:
        return Failure()


def test_a_failure_says_its_kind_and_how_it_came_about():
    event = {
        "log_format": "could not fetch",
        "log_level": LogLevel.error,
        "log_failure": failed(NotFound("no such version", detail="git: exit status 128")),
    }
    line = json.loads(written(event, "json"))
    assert (line["kind"], line["detail"]) == ("Not Found", "git: exit status 128")
    assert line["traceback"].startswith("Traceback (most recent call last):\n")
    assert line["traceback"].endswith("NotFound: no such version")
    assert json.loads(written(event | {"kind": "mine"}, "json"))["kind"] == "mine"


def test_a_plain_traceback_is_indented_whatever_the_error_says():
    event = {"log_format": "x", "log_failure": failed(ValueError("a\nERROR[1:00PM]: forged\r\x1b[2J"))}
    first, *rest = written(event).split("\n")
    assert first.endswith("]: x\t")
    assert rest.pop() == ""
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    ERROR[1:00PM]: forged\\r\\x1b[2J"


def test_an_error_without_words_has_no_kind():
    assert "kind" not in fields(log_failure=failed(ValueError("x")))
    assert "detail" not in fields(log_failure=failed(NotFound("x")))


def test_a_long_traceback_keeps_its_end():
    text = fields(log_failure=failed(ValueError("x" * 100000 + "END")))["traceback"]
    assert len(text) < TRACEBACK_LIMIT + 10
    assert text.endswith("END")


def test_a_failure_that_is_none_or_can_not_be_shown_does_not_stop_the_line():
    class Broken(Failure):
        def getTraceback(self, *args: Any, **more: Any) -> str:
            raise RuntimeError

    assert fields(log_failure="no Failure")["traceback"] == "no Failure"
    assert fields(log_failure=Broken(ValueError()))["traceback"] == "a traceback that can't be shown: RuntimeError"


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_secrets_are_in_no_line(log_format):
    event = {
        "log_format": "{what} of https://u:pw@host failed",
        "what": "clone",
        "url": "https://tok@host/x",
        "raw": b"tok3n-of-ours",
        "nested": {"tok3n-of-ours": ["https://a:b@c/"]},
        "log_failure": failed(ValueError("tok3n-of-ours https://u:pw@host")),
        "key tok3n-of-ours": 1,
    }
    line = written(event, log_format, secrets=["tok3n-of-ours"])
    for secret in ("tok3n-of-ours", "u:pw", "tok@", "a:b@"):
        # The source line of a traceback is shown as it is written, so it is ours to mask as well.
        assert secret not in line


def test_a_secret_that_looks_like_the_line_does_not_break_it():
    line = written({"log_format": "INFO 1234", "n": 1234}, "json", secrets=["1234", "INFO", "level"])
    assert json.loads(line) == {"time": "2026-11-20T23:07:14Z", "level": "INFO", "msg": "*** ***", "n": 1234}


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.text(st.sampled_from('\n\r\t\x00\x0b\x0c\x1b\x1c\x85\u2028\u2029\ud800\udc80\u202e"\\ =:%{}a'))
    | st.binary()
    | st.datetimes()
    | st.builds(object)
    | st.builds(ValueError, st.text()),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)
KEYS = st.text(st.characters(), max_size=8) | st.sampled_from(
    [
        "http_path",
        "http_status",
        "ms",
        "mv",
        "detail",
        "log_time",
        "log_format",
        "log_level",
        "log_namespace",
        "isError",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, ANY, max_size=6), st.sampled_from(["plain", "json", "GCP"]))
def test_any_event_is_exactly_one_line(event, log_format):
    stream = io.StringIO(newline="")
    watching = observer(stream, "json" if log_format == "GCP" else log_format, cloud_runtime=log_format)
    watching(event)
    lines = stream.getvalue().splitlines(keepends=True)
    assert watching.lost == 0
    assert len(lines) == 1
    assert lines[0].endswith("\n")
    lines[0].encode("utf-8")
    if log_format == "plain":
        assert "]: " in lines[0]
    else:
        assert isinstance(json.loads(lines[0]), dict)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters()))
def test_a_json_line_says_what_the_value_was(text):
    found = fields(x=text)["x"]
    if len(text) < VALUE_LIMIT and "@" not in text:
        assert found == "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


class Trouble(io.StringIO):
    """A stream whose disk is full for the first few lines."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    def write(self, text: str) -> int:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(), BlockingIOError(), ValueError("closed file")]
)
def test_a_stream_in_trouble_costs_lines_but_not_the_daemon(error):
    stream = Trouble(error, 2)
    watching = observer(stream)
    for number in range(3):
        watching({"log_format": f"line {number}"})
    assert watching.lost == 2
    assert "line 2" in stream.getvalue()


def test_a_full_disk_is_survived_for_real():
    stream = open("/dev/full", "w")  # noqa: SIM115  its last flush fails as well
    watching = observer(stream)
    for _ in range(100):
        watching({"log_format": "x" * 1000})
    assert watching.lost > 0
    with contextlib.suppress(OSError):
        stream.close()


def test_a_stream_of_another_encoding_gets_escapes():
    raw = io.BytesIO()
    watching = observer(io.TextIOWrapper(raw, encoding="ascii"))
    watching({"log_format": "café 例"})
    assert b"caf\\xe9 \\u4f8b" in raw.getvalue()


def test_a_stream_that_logs_does_not_go_round_in_circles():
    seen = []

    class Loud(io.StringIO):
        def write(self, text: str) -> int:
            seen.append(text)
            watching({"log_format": "again"})
            return len(text)

    watching = observer(Loud())
    watching({"log_format": "once"})
    assert len(seen) == 1


def test_threads_do_not_mix_their_lines():
    stream = io.StringIO()
    watching = observer(stream)

    def work(name: str) -> None:
        for _ in range(200):
            watching({"log_format": name * 50})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [line.split(": ")[1].split("\t")[0] for line in stream.getvalue().splitlines()]
    assert sorted(messages) == sorted(name * 50 for name in "abcd" for _ in range(200))
