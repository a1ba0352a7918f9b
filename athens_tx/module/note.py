"""
Signed notes, as a checksum database hands them out: a text, a blank line, and a line for each signature.

A signature line is an em dash, a space, the signer's name, a space, and in base64 four bytes of key hash with the
Ed25519 signature of the text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from athens_tx.errors import BadUpstream, ChecksumMismatch
from athens_tx.module.escape import shown

_SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
#: The keys that the go command knows by the name of the database. The second is the first under another address.
KNOWN_KEYS: Mapping[str, str] = MappingProxyType(
    {"sum.golang.org": _SUM_GOLANG_ORG, "sum.golang.google.cn": _SUM_GOLANG_ORG}
)

_ED25519 = b"\x01"
_HASH_SIZE = 4
_MAX_SIGNATURES = 100
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH} "


@attrs.frozen
class VerifierKey:
    """
    The public key of a signer.

    @ivar name: the signer's name, as in its signatures.
    @ivar hash: four bytes that tell its keys apart.
    @ivar key: the Ed25519 public key, 32 bytes.
    """

    name: str
    hash: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """
        @param text: C{name+hash+base64}, as in C{GOSUMDB}, or one of L{KNOWN_KEYS} by name.
        @raise ValueError: it is neither, in one line.
        """
        name, _, rest = KNOWN_KEYS.get(text, text).partition("+")
        digits, _, encoded = rest.partition("+")
        key = _decoded(encoded)
        if not _is_name(name) or not re.fullmatch("[0-9A-Fa-f]{8}", digits) or not key:
            raise ValueError(f"{shown(text)} is no key of the form name+hash+key and no known database")
        if key[:1] != _ED25519 or len(key) != 33:
            raise ValueError(f"the key of {shown(name)} is not an Ed25519 key")
        if bytes.fromhex(digits) != _key_hash(name, key):
            raise ValueError(f"the key of {shown(name)} does not have the hash {digits} that it comes with")
        return cls(name, bytes.fromhex(digits), key[1:])

    def verify(self, text: bytes, signature: bytes) -> bool:
        """@return: whether C{signature} is this key's for C{text}."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except InvalidSignature:
            return False
        return True


def _key_hash(name: str, key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + key).digest()[:_HASH_SIZE]


def _is_name(name: str) -> bool:
    return name.split() == [name] and "+" not in name


def _decoded(text: str) -> bytes:
    """@return: the bytes of the base64 text; empty if it is none."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""


def open_note(message: bytes, keys: Iterable[VerifierKey]) -> str:
    """
    @param message: a signed note as it came.
    @return: its text, which at least one of C{keys} has signed.
    @raise BadUpstream: it is not a signed note.
    @raise ChecksumMismatch: none of the keys signed it, or a signature in the name of one is wrong.
    """
    text, lines = _split(message)
    known = {(key.name, key.hash): key for key in keys}
    checked = set()
    for line in lines:
        name, signature = _signature(line)
        who = name, signature[:_HASH_SIZE]
        if who not in known or who in checked:
            continue
        if not known[who].verify(text.encode(), signature[_HASH_SIZE:]):
            raise ChecksumMismatch(f"the signature of {shown(name)} under a note is wrong")
        checked.add(who)
    if not checked:
        raise ChecksumMismatch("a note is signed by nobody that is known")
    return text


def _split(message: bytes) -> tuple[str, list[str]]:
    """@return: the text, with its final newline, and the lines of signatures."""
    try:
        whole = message.decode()
    except UnicodeDecodeError:
        whole = ""
    text, blank, signatures = whole.rpartition("\n\n")
    lines = signatures.split("\n")
    if not blank or len(lines) < 2 or lines.pop() != "" or _CONTROL.search(whole) or len(lines) > _MAX_SIGNATURES:
        raise BadUpstream("what should be a signed note is none")
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes]:
    """@return: the signer's name, and the key's hash with the signature behind it."""
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    signature = _decoded(encoded)
    if not line.startswith(_DASH) or not _is_name(name) or len(signature) <= _HASH_SIZE:
        raise BadUpstream("a line that should be the signature of a note is none")
    return name, signature
