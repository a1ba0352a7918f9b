"""
What went wrong, from what go, git and ssh print: the right failure, and a text that a client may see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
from athens_tx.http_client import masked

_MAX_TEXT = 4096
_MAX_DETAIL = 64 * 1024

#: The first that is found in the text decides; without regard to case.
_SIGNS: Sequence[tuple[type[AthensError], str]] = (
    (ChecksumMismatch, r"checksum mismatch|SECURITY ERROR"),
    (RateLimited, r"403 response from api\.github\.com|\b429 Too Many Requests|returned error: 429"),
    (RepositoryGone, r"remote: Repository not found"),
    (
        UpstreamForbidden,
        r"terminal prompts disabled|could not read (?:Username|Password)|Authentication failed|Permission denied \("
        r"|Host key verification failed|\b40[137] (?:Unauthorized|Forbidden|Proxy Auth)|returned error: 40[137]"
        r"|GOVCS disallows|Access denied|authorization failed|abort: http authorization required",
    ),
    (FetchTimeout, r"context deadline exceeded|Client\.Timeout exceeded"),
    (
        UpstreamUnreachable,
        r"no such host|could not resolve host|Name or service not known|server misbehaving|connection refused"
        r"|connection timed out|i/o timeout|network is unreachable|no route to host|connection reset|failed to connect"
        r"|TLS handshake|tls: |x509: |certificate verif|certificate problem|SSL_(?:connect|read)|unexpected EOF"
        r"|remote end hung up|ssh: connect to host|Connection closed by|early EOF"
        r"|\b50[0-9] (?:Internal|Bad Gateway|Service|Gateway)|returned error: 50[0-9]",
    ),
    (
        NotFound,
        r"unknown revision|no matching versions|not found|unrecognized import path|invalid version|malformed"
        r"|no secure protocol found|does not contain|\b404 |\b410 |no commits|missing [^\n]{0,300}go\.mod|but does not"
        r"|declares its path as|does not match|disallowed version|lookup disabled|does not appear to be a git repo"
        r"|reading [^\n]{0,300}: no such file|is not a tag|not a valid|couldn't find remote ref"
        r"|invalid (?:pseudo|character)"
        r"|should be v[0-9]|does not exist|not part of a module|version \"[^\"]{0,300}\" invalid",
    ),
)
_COMPILED = tuple((kind, re.compile(sign, re.IGNORECASE)) for kind, sign in _SIGNS)

# A path that begins here and not inside a URL or a module path; at least one directory deep.
_LOCAL_PATH = re.compile(r"(?<![\w./~-])/(?:[\w.+@~!=,-]+/)+[\w.+@~!=,-]*")
_LOCAL_URL = re.compile(r"file://[^\s\"'<>:]*")
_PROGRESS = re.compile(r"^go: (?:downloading|finding|extracting) [^\n]*\n?", re.MULTILINE)


def kind_of(text: str) -> type[AthensError]:
    """@return: the failure that a text speaks of in its first 64 KiB; L{FetchFailed} if it is none we know."""
    text = text[:_MAX_DETAIL]
    return next((kind for kind, sign in _COMPILED if sign.search(text)), FetchFailed)


class Scrubber:
    """Takes out of a text what others must not see."""

    def __init__(self, secrets: Callable[[], Sequence[str]]) -> None:
        """@param secrets: gives the words that must never appear."""
        self._secrets = secrets

    def detail(self, text: str) -> str:
        """@return: C{text} without credentials, for the log."""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return masked(text)[:_MAX_DETAIL]

    def public(self, text: str) -> str:
        """@return: C{text} without credentials, paths of this machine and noise, at most 4 KiB."""
        text = _PROGRESS.sub("", self.detail(text))
        text = _LOCAL_PATH.sub("...", _LOCAL_URL.sub("file://...", text))
        text = "\n".join(line.rstrip() for line in text.strip().removeprefix("go: ").splitlines() if line.strip())
        encoded = text.encode()
        if len(encoded) > _MAX_TEXT:
            text = encoded[: _MAX_TEXT - 3].decode("utf-8", "ignore") + "..."
        return text

    def failure(self, text: str, more: str = "", *, subject: str = "") -> AthensError:
        """
        @param text: what the command said of its failure.
        @param more: what else it printed.
        @param subject: said first if the text does not name it.
        """
        kind = kind_of(f"{text}\n{more}")
        said = self.public(text) or "the command failed without a word"
        if subject and subject.partition("@")[0] not in said:
            said = f"{subject}: {said}"
        error = kind(said, detail=self.detail(more or text))
        if isinstance(error, RateLimited):
            error.retry_after = 60
        return error
