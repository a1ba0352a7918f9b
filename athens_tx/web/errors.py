"""From a failure to what a client and the log are told of it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from athens_tx.errors import (
    AthensError,
    Elsewhere,
    InvalidModule,
    InvalidRequest,
    Refused,
    UpstreamForbidden,
    UpstreamUnreachable,
    http_status,
)
from athens_tx.observe.redact import redact
from athens_tx.web.request import WebRequest
from athens_tx.web.target import escape

#: How long the text of an answer may be, in bytes.
MAX_TEXT = 4096

#: Routes of the download protocol that have no version, and those that have one.
LISTS = frozenset(("list", "latest"))
FILES = frozenset(("info", "mod", "zip"))

_log = Logger(namespace="athens_tx.web")

# Each pattern is bounded, or starts only where a word does: a hostile text costs no more than its length.
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>)\]]+")
# user@host, user:password@host/path, git@host:path; not path@version, whose user would follow a slash.
_LOGIN = re.compile(
    r"""(?<![\w./~!+@-])
        (?: [^\s@:/'"<>()\[\]=,;]{1,64} : [^\s@/'"<>]{1,256}+ @ (?!v\d) [\w.-]{1,253}+
          | [^\s@:/'"<>()\[\]=,;]{1,64} : [^\s@'"<>]{1,256}+ @ (?!v\d) [\w-]{1,63}+ (?:\.[\w-]{1,63}+){1,9}+
          | [\w+-]{1,64}+ @ (?!v\d) [\w-]{1,63}+ (?:\.[\w-]{1,63}+){1,9}+
          | [\w.+-]{1,64}+ @ (?!v\d) [\w.-]{1,253}+ (?=:[^\s:]) )
        (?: [:/] [^\s"'<>]+ )?""",
    re.VERBOSE,
)
_ADDRESS = re.compile(
    r"""(?<![\w.])(?:\d{1,3}(?:\.\d{1,3}){3}|\[(?=[^\]:]{0,40}:)[0-9A-Fa-f:.%\w]{2,64}\])(?::\d{1,5})?(?![\w.]*\w)
      | (?<![\w:.])(?:(?:[0-9A-Fa-f]{1,4}:){7}|(?:[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6})?::)
        (?:[0-9A-Fa-f]{1,4}:){0,6}[0-9A-Fa-f]{1,4}(?:(?:\.\d{1,3}){3})?(?:%\w{1,16})?(?!\w)""",
    re.VERBOSE,
)
# The names that the words of go, git, ssh, curl and OpenSSL lead up to. Not "lookup disabled by GOPROXY=off".
_HOST = re.compile(
    r"""\b(hostname|host:|to\ host|lookup(?!\ disabled\b)|dial\ (?:tcp|udp)[46]?:?(?!:?\ lookup\b)
         |failed\ to\ connect\ to|connecting\ to|closed\ by|reset\ by|valid\ for)
        (\ ["'`\[]?) (?!(?:remote|peer|the|a|an|any|host|server|foreign|not)(?![\w.-]))
        [\w.-]{1,253}+ (?::\d{1,5}+)?+ (?![\w/@-])
        (?: (?:,\ |,?\ not\ |\ or\ ) [\w*-]{1,63}+ (?:\.[\w-]{1,63}+){1,9}+ (?![\w/@-]) ){0,50}""",
    re.VERBOSE | re.IGNORECASE,
)
# What is a name of this house by itself: one with a port, one below a domain that only houses have.
_INTERNAL = re.compile(
    r"""(?<![\w./@~!+-])(?:
          [\w-]{1,63}+ (?:\.[\w-]{1,63}+){1,9}+ (?<!\.go)(?<!\.mod)(?<!\.sum)(?<!\.work)
          :\d{2,5}+ (?!\w) (?:/[^\s"'<>]*)?
        | (?:[\w-]{1,63}+\.){1,9} (?:internal|intranet|corp|local|localdomain|lan|home|private) (?![\w/@-]|\.\w)
        | localhost (?::\d{1,5})? (?![\w/@.-]) )""",
    re.VERBOSE | re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w.~/@\])-])/[^\s\"'`<>:;,)\]/]+(?:/[^\s\"'`<>:;,)\]]*)?")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")


