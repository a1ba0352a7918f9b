"""A small checksum database: a log of C{h1:} hashes, its signed tree, its tiles and its records."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from athens_tx.module.escape import escape_path, escape_version, unescape_path, unescape_version

ED25519 = b"\x01"
TILE_HEIGHT = 8


class ChecksumLog:
    """
    @ivar key: the verifier's key, the second part of C{GOSUMDB}'s C{NAME+HASH+KEY}.
    """

    def __init__(self, name: str = "sum.example.test") -> None:
        self.name = name
        # Not a secret: the same key in every run, so that a failure can be looked at again.
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"athens-tx tests").digest())
        public = ED25519 + self._private.public_key().public_bytes_raw()
        self._hash = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.key = f"{name}+{self._hash.hex()}+{base64.b64encode(public).decode()}"
        self._records: list[bytes] = []
        self._ids: dict[tuple[str, str], int] = {}
        self._hash_at = cache(self._compute)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, path: str, version: str, zip_hash: str, mod_hash: str) -> None:
        """Append a record. The tree of every answer from now on has it."""
        self._ids[path, version] = len(self._records)
        self._records.append(f"{path} {version} {zip_hash}\n{path} {version}/go.mod {mod_hash}\n".encode())

    def add_tree(self, download: Path) -> None:
        """Append all versions of a C{cache/download} folder, by the hashes that go made of them."""
        for path, version, stem in stored_versions(download):
            zip_hash = stem.with_name(stem.name + ".ziphash").read_text().strip()
            self.add(path, version, zip_hash, mod_hash(stem.with_name(stem.name + ".mod").read_bytes()))

    def _compute(self, level: int, index: int) -> bytes:
        """@return: the hash of the complete subtree of 2**level records that is the index-th of its size."""
        if level == 0:
            return hashlib.sha256(b"\x00" + self._records[index]).digest()
        left, right = self._hash_at(level - 1, 2 * index), self._hash_at(level - 1, 2 * index + 1)
        return hashlib.sha256(b"\x01" + left + right).digest()

    def _root(self) -> bytes:
        """@return: the hash of the whole tree: complete subtrees from the left, folded from the right."""
        subtrees, start, size = [], 0, len(self._records)
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                subtrees.append(self._hash_at(level, start >> level))
                start += 1 << level
        if not subtrees:
            return hashlib.sha256(b"").digest()
        root = subtrees.pop()
        while subtrees:
            root = hashlib.sha256(b"\x01" + subtrees.pop() + root).digest()
        return root

    def latest(self) -> bytes:
        """@return: the signed tree."""
        text = f"go.sum database tree\n{len(self._records)}\n{base64.b64encode(self._root()).decode()}\n"
        signature = base64.b64encode(self._hash + self._private.sign(text.encode())).decode()
        return f"{text}\n\N{EM DASH} {self.name} {signature}\n".encode()

    def lookup(self, path: str, version: str) -> bytes | None:
        """@return: the record with the signed tree, C{None} where there is none."""
        number = self._ids.get((path, version))
        if number is None:
            return None
        return b"%d\n%s\n%s" % (number, self._records[number], self.latest())

    def tile(self, level: str, index: int, width: int) -> bytes | None:
        """@return: hashes (or, at level C{data}, records) of a tile, C{None} where the tree does not reach."""
        first = index << TILE_HEIGHT
        if level == "data":
            if first + width > len(self._records):
                return None
            return b"".join(record + b"\n" for record in self._records[first : first + width])
        height = int(level) * TILE_HEIGHT
        if (first + width) << height > len(self._records):
            return None
        return b"".join(self._hash_at(height, first + i) for i in range(width))

    def answer(self, path: str) -> bytes | None:
        """@param path: what follows C{/sumdb/NAME/}; @return: the body, C{None} for 404."""
        kind, _, rest = path.partition("/")
        if path == "supported":
            return b""
        if path == "latest":
            return self.latest()
        if kind == "lookup":
            escaped_path, _, escaped_version = rest.rpartition("@")
            return self.lookup(unescape_path(escaped_path), unescape_version(escaped_version))
        if kind == "tile":
            _height, level, *digits = rest.split("/")
            width = 1 << TILE_HEIGHT
            if digits[-2:-1] and digits[-2].endswith(".p"):
                width = int(digits.pop())
                digits[-1] = digits[-1].removesuffix(".p")
            return self.tile(level, int("".join(part.lstrip("x") for part in digits)), width)
        return None


def mod_hash(content: bytes) -> str:
    """@return: the C{h1:} hash of a go.mod, written down apart from the code under test."""
    line = f"{hashlib.sha256(content).hexdigest()}  go.mod\n"
    return "h1:" + base64.b64encode(hashlib.sha256(line.encode()).digest()).decode()


def stored_versions(download: Path) -> Iterator[tuple[str, str, Path]]:
    """
    @param download: a C{cache/download} folder.
    @return: path, version and the files' common stem of every version whose zip is there.
    """
    for found in sorted(download.glob("**/@v/*.zip")):
        stem = found.with_suffix("")
        module = found.parent.parent.relative_to(download).as_posix()
        yield unescape_path(module), unescape_version(stem.name), stem


def escaped(path: str, version: str) -> str:
    """@return: C{PATH/@v/VERSION}, escaped as in a URL."""
    return f"{escape_path(path)}/@v/{escape_version(version)}"
