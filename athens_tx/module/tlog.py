"""
The Merkle tree of a checksum database, read by tiles: which tiles prove something, and whether they do.

Nothing is fetched here. A proof has two steps, and the caller gets the tiles in between, from a cache or the network::

    record, rest = parse_record(lookup_answer)
    tree = parse_tree(open_note(rest, [key]))
    data = {tile: await get(tile) for tile in tiles_for_record(tree, record.id)}
    check_record(tree, record, data)          # raises ChecksumMismatch
    ...
    data = {tile: await get(tile) for tile in tiles_for_growth(old.size, tree)}
    check_growth(old, tree, data)             # the tree that was known is the beginning of the new one

A check that does not raise has proven all the tiles that it asked for: they may be kept, and only then.

A node of the tree is C{(level, number)}: the root of the complete subtree over the records C{number << level} up to
C{(number + 1) << level}. Hashes are those of RFC 6962.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import attrs

from athens_tx.errors import BadUpstream, ChecksumMismatch
from athens_tx.module.escape import shown

HASH_SIZE = 32
#: How many levels of the tree a tile holds; the height that the go command asks for.
TILE_HEIGHT = 8
#: How many hashes a full tile has.
FULL_WIDTH = 1 << TILE_HEIGHT

_Node: TypeAlias = tuple[int, int]

_TREE = re.compile(r"go\.sum database tree\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")
_RECORD = re.compile(r"(0|[1-9][0-9]{0,18})\n((?:[^\x00-\x1f]+\n)+)\n")
_TILE_PATH = re.compile(r"tile/8/(0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@attrs.frozen
class Tree:
    """The head of a tree: how many records it has, and the hash over all of them."""

    size: int
    hash: bytes


#: What a client knows that has never seen a tree.
EMPTY_TREE = Tree(0, hashlib.sha256().digest())


@attrs.frozen
class Record:
    """A record of the database: its number, counted from 0, and its text, lines as in a go.sum."""

    id: int
    text: bytes


@attrs.frozen
class Tile:
    """
    Up to L{FULL_WIDTH} neighbouring hashes of one level of the tree, and with them the subtree above.

    @ivar level: of tiles: its hashes are of the tree's level C{level * TILE_HEIGHT}.
    @ivar number: counted from the left, within the level.
    @ivar width: how many hashes; less than L{FULL_WIDTH} only at the right edge of a tree.
    """

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """How it is called below the database's address: C{tile/8/0/x001/234}, C{tile/8/0/x001/234.p/5}."""
        rest, last = divmod(self.number, 1000)
        name = f"{last:03}"
        while rest:
            rest, part = divmod(rest, 1000)
            name = f"x{part:03}/{name}"
        partial = "" if self.width == FULL_WIDTH else f".p/{self.width}"
        return f"tile/{TILE_HEIGHT}/{self.level}/{name}{partial}"

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.width * HASH_SIZE

    @property
    def full(self) -> Tile:
        """
        The same tile when the tree has grown past it; the bytes of this one are the beginning of its bytes.

        A database may have dropped the partial one when the full one is there.
        """
        return attrs.evolve(self, width=FULL_WIDTH)

    @classmethod
    def parse(cls, path: str) -> Tile:
        """
        @param path: as in L{path}; only of hashes (not C{data}) and of the height L{TILE_HEIGHT}.
        @raise ValueError: it is no such path.
        """
        found = _TILE_PATH.fullmatch(path)
        if found is not None:
            number = int(found[2].replace("x", "").replace("/", ""))
            tile = cls(int(found[1]), number, int(found[3] or FULL_WIDTH))
            if tile.path == path and tile.level < 64:
                return tile
        raise ValueError(f"{shown(path)} is no path of a tile of hashes")


def parse_tree(text: str) -> Tree:
    """
    @param text: the text of a signed note, C{go.sum database tree}; lines behind the known three are passed over.
    @raise BadUpstream: it is something else.
    """
    found = _TREE.match(text)
    if found is None or int(found[1]) >= 1 << 63:
        raise BadUpstream("what should be the head of a checksum database is none")
    return Tree(int(found[1]), base64.b64decode(found[2]))


def parse_record(answer: bytes) -> tuple[Record, bytes]:
    """
    @param answer: what a database says to C{/lookup/MODULE@VERSION}.
    @return: the record, not proven yet, and the signed note behind it.
    @raise BadUpstream: it is something else.
    """
    head, blank, note = answer.partition(b"\n\n")
    try:
        found = _RECORD.fullmatch((head + blank).decode())
    except UnicodeDecodeError:
        found = None
    if found is None or int(found[1]) >= 1 << 63:
        raise BadUpstream("what should be a record of a checksum database is none")
    return Record(int(found[1]), found[2].encode()), note


