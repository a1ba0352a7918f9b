"""The syntax of values in variables and in the file."""

from __future__ import annotations

import math
import tomllib
from contextlib import suppress
from datetime import UTC, date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.config.declare import Kind
from athens_tx.config.values import Unreadable, duration, from_text, from_toml, size

BIG = 2**63


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10", 10),
        ("+5", 5),
        ("-5", -5),
        ("0x1F", 31),
        ("0X1f", 31),
        ("0x_1F", 31),
        ("-0x10", -16),
        ("0b101", 5),
        ("0o17", 15),
        ("0O17", 15),
        ("00", 0),
        ("1_000", 1000),
        (" 7\t", 7),
        ("9223372036854775807", BIG - 1),
        ("-9223372036854775808", -BIG),
    ],
)
def test_integers_of_a_variable(text, value):
    for kind in (Kind.INT, Kind.SECONDS, Kind.BYTES):
        reading = from_text(kind, text)
        assert (reading.value, reading.note) == (value, "")


@pytest.mark.parametrize(("text", "value"), [("010", 8), ("0_10", 8), ("-017", -15), ("+010", 8)])
def test_a_leading_zero_means_octal_and_is_told(text, value):
    for kind in (Kind.INT, Kind.SECONDS, Kind.BYTES):
        reading = from_text(kind, text)
        assert reading.value == value
        assert f"read as {value}" in reading.note


def test_an_octal_that_is_the_same_in_decimal_is_not_told():
    assert from_text(Kind.INT, "07").note == ""


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1.0", "1e3", "08", "0x", "0_", "1__0", "_1", "1_", "0b2", "0o8", "1 0", "- 1", "٣", "²", "--1"],
)
def test_what_is_no_integer(text):
    for kind in (Kind.INT, Kind.SECONDS, Kind.BYTES):
        with pytest.raises(Unreadable, match="must be"):
            from_text(kind, text)


def test_08_gets_a_hint():
    with pytest.raises(Unreadable, match="a leading 0 means octal"):
        from_text(Kind.INT, "08")


@pytest.mark.parametrize("text", [str(BIG), str(-BIG - 1), "0x10000000000000000", "99999999999999999999"])
def test_integers_have_64_bits(text):
    for kind in (Kind.INT, Kind.SECONDS, Kind.BYTES):
        with pytest.raises(Unreadable, match="64 bits"):
            from_text(kind, text)


@given(st.integers(-BIG, BIG - 1))
def test_every_integer_is_read_in_every_base(number):
    sign, digits = ("-" if number < 0 else ""), abs(number)
    for text in (str(number), f"{sign}{digits:#x}", f"{sign}{digits:#b}", f"{sign}{digits:#o}", f"{sign}0{digits:o}"):
        assert from_text(Kind.INT, text).value == number


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    for kind in Kind:
        with suppress(Unreadable):
            from_text(kind, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-1", 0.1),
        ("-.5", -0.5),
        ("+2.5E+1", 25.0),
        ("1_000.5", 1000.5),
        ("0x1p-2", 0.25),
        ("0x1.8p1", 3.0),
        ("0x_1p0", 1.0),
        ("0X1_0p0", 16.0),
        ("inf", math.inf),
        ("+Inf", math.inf),
        ("-infinity", -math.inf),
        (" 0.25 ", 0.25),
    ],
)
def test_floats_of_a_variable(text, value):
    assert from_text(Kind.FLOAT, text).value == value


def test_nan_is_a_float():
    assert math.isnan(from_text(Kind.FLOAT, "NaN").value)


@pytest.mark.parametrize(
    "text", ["", "50%", ".", "e5", "1e400", "0x1p99999", "0x1", "+nan", "infin", "1,5", "1__0", "٣"]
)
def test_what_is_no_float(text):
    with pytest.raises(Unreadable, match="must be a number"):
        from_text(Kind.FLOAT, text)


@pytest.mark.parametrize(
    "text", ["1", "t", "T", "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", " true "]
)
def test_true(text):
    assert from_text(Kind.BOOL, text).value is True


