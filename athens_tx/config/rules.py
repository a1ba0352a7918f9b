"""What single values have to be. Rules that look at more than one setting are in L{athens_tx.config.checks}."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from athens_tx.config.declare import Rule
from athens_tx.config.masking import mask_urls

LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
STORAGE_TYPES = ("memory", "disk", "mongo", "gcp", "minio", "s3", "azureblob", "external")
LOCK_TYPES = ("", "memory", "etcd", "redis", "redis-sentinel", "gcp", "azureblob")
INDEX_TYPES = ("", "none", "memory", "mysql", "postgres")
#: What the first element of a path means something as already.
ROUTES = ("healthz", "readyz", "version", "metrics", "robots.txt", "catalog", "index", "sumdb")
DOWNLOAD_MODES = ("sync", "async", "none", "redirect", "async_redirect")

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
#: A checksum database as GOSUMDB names it: a name, or a name with the key that its tree is signed with.
_DATABASE = re.compile(_HOST + r"(?::\d+)?(?:/[\w./-]*)?(?:\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2})?", re.ASCII)
_SERVICE_PATH = re.compile(r"(?:/(?!\.)[A-Za-z0-9._-]+)+")
_ADDRESS = re.compile(r"(?:\[([^\[\]]*)\]|[^:\[\]\s/]*):([A-Za-z][A-Za-z0-9_-]*|[0-9]*)", re.ASCII)


def quoted(choices: Sequence[str]) -> str:
    """@return: the choices as they are named in a message: C{"a", "b" or "c"}."""
    names = [f'"{choice}"' for choice in choices]
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def one_of(*choices: str) -> Rule:
    """Exactly one of some words."""
    text = f"must be {quoted(choices)}"
    return Rule(" ".join(f"`{choice}`" if choice else '`""`' for choice in choices), _unless(text, choices))


def _unless(text: str, choices: Sequence[str]) -> Any:
    return lambda value: None if value in choices else text


def _log_level(value: str) -> str | None:
    # As Athens reads it: any case, blanks around it are nothing.
    return None if value.strip().lower() in LOG_LEVELS else f"must be {quoted(LOG_LEVELS)}, in any case"


def is_url(value: str, schemes: Sequence[str] = ("http", "https")) -> bool:
    """@return: whether C{value} is a URL of one of these schemes, with a host."""
    if re.search(r"[\x00-\x20\x7f]", value):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port or 1
        return parts.scheme in schemes and bool(parts.hostname) and port > 0
    except ValueError:  # brackets without an address, or a port that is none
        return False


def is_host(value: str) -> bool:
    """@return: whether C{value} is an address, without brackets, or a name that can be asked for."""
    try:
        ip_address(value.partition("%")[0])
        return True
    except ValueError:
        pass
    try:
        name = value.encode("idna")
        name.decode("idna")  # what says that it is encoded has to be
    except UnicodeError:
        return False
    return len(name) <= 253 and re.fullmatch(rf"{_HOST}\.?", name.decode()) is not None


def is_address(value: str) -> bool:
    """@return: whether a program can listen on C{value}: C{host:port}, C{[v6]:port} or C{:port}."""
    match = _ADDRESS.fullmatch(value)
    if match is None:
        return False
    inner, port = match.groups()
    if inner is not None:
        try:
            ip_address(inner.partition("%")[0])
        except ValueError:
            return False
    return not port.isdigit() or int(port) <= 65535


def is_base64(value: str) -> bool:
    """@return: whether C{value} is not empty and standard base64 with padding; line breaks in it are nothing."""
    try:
        return bool(base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True))
    except (binascii.Error, ValueError):
        return False


def _download_mode(value: str) -> str | None:
    if value in DOWNLOAD_MODES:
        return None
    kind, colon, rest = value.partition(":")
    if colon and kind == "file":
        return None if rest else "file: needs the path of a file behind it"
    if colon and kind == "custom":
        return None if is_base64(rest) else "what follows custom: must be a file in standard base64"
    return f"must be {quoted(DOWNLOAD_MODES)}, or file:PATH, or custom:BASE64"


def _checksum_databases(value: Sequence[str]) -> str | None:
    faults = (_checksum_database(entry) for entry in value)
    return next((fault for fault in faults if fault is not None), None)


def _checksum_database(entry: str) -> str | None:
    name, *rest = entry.split() or [""]
    shown = repr(mask_urls(entry))
    if rest:
        good = len(rest) == 1 and _DATABASE.fullmatch(name) and is_url(rest[0])
        return None if good else f"{shown} must be a name (or name+key) and an http or https URL"
    if "://" in name:
        return None if is_url(name, ("https",)) else f"{shown} must be an https URL, or NAME and any URL"
    if name == "off":
        return "to have no checksum database, use an empty list in place of 'off'"
    return None if _DATABASE.fullmatch(name) else f"{shown} must be an https URL, a name, or a name and a URL"


def _assignments(value: Sequence[str]) -> str | None:
    # The item is not repeated in the message: it may be the rest of a token that had a semicolon in it.
    for number, item in enumerate(value, 1):
        if item.find("=") < 1:
            return f"item {number} must have the form NAME=value"
    return None


def _service_path(value: str) -> str | None:
    if not value:
        return None
    first = value.split("/")[1] if value.startswith("/") else ""
    if _SERVICE_PATH.fullmatch(value) is None:
        return 'must be a path such as "/storage": elements of letters, digits, ".", "_" and "-", each after a slash'
    if "." in first:
        return "must not begin with a name with a dot: it would hide modules"
    return f'must not begin with "/{first}", which has another meaning' if first in ROUTES else None


def at_least(least: int) -> Rule:
    """A number with a lower bound."""
    return Rule(f">= {least}", lambda value: None if value >= least else f"must be at least {least}")


service_path = Rule(
    "a path that begins with `/`, without a dot in its first element, and not `/catalog` or the like", _service_path
)
not_empty = Rule("not empty", lambda value: None if value else "must not be empty")
#: For the numbers of which Athens says that they must not be zero; below zero they never worked.
above_zero = Rule("> 0", lambda value: None if value > 0 else "must be above 0")
known_log_level = Rule(" ".join(f"`{level}`" for level in LOG_LEVELS) + ", any case", _log_level)
known_mode = Rule(" ".join(f"`{mode}`" for mode in DOWNLOAD_MODES) + " `file:PATH` `custom:BASE64`", _download_mode)
checksum_databases = Rule("https URLs; or `name`, `name url` as in GOSUMDB", _checksum_databases)
assignments = Rule("`NAME=value` items", _assignments)
