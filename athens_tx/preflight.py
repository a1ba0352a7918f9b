"""
What a start would stumble over on this machine, found without starting: for C{athens-tx check-config}.

L{athens_tx.config} judges the settings alone; here the rooms that read the files judge those. No network, no process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from athens_tx.backends import INDEXES, LOCKS, STORAGES, backend, sql_dialect, unbuilt
from athens_tx.config import Config
from athens_tx.errors import ConfigError
from athens_tx.fetch.environment import find_go, parse_goproxy
from athens_tx.listening import ServerCertificate
from athens_tx.policy.download_mode import DownloadModes
from athens_tx.policy.gate import load_filter
from athens_tx.service import read_text
from athens_tx.sumdb.database import parse_databases


def local_problems(config: Config, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """
    @param config: settings that passed the checks of their own.
    @param environ: what the daemon would be started with.
    @return: what would keep it from starting, and what it would only warn of; one readable line each.
    """
    problems: list[str] = []
    for check in _checks(config, environ):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    return problems, unbuilt(config)


def _checks(config: Config, environ: Mapping[str, str]) -> Iterator[Callable[[], Any]]:
    yield lambda: backend(STORAGES, "StorageType", config.storage_type)
    yield lambda: backend(INDEXES, "IndexType", config.index_type)
    yield lambda: backend(LOCKS, "SingleFlightType", config.single_flight_type)
    yield lambda: sql_dialect(config, environ)
    if config.storage_type == "disk":
        yield lambda: _folder("Storage.Disk.RootPath", config.storage.disk.root_path)
    if config.tls_cert_file and config.tls_key_file:
        yield lambda: ServerCertificate(Path(config.tls_cert_file), Path(config.tls_key_file))
    exact = config.filter_exact_versions
    yield lambda: load_filter(config.filter_file, config.global_endpoint, exact=exact, read=read_text)
    yield lambda: DownloadModes.parse(config.download_mode, config.download_url, read=read_text)
    yield lambda: parse_databases(config.sum_dbs)
    yield lambda: _readable("NETRCPath", config.netrc_path)
    yield lambda: _readable("HGRCPath", config.hgrc_path)
    yield lambda: _working_folder("GoGetDir", config.go_get_dir or tempfile.gettempdir())
    if config.network_mode != "offline":
        yield lambda: find_go(config.go_binary, environ)
        variables = dict(item.partition("=")[::2] for item in config.go_binary_env_vars)
        if variables.get("GOPROXY"):
            yield lambda: parse_goproxy(variables["GOPROXY"])


def _readable(setting: str, path: str) -> None:
    if not path:
        return
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError([f"{setting}: {path} can't be read: {error.strerror}"]) from error


def _folder(setting: str, path: str) -> None:
    """@raise ConfigError: C{path} is no folder that we can write to."""
    try:
        os.listdir(path)
    except OSError as error:
        raise ConfigError([f"{setting}: {path} can't be used: {error.strerror}"]) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError([f"{setting}: {path} can't be written by this user"])


def _working_folder(setting: str, path: str) -> None:
    """As L{_folder}, but the start would make it: then the folder counts that it would be made in."""
    there = Path(os.path.abspath(path))
    while not there.exists() and there != there.parent:
        there = there.parent
    _folder(setting, str(there))
