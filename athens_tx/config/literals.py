"""Values as TOML text."""

from __future__ import annotations

import json
import re
from typing import Any

#: In a message a value is cut there.
LONGEST = 120


def literal(value: Any) -> str:
    """@return: a value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{key(name)} = {literal(part)}" for name, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return str(value)


def key(name: str) -> str:
    """@return: a key as TOML writes it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def shown(value: Any) -> str:
    """@return: a value for a message, which is one readable line."""
    text = literal(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _string(text: str) -> str:
    # The name of a file may hold bytes that are no UTF-8; nothing that is written out may.
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    escaped = json.dumps(clean, ensure_ascii=False)
    # TOML wants one escaped that JSON leaves, and a terminal is better off without the rest.
    return re.sub(r"[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", _escape, escaped)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
