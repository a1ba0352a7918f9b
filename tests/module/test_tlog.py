"""Records and the growth of a log are proven by tiles, and nothing that is changed passes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import BadUpstream, ChecksumMismatch
from athens_tx.module.note import VerifierKey, open_note
from athens_tx.module.tlog import (
    EMPTY_TREE,
    HASH_SIZE,
    Record,
    Tile,
    Tree,
    check_growth,
    check_record,
    node_hash,
    parse_record,
    parse_tree,
    record_hash,
    tiles_for_growth,
    tiles_for_record,
)


class Log:
    """
    A log whose hashes are computed by the recursion of RFC 6962, section 2.1.

    @ivar changed: the number of a record that is another one than in other logs.
    """

    def __init__(self, changed: int = -1) -> None:
        self.changed = changed
        self.hash = cache(self._hash)

    def text(self, number: int) -> bytes:
        mark = "x" if number == self.changed else ""
        return f"example.com/m{number}{mark} v1.0.0 h1:{number}=\n".encode()

    def _hash(self, start: int, end: int) -> bytes:
        if end - start == 0:
            return hashlib.sha256(b"").digest()
        if end - start == 1:
            return record_hash(self.text(start))
        half = 1 << (end - start - 1).bit_length() - 1
        return node_hash(self.hash(start, start + half), self.hash(start + half, end))

    def tree(self, size: int) -> Tree:
        return Tree(size, self.hash(0, size))

    def record(self, number: int) -> Record:
        return Record(number, self.text(number))

    def tile(self, tile: Tile) -> bytes:
        each = 1 << tile.level * 8
        first = tile.number * 256
        return b"".join(self.hash(n * each, (n + 1) * each) for n in range(first, first + tile.width))

    def tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        return {tile: self.tile(tile) for tile in tiles}


LOG = Log()
SIZES = st.integers(1, 600)


@given(SIZES, st.data())
def test_a_record_is_proven(size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    tree = LOG.tree(size)
    tiles = tiles_for_record(tree, number)
    assert len(set(tiles)) == len(tiles) <= 4
    check_record(tree, LOG.record(number), LOG.tiles(tiles))


@given(SIZES, st.data())
def test_growth_is_proven(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, size))
    tree = LOG.tree(size)
    check_growth(LOG.tree(old), tree, LOG.tiles(tiles_for_growth(old, tree)))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 66_000])
def test_edges_of_tiles_are_no_trouble(size: int) -> None:
    tree = LOG.tree(size)
    for number in {0, size // 2, size - 1}:
        check_record(tree, LOG.record(number), LOG.tiles(tiles_for_record(tree, number)))
    for old in {0, 1, size // 2, size - 1, size}:
        check_growth(LOG.tree(old), tree, LOG.tiles(tiles_for_growth(old, tree)))


def test_which_tiles_are_wanted() -> None:
    def paths(tiles: Sequence[Tile]) -> list[str]:
        return [tile.path for tile in tiles]

    tree = LOG.tree(66_000)
    edge = ["tile/8/2/000.p/1", "tile/8/1/001.p/1", "tile/8/0/257.p/208"]
    assert paths(tiles_for_record(tree, 65_999)) == edge
    assert paths(tiles_for_record(tree, 65_536)) == [*edge, "tile/8/0/256"]
    assert paths(tiles_for_record(tree, 5)) == [*edge, "tile/8/1/000", "tile/8/0/000"]
    assert paths(tiles_for_growth(257, tree)) == [*edge, "tile/8/1/000", "tile/8/0/001"]
    assert paths(tiles_for_growth(0, tree)) == paths(tiles_for_growth(66_000, tree)) == []
    assert paths(tiles_for_record(Tree(10**12, b""), 1))[-1] == "tile/8/0/000"


@given(SIZES, st.data())
def test_another_record_is_a_mismatch(size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    tree = LOG.tree(size)
    tiles = LOG.tiles(tiles_for_record(tree, number))
    with pytest.raises(ChecksumMismatch, match=f"record {number} of a checksum database is not the one in its tree"):
        check_record(tree, Record(number, LOG.text(number) + b"more\n"), tiles)


@given(st.integers(2, 600), st.data())
def test_a_changed_tile_is_a_mismatch(size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size - 1))
    tree = LOG.tree(size)
    for wanted in (tiles_for_record(tree, number), tiles_for_growth(old, tree)):
        tiles = LOG.tiles(wanted)
        tile = data.draw(st.sampled_from(wanted))
        bit = data.draw(st.integers(0, tile.length * 8 - 1))
        changed = bytearray(tiles[tile])
        changed[bit // 8] ^= 1 << bit % 8
        tiles[tile] = bytes(changed)
        with pytest.raises(ChecksumMismatch, match="tree"):  # noqa: PT012
            if wanted == tiles_for_record(tree, number):
                check_record(tree, LOG.record(number), tiles)
            check_growth(
                LOG.tree(old), tree, tiles | LOG.tiles([t for t in tiles_for_growth(old, tree) if t not in tiles])
            )


@given(st.integers(2, 600), st.data())
def test_a_rewritten_past_is_a_mismatch(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    other = Log(changed=data.draw(st.integers(0, old - 1)))
    tree = other.tree(size)
    with pytest.raises(ChecksumMismatch, match=f"of {size} records contradicts itself with {old} records"):
        check_growth(LOG.tree(old), tree, other.tiles(tiles_for_growth(old, tree)))


def test_the_tiles_of_another_log_are_a_mismatch() -> None:
    tree = LOG.tree(300)
    with pytest.raises(ChecksumMismatch, match="do not make up its tree"):
        check_record(tree, LOG.record(5), Log(changed=299).tiles(tiles_for_record(tree, 5)))
    deep = {**LOG.tiles(tiles_for_record(tree, 5)), Tile(0, 0, 256): Log(changed=7).tile(Tile(0, 0, 256))}
    with pytest.raises(ChecksumMismatch, match="tile/8/0/000 of a checksum database does not belong"):
        check_record(tree, LOG.record(5), deep)


def test_an_empty_tree_has_one_hash() -> None:
    assert LOG.tree(0) == EMPTY_TREE
    check_growth(EMPTY_TREE, EMPTY_TREE, {})
    with pytest.raises(ChecksumMismatch, match="contradicts itself"):
        check_growth(Tree(0, b"x" * 32), LOG.tree(5), {})


def test_a_tile_of_the_wrong_length_is_refused() -> None:
    tree = LOG.tree(300)
    tiles = LOG.tiles(tiles_for_record(tree, 5))
    for tile, data in tiles.items():
        for wrong in (b"", data[:-1], data + b"\0", data + data[:HASH_SIZE]):
            with pytest.raises(BadUpstream, match=f"{tile.path} has {len(wrong)} bytes and should have {len(data)}"):
                check_record(tree, LOG.record(5), {**tiles, tile: wrong})


def test_a_tile_that_was_not_brought_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        check_record(LOG.tree(5), LOG.record(1), {})


@pytest.mark.parametrize("number", [-1, 5, 6, 1 << 62])
def test_a_record_beyond_the_tree_is_refused(number: int) -> None:
    with pytest.raises(BadUpstream, match=f"of 5 records can't prove record {number}"):
        tiles_for_record(LOG.tree(5), number)
    with pytest.raises(BadUpstream, match="can't prove"):
        check_record(LOG.tree(5), Record(number, b"x\n"), {})


def test_a_tree_does_not_shrink() -> None:
    for call in (lambda: tiles_for_growth(6, LOG.tree(5)), lambda: check_growth(LOG.tree(6), LOG.tree(5), {})):
        with pytest.raises(ValueError, match="can't have grown"):
            call()


def test_a_full_tile_begins_with_a_partial_one() -> None:
    partial = Tile(0, 1, 44)
    assert partial.full == Tile(0, 1, 256)
    assert LOG.tile(partial.full)[: partial.length] == LOG.tile(partial)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/8/0/000"),
        (Tile(0, 1, 5), "tile/8/0/001.p/5"),
        (Tile(1, 999, 256), "tile/8/1/999"),
        (Tile(0, 1000, 256), "tile/8/0/x001/000"),
        (Tile(0, 1234067, 1), "tile/8/0/x001/x234/067.p/1"),
        (Tile(7, 1000000, 255), "tile/8/7/x001/x000/000.p/255"),
    ],
)
def test_tiles_have_paths(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


@given(st.builds(Tile, st.integers(0, 63), st.integers(0, 1 << 55), st.integers(1, 256)))
def test_a_path_is_parsed_back(tile: Tile) -> None:
    assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/8/0/0",
        "tile/8/0/0000",
        "tile/8/0/x000/001",
        "tile/8/0/001/000",
        "tile/8/00/000",
        "tile/8/64/000",
        "tile/8/-1/000",
        "tile/8/data/000",
        "tile/9/0/000",
        "tile/8/0/000.p/0",
        "tile/8/0/000.p/256",
        "tile/8/0/000.p/05",
        "tile/8/0/000.p/",
        "tile/8/0/000\n",
        "/tile/8/0/000",
        "tile/8/0/" + "x001/" * 9 + "000",
        "tile/8/0/../000",
        "tile/8/0/٠٠٠",
    ],
)
def test_what_is_no_path_of_a_tile_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is no path of a tile of hashes"):
        Tile.parse(path)


HASH = base64.b64encode(b"h" * 32).decode()


def test_the_head_of_a_tree_is_parsed() -> None:
    assert parse_tree(f"go.sum database tree\n5\n{HASH}\n") == Tree(5, b"h" * 32)
    assert parse_tree(f"go.sum database tree\n0\n{HASH}\nfuture\n") == Tree(0, b"h" * 32)
    assert parse_tree(f"go.sum database tree\n{2**63 - 1}\n{HASH}\n").size == 2**63 - 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"go.sum database tree\n5\n{HASH}",
        f"go.sum database tree v2\n5\n{HASH}\n",
        f" go.sum database tree\n5\n{HASH}\n",
        f"go.sum database tree\n-5\n{HASH}\n",
        f"go.sum database tree\n05\n{HASH}\n",
        f"go.sum database tree\n+5\n{HASH}\n",
        f"go.sum database tree\n٥\n{HASH}\n",
        f"go.sum database tree\n{2**63}\n{HASH}\n",
        "go.sum database tree\n" + "9" * 5000 + f"\n{HASH}\n",
        f"go.sum database tree\n5\n{HASH[:-1]}\n",
        f"go.sum database tree\n5\n{HASH[4:]}\n",
        f"go.sum database tree\n5\n{HASH[:-2]}!=\n",
    ],
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(BadUpstream, match="head of a checksum database"):
        parse_tree(text)


def test_a_record_is_parsed_with_the_note_behind_it() -> None:
    assert parse_record(b"0\nm v1 h1:a=\n\n") == (Record(0, b"m v1 h1:a=\n"), b"")
    answer = b"12\nm v1 h1:a=\nm v1/go.mod h1:b=\n\nnote\n\nsignature\n"
    assert parse_record(answer) == (Record(12, b"m v1 h1:a=\nm v1/go.mod h1:b=\n"), b"note\n\nsignature\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"12",
        b"12\n",
        b"12\n\n",
        b"12\n\n\n",
        b"12\ntext\n",
        b"12\ntext",
        b"\ntext\n\n",
        b"-1\ntext\n\n",
        b"+1\ntext\n\n",
        b"01\ntext\n\n",
        b"x\ntext\n\n",
        b"9223372036854775808\ntext\n\n",
        b"9" * 5000 + b"\ntext\n\n",
        b"1\nte\x00xt\n\n",
        b"1\nte\txt\n\n",
        b"1\r\ntext\r\n\r\n",
        b"1\n\xff\n\n",
        b"not found: example.com\n",
        b"<html>\n\n</html>",
    ],
)
def test_what_is_no_record_is_refused(answer: bytes) -> None:
    with pytest.raises(BadUpstream, match="record of a checksum database"):
        parse_record(answer)


def test_from_a_lookup_to_a_proof() -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    public = b"\x01" + private.public_key().public_bytes_raw()
    digest = hashlib.sha256(b"db.example.com\n" + public).digest()[:4]
    key = VerifierKey.parse(f"db.example.com+{digest.hex()}+{base64.b64encode(public).decode()}")
    text = f"go.sum database tree\n600\n{base64.b64encode(LOG.tree(600).hash).decode()}\n"
    signature = base64.b64encode(digest + private.sign(text.encode())).decode()
    answer = b"17\n%b\n%b\n\xe2\x80\x94 db.example.com %b\n" % (LOG.text(17), text.encode(), signature.encode())

    record, note = parse_record(answer)
    tree = parse_tree(open_note(note, [key]))
    check_record(tree, record, LOG.tiles(tiles_for_record(tree, record.id)))
    check_growth(LOG.tree(77), tree, LOG.tiles(tiles_for_growth(77, tree)))