@pytest.mark.parametrize(
    "text", ["0", "f", "F", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "\tfalse"]
)
def test_false(text):
    assert from_text(Kind.BOOL, text).value is False


@pytest.mark.parametrize("text", ["", "TrUe", "2", "enable", "y", "t rue"])
def test_what_is_no_bool(text):
    with pytest.raises(Unreadable, match="true or false"):
        from_text(Kind.BOOL, text)


@pytest.mark.parametrize("text", ["", " ", " x ", "a,b;c\n"])
def test_a_string_is_taken_as_it_is(text):
    assert from_text(Kind.STRING, text).value == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", []),
        ("  ", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a, b ,c", ["a", "b", "c"]),
        ("a,,b,", ["a", "", "b", ""]),
    ],
)
def test_lists_of_a_variable(text, value):
    assert from_text(Kind.LIST, text).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (" ", {}),
        ("a:b", {"a": "b"}),
        ("parseTime:true,timeout:90s", {"parseTime": "true", "timeout": "90s"}),
        ("a:b, c:d", {"a": "b", "c": "d"}),
        ("a:", {"a": ""}),
        ("a:b=c", {"a": "b=c"}),
    ],
)
def test_maps_of_a_variable(text, value):
    assert from_text(Kind.MAP, text).value == value


@pytest.mark.parametrize("text", ["a", "a:b:c", "a:b,c=d", "a:b,", ","])
def test_what_is_no_map(text):
    with pytest.raises(Unreadable, match="exactly one colon"):
        from_text(Kind.MAP, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", ["A=b"]),
        (" A=b ; C=d,e ", ["A=b", "C=d,e"]),
        ("A=;B==", ["A=", "B=="]),
        ("no equals", ["no equals"]),  # the rule of the setting says what is wrong with it
    ],
)
def test_env_lists_of_a_variable(text, value):
    assert from_text(Kind.ENV_LIST, text).value == value


@pytest.mark.parametrize("text", ["A=b;", ";A=b", "A=b;;C=d", ";"])
def test_an_env_list_has_no_empty_item(text):
    with pytest.raises(Unreadable, match="empty item"):
        from_text(Kind.ENV_LIST, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("90s", 90),
        ("1.5h", 5400),
        (".5m", 30),
        ("5.m", 300),
        ("60000ms", 60),
        ("1000000µs", 1),
        ("1000000μs", 1),
        ("1000000us", 1),
        ("2000000000ns", 2),
        ("500ms500ms", 1),
        ("-5m", -300),
        ("+5m", 300),
        ("0s", 0),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == seconds
    assert from_text(Kind.SECONDS, f" {text} ").value == seconds
    assert from_toml(Kind.SECONDS, text).value == seconds


@pytest.mark.parametrize("text", ["1.5s", "500ms", "1d", "5 m", "m", "5M", "1h 2m", "five", ".s"])
def test_what_is_no_whole_number_of_seconds(text):
    for read in (from_text, from_toml):
        with pytest.raises(Unreadable, match="5m"):
            read(Kind.SECONDS, text)


def test_a_number_of_seconds_in_quotes_stays_an_error_of_the_file():
    with pytest.raises(Unreadable, match="such as 300"):
        from_toml(Kind.SECONDS, "300")


def test_a_plain_int_takes_no_unit():
    with pytest.raises(Unreadable):
        from_text(Kind.INT, "5m")
    with pytest.raises(Unreadable):
        from_toml(Kind.INT, "5m")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1GiB", 2**30),
        ("500MiB", 500 * 2**20),
        ("10MB", 10**7),
        ("1.5 KiB", 1536),
        ("2tb", 2 * 10**12),
        ("7B", 7),
        ("0b", 0),
        ("1kB", 1000),
    ],
)
def test_sizes(text, number):
    assert size(text) == number
    assert from_toml(Kind.BYTES, text).value == number
    if text != "0b":
        assert from_text(Kind.BYTES, f" {text} ").value == number


