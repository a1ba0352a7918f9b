"""The C{h1:} hashes of go.sum: over the names and the contents of files, not over how they are packed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from os import PathLike
from typing import BinaryIO

from athens_tx.errors import BadUpstream
from athens_tx.module.archive import BUFFER, Archive, Entry


def hash_mod(mod: bytes) -> str:
    """@return: the hash of a go.mod, as in a go.sum line with C{/go.mod}."""
    return summary([("go.mod", hashlib.sha256(mod).digest())])


def hash_zip(zip: PathLike[str] | str | BinaryIO) -> str:
    """
    All of the zip is read: not for the reactor's thread.

    @param zip: a module zip: where it is, or open for reading and seeking.
    @return: its hash, as in a go.sum line.
    @raise BadUpstream: it is not a whole zip file.
    """
    if isinstance(zip, (str, PathLike)):
        with open(zip, "rb", buffering=BUFFER) as file:
            return hash_zip(file)
    archive = Archive(zip)
    return summary((entry.name, entry_digest(archive, entry)) for entry in archive.entries)


def entry_digest(archive: Archive, entry: Entry) -> bytes:
    """
    @return: the SHA-256 of the entry's content.
    @raise BadUpstream: it is damaged.
    """
    digest = hashlib.sha256()
    for piece in archive.read(entry):
        digest.update(piece)
    return digest.digest()


def summary(files: Iterable[tuple[str, bytes]]) -> str:
    """
    @param files: the name and the SHA-256 of each file, in any order.
    @raise BadUpstream: a name has more than one line.
    """
    whole = hashlib.sha256()
    for name, digest in sorted((name.encode(), digest) for name, digest in files):
        if b"\n" in name:
            raise BadUpstream(f"the file name {name!r} has more than one line")
        whole.update(b"%b  %b\n" % (digest.hex().encode(), name))
    return "h1:" + base64.b64encode(whole.digest()).decode()
