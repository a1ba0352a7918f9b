"""What is found while settings are loaded: values, where they came from, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from athens_tx.config.declare import Setting
from athens_tx.config.literals import shown
from athens_tx.config.masking import masked


class Source(Enum):
    """The layers, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    VARIABLE = "variable"
    SECRET_FILE = "secret file"  # noqa: S105


@attrs.frozen
class Origin:
    """
    Where a value came from.

    @ivar name: the variable, if there is one.
    @ivar path: the file, if there is one; a variable that should name one may name none.
    @ivar line: the line in the file of settings; 0 where there is none.
    """

    source: Source
    name: str = ""
    path: Path | None = None
    line: int = 0

    def __str__(self) -> str:
        if self.source is Source.DEFAULT:
            return "default"
        if self.path is None:
            return self.name
        place = str(self.path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if self.source is Source.SECRET_FILE:
            return f"{self.name}: {place}"
        return f"{place}:{self.line}" if self.line else place


DEFAULT = Origin(Source.DEFAULT)


@attrs.frozen
class Found:
    """A value that is not the default, and where it was found."""

    value: Any
    origin: Origin


@attrs.define
class Findings:
    """
    All that is found, by the key of the setting; filled layer by layer.

    @ivar strict: take for a problem what may be a mistake.
    @ivar broken: the settings about which enough has been said.
    """

    strict: bool = False
    values: dict[str, Found] = attrs.Factory(dict)
    problems: list[str] = attrs.Factory(list)
    warnings: list[str] = attrs.Factory(list)
    broken: set[str] = attrs.Factory(set)

    def refuse(self, text: str) -> None:
        """Note what can't stay as it is."""
        self.problems.append(text)

    def warn(self, text: str) -> None:
        """Note what one should know."""
        self.warnings.append(text)

    def doubt(self, text: str) -> None:
        """Note what Athens lets pass, but is hardly meant."""
        (self.problems if self.strict else self.warnings).append(text)

    def fault(self, setting: Setting, value: Any, origin: Origin, text: str) -> None:
        """Note that a value can't be taken."""
        self.broken.add(setting.key)
        self.refuse(f"{statement(setting, value, origin)}: {text}")

    def found(self, setting: Setting) -> Found:
        """@return: what is known of a setting by now."""
        return self.values.get(setting.key) or Found(setting.default, DEFAULT)


def statement(setting: Setting, value: Any, origin: Origin) -> str:
    """@return: a setting with its value, masked, and where that came from."""
    return f"{setting.key} = {shown(masked(value, setting.secret))} ({origin})"


def origins(findings: Findings, settings: tuple[Setting, ...]) -> Mapping[str, Origin]:
    """@return: the origin of each setting, by its key."""
    return {setting.key: findings.found(setting).origin for setting in settings}
