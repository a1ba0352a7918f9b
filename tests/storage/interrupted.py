"""Versions for saves that get interrupted: whoever knows a version and its salt knows all its bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from athens_tx.module.version import ModuleVersion

#: How many saves are under way at the same time.
BATCH = 5
PATH = "example.com/interrupted"

_PART = 8 << 20


def content(mv: ModuleVersion, salt: int) -> tuple[bytes, bytes, bytes]:
    """@return: info, mod and zip: tiny, as most are, or in two or three parts."""
    chance = random.Random(f"{mv} {salt}")
    most = chance.choice((2_000, 300_000, 300_000, 3 * _PART))
    size = chance.randint(_PART + 1, most) if most > _PART else chance.randint(0, most)
    return f"{salt} {mv}".encode(), f"mod {salt} {mv}\n".encode(), chance.randbytes(size)


def versions(seed: int) -> Iterator[tuple[ModuleVersion, int]]:
    """@return: always new ones, and the salt of each."""
    for number in range(1_000_000):
        yield ModuleVersion(PATH, f"v1.{seed}.{number}"), seed
