"""What goes wrong with a Redis server, in the words of the program."""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from txredisapi import RedisError, ResponseError

from athens_tx.errors import ConfigError, LockUnavailable
from athens_tx.starting import Away

_TLS = (SSL.Error, VerificationError)


class Unusable(Exception):
    """The server answers, and is not the one that is wanted now; the text says why."""


class Unready(Unusable):
    """It may be the one that is wanted soon."""


#: All that may come of asking a server.
TROUBLE: tuple[type[Exception], ...] = (
    RedisError,
    ConnectError,
    DNSLookupError,
    OSError,  # a TimeoutError of Python's is one
    DeferredTimeout,
    UnicodeError,  # of a host name
    Unusable,
    *_TLS,
)

#: Errors after which the server is not to be asked again: another one may have taken its place.
_DEMOTED = ("READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED")
_LOGIN = ("WRONGPASS", "NOAUTH", "invalid password", "invalid username-password")
_NEEDLESS = ("AUTH <password> called without", "Client sent AUTH, but no password")


def said(error: Exception) -> str:
    """@return: an error as the server put it."""
    return str(error.args[0]) if error.args else ""


def is_no_longer_master(error: Exception) -> bool:
    """@return: whether the server says that it can't write now."""
    return isinstance(error, ResponseError) and said(error).startswith(_DEMOTED)


def login_refused(error: ResponseError) -> ResponseError:
    """@return: what came of a login, without the server's words: they may repeat the password."""
    text = said(error)
    known = next((start for start in (*_LOGIN, *_NEEDLESS) if text.startswith(start)), "")
    return ResponseError(known or f"{text.partition(' ')[0][:40]} is its answer to a login")


def described(error: Exception) -> tuple[str, str]:
    """@return: an error for a client, and for the log with what to look at. Neither has a secret or an address."""
    if isinstance(error, Unusable):
        return str(error), ""
    if isinstance(error, ResponseError):
        return _refusal(said(error))
    if isinstance(error, _TLS):
        return (
            "no trusted TLS connection",
            f"{_tls(error)}; check SSL_CERT_FILE or ca_file, and the name in the certificate",
        )
    if isinstance(error, DeferredTimeout | ConnectTimeout | TimeoutError):
        return "no answer in time", "check the server's load, and the network"
    if isinstance(error, DNSLookupError | UnicodeError):
        return "its name is not known", "check the host name"
    if isinstance(error, RedisError):
        return "the connection broke", f"{said(error)}; does one side speak TLS and the other not?"
    return "can't connect", type(error).__name__ + (f": {error}" if isinstance(error, ConnectError) else "")


def _refusal(text: str) -> tuple[str, str]:
    if text.startswith(_NEEDLESS):
        return "the server wants no password", "remove the password from the settings"
    if text.startswith(_LOGIN):
        return "the login was refused", "check user and password"
    if text.startswith("NOPERM"):
        return "the user is not allowed to do this", f"{text[:200]}; it needs +@scripting +set +get +del +pexpire"
    if "DB index is out of range" in text:
        return "there is no such database", "check the number of the database"
    if text.startswith("MOVED"):
        return "this is a cluster", "set SingleFlight.Redis.Cluster"
    if "cluster support disabled" in text:
        return "this is no cluster", "unset SingleFlight.Redis.Cluster"
    return f"error {text.partition(' ')[0][:40]}", text[:200]


def _tls(error: Exception) -> str:
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = [str(reason[-1]) if isinstance(reason, tuple) else type(reason).__name__ for reason in reasons if reason]
    return "; ".join(said) or type(error).__name__


def unavailable(what: str, error: Exception) -> LockUnavailable:
    """@param what: what was tried, with the name of the lock."""
    short, long = described(error)
    return LockUnavailable(f"redis lock: {what}: {short}", detail=long, retry_after=10)


def unstartable(setting: str, address: str, error: Exception) -> ConfigError:
    """@param setting: what to look at first. @return: an L{Away} where it may help to try again."""
    short, long = described(error)
    kind = Away if _is_away(error) else ConfigError
    return kind([f"{setting}: {address}: {short}" + (f" ({long})" if long else "")])


def _is_away(error: Exception) -> bool:
    if isinstance(error, _TLS):
        return False
    if isinstance(error, ResponseError):
        return is_no_longer_master(error) or said(error).startswith(("CLUSTERDOWN", "TRYAGAIN"))
    return isinstance(error, Unready) or not isinstance(error, Unusable | UnicodeError)
