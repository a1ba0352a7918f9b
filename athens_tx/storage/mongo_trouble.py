"""What goes wrong with a MongoDB server, in the words of the program."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from pymongo.errors import AutoReconnect
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError
from twisted.internet.error import ConnectError, DNSLookupError

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.mongo_url import Host

#: Answers after which the same command may do better: elections, shut-downs, lost nodes.
PASSING = frozenset((6, 7, 89, 91, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436))
#: Answers that tell of what the user may not do.
_DENIED = frozenset((13, 18))

SILENT = "the server is there and does not answer; check its load and log, and the network"

_TLS = (SSL.Error, VerificationError)
#: Why there is no connection to a server; another one may be better.
UNCONNECTED: tuple[type[Exception], ...] = (
    AutoReconnect,
    TimeoutError,
    ConnectError,
    DNSLookupError,
    OSError,
    *_TLS,
)


class Refusal(StorageUnavailable):
    """
    The server answers, and says no.

    @ivar code: of the error.
    """

    code = 0


class AccessDenied(StorageUnavailable):
    """The server does not let the user in, or not do this."""


class Unreachable(Exception):
    """No server that takes writes; the text says why, for the log."""


class Passing(Exception):
    """An answer that may be another one soon."""

    def __init__(self, reply: Any) -> None:
        super().__init__()
        self.reply = reply


def unavailable(what: str, short: str, long: str) -> StorageUnavailable:
    """@return: what waiting may help against."""
    return StorageUnavailable(f"mongo storage: {what}: {short}", detail=long, retry_after=10)


def denied(what: str, short: str, long: str) -> AccessDenied:
    """@return: what the administrator has to look at."""
    advice = "check user name, password and authSource of Storage.Mongo.URL, and the roles of the user"
    return AccessDenied(f"mongo storage: {what}: {short}", detail=f"{long[:300]}; {advice}")


def refusal(what: str, error: Any) -> Refusal:
    """@param error: a document with C{code} and C{errmsg}."""
    code = int(error.get("code", 0))
    text = f"{error.get('codeName', '')} {error.get('errmsg', '')}".strip()
    found = Refusal(f"mongo storage: {what}: error {code}", detail=text[:300])
    found.code = code
    return found


def judged(what: str, reply: Any) -> Any:
    """@return: the answer, if it is a good one; errors of single documents are left to who knows them."""
    code = trouble(reply)
    if not code:
        return reply
    if code in _DENIED:
        raise denied(what, "the user is not allowed to", _concern(reply).get("errmsg", ""))
    raise refusal(what, _concern(reply))


def trouble(reply: Any) -> int:
    """@return: the code of the error that concerns the whole command; 0 if there is none."""
    if reply.get("ok") and not _concern(reply):
        return 0
    return int(_concern(reply).get("code", 0)) or -1


def _concern(reply: Any) -> Any:
    """@return: the part of an answer that tells of an error."""
    return reply.get("writeConcernError", {}) if reply.get("ok") else reply


def described(error: Exception) -> tuple[str, str]:
    """@return: an error for a client, and for the log."""
    if isinstance(error, Passing):
        return f"error {trouble(error.reply)}", str(_concern(error.reply).get("errmsg", ""))[:300]
    if isinstance(error, Unreachable):
        return "no server can be reached", f"{error}; check Storage.Mongo.URL"
    return "the connection broke", str(error)


def shown(host: Host) -> str:
    """@return: a server for the log."""
    return f"{host[0]}:{host[1]}" if host[1] else host[0]


def reason(error: BaseException) -> str:
    """@return: why there is no connection to a server."""
    if isinstance(error, _TLS):
        return f"no trusted TLS connection ({error}); check CertPath or tlsCAFile"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, AutoReconnect):
        return "the connection broke at the greeting; does one side speak TLS and the other not?"
    return str(error) or type(error).__name__


def unfit(hello: Any, replica_set: str) -> str:
    """@return: why a server that greets us is not the one to write to."""
    if not hello.get("ok"):
        return f"the greeting was refused: {hello.get('errmsg', '')}"
    if replica_set and hello.get("setName") != replica_set:
        return f"belongs to the replica set {hello.get('setName', '(none)')}, not to {replica_set}"
    return "is not the primary"
