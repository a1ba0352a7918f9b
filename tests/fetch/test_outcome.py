"""What went wrong, from what go and git print."""

from __future__ import annotations

import pytest

from athens_tx.errors import (
    AthensError,
    ChecksumMismatch,
    FetchFailed,
    FetchTimeout,
    NotFound,
    RateLimited,
    RepositoryGone,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.fetch.outcome import Scrubber, kind_of


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("github.com/a/b@v9.9.9: invalid version: unknown revision v9.9.9", NotFound),
        ("go: github.com/a/b@latest: no matching versions for query", NotFound),
        ('foo@latest: malformed module path "foo": missing dot in first path element', NotFound),
        ('unrecognized import path "a.b/c": reading https://a.b/c?go-get=1: 404 Not Found', NotFound),
        ("fatal: '/x' does not appear to be a git repository", NotFound),
        ("git ls-remote -q origin: exit status 128:\n\tremote: Repository not found.", RepositoryGone),
        ("remote: repository not found\nfatal: repository 'https://h/x' not found", RepositoryGone),
        (
            "fatal: could not read Username for 'https://github.com': terminal prompts disabled\n"
            "If this is a private repository, see https://golang.org/doc/faq#git_https for more information.",
            UpstreamForbidden,
        ),
        ("git@github.com: Permission denied (publickey).", UpstreamForbidden),
        ("fatal: Authentication failed for 'https://h/x/'", UpstreamForbidden),
        ("reading https://h/x.info: 403 Forbidden", UpstreamForbidden),
        ("The requested URL returned error: 403", UpstreamForbidden),
        ("GOVCS disallows using svn for public a.b/c; see 'go help vcs'", UpstreamForbidden),
        ("403 response from api.github.com", RateLimited),
        ("dial tcp: lookup a.b on 1.1.1.1:53: no such host", UpstreamUnreachable),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", UpstreamUnreachable),
        ("dial tcp 127.0.0.1:9: connect: connection refused", UpstreamUnreachable),
        ("x509: certificate signed by unknown authority", UpstreamUnreachable),
        ("server certificate verification failed", UpstreamUnreachable),
        ("reading https://h/x: 502 Bad Gateway", UpstreamUnreachable),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", FetchTimeout),
        ("verifying module: checksum mismatch\n\tSECURITY ERROR\nThis download does NOT match", ChecksumMismatch),
        ("something new", FetchFailed),
        ("", FetchFailed),
    ],
)
def test_kinds(text: str, kind: type[AthensError]) -> None:
    assert kind_of(text) is kind


def scrubber() -> Scrubber:
    return Scrubber(lambda: ["s3cret", "ghp_token"])


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("go: downloading a.b/c v1\ngo: finding x y\ngo: a.b/c@v1: it failed\n\n  \n", "a.b/c@v1: it failed"),
        (
            "in /var/tmp/athens-tx-0-1/modcache/cache/vcs/0a1b: exit status 128:",
            "in ...: exit status 128:",
        ),
        ("get https://user:pw@corp.test/x/y failed", "get https://***@corp.test/x/y failed"),
        ("https://s3cret.test ghp_token", "https://***.test ***"),
        ("clone of file:///srv/repos/a failed", "clone of file://... failed"),
        ('"/home/me/.netrc": unreadable', '"...": unreadable'),
        ("github.com/acme/lib@v1.0.0 and ./a/b and a/b", "github.com/acme/lib@v1.0.0 and ./a/b and a/b"),
        ("", ""),
    ],
)
def test_what_clients_may_see(text: str, public: str) -> None:
    assert scrubber().public(text) == public


def test_texts_are_short() -> None:
    text = scrubber().public("é" * 10_000)
    assert len(text.encode()) <= 4096
    assert text.endswith("é...")
    assert len(scrubber().detail("x" * 10**6)) == 64 * 1024


@pytest.mark.parametrize(
    "text",
    ["x", "reading ", "missing ", 'version "', "://", "/a", "a/", " /", "file://", "go: finding ", "a.b-c+"],
)
@pytest.mark.timeout(20)
def test_no_text_takes_long(text: str) -> None:
    scrubber().failure(text * (2**20 // len(text)), subject="a.b/c@v1")


def test_a_failure_has_its_kind_its_text_and_its_detail() -> None:
    error = scrubber().failure("unknown revision v9", "exit status 1: in /srv/x/y: s3cret", subject="a.b/c@v9")
    assert type(error) is NotFound
    assert (str(error), error.detail) == ("a.b/c@v9: unknown revision v9", "exit status 1: in /srv/x/y: ***")
    error = scrubber().failure("a.b/c: 403 response from api.github.com", subject="a.b/c@v9")
    assert (str(error), error.retry_after) == ("a.b/c: 403 response from api.github.com", 60)
    assert "without a word" in str(scrubber().failure(""))
