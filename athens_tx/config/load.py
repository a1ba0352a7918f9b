"""Loading the settings: defaults, then the file, then the environment, then every check there is."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from pydantic import ValidationError

from athens_tx.config.backend_checks import backend_checks, storage_checks
from athens_tx.config.checks import Finding, general_checks
from athens_tx.config.declare import Setting
from athens_tx.config.document import BadDocument, read_document
from athens_tx.config.findings import DEFAULT, Findings, Found, Origin, Source, origins, statement
from athens_tx.config.from_environment import read_environment
from athens_tx.config.from_file import read_file
from athens_tx.config.masking import holds_secret
from athens_tx.config.settings import SETTINGS, Config
from athens_tx.errors import ConfigError

#: The one file that is found without being named.
FILE_NAME = "athens.toml"

_BY_KEY = {setting.key: setting for setting in SETTINGS}
_BY_ATTRIBUTES = {setting.attributes: setting for setting in SETTINGS}
#: Of these Athens forgets what the file says.
_ONLY_BY_VARIABLE = ("Storage.Mongo.DefaultDBName", "Storage.Mongo.DefaultCollectionName")


@attrs.frozen
class Loaded:
    """
    Settings that passed every check.

    @ivar origins: where each value came from, by the key of the setting (C{Storage.S3.Region}).
    @ivar warnings: one readable line each.
    @ivar file: the file that was read; C{None} if there was none.
    """

    config: Config
    origins: Mapping[str, Origin]
    warnings: list[str]
    file: Path | None


def load(
    path: Path | None, environ: Mapping[str, str], *, cwd: Path, strict: bool = False, storage: str | None = None
) -> Loaded:
    """
    Load the settings. Reads files and nothing else: no network, no process.

    @param path: the file; C{None} takes C{athens.toml} of C{cwd}, if there is one.
    @param environ: the variables; one that is set to nothing is not one that is not set.
    @param strict: refuse what is otherwise a warning because it is hardly meant.
    @param storage: for one who opens no lock and no index, and only this storage: it takes the place of
        C{StorageType}, unless it is empty.
    @raise ConfigError: all that is wrong, of all stages; behind it the warnings, marked as such.
    """
    findings = Findings(strict)
    file, readable = _read_file(path, cwd, findings)
    read_environment(environ, cwd, findings)
    _settle_port(environ, findings)
    _settle_mongo(findings)
    config = _config(findings)
    if storage is not None:
        checks = storage_checks(config, storage or config.storage_type)
        config = config.model_copy(update={"storage_type": storage or config.storage_type})
    else:
        checks = backend_checks(config)
    _check_modes(file, cwd, config, findings)
    if readable:
        # With half of the settings unknown the rest would only draw false conclusions.
        for finding in [*general_checks(config), *checks]:
            _note(finding, findings)
    if findings.problems:
        # A key that nobody knows is often why another one is missing.
        raise ConfigError([*findings.problems, *(f"warning: {warning}" for warning in findings.warnings)])
    return Loaded(config, origins(findings, SETTINGS), findings.warnings, file)


def _read_file(path: Path | None, cwd: Path, findings: Findings) -> tuple[Path | None, bool]:
    file = cwd / (path or FILE_NAME)
    if path is None and not os.path.exists(file):
        others = [name for name in ("config.toml", "config.dev.toml") if os.path.exists(cwd / name)]
        hint = f"; {others[0]} is not read unless it is named" if others else ""
        findings.warn(f"there is no {FILE_NAME} here: running on the defaults and the environment{hint}")
        return None, True
    try:
        read_file(read_document(file), findings)
    except BadDocument as error:
        findings.refuse(str(error))
        return file, False
    return file, True


def _settle_port(environ: Mapping[str, str], findings: Findings) -> None:
    """PORT, which platforms set, comes between ATHENS_PORT and the file; a number is an address of its own."""
    port = findings.found(_BY_KEY["Port"])
    ours = environ.get("ATHENS_PORT", "")
    theirs = environ.get("PORT", "")
    if theirs.startswith("tcp://"):
        findings.warn(f"PORT = {theirs!r}: is ignored, it is no address to listen on")
    elif theirs and (not ours or ours.startswith("tcp://")):
        port = Found(theirs, Origin(Source.VARIABLE, "PORT"))
    text = port.value.strip() or port.value
    if not text:
        text = ":3000"
    elif re.fullmatch(r"[+-]?[0-9]+", text):
        text = f":{int(text)}"
    if port.origin != DEFAULT:
        findings.values["Port"] = Found(text, port.origin)


def _settle_mongo(findings: Findings) -> None:
    """What an Athens next to us does with its file decides where the data is."""
    for key in _ONLY_BY_VARIABLE:
        setting = _BY_KEY[key]
        found = findings.found(setting)
        if found.origin.source is Source.FILE:
            if found.value != setting.default:
                findings.warn(
                    f"{statement(setting, found.value, found.origin)}: has no effect in a file, as in Athens; "
                    f'"{setting.default}" is used unless {setting.env} is set'
                )
            del findings.values[key]
        elif found.value == "":
            findings.values[key] = Found(setting.default, found.origin)


def _config(findings: Findings) -> Config:
    """Build the typed settings. What a rule refuses is noted; the default takes its place for the checks to come."""
    while True:
        tree: dict[str, Any] = {}
        for key, found in findings.values.items():
            *tables, name = _BY_KEY[key].attributes
            table = tree
            for inner in tables:
                table = table.setdefault(inner, {})
            table[name] = found.value
        try:
            return Config.model_validate(tree)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                setting = _setting_at(fault["loc"])
                found = findings.values.pop(setting.key)
                findings.fault(setting, found.value, found.origin, fault["msg"])


def _setting_at(location: tuple[int | str, ...]) -> Setting:
    names = tuple(map(str, location))
    return next(_BY_ATTRIBUTES[names[:end]] for end in range(len(names), 0, -1) if names[:end] in _BY_ATTRIBUTES)


def _note(finding: Finding, findings: Findings) -> None:
    if not findings.broken.isdisjoint(finding.keys):
        return
    settings = [_BY_KEY[key] for key in finding.keys]
    found = [(setting, findings.found(setting)) for setting in settings]
    text = " and ".join(statement(setting, there.value, there.origin) for setting, there in found)
    (findings.refuse if finding.fatal else findings.doubt)(f"{text}: {finding.text}")


def _check_modes(file: Path | None, cwd: Path, config: Config, findings: Findings) -> None:
    """In production nobody else may write what decides about this program; and secrets are for one pair of eyes."""
    if file is None:
        return
    decisive = [file, cwd / config.filter_file] if config.filter_file else [file]
    for path in decisive if config.go_env == "production" else []:
        mode = _mode(path)
        if mode & 0o033:
            findings.refuse(
                f'{path}: has mode {mode:04o}; with GoEnv = "production" group and others must neither write '
                "nor execute it: chmod go-wx"
            )
    secret = [
        setting.key
        for setting in SETTINGS
        if (found := findings.found(setting)).origin.source is Source.FILE
        and found.value != setting.default
        and holds_secret(found.value, setting.secret)
    ]
    if secret and _mode(file) & 0o004:
        findings.warn(f"{file}: holds a secret ({', '.join(secret)}) and everybody can read it: chmod o-r")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError):
        return 0
