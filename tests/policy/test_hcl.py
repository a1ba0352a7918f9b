"""The part of HCL that is read, and what is not."""

from __future__ import annotations

import pytest

from athens_tx.policy.hcl import LIMIT, Argument, Block, HCLError, read


def failure(text: str) -> str:
    with pytest.raises(HCLError) as caught:
        read(text)
    return f"{caught.value.line}: {caught.value}"


def value(expression: str) -> str | None:
    [argument] = read(f"x = {expression}").arguments
    return argument.value


def test_arguments_blocks_labels_and_lines() -> None:
    assert read('a = "1"\n\nb "c" d {\n  e = "2" # f\n  g {\n  }\n}\r\nh = "3"') == Block(
        kind="",
        labels=(),
        arguments=(Argument("a", "1", 1), Argument("h", "3", 8)),
        blocks=(Block("b", ("c", "d"), (Argument("e", "2", 4),), (Block("g", (), (), (), 5),), 3),),
        line=1,
    )


def test_words_of_the_language_are_names_too() -> None:
    assert read('for = "1"\nin {\n}\n') == Block("", (), (Argument("for", "1", 1),), (Block("in", (), (), (), 2),), 1)


def test_nothing_is_an_empty_file() -> None:
    assert read("") == read("# only a comment") == read("/* x */\n") == Block("", (), (), (), 1)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('""', ""),
        (r'"a\"b\\c\n\r\t"', 'a"b\\c\n\r\t'),
        (r'"\u00e9\U0001F600"', "é\N{GRINNING FACE}"),
        ('"é"', "é"),
        ('"$${x}%%{y}$z%"', "${x}%{y}$z%"),
        ('"a # b // c"', "a # b // c"),
    ],
)
def test_constant_strings_are_undone(expression: str, expected: str) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "1",
        "true",
        "null",
        "name",
        '["a"]',
        '{ a = "b" }',
        '"${x}"',
        '"a${"b"}"',
        '"a" == "b"',
        'x ? "a" : "b"',
        'upper("a")',
        '"%{ if x }a%{ endif }"',
        "<<EOF\na\nEOF\n",
    ],
)
def test_all_else_is_no_constant_string(expression: str) -> None:
    assert value(expression) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('a = "1" b = "2"', "1: each argument and each block needs a line of its own"),
        ('a {\n b = "1"\n} c {\n}', "3: each argument and each block needs a line of its own"),
        ('\n\na = "b\nc"', "3: a string has to end on its line"),
        ('a = "\\q"', "1: \\q is not an escape of HCL"),
        ('a = "\\ud800"', "1: \\ud800 is no character"),
        ('a = "\\U00110000"', "1: \\U00110000 is no character"),
        ('a = "1"\nb = ', "2: not HCL: something is missing here"),
        ("a {\n", "2: not HCL: something is missing here"),
        ('"a" = "b"', "1: not HCL, at '\"'"),
        ('\ufeffa = "b"', r"1: not HCL, at '\ufeffa ='"),
        ("a = \x00", "1: not HCL, at '\\x00'"),
    ],
)
def test_what_can_not_be_read_names_its_line(text: str, says: str) -> None:
    assert failure(text) == says


def test_a_long_token_is_cut_in_the_message() -> None:
    assert failure("é" * 1000) == "1: not HCL, at " + repr("é" * 40)


def test_hostile_sizes_are_refused() -> None:
    assert failure("#" * (LIMIT + 1)) == f"0: longer than {LIMIT} characters"
    assert "nested too deeply" in failure("a {\n" * 5000 + "}\n" * 5000)
    assert value("[" * 2000 + "]" * 2000) is None
