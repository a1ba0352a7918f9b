"""
Every way to fail, and the one table from a failure to an HTTP status.

The text of an error is shown to clients (shortened, and scrubbed by L{athens_tx.web.errors}) and written to the log,
so it says in one line what happened to what; it never holds a credential, a path of this machine or an internal URL.
What only the administrator may see goes into C{detail}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class AthensError(Exception):
    """
    Something went wrong that no narrower class describes.

    @ivar detail: more for the log, never for a client: stderr of a command, a URL, a path.
    @ivar retry_after: seconds after which asking again may help; C{None} where waiting does not help.
    @ivar origin: of whom was asked in vain, C{upstream} or C{go}; empty where nobody was. For metrics.
    """

    origin: str = ""

    def __init__(self, message: str, *, detail: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.retry_after = retry_after

    def afresh(self) -> Self:
        """@return: the same without a traceback, which would keep every frame it went through alive in a cache."""
        copy = type(self)(str(self), detail=self.detail, retry_after=self.retry_after)
        copy.origin = self.origin
        return copy


class InvalidModule(AthensError):
    """A module path, version or escaping that the go command would refuse."""


class InvalidRequest(AthensError):
    """A parameter of a request that can't be read: a page size, a token, a date."""


class RequestTooLarge(AthensError):
    """A request brings a body or headers that no route wants."""


class NotFound(AthensError):
    """The module or the version does not exist, as far as the one who was asked knows."""


class RepositoryGone(NotFound):
    """The repository's own server said that it does not exist (it was deleted, or made private)."""


class Refused(AthensError):
    """The administrator's filter or validator hook says no."""


class AlreadyStored(AthensError):
    """A backend of somebody else's refuses to save a version again."""


class RateLimited(AthensError):
    """The upstream asks us to slow down."""


class NotSupported(AthensError):
    """The chosen backend can't do this (a catalog of an external storage)."""


class Overloaded(AthensError):
    """A bounded queue is full."""


class StorageUnavailable(AthensError):
    """The storage can't be reached or can't be read: never a reason to fetch."""


class LockUnavailable(AthensError):
    """The lock service can't be reached, or somebody else holds the lock for too long."""


class LockLost(LockUnavailable):
    """The lock that was ours is somebody else's, or nobody's."""


class IndexUnavailable(AthensError):
    """The database of the index can't be asked; or, where a line was to be added, no place takes it."""


class HookFailed(AthensError):
    """The validator hook did not answer, or answered something that is neither yes nor no."""


class FetchFailed(AthensError):
    """A fetch or a listing went wrong in a way that no class below describes."""


class FetchTimeout(FetchFailed):
    """A fetch or a listing took longer than its limit."""


class UpstreamForbidden(FetchFailed):
    """The upstream or the repository wants (other) credentials, or refuses this module."""


class UpstreamUnreachable(FetchFailed):
    """The network, the name service or the upstream's server is in trouble."""


class BadUpstream(FetchFailed):
    """What came from upstream is not a module version: cut, malformed, or about something else."""


class ChecksumMismatch(BadUpstream):
    """What came is not what the checksum database has: perhaps an attack. Never answered by 404."""


class ConfigError(AthensError):
    """
    The settings don't let the program start.

    @ivar problems: one readable line each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """Collects what is wrong, so that an administrator sees all of it at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    async def caught(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """@return: what C{work} gives, awaited if it has to be; C{None} if a L{ConfigError} was caught."""
        try:
            result = work(*arguments)
            return await result if hasattr(result, "__await__") else result
        except ConfigError as error:
            self._found += error.problems
            return None

    def raise_them(self) -> None:
        """@raise ConfigError: something was caught."""
        if self._found:
            raise ConfigError(list(dict.fromkeys(self._found)))  # a storage and its lock may say the same


class Elsewhere(Exception):
    """
    Not a failure: the answer is to be had at another server.

    @ivar base: its URL; the escaped path of the request, without our own prefix, is joined to it.
    @ivar status: 301 for a download mode, 303 for a direct rule of the filter file.
    """

    def __init__(self, base: str, status: int) -> None:
        super().__init__(f"{status} to another server")
        self.base = base
        self.status = status


#: The first class that fits decides. C{UpstreamForbidden} and C{UpstreamUnreachable} are 404 as Athens has it (a client
#: with C{GOPROXY=...,direct} then helps itself), unless C{UpstreamErrors = "gateway"} asks for L{GATEWAY_STATUS}.
HTTP_STATUS: tuple[tuple[type[AthensError], int], ...] = (
    (InvalidModule, 400),
    (InvalidRequest, 400),
    (RequestTooLarge, 413),
    (Refused, 403),
    (NotFound, 404),
    (AlreadyStored, 409),
    (RateLimited, 429),
    (NotSupported, 501),
    (Overloaded, 503),
    (StorageUnavailable, 503),
    (LockUnavailable, 503),
    (IndexUnavailable, 503),
    (HookFailed, 500),
    (FetchTimeout, 504),
    (UpstreamForbidden, 404),
    (UpstreamUnreachable, 404),
    (BadUpstream, 502),
    (AthensError, 500),
)

#: What differs from L{HTTP_STATUS} with C{UpstreamErrors = "gateway"}.
GATEWAY_STATUS: tuple[tuple[type[AthensError], int], ...] = (
    (UpstreamForbidden, 502),
    (UpstreamUnreachable, 502),
)


def http_status(error: BaseException, *, gateway: bool = False) -> int:
    """
    @param gateway: tell trouble on the way to upstream apart from a version that does not exist.
    @return: the status that a client gets for C{error}; 500 for what is no L{AthensError}.
    """
    table = GATEWAY_STATUS + HTTP_STATUS if gateway else HTTP_STATUS
    return next((status for kind, status in table if isinstance(error, kind)), 500)
