"""
The part of Go's C{html/template} that home pages of Athens use.

Text, C{{{ .Field }}}, C{if}, C{else if}, C{else}, C{with}, C{end}, comments, trim markers, pipelines, parentheses,
constants, and the functions of L{FUNCTIONS}. What is printed is escaped for HTML text and quoted attributes; it is not
escaped for scripts, as Go's is, so a page should not put a field into one. Anything else is a L{TemplateError} when the
template is read.
"""

from __future__ import annotations

import html
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote_plus

import attrs

Value: TypeAlias = str | int | bool
Scope: TypeAlias = tuple[Mapping[str, Value], Any]  # the data, and what the dot stands for
Expression: TypeAlias = Callable[[Scope], Value | Mapping[str, Value]]
Node: TypeAlias = Callable[[Scope, list[str]], None]

#: How deep blocks and parentheses may be nested, so that the parser's own stack is enough.
MAX_DEPTH = 50

_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_COMMENT = re.compile(r"\{\{(?:-\s)?\s*/\*.*?\*/\s*(?:\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>[+-]?\d{1,18}(?![\w.]))
          |(?P<field>\$?(?:\.[A-Za-z_]\w*)+|\$|\.)(?![\w.$])|(?P<word>[A-Za-z]\w*)|(?P<sign>[()|]))""",
    re.VERBOSE | re.ASCII,
)
_VERB = re.compile(r"%([svdqt%])")
_WHITE = " \t\r\n"


class TemplateError(Exception):
    """A template that can't be read, or can't be rendered."""


class _Safe(str):
    """Is HTML already."""


@attrs.frozen
class _Token:
    kind: str
    text: str


def _true(value: object) -> bool:
    return bool(value)


def _printed(value: object) -> str:
    """As Go's C{print} has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{name}:{_printed(value[name])}" for name in sorted(value)) + "]"
    return str(value)


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace('"', "&#34;").replace("'", "&#39;")


def _print(*values: Value) -> str:
    """Go puts a space between two neighbours that are no strings."""
    text = ""
    for before, value in zip(("", *values), values, strict=False):
        text += (" " if not isinstance(before, str) and not isinstance(value, str) else "") + _printed(value)
    return text


def _printf(form: Value, *values: Value) -> str:
    if not isinstance(form, str):
        raise TemplateError("printf wants a format")
    rest = iter(values)

    def verb(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        value = next(rest, None)
        if value is None:
            return f"%!{found[1]}(MISSING)"
        return json.dumps(value, ensure_ascii=False) if found[1] == "q" else _printed(value)

    if "%" in _VERB.sub("", form):
        raise TemplateError("printf knows only %s, %v, %d, %q, %t and %%")
    return _VERB.sub(verb, form)


def _compared(name: str, compare: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def function(one: Value, other: Value) -> bool:
        if type(one) is not type(other) or isinstance(one, Mapping | bool):
            raise TemplateError(f"{name} of values that can't be compared")
        return compare(one, other)

    return function


def _equal(one: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("eq wants two values")
    if any(isinstance(one, str) != isinstance(other, str) for other in others):
        raise TemplateError("eq of values that can't be compared")
    return any(one == other for other in others)


def _length(value: Value | Mapping[str, Value]) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return len(value)
    raise TemplateError("len of a number")


def _html(*values: Value) -> str:
    return _Safe(_escaped(_print(*values)))


#: The functions that a template may call; C{and} and C{or} are known to the parser, because they stop early.
FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "not": lambda value: not _true(value),
    "eq": _equal,
    "ne": lambda one, other: not _equal(one, other),
    "lt": _compared("lt", operator.lt),
    "le": _compared("le", operator.le),
    "gt": _compared("gt", operator.gt),
    "ge": _compared("ge", operator.ge),
    "len": _length,
    "html": _html,
    "urlquery": lambda *values: quote_plus(_print(*values), safe="~"),
    "print": _print,
    "println": lambda *values: " ".join(map(_printed, values)) + "\n",
    "printf": _printf,
}
_LAZY = {"and": False, "or": True}
_CONSTANTS: Mapping[str, bool] = {"true": True, "false": False}


class Template:
    """A template that was read, to be rendered any number of times."""

    def __init__(self, text: str) -> None:
        """@raise TemplateError: it holds something that is not supported, or makes no sense."""
        actions = _actions(text)
        self._nodes, end = _block(actions, 0)
        if end is not None:
            raise TemplateError(f"{end} without a beginning")

    def render(self, data: Mapping[str, Value]) -> str:
        """
        @param data: the fields; one that is missing prints nothing.
        @raise TemplateError: values don't go together.
        """
        out: list[str] = []
        _run(self._nodes, (data, data), out)
        return "".join(out)


def _actions(text: str) -> Iterator[str | list[_Token]]:
    """@return: in turns, what is to be printed as it is, and the tokens of an action."""
    at = 0
    trim = False
    while (start := text.find("{{", at)) >= 0:
        comment = _COMMENT.match(text, start)
        found = comment or _ACTION.match(text, start)
        if found is None:
            raise TemplateError("{{ without }}")
        before = text[at:start]
        before = before.lstrip(_WHITE) if trim else before
        whole = found[0]
        yield before.rstrip(_WHITE) if re.match(r"\{\{-\s", whole) else before
        trim = re.search(r"\s-\}\}\Z", whole) is not None
        if comment is None:
            yield list(_tokens(found[2]))
        at = found.end()
    yield text[at:].lstrip(_WHITE) if trim else text[at:]


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise TemplateError(f"can't read {text[at : at + 40].strip()!r}")
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind])
        at = found.end()


def _run(nodes: Sequence[Node], scope: Scope, out: list[str]) -> None:
    for node in nodes:
        node(scope, out)


