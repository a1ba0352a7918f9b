"""Which module paths and which version queries may be asked for: the rules of the go command, and a bound on length."""

from __future__ import annotations

import re

from athens_tx.errors import InvalidModule
from athens_tx.module.escape import shown

#: How long a module path may be, escaped, in bytes: four times the longest known one.
MAX_PATH = 1024
#: How long an element of a path, or a version, may be, escaped, in bytes: what file systems can name.
MAX_ELEMENT = 255

RESERVED = r"(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])"  # names of devices on Windows, also before a dot
_ELEMENT = rf"(?!\.|{RESERVED}(?:[./]|\Z)|[^./]*~[0-9]+(?:[./]|\Z))[A-Za-z0-9._~-]+(?<!\.)"
_PATH = re.compile(rf"(?!-)(?=[a-z0-9-]*\.)(?![^/]*[^a-z0-9./-]){_ELEMENT}(?:/{_ELEMENT})*+\Z")

_NUMBERED = re.compile(r"/v([0-9.]+)\Z")
_GOPKG_IN = re.compile(r"\.v(?:0|[1-9][0-9]*+(?:-unstable)?)\Z")

# The go command takes ()[]{}^~$%& too, but puts what it gets into expressions of Mercurial's, which compute with them.
_QUERY = re.compile(rf"(?!-|.*\.\.|{RESERVED}(?:\.|\Z))[A-Za-z0-9#+,.=_-]+(?<!\.)\Z")
_NO_QUERIES = frozenset(("upgrade", "patch", "none"))

_FAULTS = (  # for the message only: what is wrong most likely, the first that is found
    (re.compile(r"\Z"), "it is empty"),
    (re.compile(r"(?s:.*)[^\x21-\x7e]"), "it holds a space, a control character or a character beyond ASCII"),
    (re.compile(r"-"), "it begins with a dash"),
    (re.compile(r"/|.*//|.*/\Z"), "an element of it is empty"),
    (re.compile(r"(?:.*/)?\.|.*\.(?:/|\Z)"), "an element of it begins or ends with a dot"),
    (re.compile(r".*[^A-Za-z0-9._~/-]"), "it holds a character that is not allowed"),
    (re.compile(r"[^./]*(?:/|\Z)"), "its first element has no dot"),
    (re.compile(r"[^/]*[^a-z0-9./-]"), "its first element is not a domain name in small letters"),
    (re.compile(rf"(?:.*/)?{RESERVED}(?:[./]|\Z)"), "an element of it is a reserved name on Windows"),
)


def _too_long(text: str, limit: int) -> bool:
    # A capital costs two bytes; what is beyond ASCII is refused elsewhere.
    return len(text) > limit // 2 and len(text) + sum(map(str.isupper, text)) > limit


def check_path(path: str) -> None:
    """
    @param path: a module path, unescaped.
    @raise InvalidModule: the go command would refuse to download it (it is no domain name with a path, holds a
        character that is not allowed, ends in C{/v1}, ...), or it is longer than L{MAX_PATH}.
    """
    if _too_long(path, MAX_ELEMENT) and (
        _too_long(path, MAX_PATH) or any(_too_long(element, MAX_ELEMENT) for element in path.split("/"))
    ):
        raise InvalidModule(f"module path {shown(path)} is too long")
    if _PATH.match(path) is None:
        fault = next((text for rule, text in _FAULTS if rule.match(path)), "an element of it ends in ~ and digits")
        raise InvalidModule(f"malformed module path {shown(path)}: {fault}")
    if split_path_version(path) is None:
        raise InvalidModule(f"malformed module path {shown(path)}: its major version suffix can't be")


def split_path_version(path: str) -> tuple[str, str] | None:
    """
    Cut off the major version suffix.

    @return: for C{example.com/m/v2} the pair C{example.com/m}, C{/v2}; for C{gopkg.in/yaml.v3} C{gopkg.in/yaml},
        C{.v3}; the path and an empty string where there is no suffix; C{None} if the suffix can't be: C{/v1}, C{/v02},
        C{/v2.1}, or none at all below C{gopkg.in/}.
    """
    if path.startswith("gopkg.in/"):
        found = _GOPKG_IN.search(path)
        return None if found is None else (path[: found.start()], found[0])
    found = _NUMBERED.search(path)
    if found is None:
        return path, ""
    number = found[1]
    if "." in number or number[0] == "0" or number == "1":
        return None
    return path[: found.start()], found[0]


def check_version_query(version: str) -> None:
    """
    Let pass what may be given to the go command behind an C{@}: a version, the beginning of one (C{v1}), C{latest}, a
    tag, a branch or a commit. It holds no slash, comparison or space, so that it is one file name and one argument.

    @param version: unescaped.
    @raise InvalidModule: it is none of these, is relative to what somebody uses now (C{upgrade}, C{patch}, C{none}),
        or is longer than L{MAX_ELEMENT}.
    """
    if _QUERY.match(version) is None or version in _NO_QUERIES:
        raise InvalidModule(f"version {shown(version)} can't be asked for")
    if _too_long(version, MAX_ELEMENT):
        raise InvalidModule(f"version {shown(version)} is too long")
