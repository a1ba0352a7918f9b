"""How one setting is declared: everything that the program knows about it stands in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, get_origin

import attrs
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from athens_tx.config.masking import Secret, masked


class Kind(Enum):
    """What a setting looks like in the file and in a variable."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    LIST = "list"
    MAP = "map"
    ENV_LIST = "env list"
    SECONDS = "seconds"
    BYTES = "bytes"


#: Kinds that are plain Python types; the others are said by a mark in the annotation.
_BY_TYPE: Mapping[Any, Kind] = {
    str: Kind.STRING,
    int: Kind.INT,
    float: Kind.FLOAT,
    bool: Kind.BOOL,
    list: Kind.LIST,
    dict: Kind.MAP,
}

#: A whole number of seconds; may be written as C{5m} in a variable and, quoted, in the file.
Seconds = Annotated[int, Kind.SECONDS]
#: A number of bytes; may be written as C{1GiB}. Only settings of our own have this kind.
Bytes = Annotated[int, Kind.BYTES]
#: C{NAME=value} items, separated by C{;} in a variable.
EnvList = Annotated[list[str], Kind.ENV_LIST]


@attrs.frozen
class Rule:
    """
    What a value has to be, whatever the other settings are.

    @ivar text: for the reference table.
    @ivar fault: what would be right, for the one who wrote the value; C{None} where the value is right.
    """

    text: str
    fault: Callable[[Any], str | None]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic run the rule behind its own check of the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        fault = self.fault(value)
        if fault is not None:
            raise PydanticCustomError("rule", "{fault}", {"fault": fault})
        return value


def setting(
    name: str,
    env: str,
    default: object,
    meaning: str,
    *,
    rule: str = "",
    secret: Secret = Secret.NO,
    own: bool = False,
    example: object = None,
) -> Any:
    """
    Declare a setting.

    @param name: its key in the TOML file.
    @param env: its variable, the short form.
    @param meaning: one line for the administrator.
    @param rule: what a value has to be, where that depends on other settings; a L{Rule} says it otherwise.
    @param secret: what of it has to be hidden, and whether it may come from a file of its own.
    @param own: Athens does not have it.
    @param example: shown, commented out, in C{etc/athens.toml}: the default would be refused if the table were in use.
    """
    extra: Any = {"env": env, "rule": rule, "secret": secret, "own": own, "example": example}
    if isinstance(default, list | dict):
        return Field(default_factory=default.copy, title=name, description=meaning, json_schema_extra=extra)
    return Field(default, title=name, description=meaning, json_schema_extra=extra)


def table(name: str, model: type[Table]) -> Any:
    """Declare a table of settings, which exists whether or not the file names it."""
    return Field(default_factory=model, title=name)


class Table(BaseModel):
    """A table of settings: frozen, of exact types, checked by the L{Rule}s, and masked where it is printed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Any:
        """Give the fields for C{repr} and C{str}, as safe as in any other place where they are shown."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            yield name, value if isinstance(value, Table) else masked(value, secret_of(field))


@attrs.frozen
class Setting:
    """
    One setting as declared.

    @ivar path: names in the TOML file, tables first.
    @ivar attributes: names in L{athens_tx.config.Config}, in step with C{path}.
    @ivar env: the short form of its variable.
    @ivar rule: what a value has to be, for the reference; may be empty.
    """

    path: tuple[str, ...]
    attributes: tuple[str, ...]
    env: str
    kind: Kind
    default: Any
    meaning: str
    rule: str
    secret: Secret
    own: bool
    example: Any

    @property
    def key(self) -> str:
        """The path as it is written in messages: C{Storage.S3.Region}."""
        return ".".join(self.path)

    @property
    def prefix(self) -> str:
        """What makes the long form of the variable out of the short one."""
        return "_".join(["ATHENS", *(name.upper() for name in self.path[:-1]), ""])

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that may hold it, the one that wins first."""
        # Timeout is the one setting of Athens without a name of its own; ours have no accident to be true to.
        if self.own or self.path == ("Timeout",):
            return (self.env,)
        return (self.prefix + self.env, self.env)

    def of(self, config: Table) -> Any:
        """@return: the value of this setting in a configuration."""
        value: Any = config
        for name in self.attributes:
            value = getattr(value, name)
        return value


def declared(model: type[Table]) -> tuple[Setting, ...]:
    """@return: every setting of a table and of the tables in it, plain ones first, in the order of declaration."""
    return tuple(sorted(_walk(model, (), ()), key=lambda found: len(found.path) > 1))


def secret_of(field: FieldInfo) -> Secret:
    """@return: what has to be hidden of the values of a field."""
    kind: Secret = (_extra(field) or {}).get("secret", Secret.NO)
    return kind


def table_of(field: FieldInfo) -> type[Table] | None:
    """@return: the class of the table that a field holds; C{None} for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def _extra(field: FieldInfo) -> dict[str, Any] | None:
    extra: Any = field.json_schema_extra
    return extra if isinstance(extra, dict) else None


def _walk(model: type[Table], path: tuple[str, ...], attributes: tuple[str, ...]) -> list[Setting]:
    found: list[Setting] = []
    for name, field in model.model_fields.items():
        here, there = (*path, field.title or name), (*attributes, name)
        inner = table_of(field)
        found += [_setting(field, here, there)] if inner is None else _walk(inner, here, there)
    return found


def _setting(field: FieldInfo, path: tuple[str, ...], attributes: tuple[str, ...]) -> Setting:
    extra = _extra(field)
    assert extra is not None, path
    rules = [mark.text for mark in field.metadata if isinstance(mark, Rule)]
    return Setting(
        path=path,
        attributes=attributes,
        env=extra["env"],
        kind=_kind(field),
        default=field.get_default(call_default_factory=True),
        meaning=field.description or "",
        rule="; ".join([*rules, *filter(None, [extra["rule"]])]),
        secret=extra["secret"],
        own=extra["own"],
        example=extra["example"],
    )


def _kind(field: FieldInfo) -> Kind:
    marks = [mark for mark in field.metadata if isinstance(mark, Kind)]
    return marks[0] if marks else _BY_TYPE[get_origin(field.annotation) or field.annotation]