def _block(actions: Iterator[str | list[_Token]], depth: int) -> tuple[list[Node], str | None]:
    """@return: the nodes up to the end of the block, and what ended it: C{end}, C{else ...}, or C{None} for the end."""
    if depth > MAX_DEPTH:
        raise TemplateError("blocks are nested too deeply")
    nodes: list[Node] = []
    for action in actions:
        if isinstance(action, str):
            if action:
                nodes.append(_literal(action))
            continue
        words = [token.text if token.kind == "word" else "" for token in action]
        if not words:
            raise TemplateError("an empty action")
        if words[0] == "end" and len(words) == 1:
            return nodes, "end"
        if words[0] == "else":
            if len(words) == 1:
                return nodes, "else"
            return [*nodes, _branch(action[1:], actions, depth + 1)], "else if"
        if words[0] in ("if", "with"):
            nodes.append(_branch(action, actions, depth))
        else:
            nodes.append(_output(_pipeline(action)))
    return nodes, None


def _branch(action: list[_Token], actions: Iterator[str | list[_Token]], depth: int) -> Node:
    """An C{if} or a C{with}, up to its C{end}."""
    word = action[0].text if action[0].kind == "word" else ""
    if word not in ("if", "with"):
        raise TemplateError("else must be followed by if or with")
    condition = _pipeline(action[1:])
    then, end = _block(actions, depth + 1)
    otherwise: list[Node] = []
    if end == "else":
        otherwise, end = _block(actions, depth + 1)
        if end == "end":
            end = None
        else:
            raise TemplateError("an else is not ended")
    elif end == "else if":
        otherwise = [then.pop()]
    elif end is None:
        raise TemplateError(f"{word} without end")

    def run(scope: Scope, out: list[str]) -> None:
        value = condition(scope)
        if _true(value):
            _run(then, (scope[0], value) if word == "with" else scope, out)
        else:
            _run(otherwise, scope, out)

    return run


def _literal(text: str) -> Node:
    return lambda scope, out: out.append(text)


def _output(expression: Expression) -> Node:
    def run(scope: Scope, out: list[str]) -> None:
        value = expression(scope)
        out.append(value if isinstance(value, _Safe) else _escaped(_printed(value)))

    return run


def _pipeline(tokens: Sequence[_Token]) -> Expression:
    parser = _Parser(tokens)
    expression = parser.pipeline(0)
    parser.finish()
    return expression


class _Parser:
    """Reads one pipeline."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("end", "")

    def finish(self) -> None:
        """Nothing may follow."""
        if self._peek().kind != "end":
            raise TemplateError(f"unexpected {self._peek().text!r}")

    def pipeline(self, depth: int) -> Expression:
        """Commands, each given the value of the one before as its last argument."""
        if depth > MAX_DEPTH:
            raise TemplateError("parentheses are nested too deeply")
        expression = self._command(depth, None)
        while self._peek().text == "|" and self._peek().kind == "sign":
            self._at += 1
            expression = self._command(depth, expression)
        return expression

    def _command(self, depth: int, piped: Expression | None) -> Expression:
        first = self._peek()
        if first.kind == "word" and first.text not in _CONSTANTS:
            self._at += 1
            arguments = []
            while self._peek().kind != "end" and self._peek().text not in ("|", ")"):
                arguments.append(self._operand(depth))
            return _call(first.text, [*arguments, piped] if piped is not None else arguments)
        if piped is not None:
            raise TemplateError("a value can't be piped into what is no function")
        return self._operand(depth)

    def _operand(self, depth: int) -> Expression:
        token = self._peek()
        self._at += 1
        if token.kind == "sign" and token.text == "(":
            inner = self.pipeline(depth + 1)
            if self._peek().text != ")":
                raise TemplateError("( without )")
            self._at += 1
            return inner
        if token.kind == "field":
            return _field(token.text)
        if token.kind == "word" and token.text in _CONSTANTS:
            return _constant(_CONSTANTS[token.text])
        if token.kind == "word":
            return _call(token.text, [])
        if token.kind == "number":
            return _constant(int(token.text))
        if token.kind == "string":
            return _constant(_string(token.text))
        raise TemplateError(f"unexpected {token.text or 'end'!r}")


def _string(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise TemplateError(f"can't read the string {text}") from error


def _constant(value: Value) -> Expression:
    return lambda scope: value


def _field(text: str) -> Expression:
    root = text.startswith("$")
    names = text.lstrip("$").split(".")[1:]
    names = [name for name in names if name]
    if len(names) > 1:
        raise TemplateError(f"{text}: fields have no fields")

    def get(scope: Scope) -> Value | Mapping[str, Value]:
        value = scope[0] if root else scope[1]
        if not names:
            return value
        if not isinstance(value, Mapping):
            raise TemplateError(f"{text}: there are no fields here")
        return value.get(names[0], "")

    return get


def _call(name: str, arguments: Sequence[Expression]) -> Expression:
    if name in _LAZY:
        if not arguments:
            raise TemplateError(f"{name} wants a value")
        return _lazy(_LAZY[name], arguments)
    function = FUNCTIONS.get(name)
    if function is None:
        raise TemplateError(f"{name!r} is not supported")

    def call(scope: Scope) -> Value:
        try:
            return function(*[argument(scope) for argument in arguments])
        except TypeError as error:
            raise TemplateError(f"{name} can't be called like this") from error

    return call


def _lazy(stop_at: bool, arguments: Sequence[Expression]) -> Expression:
    def call(scope: Scope) -> Value | Mapping[str, Value]:
        for argument in arguments:
            value = argument(scope)
            if _true(value) is stop_at:
                break
        return value

    return call
