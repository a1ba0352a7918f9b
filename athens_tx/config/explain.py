"""The effective settings for people and for scripts, with secrets masked, and what changed between two of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from athens_tx.config.declare import Setting
from athens_tx.config.literals import literal, shown
from athens_tx.config.load import Loaded
from athens_tx.config.masking import masked
from athens_tx.config.settings import SETTINGS, Config


def as_toml(loaded: Loaded) -> str:
    """@return: a TOML document of all settings; behind each stands where it came from."""
    return "\n".join(_toml(loaded)) + "\n"


def _toml(loaded: Loaded) -> Iterator[str]:
    # A path may hold any character, and a comment ends with its line.
    file = literal(str(loaded.file)) if loaded.file else "none"
    yield f"# The effective settings, secrets masked. File: {file}"
    for table, settings in groupby(SETTINGS, lambda setting: setting.path[:-1]):
        yield ""
        if table:
            yield f"[{'.'.join(table)}]"
        for setting in settings:
            origin = literal(str(loaded.origins[setting.key]))[1:-1]
            yield f"{setting.path[-1]} = {literal(_value(setting, loaded.config))}  # {origin}"


def as_json(loaded: Loaded) -> str:
    """@return: a JSON document with C{file}, C{warnings} and, by key, the C{value} and C{origin} of each setting."""
    settings = {
        setting.key: {
            "value": _json_value(_value(setting, loaded.config)),
            "origin": str(loaded.origins[setting.key]),
        }
        for setting in SETTINGS
    }
    document = {"file": str(loaded.file) if loaded.file else None, "warnings": loaded.warnings, "settings": settings}
    return json.dumps(document, indent=2) + "\n"


def changes(old: Config, new: Config) -> list[tuple[str, str, str]]:
    """@return: key, old value and new value of each setting that differs, the values masked and as TOML writes them."""
    return [
        (setting.key, shown(_value(setting, old)), shown(_value(setting, new)))
        for setting in SETTINGS
        if setting.of(old) != setting.of(new)
    ]


def _value(setting: Setting, config: Config) -> Any:
    return masked(setting.of(config), setting.secret)


def _json_value(value: Any) -> Any:
    # JSON has no word for these.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