def scrub(text: str) -> str:
    """
    Make one line of C{text} that may leave the house: without credentials, URLs, logins, addresses, names of servers
    and paths of this machine. A module path stays.

    @return: at most L{MAX_TEXT} bytes of it.
    """
    text = redact(_SPACE.sub(" ", text[: 4 * MAX_TEXT]).strip())
    text = _URL.sub("(a URL)", text)
    text = _LOGIN.sub("(a login)", text)
    text = _ADDRESS.sub("(an address)", text)
    text = _HOST.sub(r"\1\2(a host)", text)
    text = _INTERNAL.sub("(a host)", text)
    text = _PATH.sub("(a path)", text)
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= MAX_TEXT else encoded[: MAX_TEXT - 3].decode("utf-8", "ignore") + "..."


def _level(error: AthensError, status: int, route: str) -> Any:
    """@return: error for what is ours to mend, info for what clients bring about, which anybody may do at any rate."""
    if status == 404 and isinstance(error, UpstreamUnreachable | UpstreamForbidden):
        return LogLevel.warn  # the client helps itself, but the way is broken
    expected = status == 404 or isinstance(error, Refused | InvalidModule | InvalidRequest)
    return LogLevel.info if expected or (status == 504 and route in LISTS) else LogLevel.error


class ErrorAnswers:
    """Answers requests that failed."""

    def __init__(self, *, gateway: bool) -> None:
        """@param gateway: see L{http_status}."""
        self._gateway = gateway

    def answer(self, request: WebRequest, error: Exception) -> bytes | None:
        """
        Answer, and log what the administrator should know. To be called while C{error} is handled.

        @return: the body, or C{None} where there is nothing to be said any more.
        """
        if request.gone:
            if not isinstance(error, AthensError | CancelledError | Elsewhere):
                self._log_unexpected(request)
            return None
        if isinstance(error, Elsewhere):
            _log.info("sent elsewhere", http_status=error.status, **self._about(request))
            return self._elsewhere(request, error)
        status = self._log_error(request, error)
        if request.startedWriting:
            request.abort()
            return None
        return self._text(request, error, status)

    def _elsewhere(self, request: WebRequest, error: Elsewhere) -> bytes:
        base, _, query = error.base.partition("?")
        # Athens escapes the ! of a path when a download mode redirects, and not when the filter does.
        path = escape(request.local, keep="!" if error.status == 303 else "")
        location = base.rstrip("/") + path + (f"?{query}" if query else "")
        body = request.redirect_to(error.status, location)
        request.setHeader(b"Cache-Control", b"no-store")  # the module may be here a second later
        return body

    def _text(self, request: WebRequest, error: Exception, status: int) -> bytes:
        if isinstance(error, AthensError):
            text = scrub(str(error)) or HTTPStatus(status).phrase.lower()
        elif isinstance(error, CancelledError):
            text = "the server gave the request up"
        else:
            text = "internal error"
        if request.route == "list" and status not in (400, 403):
            text = f"not found: {text}"
        body = request.reply(status, f"{text}\n".encode())
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        if isinstance(error, AthensError) and error.retry_after is not None:
            request.setHeader(b"Retry-After", b"%d" % max(0, error.retry_after))
        return body

    def _log_error(self, request: WebRequest, error: Exception) -> int:
        """@return: the status for C{error}."""
        if isinstance(error, CancelledError):
            return 503
        if not isinstance(error, AthensError):
            self._log_unexpected(request)
            return 500
        status = http_status(error, gateway=self._gateway)
        _log.emit(
            _level(error, status, request.route),
            "{error}",
            error=str(error),
            kind=HTTPStatus(status).phrase,
            detail=error.detail,
            **self._about(request),
        )
        return status

    def _log_unexpected(self, request: WebRequest) -> None:
        _log.failure("a request failed unexpectedly", failure=Failure(), **self._about(request))

    @staticmethod
    def _about(request: WebRequest) -> dict[str, Any]:
        return {
            "http_method": request.method[:32].decode("ascii", "backslashreplace"),
            "http_path": request.target.path if request.target is not None else "",
            "request_id": request.request_id,
            "module": request.module,
            "version": request.version,
        }
