"""The backends of this build: a row for each, by the value of the setting that chooses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from athens_tx.config import Config
from athens_tx.errors import ConfigError
from athens_tx.index.memory import MemoryIndex, NoIndex
from athens_tx.singleflight.memory import MemorySingleFlight
from athens_tx.storage.disk import DiskStorage
from athens_tx.storage.memory import MemoryStorage

#: All other types are settings that Athens knows and we refuse by name.
STORAGES: Mapping[str, Callable[[Any, Config], Any]] = {
    "memory": lambda reactor, config: MemoryStorage(config.memory_storage_limit),
    "disk": lambda reactor, config: DiskStorage(
        reactor, Path(config.storage.disk.root_path), stash_limit=config.stash_timeout
    ),
}
INDEXES: Mapping[str, Callable[[Any, Config], Any]] = {
    "": lambda reactor, config: NoIndex(),
    "none": lambda reactor, config: NoIndex(),
    "memory": lambda reactor, config: MemoryIndex(),
}
LOCKS: Mapping[str, Callable[[Any, Config], Any]] = {
    "": lambda reactor, config: MemorySingleFlight(),
    "memory": lambda reactor, config: MemorySingleFlight(),
}


def backend(kinds: Mapping[str, Callable[[Any, Config], Any]], setting: str, kind: str) -> Callable[[Any, Config], Any]:
    """
    @param kinds: L{STORAGES}, L{INDEXES} or L{LOCKS}; C{setting} is what chooses among them, C{kind} its value.
    @return: what makes the backend.
    @raise ConfigError: there is none of this kind.
    """
    if kind not in kinds:
        known = ", ".join(name for name in kinds if name)
        raise ConfigError([f"{setting} {kind}: this version has no such backend yet; it has {known}"])
    return kinds[kind]


def unbuilt(config: Config) -> list[str]:
    """@return: the settings that are taken and mean nothing to this version, one line each."""
    lines = []
    if config.enable_pprof:
        lines.append("EnablePprof: this version has no profiling listener; nothing listens on PprofPort")
    if config.trace_exporter:
        lines.append("TraceExporter: this version sends no traces")
    return lines
