"""How the C{Params} of an index are read."""

from __future__ import annotations

from athens_tx.config.values import Unreadable, duration
from athens_tx.errors import ConfigError


def seconds(setting: str, name: str, text: str) -> float | None:
    """
    @param text: a duration as Go writes it, or whole seconds.
    @return: C{None} where there is none, or one of 0, which means no limit to the drivers.
    @raise ConfigError: it is none, or below 0.
    """
    text = text.strip()
    try:
        found = int(text) if text.isascii() and text.isdigit() else _duration(text) if text else 0.0
    except Unreadable as error:
        raise ConfigError([f"{setting} {name}: {text}: a duration is wanted, such as 30s"]) from error
    if found < 0:
        raise ConfigError([f"{setting} {name}: {text} is below 0"])
    return found or None


def _duration(text: str) -> float:
    if text.endswith("ms") and text[:-2].isascii() and text[:-2].isdigit():
        return int(text[:-2]) / 1000
    found = duration(text)
    if found is None:
        raise Unreadable("no duration")
    return found
