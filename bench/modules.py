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


def _zip(version: str, mod: bytes, seed: int) -> bytes:
    """@return: a module zip of about L{ZIP_SIZE}, the same each time; what is random can't be made smaller."""
    prefix = f"{MODULE}@{version}/"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("go.mod", mod),
            ("lib.go", b"package lib\n"),
            ("data.bin", random.Random(seed).randbytes(ZIP_SIZE - 500)),
        ):
            archive.writestr(zipfile.ZipInfo(prefix + name, (2024, 1, 1, 0, 0, 0)), content)
    return out.getvalue()
