"""The two stores of a copy: what the command line means by FROM and TO, and whether that can be copied."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from athens_tx.backends import STORAGES, Backends
from athens_tx.config import Config, Loaded, load
from athens_tx.config.findings import Source
from athens_tx.config.rules import STORAGE_TYPES
from athens_tx.config.settings import SETTINGS
from athens_tx.errors import ConfigError
from athens_tx.interfaces import IStorage

#: What can be copied: what is in memory belongs to a daemon, and no command gets at it.
KINDS = tuple(kind for kind in STORAGE_TYPES if kind != "memory")
FROM, TO = "FROM", "TO"

_BY_KEY = {setting.key: setting for setting in SETTINGS}
#: The settings that say where a store is: two stores of one kind are the same if all of these are.
_PLACE: Mapping[str, tuple[str, ...]] = {
    "disk": ("Storage.Disk.RootPath",),
    "mongo": ("Storage.Mongo.URL", "Storage.Mongo.DefaultDBName", "Storage.Mongo.DefaultCollectionName"),
    "gcp": ("Storage.GCP.Endpoint", "Storage.GCP.Bucket"),
    "minio": ("Storage.Minio.Endpoint", "Storage.Minio.Bucket"),
    "s3": ("Storage.S3.Endpoint", "Storage.S3.Bucket"),
    "azureblob": ("Storage.AzureBlob.Endpoint", "Storage.AzureBlob.AccountName", "Storage.AzureBlob.ContainerName"),
    "external": ("Storage.External.URL",),
}


@attrs.frozen
class End:
    """
    One of the two stores.

    @ivar side: L{FROM} or L{TO}.
    @ivar name: as the command line has it.
    """

    side: str
    name: str
    loaded: Loaded = attrs.field(repr=False)

    @property
    def config(self) -> Config:
        """The settings; their C{storage_type} is the kind of this store."""
        return self.loaded.config

    @property
    def kind(self) -> str:
        """What sort of store it is."""
        return self.config.storage_type

    @property
    def place(self) -> tuple[str, ...]:
        """Where it is, as far as the settings say: without what may differ for one and the same store."""
        values = [_BY_KEY[key].of(self.config) for key in _PLACE[self.kind]]
        if self.kind == "disk":
            return tuple(map(os.path.realpath, values))
        servers = [re.sub(r"^[a-z0-9+]+://([^/?#]*@)?", "", value.strip().lower()) for value in values]
        if self.kind == "mongo":
            servers[0] = ",".join(sorted(re.split(r"[/?]", servers[0])[0].split(",")))
        return tuple(server.rstrip("/") for server in servers)


def wrong_names(source: str, target: str) -> list[str]:
    """@return: what is neither a kind of store nor a file of settings, one line each."""
    problems = []
    for side, name in ((FROM, source), (TO, target)):
        if name == "memory":
            problems.append(f"{side}: what is in memory belongs to the daemon that has it, and can't be copied")
        elif name not in KINDS and not os.path.isfile(name):
            problems.append(f"{side}: {name} is neither a file of settings nor one of {', '.join(KINDS)}")
    return problems


def read_ends(source: str, target: str, file: str, environ: Mapping[str, str]) -> tuple[End, End]:
    """
    @param source: FROM, and C{target} TO: a kind of store, or a file of settings that says which one it means.
    @param file: the settings for those that are a kind; empty for C{athens.toml} of the working directory.
    @return: both, in this order.
    @raise ConfigError: all that is wrong with either.
    """
    problems: dict[str, list[str]] = {}
    ends: list[End] = []
    for side, name in ((FROM, source), (TO, target)):
        try:
            ends.append(_read(side, name, file, environ))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(side)
    if problems:
        lines = [f"{' and '.join(sides)}: {problem}" for problem, sides in problems.items()]
        raise ConfigError(sorted(lines, key=lambda line: ": warning: " in line))  # those come last
    _refuse_one_store(*ends)
    return ends[0], ends[1]


def _read(side: str, name: str, file: str, environ: Mapping[str, str]) -> End:
    named = name not in KINDS
    path = Path(name) if named else Path(file) if file else None
    end = End(side, name, load(path, environ, cwd=Path.cwd(), storage="" if named else name))
    if end.kind == "memory":
        raise ConfigError([f"{name}: StorageType is memory, and what is in memory can't be copied"])
    return end


def _refuse_one_store(source: End, target: End) -> None:
    """@raise ConfigError: both are, or seem to be, the same."""
    if source.kind != target.kind:
        return
    keys = _PLACE[source.kind]
    if source.kind == "disk":
        roots = [source.place[0], target.place[0]]
        if os.path.commonpath(roots) not in roots:
            return
        what = "are the same store" if roots[0] == roots[1] else "lie one in the other"
    elif source.place != target.place:
        return
    else:
        what = "are the same store"
    origins = [end.loaded.origins[key] for end in (source, target) for key in ("StorageType", *keys)]
    names = sorted({origin.name for origin in origins if origin.source in (Source.VARIABLE, Source.SECRET_FILE)})
    hint = f" ({', '.join(names)} in the environment count for both)" if names else ""
    raise ConfigError([f"FROM and TO {what}, by {', '.join(keys)}{hint}"])


async def open_ends(backends: Backends, ends: tuple[End, End]) -> tuple[IStorage, IStorage]:
    """
    @return: both stores, connected.
    @raise ConfigError: all that keeps them from being used.
    """
    problems: list[str] = []
    stores: list[Any] = []
    for end in ends:
        try:
            stores.append(await backends.open(STORAGES, "StorageType", end.kind, end.config))
        except ConfigError as error:
            problems += [f"{end.side}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return stores[0], stores[1]
