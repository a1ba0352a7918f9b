"""Module versions written straight into a C{cache/download} folder: for tests that need many, or big ones, quickly."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.checksum_log import escaped


def add_version(
    tree: Path, path: str, version: str, files: Mapping[str, bytes] | None = None, *, time: str = "2024-01-01T00:00:00Z"
) -> bytes:
    """
    Write C{.info}, C{.mod} and C{.zip}.

    @param files: what the zip has besides a go.mod and one package.
    @return: the zip.
    """
    stem = tree / escaped(path, version)
    stem.parent.mkdir(parents=True, exist_ok=True)
    mod = f"module {path}\n\ngo 1.21\n".encode()
    package = f'package m\n\n// Version is the tag.\nconst Version = "{version}"\n'.encode()
    found = stem.with_name(stem.name + ".zip")
    with zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {"go.mod": mod, "m.go": package, **(files or {})}.items():
            archive.writestr(zipfile.ZipInfo(f"{path}@{version}/{name}"), content)
    stem.with_name(stem.name + ".mod").write_bytes(mod)
    stem.with_name(stem.name + ".info").write_text(json.dumps({"Version": version, "Time": time}))
    return found.read_bytes()
