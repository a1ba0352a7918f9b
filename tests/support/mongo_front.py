"""
A server of MongoDB's protocol that stands before a real one and adds what a stand-in lacks: logins, sets, errors.

It knows who logs in by SCRAM, so that what our side says is compared with what pymongo says to the same server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

import bson
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from txmongo.protocol import MongoDecoder, Msg, Query, Reply

#: How often a password is hashed; fewer than in earnest, and as few as a client may accept.
ROUNDS = 4096


class MongoFront:
    """
    Passes everything on until it is told otherwise. Whoever makes one has to L{stop} it.

    @ivar port: where it listens, on loopback.
    @ivar users: passwords by user name; where there are any, one has to log in.
    @ivar mechanisms: what the users may log in by.
    @ivar hello: what the greeting says besides, or instead.
    @ivar answers: what is answered in place of the server, by the name of the command; each once.
    @ivar seen: the commands that came, and who had logged in by what.
    @ivar lose: names of commands that the server gets, and whose answer nobody gets; each once.
    @ivar connections: how many it has accepted.
    @ivar watch: is told each command before it is passed on.
    @ivar logins: how often somebody logged in, by mechanism.
    """

    def __init__(self, reactor: Any, port: int, tls: Any = None) -> None:
        """
        @param port: that of the server.
        @param tls: a context factory, to speak TLS.
        """
        self.server = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self.users: dict[str, str] = {}
        self.mechanisms: tuple[str, ...] = ("SCRAM-SHA-1", "SCRAM-SHA-256")
        self.hello: dict[str, Any] = {}
        self.answers: list[tuple[str, Mapping[str, Any]]] = []
        self.seen: list[dict[str, Any]] = []
        self.logins: list[str] = []
        self.lose: list[str] = []
        self.connections = 0
        self.watch: Callable[[Mapping[str, Any]], object] = lambda command: None
        self.open: set[Protocol] = set()
        factory = Factory.forProtocol(lambda: _Client(self))
        factory.noisy = False
        if tls is None:
            self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        self.port: int = self._port.getHost().port

    def names(self) -> list[str]:
        """@return: the names of the commands that came."""
        return [next(iter(command)) for command in self.seen]

    async def stop(self) -> None:
        """Stop listening, and cut every connection."""
        await self._port.stopListening()
        for one in list(self.open):
            one.transport.abortConnection()  # type: ignore[union-attr]


class _Framed(Protocol):
    """Cuts what comes into messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4:
            (length,) = struct.unpack("<i", self._buffer[:4])
            if len(self._buffer) < length:
                return
            message, self._buffer = self._buffer[:length], self._buffer[length:]
            self.message(message)

    def message(self, message: bytes) -> None:
        raise NotImplementedError


class _Server(_Framed):
    """The connection to the real server."""

    def __init__(self, client: _Client) -> None:
        super().__init__()
        self._client = client

    def message(self, message: bytes) -> None:
        if self._client.loses:
            self._client.transport.abortConnection()  # type: ignore[union-attr]
        else:
            self._client.transport.write(message)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self._client.transport.loseConnection()  # type: ignore[union-attr]


