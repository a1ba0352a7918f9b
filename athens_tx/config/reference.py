"""
The reference of the settings: the tables of C{docs/configuration.md} and the file C{etc/athens.toml}.

C{python -m athens_tx.config.reference docs/configuration.md etc/athens.toml} writes both anew.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from athens_tx.config.declare import Kind, Setting
from athens_tx.config.literals import literal
from athens_tx.config.settings import SETTINGS

BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"

#: The plain settings are shown in sections, each from this key on.
_SECTIONS: Mapping[str, str] = {
    "GoEnv": "General, logs, observation, time limits",
    "Port": "Listening and HTTP",
    "GoBinary": "Fetching",
    "DownloadMode": "Policy",
    "StorageType": "Which storage, lock and index",
    "ListCacheTTL": "Settings that Athens does not have",
}
_TITLES: Mapping[str, str] = {"SingleFlight": "Lock", "Storage": "Storage", "Index": "Index"}

#: Where the file that is shipped differs from the defaults, and why.
SHIPPED: Mapping[str, tuple[object, str]] = {
    "StorageType": ("disk", "The built-in default is memory; this file chooses disk, so that versions survive."),
    "Storage.Disk.RootPath": ("/var/lib/athens/storage", "The built-in default is empty, which disk storage refuses."),
}

_HEAD = """\
The settings of athens-tx. Every setting is here with its default; its variable, where it is set, wins over this file.

A file of Athens works unchanged. "athens-tx check-config FILE" says what is wrong with a file, and shows what comes \
out of file and environment together. Tables come last: a plain setting below a table header would belong to that table.

Keep this file at mode 0640 or 0600 if you put secrets into it. Or leave them to files of their own: each setting \
marked (secret) is also read from the file that VARIABLE_FILE names, and from a credential of systemd called VARIABLE.\
"""


def sections() -> list[tuple[str, list[Setting]]]:
    """@return: the settings in groups, each under its title."""
    groups: list[tuple[str, list[Setting]]] = []
    for table, settings in groupby(SETTINGS, lambda setting: setting.path[:-1]):
        if table:
            groups.append((f"{_TITLES[table[0]]}: {' '.join(table[1:])}", list(settings)))
            continue
        for setting in settings:
            if setting.key in _SECTIONS:
                groups.append((_SECTIONS[setting.key], []))
            groups[-1][1].append(setting)
    return groups


def tables() -> str:
    """@return: the reference as Markdown."""
    return "\n".join(line for title, settings in sections() for line in _table(title, settings))


def _table(title: str, settings: Sequence[Setting]) -> Iterator[str]:
    first = settings[0]
    yield f"### {title}\n"
    if len(first.path) > 1:
        yield f"Table `[{'.'.join(first.path[:-1])}]`, long form `{first.prefix}` + variable.\n"
    yield "| key | variable | type | default | value | meaning |"
    yield "|---|---|---|---|---|---|"
    for setting in settings:
        value = setting.rule + (" (secret)" if setting.secret.hidden else "")
        cells = (
            f"`{setting.path[-1]}`",
            f"`{setting.env}`",
            setting.kind.value,
            f"`{default_literal(setting)}`",
            value.strip(),
            setting.meaning,
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def default_literal(setting: Setting) -> str:
    """@return: the default as one would write it into the file."""
    return literal(_sized(setting.default) if setting.kind is Kind.BYTES else setting.default)


def _sized(size: int) -> str:
    unit = max(unit for unit in range(4) if size % 1024**unit == 0)
    return f"{size // 1024**unit}{('B', 'KiB', 'MiB', 'GiB')[unit]}"


def athens_toml() -> str:
    """@return: the file of settings that is shipped."""
    return "\n".join(_athens_toml()) + "\n"


def _athens_toml() -> Iterator[str]:
    yield from _comment(_HEAD)
    for title, settings in sections():
        table = settings[0].path[:-1]
        yield ""
        yield f"# {'-' * 4} {title} {'-' * (100 - len(title))}"
        if table:
            yield ""
            yield f"[{'.'.join(table)}]"
        for setting in settings:
            yield ""
            yield from _entry(setting)


def _entry(setting: Setting) -> Iterator[str]:
    rule = setting.rule.replace("`", "").replace("*", " if in use")
    secret = " (secret)" if setting.secret.hidden else ""
    yield from _comment(f"{setting.meaning} Value: {rule}." if rule else setting.meaning)
    yield from _comment(f"Variable: {setting.env}{secret}")
    name = setting.path[-1]
    if setting.key in SHIPPED:
        value, why = SHIPPED[setting.key]
        yield from _comment(why)
        yield f"{name} = {literal(value)}"
    elif setting.example is not None:
        yield f"#{name} = {literal(setting.example)}"
    else:
        yield f"{name} = {default_literal(setting)}"


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from (f"# {part}" for part in textwrap.wrap(line, 108, break_on_hyphens=False)) if line else ["#"]


def write(docs: Path, toml: Path) -> None:
    """Put the reference between its two marks in C{docs}, and write C{toml}."""
    before, _, rest = docs.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    docs.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}", "utf-8")
    toml.write_text(athens_toml(), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