def record_hash(text: bytes) -> bytes:
    """@return: the hash of a leaf of the tree."""
    return hashlib.sha256(b"\x00" + text).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """@return: the hash of a node of the tree."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tiles_for_record(tree: Tree, record_id: int) -> Sequence[Tile]:
    """
    @return: the tiles that L{check_record} wants.
    @raise BadUpstream: the tree has no such record.
    """
    if not 0 <= record_id < tree.size:
        raise BadUpstream(f"a checksum database of {tree.size} records can't prove record {record_id}")
    return _plan(tree.size, [(0, record_id)])


def check_record(tree: Tree, record: Record, tiles: Mapping[Tile, bytes]) -> None:
    """
    Prove that C{tree} holds C{record}.

    @param tiles: those of L{tiles_for_record}, maybe more.
    @raise ChecksumMismatch: it does not, or the tiles are not those of the tree.
    @raise BadUpstream: a tile has the wrong length.
    """
    wanted = tiles_for_record(tree, record.id)
    [leaf] = _proven_hashes(tree, wanted, [(0, record.id)], tiles)
    if leaf != record_hash(record.text):
        raise ChecksumMismatch(f"record {record.id} of a checksum database is not the one in its tree")


def tiles_for_growth(old_size: int, new: Tree) -> Sequence[Tile]:
    """
    @param old_size: of the tree that is known, not more than C{new.size}.
    @return: the tiles that L{check_growth} wants.
    """
    _check_order(old_size, new)
    return [] if old_size in (0, new.size) else _plan(new.size, _peaks(old_size))


def check_growth(old: Tree, new: Tree, tiles: Mapping[Tile, bytes]) -> None:
    """
    Prove that C{old} is the beginning of C{new}: nothing was taken away or changed since.

    @param old: not larger than C{new}; L{EMPTY_TREE} is the beginning of all.
    @param tiles: those of L{tiles_for_growth}, maybe more.
    @raise ChecksumMismatch: it is not, or the tiles are not those of C{new}.
    @raise BadUpstream: a tile has the wrong length.
    """
    _check_order(old.size, new)
    if old.size == 0:
        proven = EMPTY_TREE.hash
    elif old.size == new.size:
        proven = new.hash
    else:
        peaks = _peaks(old.size)
        proven = _folded(_proven_hashes(new, _plan(new.size, peaks), peaks, tiles))
    if proven != old.hash:
        raise ChecksumMismatch(f"a checksum database of {new.size} records contradicts itself with {old.size} records")


def _check_order(old_size: int, new: Tree) -> None:
    if not 0 <= old_size <= new.size:
        raise ValueError(f"a tree of {old_size} records can't have grown into one of {new.size}")


def _peaks(size: int) -> list[_Node]:
    """@return: the roots of the complete subtrees that make up a tree, from left to right, so the largest first."""
    peaks = []
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            peaks.append((level, start >> level))
            start += 1 << level
    return peaks


def _folded(peaks: Sequence[bytes]) -> bytes:
    """@return: the hash of the tree with these hashes of L{_peaks}."""
    *rest, whole = peaks
    for peak in reversed(rest):
        whole = node_hash(peak, whole)
    return whole


def _tile_of(node: _Node, size: int) -> Tile:
    """@return: the tile that holds C{node}, as wide as it is in a tree of C{size} records."""
    level, height = divmod(node[0], TILE_HEIGHT)
    number = node[1] >> TILE_HEIGHT - height
    return Tile(level, number, min(FULL_WIDTH, (size >> level * TILE_HEIGHT) - number * FULL_WIDTH))


def _root(tile: Tile) -> _Node:
    """@return: the node over the whole of a full tile; it lies in the tile above."""
    return (tile.level + 1) * TILE_HEIGHT, tile.number


def _plan(size: int, nodes: Iterable[_Node]) -> Sequence[Tile]:
    """
    @return: the tiles needed to prove C{nodes}: first those of the peaks, by which the hash of the tree is computed,
        then full ones, each after the one above it, by which it is proven.
    """
    plan = dict.fromkeys(_tile_of(peak, size) for peak in _peaks(size))
    for node in nodes:
        missing = []
        tile = _tile_of(node, size)
        while (
            tile not in plan
        ):  # ends at a tile of a peak: only tiles at the right edge are partial, and they are those
            missing.append(tile)
            tile = _tile_of(_root(tile), size)
        plan.update(dict.fromkeys(reversed(missing)))
    return list(plan)


def _proven_hashes(
    tree: Tree, plan: Sequence[Tile], nodes: Iterable[_Node], tiles: Mapping[Tile, bytes]
) -> list[bytes]:
    """@return: the hashes of C{nodes}, after all tiles of C{plan} have been proven."""
    for tile in plan:
        if len(tiles[tile]) != tile.length:
            raise BadUpstream(f"{tile.path} has {len(tiles[tile])} bytes and should have {tile.length}")

    def read(node: _Node) -> bytes:
        height = node[0] % TILE_HEIGHT
        start = (node[1] << height) % FULL_WIDTH * HASH_SIZE
        return _subtree_hash(tiles[_tile_of(node, tree.size)][start : start + (HASH_SIZE << height)])

    peaks = _peaks(tree.size)
    if _folded([read(peak) for peak in peaks]) != tree.hash:
        raise ChecksumMismatch("the tiles of a checksum database do not make up its tree")
    of_peaks = {_tile_of(peak, tree.size) for peak in peaks}
    for tile in plan:
        if tile not in of_peaks and _subtree_hash(tiles[tile]) != read(_root(tile)):
            raise ChecksumMismatch(f"{tile.path} of a checksum database does not belong to its tree")
    return [read(node) for node in nodes]


@lru_cache(maxsize=512)  # the tiles near the root are the same in every proof; at most 4 MiB
def _subtree_hash(data: bytes) -> bytes:
    """@return: the hash over a power of two of hashes that lie side by side."""
    hashes = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
    while len(hashes) > 1:
        hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]
