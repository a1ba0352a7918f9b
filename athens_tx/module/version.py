"""Versions and what is one version of one module."""

from __future__ import annotations

import attrs


@attrs.frozen
class ModuleVersion:
    """One version of one module: both unescaped; the version canonical, or a query where that is said."""

    path: str
    version: str

    def __str__(self) -> str:
        return f"{self.path}@{self.version}"