class _Client(_Framed):
    """A connection of somebody who takes this for a server."""

    def __init__(self, front: MongoFront) -> None:
        super().__init__()
        self._front = front
        self._server: _Server | None = None
        self._early: list[bytes] = []
        self._scram: Scram | None = None
        self.logged_in = False
        self.loses = False

    def connectionMade(self) -> None:
        self._front.open.add(self)
        self._front.connections += 1
        connectProtocol(self._front.server, _Server(self)).addCallbacks(self._connected, self._refused)

    def _refused(self, failure: Any) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def _connected(self, server: _Server) -> None:
        self._server = server
        self._front.open.add(server)
        early, self._early = self._early, []
        for message in early:
            self.message(message)

    def connectionLost(self, reason: Any = None) -> None:
        self._front.open.discard(self)
        if self._server is not None:
            self._front.open.discard(self._server)
            self._server.transport.loseConnection()  # type: ignore[union-attr]

    def message(self, message: bytes) -> None:
        if self._server is None:
            self._early.append(message)
            return
        request = MongoDecoder.decode(message)
        number = struct.unpack("<i", message[4:8])[0]
        if isinstance(request, Query):
            self._greet(number, bson.decode(request.query))
            return
        body = request.to_dict()
        self._front.seen.append(body)
        self._front.watch(body)
        name = next(iter(body))
        if name in self._front.lose:
            self._front.lose.remove(name)
            self.loses = True
        reply = self._reply(name, body)
        if reply is None:
            self._server.transport.write(message)  # type: ignore[union-attr]
        else:
            answer = Msg.create(dict(reply), response_to=number)
            self.transport.write(answer.encode(0))  # type: ignore[union-attr]

    def _greet(self, number: int, command: Mapping[str, Any]) -> None:
        hello = {
            "ismaster": True,
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 1000,
            "minWireVersion": 0,
            "maxWireVersion": 8,
            "ok": 1.0,
        }
        if "saslSupportedMechs" in command:
            hello["saslSupportedMechs"] = list(self._front.mechanisms)
        self._front.seen.append(dict(command))
        reply = Reply(response_to=number, documents=[bson.encode({**hello, **self._front.hello})])
        self.transport.write(reply.encode(0))  # type: ignore[union-attr]

    def _reply(self, name: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        for index, (wanted, answer) in enumerate(self._front.answers):
            if wanted == name:
                del self._front.answers[index]
                return answer
        if name == "saslStart":
            return self._start(body)
        if name == "saslContinue" and self._scram is not None:
            return self._go_on(body)
        if self._front.users and not self.logged_in:
            text = f"command {name} requires authentication"
            return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": text}
        return None

    def _start(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        mechanism = body["mechanism"]
        self._scram = Scram(mechanism, self._front.users)
        if mechanism not in self._front.mechanisms or not self._scram.begin(bytes(body["payload"])):
            return _FAILED
        return {"ok": 1.0, "conversationId": 1, "done": False, "payload": self._scram.first}

    def _go_on(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._scram is not None
        final = self._scram.end(bytes(body["payload"])) if body["payload"] else b""
        if final is None:
            return _FAILED
        if not self.logged_in:
            self.logged_in = True
            self._front.logins.append(self._scram.mechanism)
            # an old server wants one more, empty, message
            return {"ok": 1.0, "conversationId": 1, "done": False, "payload": final}
        return {"ok": 1.0, "conversationId": 1, "done": True, "payload": b""}


_FAILED = {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}


class Scram:
    """The server's side of RFC 5802."""

    def __init__(self, mechanism: str, users: Mapping[str, str]) -> None:
        self.mechanism = mechanism
        self.first = b""
        self._users = users
        self._kind = "sha1" if mechanism == "SCRAM-SHA-1" else "sha256"
        self._bare = b""
        self._key = b""

    def begin(self, message: bytes) -> bool:
        """@return: whether the user is known."""
        self._bare = message.removeprefix(b"n,,")
        fields = dict(item.split(b"=", 1) for item in self._bare.split(b","))
        user = fields[b"n"].decode().replace("=2C", ",").replace("=3D", "=")
        if user not in self._users:
            return False
        password = self._users[user]
        if self._kind == "sha1":
            password = hashlib.md5(f"{user}:mongo:{password}".encode()).hexdigest()
        salt = os.urandom(16)
        self._key = hashlib.pbkdf2_hmac(self._kind, password.encode(), salt, ROUNDS)
        nonce = fields[b"r"] + base64.b64encode(os.urandom(9))
        self.first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), ROUNDS)
        return True

    def end(self, message: bytes) -> bytes | None:
        """@return: the last message; C{None} if the password was wrong."""
        bare, _, proof = message.rpartition(b",p=")
        spoken = b",".join((self._bare, self.first, bare))
        client = hmac.digest(self._key, b"Client Key", self._kind)
        mask = hmac.digest(hashlib.new(self._kind, client).digest(), spoken, self._kind)
        expected = bytes(one ^ other for one, other in zip(client, mask, strict=True))
        if base64.b64decode(proof) != expected:
            return None
        server = hmac.digest(self._key, b"Server Key", self._kind)
        return b"v=" + base64.b64encode(hmac.digest(server, spoken, self._kind))
