"""How values are written: in a variable with the literals of Go, in the file with the types of TOML."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, time
from fractions import Fraction
from typing import Any

import attrs

from athens_tx.config.declare import Kind


class Unreadable(ValueError):
    """A value that its setting can't take; the text says what would be right."""


@attrs.frozen
class Reading:
    """A value as it is meant, and what its writer should know about it."""

    value: Any
    note: str = ""


_INT = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|(?P<octal>0(?:_?[0-7])+)|0|[1-9](?:_?[0-9])*)"
)
_DIGITS = r"[0-9](?:_?[0-9])*"
_FLOAT = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEX = r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_HEX_FLOAT = re.compile(rf"[+-]?0[xX]_?(?:{_HEX}(?:\.(?:{_HEX})?)?|\.{_HEX})[pP][+-]?{_DIGITS}")
_NO_NUMBER = re.compile(r"(?i)nan|[+-]?inf(?:inity)?")
_DURATION = re.compile(r"([+-]?)((?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_SIZE = re.compile(r"(?i)([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b")
_TRUE = {"1", "t", "T", "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}
_FALSE = {"0", "f", "F", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}

_SECONDS_FORM = "whole seconds, such as 300, or a duration, such as 5m or 1h30m"
_BYTES_FORM = "a number of bytes, or one with a unit, such as 500MiB or 10GB"


def from_text(kind: Kind, text: str) -> Reading:
    """
    Read the value of a variable. What Athens takes means what it means there; a little more is taken.

    @raise Unreadable: it means nothing.
    """
    return _FROM_TEXT[kind](text)


def from_toml(kind: Kind, value: Any) -> Reading:
    """
    Read a value of the file. Types are strict: no number is made out of a string, nor the other way round.

    @raise Unreadable: it has another type.
    """
    if "\0" in _strings(value):
        raise Unreadable("must not hold a NUL character")
    return Reading(_FROM_TOML[kind](value))


def _strings(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(map(_strings, [*value.keys(), *value.values()]))
    return "".join(map(_strings, value)) if isinstance(value, list) else ""


def _int(text: str) -> Reading:
    stripped = text.strip()
    match = _INT.fullmatch(stripped)
    if match is None:
        hint = "; a leading 0 means octal" if re.fullmatch(r"[+-]?0[0-9]+", stripped) else ""
        raise Unreadable(f"must be a whole number{hint}")
    digits = stripped.replace("_", "")
    octal = match["octal"] is not None
    value = _in_range(int(digits, 8 if octal else 0))
    surprising = octal and value != int(digits, 10)
    return Reading(value, f"a leading 0 means octal: read as {value}" if surprising else "")


def _in_range(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Unreadable("must fit into 64 bits")
    return value


def _float(text: str) -> Reading:
    stripped = text.strip()
    digits = stripped.replace("_", "")
    if _NO_NUMBER.fullmatch(stripped):
        return Reading(float(stripped))
    try:
        if _HEX_FLOAT.fullmatch(stripped):
            return Reading(float.fromhex(digits))
        if _FLOAT.fullmatch(stripped) and not math.isinf(float(digits)):
            return Reading(float(digits))
    except OverflowError:
        pass
    raise Unreadable("must be a number, such as 0.25")


def _bool(text: str) -> Reading:
    stripped = text.strip()
    if stripped not in _TRUE | _FALSE:
        raise Unreadable("must be true or false")
    return Reading(stripped in _TRUE)


def _list(text: str) -> Reading:
    return Reading([part.strip() for part in text.split(",")] if text.strip() else [])


def _map(text: str) -> Reading:
    pairs: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else []:
        name, *values = pair.strip().split(":")
        if len(values) != 1:
            raise Unreadable("must be name:value pairs with commas between them, each with exactly one colon")
        pairs[name] = values[0]
    return Reading(pairs)


def _env_list(text: str) -> Reading:
    items = [item.strip() for item in text.split(";")]
    if "" in items:
        raise Unreadable("has an empty item: put ; only between NAME=value items")
    return Reading(items)


def _seconds(text: str) -> Reading:
    value = duration(text.strip())
    if value is not None:
        return Reading(value)
    return _as(text, _SECONDS_FORM)


def _bytes(text: str) -> Reading:
    value = size(text.strip())
    return Reading(value) if value is not None else _as(text, _BYTES_FORM)


def _as(text: str, form: str) -> Reading:
    try:
        return _int(text)
    except Unreadable as error:
        raise Unreadable(f"must be {form}" if _INT.fullmatch(text.strip()) is None else str(error)) from error


def duration(text: str) -> int | None:
    """
    @return: the seconds of a duration as Go writes it (C{1h30m}); C{None} for what is none.
    @raise Unreadable: they are not whole.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    total = sum(Fraction(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(match[2]))
    if total.denominator != 1:
        raise Unreadable(f"must be {_SECONDS_FORM}")
    return _in_range(int(-total if match[1] == "-" else total))


def size(text: str) -> int | None:
    """
    @return: the bytes of a size with a unit (C{1GiB}, C{10MB}); C{None} for what is none.
    @raise Unreadable: they are not whole.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        return None
    number, prefix, binary = match.groups()
    total = Fraction(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")
    if total.denominator != 1:
        raise Unreadable(f"must be {_BYTES_FORM}")
    return _in_range(int(total))


_FROM_TEXT: Mapping[Kind, Callable[[str], Reading]] = {
    Kind.STRING: Reading,
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.BOOL: _bool,
    Kind.LIST: _list,
    Kind.MAP: _map,
    Kind.ENV_LIST: _env_list,
    Kind.SECONDS: _seconds,
    Kind.BYTES: _bytes,
}


def _typed(wanted: type | tuple[type, ...], name: str, hint: str = "") -> Callable[[Any], Any]:
    """Make a reader that takes values of a type; C{bool}, an C{int} to Python, only where it is asked for."""

    def read(value: Any) -> Any:
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise Unreadable(f"must be {name}, this is {type_name(value)}{hint}")
        return value

    return read


def type_name(value: Any) -> str:
    """@return: what a value of the file is, with its article."""
    if isinstance(value, date | time):
        return "a date or time"
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "a string", list: "an array", dict: "a table"}
    return names.get(type(value), "something else")


def _toml_string(value: Any) -> Any:
    quotes = "; put it in quotes" if isinstance(value, int | float | date | time) else ""
    return _typed(str, "a string", quotes)(value)


def _toml_int(value: Any) -> Any:
    quotes = "; leave the quotes away" if isinstance(value, str) else ""
    return _in_range(_typed(int, "an integer", quotes)(value))


def _toml_float(value: Any) -> Any:
    quotes = "; leave the quotes away" if isinstance(value, str) else ""
    return float(_typed((int, float), "a number", quotes)(value))


def _toml_bool(value: Any) -> Any:
    quotes = "; leave the quotes away" if isinstance(value, str) else ""
    return _typed(bool, "a boolean", quotes)(value)


def _toml_list(value: Any) -> Any:
    brackets = "; put it in brackets" if isinstance(value, str) else ""
    for number, item in enumerate(_typed(list, "an array of strings", brackets)(value), 1):
        if not isinstance(item, str):
            raise Unreadable(f"must be an array of strings, but item {number} is {type_name(item)}")
    return value


def _toml_map(value: Any) -> Any:
    for name, item in _typed(dict, "a table of strings")(value).items():
        if not isinstance(item, str):
            raise Unreadable(f"must be a table of strings, but {name!r} is {type_name(item)}")
    return value


def _with_unit(read: Callable[[str], int | None], form: str) -> Callable[[Any], Any]:
    def toml(value: Any) -> Any:
        if not isinstance(value, str):
            return _in_range(_typed(int, form)(value))
        found = read(value.strip())
        if found is None:
            raise Unreadable(f"must be {form}")
        return found

    return toml


_FROM_TOML: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.STRING: _toml_string,
    Kind.INT: _toml_int,
    Kind.FLOAT: _toml_float,
    Kind.BOOL: _toml_bool,
    Kind.LIST: _toml_list,
    Kind.MAP: _toml_map,
    Kind.ENV_LIST: _toml_list,
    Kind.SECONDS: _with_unit(duration, 'whole seconds, such as 300, or a duration in quotes, such as "5m"'),
    Kind.BYTES: _with_unit(size, 'a number of bytes, or one with a unit in quotes, such as "500MiB"'),
}
