"""
How a connection to MongoDB proves who it is: SCRAM (RFC 5802) in the two forms that MongoDB has, or a certificate.

txmongo knows SCRAM-SHA-1 only, derives the key on the reactor's thread and swallows a refusal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

from bson.binary import Binary
from pymongo.saslprep import saslprep
from twisted.internet.threads import deferToThreadPool

from athens_tx.storage.mongo_url import MongoTarget

_HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}

#: A server that asks for fewer rounds wants to learn the password.
_FEWEST_ROUNDS = 4096
#: How many keys are kept: each server of a set may have its own salt.
_KEYS = 16


class Denied(Exception):
    """The server refuses the user; the text says why, for the log."""


class Login:
    """Who we are. Keys that were derived once are kept, as each connection needs the same one."""

    def __init__(self, reactor: Any, target: MongoTarget) -> None:
        self._reactor = reactor
        self._target = target
        self._keys: dict[tuple[str, bytes, int], bytes] = {}

    @property
    def asks(self) -> str:
        """What the server is to be asked at the greeting: which mechanisms it has for the user; empty for nothing."""
        target = self._target
        return f"{target.source}.{target.user}" if target.user and not target.mechanism else ""

    async def prove(self, link: Any, mechanisms: Any) -> None:
        """
        @param link: a L{athens_tx.storage.mongo_link.Link}.
        @param mechanisms: what the server has for the user, if it said so.
        @raise Denied: the server says no, or is not the one that knows the password.
        """
        mechanism = self._target.mechanism
        if mechanism == "MONGODB-X509":
            await self._by_certificate(link)
        elif self._target.user:
            best = "SCRAM-SHA-256" if "SCRAM-SHA-256" in (mechanisms or ()) else "SCRAM-SHA-1"
            await self._by_password(link, mechanism or best)

    async def _by_certificate(self, link: Any) -> None:
        command: dict[str, Any] = {"authenticate": 1, "mechanism": "MONGODB-X509"}
        if self._target.user:
            command["user"] = self._target.user
        _agreed(await link.run("$external", command))

    async def _by_password(self, link: Any, mechanism: str) -> None:
        user = self._target.user.replace("=", "=3D").replace(",", "=2C")
        nonce = base64.b64encode(secrets.token_bytes(24)).decode("ascii")
        bare = f"n={user},r={nonce}"
        start = {
            "saslStart": 1,
            "mechanism": mechanism,
            "payload": Binary(f"n,,{bare}".encode()),
            "autoAuthorize": 1,
            "options": {"skipEmptyExchange": True},
        }
        reply = _agreed(await link.run(self._target.source, start))
        first = bytes(reply["payload"])
        said = _fields(first)
        if not said.get("r", "").startswith(nonce) or int(said.get("i", "0")) < _FEWEST_ROUNDS:
            raise Denied("the server's part of the login is not what it should be")
        key = await self._key(mechanism, base64.b64decode(said["s"]), int(said["i"]))
        proof, signature = _proof(_HASHES[mechanism], key, bare.encode(), first, f"c=biws,r={said['r']}".encode())
        reply = await self._go_on(link, reply, proof)
        given = base64.b64decode(_fields(bytes(reply["payload"])).get("v", ""))
        if not hmac.compare_digest(given, signature):
            raise Denied("the server does not know the password itself")
        while not reply.get("done"):
            reply = await self._go_on(link, reply, b"")

    async def _go_on(self, link: Any, reply: Any, payload: bytes) -> Any:
        command = {"saslContinue": 1, "conversationId": reply["conversationId"], "payload": Binary(payload)}
        return _agreed(await link.run(self._target.source, command))

    async def _key(self, mechanism: str, salt: bytes, rounds: int) -> bytes:
        name = (mechanism, salt, rounds)
        if name not in self._keys:
            pool = self._reactor.getThreadPool()
            arguments = (_HASHES[mechanism], self._prepared(mechanism), salt, rounds)
            self._keys[name] = await deferToThreadPool(self._reactor, pool, hashlib.pbkdf2_hmac, *arguments)
            while len(self._keys) > _KEYS:
                self._keys.pop(next(iter(self._keys)))
        return self._keys[name]

    def _prepared(self, mechanism: str) -> bytes:
        """@return: the password as it is hashed."""
        password = self._target.password
        if mechanism == "SCRAM-SHA-1":
            text = f"{self._target.user}:mongo:{password}"
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().encode("ascii")
        try:
            return str(saslprep(password) if password else "").encode()
        except ValueError as error:
            raise Denied("the password has characters that SCRAM-SHA-256 does not allow") from error


def _agreed(reply: Any) -> Any:
    if not reply.get("ok"):
        raise Denied(str(reply.get("errmsg", "no reason given"))[:200])
    return reply


def _fields(message: bytes) -> dict[str, str]:
    """@return: the attributes of a SCRAM message."""
    items = (item.partition("=") for item in message.decode("utf-8", "replace").split(","))
    return {name: value for name, _, value in items}


def _proof(kind: str, key: bytes, bare: bytes, first: bytes, last: bytes) -> tuple[bytes, bytes]:
    """@return: the client's last message, and the signature that the server must answer with."""
    spoken = b",".join((bare, first, last))
    client_key = hmac.digest(key, b"Client Key", kind)
    mask = hmac.digest(hashlib.new(kind, client_key).digest(), spoken, kind)
    proof = bytes(mine ^ other for mine, other in zip(client_key, mask, strict=True))
    signature = hmac.digest(hmac.digest(key, b"Server Key", kind), spoken, kind)
    return last + b",p=" + base64.b64encode(proof), signature
