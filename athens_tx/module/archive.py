"""
A reader of zip files that trusts nothing in them.

The standard library's takes whatever size the file claims for its directory, and guesses at the encoding of names. This
one reads what the go command writes and reads: stored and deflated entries with names in UTF-8, and zip64. It wants a
file to begin with its first entry and to end with its directory, so that a cut one, or one with something hidden around
it, is refused. Memory is bounded by the number of entries, never by what they say of their sizes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import attrs

from athens_tx.errors import BadUpstream
from athens_tx.module.escape import shown

#: How many entries a module zip may have: with 500 MiB in all, files of less than 2 KB on average.
MAX_ENTRIES = 300_000

#: For C{open}: entries lie side by side, so one read brings many.
BUFFER = 256 << 10
_CHUNK = 256 << 10
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1
_SIZE_ELSEWHERE, _COUNT_ELSEWHERE = 0xFFFFFFFF, 0xFFFF

_END = struct.Struct("<4s4xHHIIH")  # signature, entries here, entries, size and offset of the directory, comment
_END64_LOCATOR = struct.Struct("<4s4xQ4x")  # signature, offset of the next
_END64 = struct.Struct("<4s20xQQQQ")  # signature, entries here, entries, size and offset of the directory
_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")  # signature, flags, method, crc, sizes, lengths of the rest, offset
_LOCAL = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field


@attrs.frozen
class Entry:
    """
    An entry as the directory of the archive describes it.

    @ivar size: uncompressed, in bytes; L{Archive.read} fails rather than give more or less.
    """

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int

    @property
    def is_directory(self) -> bool:
        """Whether it stands for a directory."""
        return self.name.endswith("/")


class Archive:
    """
    A zip file, whose directory has been read.

    @ivar entries: in the order of the directory.
    """

    def __init__(self, file: BinaryIO, max_entries: int = MAX_ENTRIES) -> None:
        """
        @param file: open for reading and seeking, and not closed here.
        @raise BadUpstream: it is no zip file, is cut, or has more than C{max_entries} entries.
        """
        self._file = file
        self.size = file.seek(0, 2)
        try:
            self.entries: Sequence[Entry] = list(self._directory(max_entries))
        except (struct.error, UnicodeDecodeError) as error:
            raise BadUpstream("the zip file is cut or malformed") from error

    def read(self, entry: Entry) -> Iterator[bytes]:
        """
        @return: the content of C{entry} in pieces of a few hundred KiB.
        @raise BadUpstream: it is cut, malformed, or not what its size and checksum say; only after the last piece.
        """
        if entry.is_directory and entry.size:
            raise BadUpstream(f"the zip file's {shown(entry.name)} is a directory with content")
        if entry.is_directory:
            return  # whatever an empty one is packed to
        left, crc = entry.size, 0
        for piece in self._unpacked(entry):
            left -= len(piece)
            if left < 0:
                break
            crc = zlib.crc32(piece, crc)
            yield piece
        if left or crc != entry.crc:
            raise BadUpstream(f"the zip file's {shown(entry.name)} is damaged")

    def _at(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= self.size - length:
            raise BadUpstream("the zip file is cut or malformed")
        self._file.seek(offset)
        return self._file.read(length)

    def _directory(self, max_entries: int) -> Iterator[Entry]:
        count, size, start = self._end()
        if count > max_entries:
            raise BadUpstream(f"the zip file has {count} entries, more than {max_entries}")
        at = start
        for _ in range(count):
            entry, at = self._entry(at)
            yield entry
        if at != start + size:
            raise BadUpstream("the zip file's directory has not the size that it says")

    def _end(self) -> tuple[int, int, int]:
        """@return: how many entries, and size and offset of the directory, which ends where its end record begins."""
        tail = self._at(max(0, self.size - _END.size - 0xFFFF), min(self.size, _END.size + 0xFFFF))
        found = tail.rfind(b"PK\5\6")
        if found < 0:
            raise BadUpstream("the zip file is cut, or is none")
        _, _, count, size, start, comment = _END.unpack_from(tail, found)
        if found + _END.size + comment != len(tail):
            raise BadUpstream("the zip file has something behind it that is no part of it")
        end = self.size - len(tail) + found
        if count == _COUNT_ELSEWHERE or _SIZE_ELSEWHERE in (size, start):
            signature, end64 = _END64_LOCATOR.unpack(self._at(end - _END64_LOCATOR.size, _END64_LOCATOR.size))
            if signature == b"PK\6\7":
                end = end64
                signature, _, count, size, start = _END64.unpack(self._at(end, _END64.size))
                if signature != b"PK\6\6":
                    raise BadUpstream("the zip file is cut or malformed")
        if start + size != end:
            raise BadUpstream("the zip file has something before it or inside it that is no part of it")
        return count, size, start

    def _entry(self, at: int) -> tuple[Entry, int]:
        """@return: the entry whose record in the directory begins C{at}, and where the next one begins."""
        fields = _ENTRY.unpack(self._at(at, _ENTRY.size))
        signature, flags, method, crc, packed, size, name_length, extra_length, comment_length, offset = fields
        at += _ENTRY.size
        rest = self._at(at, name_length + extra_length)
        if signature != b"PK\1\2" or flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise BadUpstream("the zip file has an entry that is malformed, encrypted or packed in an unknown way")
        size, packed, offset = _wide(size, packed, offset, rest[name_length:])
        name = rest[:name_length].decode()
        return Entry(name, method, crc, packed, size, offset), at + len(rest) + comment_length

    def _unpacked(self, entry: Entry) -> Iterator[bytes]:
        """@return: the content, piece by piece, as long as it comes; no piece is large, however it is packed."""
        signature, name_length, extra_length = _LOCAL.unpack(self._at(entry.offset, _LOCAL.size))
        at = entry.offset + _LOCAL.size
        if signature != b"PK\3\4" or self._at(at, name_length) != entry.name.encode():
            raise BadUpstream(f"the zip file's {shown(entry.name)} is not where it should be")
        at += name_length + extra_length
        end = at + entry.packed
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == _DEFLATED else None
        for start in range(at, end, _CHUNK):
            packed = self._at(start, min(_CHUNK, end - start))
            if unpacker is None:
                yield packed
                continue
            while packed and not unpacker.eof:
                try:
                    piece = unpacker.decompress(packed, _CHUNK)
                except zlib.error as error:
                    raise BadUpstream(f"the zip file's {shown(entry.name)} is damaged") from error
                packed = unpacker.unconsumed_tail
                yield piece
        if unpacker is not None:
            yield unpacker.flush()  # a few bytes at most
            if not unpacker.eof:
                raise BadUpstream(f"the zip file's {shown(entry.name)} is cut")


def _wide(size: int, packed: int, offset: int, extra: bytes) -> list[int]:
    """@return: the three, taken from the zip64 extra field where they did not fit."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = extra[4 : 4 + length]
            break
        extra = extra[4 + length :]
    values = []
    for value in (size, packed, offset):
        if value == _SIZE_ELSEWHERE and wide:
            [value] = struct.unpack("<Q", wide[:8])
            wide = wide[8:]
        values.append(value)
    return values
