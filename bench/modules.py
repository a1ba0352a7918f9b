"""Made modules in the layout of a disk storage: C{root/module/version/{version.info,go.mod,source.zip}}."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path

#: The module that is asked for, and its versions; the list has as many lines.
MODULE = "bench.example/acme/lib"
VERSIONS = tuple(f"v1.{minor}.0" for minor in range(20))

#: About the size of the zip: the median of what is in a module cache is near it.
ZIP_SIZE = 20 * 1024

#: What is measured: a name, and the path below the proxy's URL.
TARGETS = (
    ("info", f"/{MODULE}/@v/{VERSIONS[0]}.info"),
    ("mod", f"/{MODULE}/@v/{VERSIONS[0]}.mod"),
    ("zip", f"/{MODULE}/@v/{VERSIONS[0]}.zip"),
    ("list", f"/{MODULE}/@v/list"),
)


def fill(root: Path) -> None:
    """Write all versions of L{MODULE} below C{root}; those that are there are left alone."""
    for number, version in enumerate(VERSIONS):
        place = root / MODULE / version
        place.mkdir(parents=True, exist_ok=True)
        mod = f"module {MODULE}\n\ngo 1.21\n".encode()
        info = {"Version": version, "Time": f"2024-01-{number + 1:02d}T12:00:00Z"}
        files = {f"{version}.info": json.dumps(info).encode(), "go.mod": mod, "source.zip": _zip(version, mod, number)}
        for name, content in files.items():
            if not (place / name).exists():
                (place / name).write_bytes(content)


def fill_many(root: Path, count: int, size: int) -> None:
    """Write C{count} versions below C{root}, ten of each module, with zips of about C{size} bytes, all different."""
    for number in range(count):
        path, version = f"bench.example/copied/module{number // 10:04d}", f"v1.{number % 10}.0"
        place = root / path / version
        place.mkdir(parents=True)
        mod = f"module {path}\n\ngo 1.21\n".encode()
        (place / f"{version}.info").write_text(json.dumps({"Version": version, "Time": "2024-01-01T12:00:00Z"}))
        (place / "go.mod").write_bytes(mod)
        (place / "source.zip").write_bytes(_zip(version, mod, number, path, size))


def _zip(version: str, mod: bytes, seed: int, path: str = MODULE, size: int = ZIP_SIZE) -> bytes:
    """@return: a module zip of about C{size}, the same each time; what is random can't be made smaller."""
    prefix = f"{path}@{version}/"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("go.mod", mod),
            ("lib.go", b"package lib\n"),
            ("data.bin", random.Random(seed).randbytes(size - 500)),
        ):
            archive.writestr(zipfile.ZipInfo(prefix + name, (2024, 1, 1, 0, 0, 0)), content)
    return out.getvalue()
