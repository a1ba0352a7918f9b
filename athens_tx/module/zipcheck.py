"""
Whether a module zip is one that the go command takes, and is the one of its version.

The rules on names, sizes and collisions are those by which the go command unpacks a zip. Beyond them, the zip's go.mod
must be the C{.mod} of the version: the go command does not compare them, but every honest source has them alike.
"""

from __future__ import annotations

import hashlib
import re
from os import PathLike

from athens_tx.errors import BadUpstream
from athens_tx.module.archive import BUFFER, Archive, Entry
from athens_tx.module.escape import shown
from athens_tx.module.gomod import MAX_GO_MOD, check_mod, synthesize
from athens_tx.module.hashes import entry_digest, summary
from athens_tx.module.path import RESERVED
from athens_tx.module.version import ModuleVersion

#: How much a module zip may hold, packed and unpacked, in bytes; the go command's own limit.
MAX_ZIP = 500 << 20
#: How large the LICENSE file at the top may be, in bytes; the go command's own limit.
MAX_LICENSE = 16 << 20

_ELEMENT = rf"(?!{RESERVED}(?:[./]|\Z))[A-Za-z0-9!#$%&()+,\-.=@\[\]^_{{}}~ ]+(?<!\.)"
_FILE = re.compile(rf"{_ELEMENT}(?:/{_ELEMENT})*+\Z")


def inspect_zip(zip: PathLike[str] | str, mv: ModuleVersion, mod: bytes, max_size: int = MAX_ZIP) -> str:
    """
    Check a module zip and hash it, in one pass. It is read whole: not on the reactor's thread.

    @param mv: its version is canonical.
    @param mod: the C{.mod} of the version.
    @param max_size: how many bytes the zip may have, and how many its files may have together.
    @return: its C{h1:} hash.
    @raise BadUpstream: it is not whole, holds what the go command refuses, is too large, or its go.mod is not C{mod}
        (one without a go.mod needs the one that the go command makes up).
    """
    check_mod(mod)
    with open(zip, "rb", buffering=BUFFER) as file:
        archive = Archive(file)
        if archive.size > max_size:
            raise BadUpstream(f"the zip file has {archive.size} bytes, more than {max_size}")
        _check_entries(archive, f"{mv}/", max_size)
        digests = [(entry.name, entry_digest(archive, entry)) for entry in archive.entries]
    expected = mod
    found = dict(digests).get(f"{mv}/go.mod")
    if found is None:
        found, expected = hashlib.sha256(mod).digest(), synthesize(mv.path)
    if found != hashlib.sha256(expected).digest():
        raise BadUpstream(f"the go.mod of {shown(str(mv), 200)} is not the one in its zip file")
    return summary(digests)


def _check_entries(archive: Archive, prefix: str, max_size: int) -> None:
    """Check all that the directory of the archive says, before anything is unpacked."""
    seen: dict[str, tuple[str, bool]] = {}
    total = 0
    for entry in archive.entries:
        if not entry.name.startswith(prefix):
            raise BadUpstream(f"the zip file has {shown(entry.name)}, which does not begin with {shown(prefix, 200)}")
        name = entry.name[len(prefix) :].removesuffix("/")
        if name:
            _check_name(name)
            _check_collision(seen, name, entry.is_directory)
        _check_size(entry, name)
        total += entry.size  # what it says: reading fails at the first byte more
        if total > max_size:
            raise BadUpstream(f"the files in the zip file have more than {max_size} bytes together")


def _check_name(name: str) -> None:
    # Letters of all languages are allowed, so they are looked at as if they were one of ours.
    plain = name if name.isascii() else "".join("a" if c > "\x7f" and c.isalpha() else c for c in name)
    if _FILE.match(plain) is None:
        raise BadUpstream(f"the zip file has a file with a name that is not allowed: {shown(name)}")
    if name != "go.mod" and name[-6:].lower() == "go.mod" and name[-7:-6] in ("", "/"):
        raise BadUpstream(f"the zip file has a go.mod where none may be: {shown(name)}")


def _check_size(entry: Entry, name: str) -> None:
    limit = {"go.mod": MAX_GO_MOD, "LICENSE": MAX_LICENSE}.get(name, entry.size)
    if entry.size > limit:
        raise BadUpstream(f"the zip file's {name} has {entry.size} bytes, more than {limit}")


def _check_collision(seen: dict[str, tuple[str, bool]], name: str, is_directory: bool) -> None:
    """
    Refuse a file that is there twice, two names that are one where case does not count, and a name that is a file and
    a directory.

    @param seen: the names so far and all directories above them, each under its folded form.
    """
    while name:
        folded = _folded(name)
        before = seen.get(folded)
        if before is None:
            seen[folded] = name, is_directory
        elif before == (name, True) and is_directory:
            return  # and so have been all above it
        elif before[0] != name:
            raise BadUpstream(f"the zip file has {shown(before[0])} and {shown(name)}, which differ only in case")
        elif before[1] != is_directory:
            raise BadUpstream(f"the zip file has {shown(name)} as a file and as a directory")
        else:
            raise BadUpstream(f"the zip file has {shown(name)} twice")
        name, _, _ = name.rpartition("/")
        is_directory = True


def _folded(name: str) -> str:
    """@return: the name with each character folded by itself; one that folds to several (as sharp s does) stays."""
    if name.isascii():
        return name.lower()
    return "".join(next((f for f in (c.casefold(), c.lower()) if len(f) == 1), c) for c in name)
