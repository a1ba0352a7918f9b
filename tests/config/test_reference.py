"""The classes, etc/athens.toml and the tables of docs/configuration.md name the same settings and defaults."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from athens_tx.config import Config, changes, load
from athens_tx.config.declare import Kind
from athens_tx.config.reference import BEGIN, END, athens_toml, sections, tables, write
from athens_tx.config.settings import SETTINGS
from athens_tx.config.values import size

ROOT = Path(__file__).parents[2]
TOML = ROOT / "etc" / "athens.toml"
DOCS = ROOT / "docs" / "configuration.md"


def test_both_are_as_the_classes_say(tmp_path):
    docs, toml = tmp_path / "docs.md", tmp_path / "athens.toml"
    docs.write_bytes(DOCS.read_bytes())
    write(docs, toml)
    assert docs.read_bytes() == DOCS.read_bytes(), "run python -m athens_tx.config.reference, see its docstring"
    assert toml.read_bytes() == TOML.read_bytes(), "run python -m athens_tx.config.reference, see its docstring"
    assert (toml.read_text(), tables() in docs.read_text()) == (athens_toml(), True)


def test_the_shipped_file_loads_without_a_word(tmp_path):
    for strict in (False, True):
        loaded = load(TOML, {}, cwd=tmp_path, strict=strict)
        assert loaded.warnings == []
    assert changes(Config(), loaded.config) == [
        ("StorageType", '"memory"', '"disk"'),
        ("Storage.Disk.RootPath", '""', '"/var/lib/athens/storage"'),
    ]


def test_the_shipped_file_names_every_setting_once():
    text = TOML.read_text()
    table, named = "", []
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            table = f"{header[1]}."
        elif entry := re.fullmatch(r"(#?)(\w+) = (.+)", line):
            named.append((f"{table}{entry[2]}", entry[1], tomllib.loads(f"v = {entry[3]}")["v"]))
    assert [key for key, _, _ in named] == [setting.key for setting in SETTINGS]
    for setting, (_, commented, value) in zip(SETTINGS, named, strict=True):
        if commented:
            assert "not empty*" in setting.rule
            assert type(value) is type(setting.default)
            assert value
        elif setting.key not in ("StorageType", "Storage.Disk.RootPath"):
            assert (size(value) if setting.kind is Kind.BYTES else value) == setting.default


def test_the_shipped_file_explains_every_setting():
    text = TOML.read_text()
    for setting in SETTINGS:
        assert f"\n# Variable: {setting.env}{' (secret)' if setting.secret.hidden else ''}\n" in text
    assert "built-in default is memory" in text
    assert max(map(len, text.splitlines())) <= 120
    assert "`" not in text
    assert "*" not in text.replace("OTEL_EXPORTER_OTLP_*", "")


def test_the_tables_name_every_setting():
    reference = DOCS.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in reference.splitlines() if "| `" in line]
    assert len(rows) == len(SETTINGS)
    for setting, (key, env, kind, default, value, meaning) in zip(SETTINGS, rows, strict=True):
        assert (key, env, kind) == (f"`{setting.path[-1]}`", f"`{setting.env}`", setting.kind.value)
        read = tomllib.loads(f"v = {default.strip('`')}")["v"]
        assert (size(read) if setting.kind is Kind.BYTES else read) == setting.default
        assert value.endswith("(secret)") == setting.secret.hidden
        assert meaning == setting.meaning
    for setting in SETTINGS:
        if len(setting.path) > 1:
            assert f"Table `[{'.'.join(setting.path[:-1])}]`, long form `{setting.prefix}`" in reference


def test_settings_of_our_own_stand_in_a_place_of_their_own():
    ours = dict(sections())["Settings that Athens does not have"]
    assert ours == [setting for setting in SETTINGS if setting.own and len(setting.path) == 1]  # the others in tables
    assert "---- Settings that Athens does not have ----" in TOML.read_text()
