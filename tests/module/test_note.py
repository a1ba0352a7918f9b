"""Signed notes are believed only by the signatures of known keys."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.errors import BadUpstream, ChecksumMismatch
from athens_tx.module.note import KNOWN_KEYS, VerifierKey, open_note


class Signer:
    """A key pair that signs notes."""

    def __init__(self, name: str, seed: int = 1) -> None:
        self.name = name
        self._private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = b"\x01" + self._private.public_key().public_bytes_raw()
        self.hash = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
        self.text = f"{name}+{self.hash.hex()}+{base64.b64encode(public).decode()}"
        self.key = VerifierKey.parse(self.text)

    def line(self, text: str) -> str:
        signature = self.hash + self._private.sign(text.encode())
        return f"\N{EM DASH} {self.name} {base64.b64encode(signature).decode()}\n"

    def sign(self, text: str) -> bytes:
        return f"{text}\n{self.line(text)}".encode()


DB = Signer("db.example.com")
OTHER = Signer("other.example.com", 2)
TEXT = "a note\n\nof three lines\n"

# The example in the documentation of go's package.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

\N{EM DASH} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""


def test_a_note_of_go_is_opened() -> None:
    text = open_note(PETERS_NOTE.encode(), [VerifierKey.parse(PETER)])
    assert text == PETERS_NOTE.partition("\n\n")[0] + "\n"


def test_the_text_is_what_was_signed() -> None:
    assert open_note(DB.sign(TEXT), [DB.key]) == TEXT
    assert open_note(DB.sign("\n"), [DB.key]) == "\n"


def test_signatures_of_strangers_do_not_matter() -> None:
    both = DB.sign(TEXT) + OTHER.line("something else\n").encode()
    assert open_note(both, [DB.key]) == TEXT
    wrong_name = Signer("db.example.com", 3)
    assert open_note(DB.sign(TEXT) + wrong_name.line("x\n").encode(), [DB.key]) == TEXT
    assert open_note(DB.sign(TEXT) + DB.line(TEXT).encode(), [OTHER.key, DB.key]) == TEXT


def test_a_wrong_signature_of_a_known_key_is_a_mismatch() -> None:
    for changed in (DB.sign(TEXT).replace(b"three", b"seven"), DB.sign(TEXT) + OTHER.line("x\n").encode()):
        with pytest.raises(ChecksumMismatch, match=r"the signature of '.*example.com' under a note is wrong"):
            open_note(changed, [DB.key, OTHER.key])
    short = f"{TEXT}\n\N{EM DASH} db.example.com {base64.b64encode(DB.hash + b'x').decode()}\n"
    with pytest.raises(ChecksumMismatch, match="is wrong"):
        open_note(short.encode(), [DB.key])


def test_a_note_that_nobody_known_signed_is_a_mismatch() -> None:
    for keys in ([], [OTHER.key], [Signer("db.example.com", 3).key]):
        with pytest.raises(ChecksumMismatch, match="signed by nobody"):
            open_note(DB.sign(TEXT), keys)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"text\n",
        b"text\n\n",
        DB.sign(TEXT)[:-1],
        DB.sign(TEXT) + b"\n",
        DB.sign(TEXT) + b"more\n",
        b"\xff" + DB.sign(TEXT),
        DB.sign(TEXT).replace(b"a note", b"a\tnote"),
        DB.sign(TEXT).replace(b"a note", b"a\x00note"),
        DB.sign(TEXT).replace(b"\n", b"\r\n"),
        DB.sign(TEXT).replace("\N{EM DASH}".encode(), b"-"),
        DB.sign(TEXT).replace(b"db.example", b"db+example"),
        DB.sign(TEXT).replace(b"db.example", b"db example"),
        DB.sign(TEXT).replace(b"db.example.com", b""),
        b"text\n\n\xe2\x80\x94 db.example.com\n",
        b"text\n\n\xe2\x80\x94 db.example.com AAAA\n",
        b"text\n\n\xe2\x80\x94 db.example.com AAAAAAAA!\n",
        "text\n\n\N{EM DASH} db.example.com ÄAAAAAAA\n".encode(),
        DB.sign(TEXT) + OTHER.line(TEXT).encode() * 100,
        b"<html></html>\n",
    ],
    ids=range(21),
)
def test_what_is_no_note_is_refused(message: bytes) -> None:
    with pytest.raises(BadUpstream) as caught:
        open_note(message, [DB.key, OTHER.key])
    assert not isinstance(caught.value, ChecksumMismatch)


@given(st.integers(0, len(DB.sign(TEXT)) * 8 - 1))
def test_a_flipped_bit_never_changes_the_text(bit: int) -> None:
    note = bytearray(DB.sign(TEXT))
    note[bit // 8] ^= 1 << bit % 8
    try:
        text = open_note(bytes(note), [DB.key])
    except BadUpstream:
        return
    assert text == TEXT  # two bits of the base64 do not count


def test_keys_have_a_name_a_hash_and_32_bytes() -> None:
    assert VerifierKey.parse(DB.text) == VerifierKey("db.example.com", DB.hash, DB.key.key)
    assert len(DB.key.key) == 32
    assert VerifierKey.parse(DB.text.replace(DB.hash.hex(), DB.hash.hex().upper())) == DB.key


def test_known_databases_have_their_keys() -> None:
    golang = VerifierKey.parse("sum.golang.org")
    assert (golang.name, golang.hash.hex()) == ("sum.golang.org", "033de0ae")
    assert VerifierKey.parse("sum.golang.google.cn") == golang
    assert all(VerifierKey.parse(text) == golang for text in KNOWN_KEYS.values())


def encoded(name: str, raw: bytes) -> str:
    digits = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex()
    return f"{name}+{digits}+{base64.b64encode(raw).decode()}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no key of the form"),
        ("db.example.com", "no key of the form"),
        ("db.example.com+00000000", "no key of the form"),
        (DB.text.replace("+", " "), "no key of the form"),
        (DB.text.replace("db.", "d b."), "no key of the form"),
        (DB.text[:-1], "no key of the form"),
        (DB.text + "\n", "no key of the form"),
        ("db+0000000+AQ==", "no key of the form"),
        ("db+0x000000+AQ==", "no key of the form"),
        ("+" + DB.text.partition("+")[2], "no key of the form"),
        (DB.text.replace("db.", "dc."), "does not have the hash"),
        (DB.text.replace(DB.hash.hex(), "00000000"), "does not have the hash"),
        (encoded("db", b"\x02" + b"k" * 32), "not an Ed25519 key"),
        (encoded("db", b"\x01" + b"k" * 31), "not an Ed25519 key"),
    ],
)
def test_a_bad_key_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        VerifierKey.parse(text)
    assert str(caught.value).isprintable()
