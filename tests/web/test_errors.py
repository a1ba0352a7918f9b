"""What a client and the log are told of failures."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel

from athens_tx import errors
from athens_tx.observe.redact import redact
from athens_tx.storage.body import BytesZip
from athens_tx.web import errors as web_errors
from athens_tx.web.errors import MAX_TEXT, scrub

LIB = "/github.com/acme/lib"
ALL = ("@v/list", "@latest", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no such version", "no such version"),
        ("github.com/acme/lib@v1.0.0: not found", "github.com/acme/lib@v1.0.0: not found"),
        ("a\n\tb\r\n c\x00d", "a b c d"),
        ("open /var/lib/athens/x.info: denied", "open (a path): denied"),
        ("cd '/tmp/athens123/src'; in /root, x", "cd '(a path)'; in (a path), x"),
        ("Get https://user:secret@git.corp.test:8443/x?y=z failed", "Get (a URL) failed"),
        ('Get "https://git.corp.test/x": no', 'Get "(a URL)": no'),
        ("dial tcp 10.1.2.3:443: refused", "dial tcp (an address): refused"),
        ("dial tcp [fd00::1]:443: refused", "dial tcp (an address): refused"),
        ("lookup x on 10.1.2.3: no", "lookup (a host) on (an address): no"),
        ("at fd00::1, ::1 and 2001:db8:0:0:0:0:0:1.", "at (an address), (an address) and (an address)."),
        ("at 12:30:45, h1:abc, std::x, exit status 128: no", "at 12:30:45, h1:abc, std::x, exit status 128: no"),
        ("dial tcp [::1%eth0]:443 and ::ffff:10.0.0.1", "dial tcp (an address) and (an address)"),
        ("clone git@git.corp.internal:team/repo.git failed", "clone (a login) failed"),
        ("git@git.corp.internal: Permission denied (publickey).", "(a login): Permission denied (publickey)."),
        ("git@intern:team/repo: no", "(a login) no"),
        ("with adm:hunter2@host/path and adm:p/w@db.corp.test:5432/x", "with (a login) and (a login)"),
        ("ssh: Could not resolve hostname git.corp.internal: none", "ssh: Could not resolve hostname (a host): none"),
        ("Could not resolve host: intern", "Could not resolve host: (a host)"),
        ("ssh: connect to host git.corp port 22: refused", "ssh: connect to host (a host) port 22: refused"),
        ("Failed to connect to git port 443", "Failed to connect to (a host) port 443"),
        ("Connection closed by git.corp.test port 22", "Connection closed by (a host) port 22"),
        ("Connection reset by peer", "Connection reset by peer"),
        ("dial tcp: lookup git.corp.internal: no such host", "dial tcp: lookup (a host): no such host"),
        ("dial tcp git.corp.test:443: refused", "dial tcp (a host): refused"),
        ("valid for a.corp.test, b.corp.test, not c.corp.test", "valid for (a host)"),
        ("module lookup disabled by GOPROXY=off", "module lookup disabled by GOPROXY=off"),
        ("lookup github.com/acme/lib@v1.0.0: none", "lookup github.com/acme/lib@v1.0.0: none"),
        ("db.corp.internal:5432 user=adm password=hunter2", "(a host) user=adm password=***"),
        ("at db.corp.internal, localhost:3000", "at (a host), (a host)"),
        ("go.mod:12: bad, lib/a.go:100:2: bad", "go.mod:12: bad, lib/a.go:100:2: bad"),
        ("git.corp.internal/team/lib@v1.0.0: none", "git.corp.internal/team/lib@v1.0.0: none"),
        ("example.com@v1.0.0: none, foo@latest: none", "example.com@v1.0.0: none, foo@latest: none"),
        ("acme.test/a/b@release.1:x: none", "acme.test/a/b@release.1:x: none"),
        ("token ghp_abcdefgh0123 refused", "token *** refused"),
        ("version v1.2.3 or v1.2.3-0.20240102030405-abc", "version v1.2.3 or v1.2.3-0.20240102030405-abc"),
        ("either/or", "either/or"),
    ],
)
def test_a_text_that_leaves_the_house(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize("text", ["x" * 100_000, "\u00e9" * 100_000, "/" * 100_000, "1." * 50_000, "a://" * 50_000])
def test_a_long_text_is_cut(text: str) -> None:
    assert len(scrub(text).encode()) <= MAX_TEXT


@pytest.mark.parametrize(
    "piece",
    [
        *("[:", "a@", "a:", "a.a", "1.1.1.1", "::", "a::", "lookup ", "lookup a.", "valid for a.b, ", "://a:b@"),
        *("a.b:12/", "x ", "-", "a.b@c.d:", "password=", '"token":"', "eyJ", "ghp_", "/a", "localhost:", "internal."),
    ],
)
@pytest.mark.timeout(20)
def test_no_text_takes_long(piece: str) -> None:
    """All patterns over what is far longer than the beginning that L{scrub} itself looks at."""
    text = piece * (2**18 // len(piece))
    for end in ("", "@", "\x00"):
        redact(text + end)
        for name, pattern in vars(web_errors).items():
            if isinstance(pattern, re.Pattern):
                assert isinstance(pattern.sub("", text + end), str), name


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidModule("bad"), 400),
        (errors.InvalidRequest("bad"), 400),
        (errors.Refused("no"), 403),
        (errors.NotFound("none"), 404),
        (errors.RepositoryGone("gone"), 404),
        (errors.AlreadyStored("again"), 409),
        (errors.RateLimited("slow", retry_after=7), 429),
        (errors.NotSupported("not here"), 501),
        (errors.Overloaded("full", retry_after=3), 503),
        (errors.StorageUnavailable("down"), 503),
        (errors.HookFailed("unclear"), 500),
        (errors.FetchTimeout("late"), 504),
        (errors.UpstreamForbidden("closed"), 404),
        (errors.UpstreamUnreachable("away"), 404),
        (errors.ChecksumMismatch("SECURITY"), 502),
        (errors.FetchFailed("failed"), 500),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_failure_has_its_status_and_one_line(
    serve: Any, error: errors.AthensError, status: int, logged: list[dict[str, Any]]
) -> None:
    server = serve()
    error.detail = "for the log only"
    server.protocol.failure = error
    for kind in ALL:
        del logged[:]
        got = await server.ask(f"{LIB}/{kind}")
        assert got.status == status
        lead = "not found: " if kind == "@v/list" and status not in (400, 403) else ""
        assert got.body == f"{lead}{error}\n".encode()
        assert got.headers["content-type"] == "text/plain; charset=utf-8"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert got.headers.get("retry-after") == (None if error.retry_after is None else str(error.retry_after))
        (event,) = [event for event in logged if event.get("detail")]
        expected = status in (400, 403, 404) or (status == 504 and kind in ("@v/list", "@latest"))
        level = LogLevel.info if expected else LogLevel.error
        if isinstance(error, errors.UpstreamForbidden | errors.UpstreamUnreachable):
            level = LogLevel.warn
        assert event["log_level"] is level
        assert (event["module"], event["detail"]) == ("github.com/acme/lib", "for the log only")
        assert event["version"] == ("" if kind in ALL[:2] else "v1.0.0")
        head = await server.ask(f"{LIB}/{kind}", "HEAD")
        assert (head.status, head.body) == (status, b"")


@pytest_twisted.ensureDeferred
async def test_trouble_on_the_way_is_told_apart_where_that_is_wanted(serve: Any) -> None:
    server = serve(gateway_errors=True)
    server.protocol.failure = errors.UpstreamUnreachable("away")
    assert (await server.ask(f"{LIB}/@latest")).status == 502


@pytest_twisted.ensureDeferred
async def test_a_failure_without_words_is_named_by_its_status(serve: Any) -> None:
    server = serve()
    server.protocol.failure = errors.Overloaded("")
    assert (await server.ask(f"{LIB}/@latest")).body == b"service unavailable\n"


@pytest_twisted.ensureDeferred
async def test_the_unexpected_is_an_internal_error(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    server.protocol.failure = RuntimeError("/srv/secret")
    got = await server.ask(f"{LIB}/@v/v1.0.0.mod")
    assert (got.status, got.body) == (500, b"internal error\n")
    (event,) = [event for event in logged if event["log_level"] is LogLevel.critical]
    assert event["module"] == "github.com/acme/lib"
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_work_that_is_cancelled_from_inside_is_503(serve: Any) -> None:
    server = serve()
    server.protocol.failure = CancelledError()
    assert (await server.ask(f"{LIB}/@latest")).status == 503


@pytest.mark.parametrize(
    ("error", "location"),
    [
        (
            errors.Elsewhere("https://up/base/?k=v", 301),
            "https://up/base/github.com/%21acme/lib/@v/v1.0.0+x.info?k=v",
        ),
        (errors.Elsewhere("https://up", 301), "https://up/github.com/%21acme/lib/@v/v1.0.0+x.info"),
        (errors.Elsewhere("https://up/base/", 303), "https://up/base/github.com/!acme/lib/@v/v1.0.0+x.info"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/athens"])
@pytest_twisted.ensureDeferred
async def test_elsewhere(serve: Any, error: errors.Elsewhere, location: str, prefix: str) -> None:
    server = serve(path_prefix=prefix)
    for where in (server.gate, server.protocol):
        where.failure = error
        got = await server.ask(f"{prefix}/github.com/!acme/lib/@v/v1.0.0+x.info?q=1")
        assert (got.status, got.body) == (error.status, b"")
        assert got.headers["location"] == location
        assert got.headers["cache-control"] == "no-store"
        where.failure = None


class Breaking(BytesZip):
    """Fails when a part of it was sent."""

    def __init__(self, data: bytes, length: int, error: Exception | None) -> None:
        super().__init__(data)
        self.length = length
        self.error = error

    def startProducing(self, consumer: Any) -> Deferred[None]:
        done = super().startProducing(consumer)
        if self.error is not None:
            done.addCallback(lambda _: self.fail())
        return done

    def fail(self) -> None:
        assert self.error is not None
        raise self.error


@pytest_twisted.ensureDeferred
async def test_a_failure_after_the_first_byte_cuts_the_connection(serve: Any, logged: list[dict[str, Any]]) -> None:
    server = serve()
    for length, error in ((10, errors.StorageUnavailable("disk")), (10, RuntimeError("bug")), (10, None), (3, None)):
        server.protocol.zip_body = Breaking(b"12345", length, error)
        wire = await server.connect()
        wire.send(f"GET {LIB}/@v/v1.0.0.zip HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = await wire.end()
        assert b"disk" not in got
        assert b"internal" not in got
        assert b"HTTP/1.1 5" not in got
        assert not server.site.in_flight
    assert len(server.metrics.seen) == 4
    logged.clear()


@pytest_twisted.ensureDeferred
async def test_a_failure_before_the_first_byte_is_answered(serve: Any) -> None:
    server = serve()
    server.protocol.zip_body = Breaking(b"", 10, errors.StorageUnavailable("disk"))
    got = await server.ask(f"{LIB}/@v/v1.0.0.zip")
    assert (got.status, got.body) == (503, b"disk\n")
    for name in ("etag", "accept-ranges", "content-range"):
        assert name not in got.headers