@pytest.mark.parametrize("text", ["1G", "1iB", "GiB", "1 PiB", "1.0001KiB", "-1GiB", "1GiBs", "1,5GB"])
def test_what_is_no_size(text):
    for read in (from_text, from_toml):
        with pytest.raises(Unreadable, match="500MiB"):
            read(Kind.BYTES, text)


def test_sizes_and_durations_have_64_bits():
    for kind, text in ((Kind.BYTES, "99999999TiB"), (Kind.SECONDS, "99999999999999999h")):
        with pytest.raises(Unreadable, match="64 bits"):
            from_text(kind, text)


TOML = {
    "a string": '"3000"',
    "an integer": "3000",
    "a float": "5.0",
    "a boolean": "true",
    "an array": '["a"]',
    "a table": '{ a = "b" }',
    "a date or time": "1979-05-27",
}
TAKEN = {
    Kind.STRING: {"a string"},
    Kind.INT: {"an integer"},
    Kind.FLOAT: {"an integer", "a float"},
    Kind.BOOL: {"a boolean"},
    Kind.LIST: {"an array"},
    Kind.ENV_LIST: {"an array"},
    Kind.MAP: {"a table"},
    Kind.SECONDS: {"an integer"},
    Kind.BYTES: {"an integer"},
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", TOML)
def test_types_of_the_file_are_strict(kind, name):
    value = tomllib.loads(f"v = {TOML[name]}")["v"]
    if name in TAKEN[kind]:
        read = from_toml(kind, value).value
        assert read == value
        assert type(read) is (float if kind is Kind.FLOAT else type(value))
    else:
        with pytest.raises(Unreadable, match=r"^must be"):
            from_toml(kind, value)


@pytest.mark.parametrize(
    ("kind", "value", "hint"),
    [
        (Kind.STRING, 3000, "put it in quotes"),
        (Kind.STRING, True, "put it in quotes"),
        (Kind.STRING, date(2024, 1, 2), "this is a date or time; put it in quotes"),
        (Kind.STRING, time(1, 2), "this is a date or time"),
        (Kind.STRING, datetime(2024, 1, 2, tzinfo=UTC), "this is a date or time"),
        (Kind.STRING, ["x"], "this is an array$"),
        (Kind.STRING, object(), "this is something else"),
        (Kind.INT, "10", "leave the quotes away"),
        (Kind.INT, True, "this is a boolean$"),
        (Kind.FLOAT, "0.5", "leave the quotes away"),
        (Kind.FLOAT, False, "this is a boolean$"),
        (Kind.BOOL, "true", "leave the quotes away"),
        (Kind.BOOL, 1, "this is an integer$"),
        (Kind.LIST, "https://x", "put it in brackets"),
        (Kind.LIST, ["a", 1], "item 2 is an integer"),
        (Kind.ENV_LIST, [["a"]], "item 1 is an array"),
        (Kind.MAP, {"a": "b", "timeout": 30}, "'timeout' is an integer"),
        (Kind.SECONDS, 5.0, "this is a float"),
        (Kind.BYTES, True, "this is a boolean"),
    ],
)
def test_a_wrong_type_is_told_with_a_hint(kind, value, hint):
    with pytest.raises(Unreadable, match=hint):
        from_toml(kind, value)


def test_integers_of_the_file_have_64_bits():
    for kind in (Kind.INT, Kind.SECONDS, Kind.BYTES):
        assert from_toml(kind, BIG - 1).value == BIG - 1
        with pytest.raises(Unreadable, match="64 bits"):
            from_toml(kind, BIG)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Kind.STRING, "a\0"), (Kind.LIST, ["a", "\0"]), (Kind.MAP, {"\0": "a"}), (Kind.MAP, {"a": "\0"})],
)
def test_no_string_of_the_file_holds_nul(kind, value):
    with pytest.raises(Unreadable, match="NUL"):
        from_toml(kind, value)
