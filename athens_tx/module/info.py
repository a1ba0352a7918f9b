"""The C{.info} document of a version: which version it speaks of."""

from __future__ import annotations

import json
import re
from datetime import datetime

from athens_tx.errors import BadUpstream, InvalidModule
from athens_tx.module.escape import shown
from athens_tx.module.version import ModuleVersion, check_path_major, is_canonical

#: How large a C{.info} may be, in bytes.
MAX_INFO = 1 << 20

_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")


def check_info(data: bytes, mv: ModuleVersion) -> str:
    """
    Look whether C{data} is the C{.info} of C{mv}.

    @param mv: as asked for: its version may be a query. Asked for a version that does not go with the path (v2 without
        C{/v2}), the answer may be another one (C{v2.0.0+incompatible}), as the go command has it.
    @return: the version that C{data} names; it is canonical and goes with the path.
    @raise BadUpstream: it is no JSON object with a canonical C{Version} and an RFC 3339 C{Time} (which may be absent),
        or speaks of another version.
    """
    document = _document(data)
    version = document.get("version")
    if not isinstance(version, str) or not is_canonical(version):
        raise BadUpstream(f"the .info of {_shown(mv)} names no canonical version")
    time = document.get("time")
    if time is not None and not _is_time(time):
        raise BadUpstream(f"the .info of {_shown(mv)} has a time that is not of RFC 3339")
    if version != mv.version and is_canonical(mv.version) and _goes_with_path(mv.path, mv.version):
        raise BadUpstream(f"the .info of {_shown(mv)} is that of version {shown(version)}")
    if not _goes_with_path(mv.path, version):
        raise BadUpstream(f"the .info of {_shown(mv)} names version {shown(version)}, which the path does not allow")
    return version


def _document(data: bytes) -> dict[str, object]:
    """@return: the members of the JSON object by their names in small letters: go does not mind the case either."""
    try:
        document = json.loads(data.decode()) if len(data) <= MAX_INFO else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BadUpstream("the .info of a version is not a JSON object")
    return {name.lower(): value for name, value in document.items()}


def _is_time(value: object) -> bool:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return False
    try:
        datetime.fromisoformat(found[1] + found[2])
    except ValueError:
        return False
    return True


def _goes_with_path(path: str, version: str) -> bool:
    try:
        check_path_major(path, version)
    except InvalidModule:
        return False
    return True


def _shown(mv: ModuleVersion) -> str:
    return shown(str(mv), 200)
