"""The settings that the file gives: names without regard to case, exact types, and a word about what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from athens_tx.config.declare import Kind, Setting
from athens_tx.config.document import Document
from athens_tx.config.findings import Findings, Found, Origin, Source
from athens_tx.config.literals import key
from athens_tx.config.names import DEAD_KEYS, nearest_key
from athens_tx.config.settings import SETTINGS
from athens_tx.config.values import Unreadable, from_toml, type_name

Tree = dict[str, Any]
Path = tuple[str, ...]


def _tree() -> Tree:
    tree: Tree = {}
    for setting in SETTINGS:
        table = tree
        for name in setting.path[:-1]:
            table = table.setdefault(name.casefold(), {})
        table[setting.path[-1].casefold()] = setting
    return tree


_TREE = _tree()


def read_file(document: Document, findings: Findings) -> None:
    """Add what a document says to the findings."""
    _Reader(document, findings).table(document.values, (), (), _TREE)


class _Reader:
    """One walk over one document."""

    def __init__(self, document: Document, findings: Findings) -> None:
        self._document = document
        self._findings = findings

    def table(self, values: Mapping[str, Any], written: Path, known: Path, tree: Tree) -> None:
        """
        @param written: the path of this table as the file spells it.
        @param known: the path in lower case.
        @param tree: what may be in the table.
        """
        spellings: dict[str, str] = {}
        for name, value in values.items():
            path, folded = (*written, name), name.casefold()
            there = tree.get(folded)
            if there is None:
                self._unknown(path, (*known, folded))
            elif folded in spellings:
                first, second = (*written, spellings[folded]), path
                self._findings.broken |= _below(there)
                self._findings.refuse(
                    f"{_written(first)} ({self._origin(first)}) and {_written(second)} ({self._origin(second)}): "
                    "are one key in two spellings; keep one"
                )
            elif isinstance(there, Setting):
                self._setting(there, value, path)
            elif isinstance(value, dict):
                self.table(value, path, (*known, folded), there)
            else:
                self._findings.broken |= _below(there)
                what = "an array of tables" if _holds_tables(value) else type_name(value)
                self._findings.refuse(f"{_written(path)} ({self._origin(path)}): must be a table, this is {what}")
            spellings.setdefault(folded, name)

    def _setting(self, setting: Setting, value: Any, path: Path) -> None:
        origin = self._origin(path)
        try:
            read = from_toml(setting.kind, value).value
        except Unreadable as error:
            self._findings.fault(setting, value, origin, str(error))
            return
        if setting.kind is Kind.MAP:
            if not read:
                return
            read = {**setting.default, **read}
        self._findings.values[setting.key] = Found(read, origin)

    def _unknown(self, path: Path, folded: Path) -> None:
        hint = DEAD_KEYS.get(".".join(folded)) or nearest_key(path)
        self._findings.doubt(f"{_written(path)} ({self._origin(path)}): is not a setting and has no effect; {hint}")

    def _origin(self, path: Path) -> Origin:
        # A table that only exists as part of the paths of others has a line too; nothing is without one.
        return Origin(Source.FILE, path=self._document.path, line=self._document.lines.get(path, 0))


def _written(path: Path) -> str:
    return ".".join(map(key, path))


def _below(there: Any) -> set[str]:
    """@return: the settings of a table, or the one setting that it is."""
    return {there.key} if isinstance(there, Setting) else {name for inner in there.values() for name in _below(inner)}


def _holds_tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
