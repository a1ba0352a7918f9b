"""
What of Google's cloud fake-gcs-server does not show, on loopback: who asks, and uploads that go on where they were cut.

A token service, the exchange of tokens for those of others, the signing service, and a bucket.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from twisted.web.resource import Resource
from twisted.web.server import Request

from tests.support.loopback import LoopbackServer

BUCKET = "modules"
EMAIL = "athens@project.iam.gserviceaccount.com"
Answer = tuple[int, dict[str, str], bytes]


@cache
def private_key() -> rsa.RSAPrivateKey:
    """@return: the key of the service account."""
    return rsa.generate_private_key(65537, 2048)


@attrs.frozen
class Object:
    """What lies in the bucket."""

    data: bytes
    content_type: str
    generation: str

    @property
    def md5(self) -> str:
        return b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode()


@attrs.define
class Session:
    """An upload; C{match} is its C{ifGenerationMatch}."""

    key: str
    content_type: str
    match: str | None
    data: bytes = b""
    done: str = ""


class GoogleCloud(Resource):
    """
    @ivar objects: by key.
    @ivar requests: method and target of each, in their order.
    @ivar tokens: those handed out; the last one is taken, unless C{accepts} says otherwise.
    @ivar life: seconds that a token is good for.
    @ivar open: nobody has to say who he is.
    @ivar keeps: says how many bytes of a part are kept; all but the last are for a whole 256 KiB.
    @ivar damages: what becomes of the bytes of an object before they are kept.
    @ivar answers: in place of the answers to requests whose method and target begin like this.
    """

    isLeaf = True

    def __init__(self, reactor: Any, tls: Any = None) -> None:
        """@param tls: a context factory, to speak TLS."""
        super().__init__()
        self.objects: dict[str, Object] = {}
        self.sessions: dict[str, Session] = {}
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.accepts: Callable[[str], bool] = lambda token: token == self.tokens[-1]
        self.life = 3600
        self.open = False
        self.keeps: Callable[[int], int] = lambda size: size
        self.damages: Callable[[bytes], bytes] = lambda data: data
        self.answers: dict[str, Answer] = {}
        self._count = 0
        self._scheme = "http" if tls is None else "https"
        self.server = LoopbackServer(reactor, self, tls)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server.port}"

    def service_account(self, **more: str) -> dict[str, str]:
        """@return: a key as Google hands it out."""
        pem = private_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
            **more,
        }

    def count(self, start: str = "") -> int:
        """@return: how many requests began like this."""
        return sum(1 for request in self.requests if request.startswith(start))

    def keep(self, key: str, data: bytes, content_type: str = "text/plain") -> str:
        """Lay an object there; @return: its generation."""
        self._count += 1
        self.objects[key] = Object(data, content_type, str(1_700_000_000_000_000 + self._count))
        return self.objects[key].generation

    # -- answers

    def render(self, request: Request) -> bytes:
        target = request.uri.decode()
        self.requests.append(f"{request.method.decode()} {target}")
        status, headers, body = self._special() or self._answer(request, urlsplit(target).path)
        request.setResponseCode(status)
        request.setHeader("Content-Length", str(len(body)))
        for name, value in headers.items():
            request.setHeader(name, value)
        return b"" if request.method == b"HEAD" else body

    def _special(self) -> Answer | None:
        return next((self.answers[start] for start in self.answers if self.requests[-1].startswith(start)), None)

    def _answer(self, request: Request, path: str) -> Answer:
        body = request.content.read()
        if path == "/token":
            return self._token(dict(parse_qsl(body.decode())))
        if path == "/sts":
            return self._issue()
        if path == "/sign":
            signed = private_key().sign(b64decode(json.loads(body)["payload"]), padding.PKCS1v15(), hashes.SHA256())
            return _json({"keyId": "1", "signedBlob": b64encode(signed).decode()})
        if path.startswith(f"/{BUCKET}/"):
            return self._linked(request, path)
        said = request.getHeader("Authorization") or ""
        if not self.open and not (said.startswith("Bearer ") and self.accepts(said.removeprefix("Bearer "))):
            return failure(401, "Invalid Credentials")
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.uri.decode()).query).items()}
        if path == f"/upload/storage/v1/b/{BUCKET}/o":
            return self._upload(request, query, body)
        start = f"/storage/v1/b/{BUCKET}/o"
        if path == start:
            return self._list(query)
        if path.startswith(f"{start}/"):
            return self._object(request, unquote(path.removeprefix(f"{start}/")), query)
        return failure(404, "The specified bucket does not exist.")

    def _token(self, form: dict[str, str]) -> Answer:
        if "refresh_token" in form:
            return self._issue() if form["refresh_token"] == "a refresh token" else failure(400, "invalid_grant")
        head, claims, signature = form["assertion"].split(".")
        try:
            private_key().public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return (
                400,
                {},
                json.dumps({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}).encode(),
            )
        said = json.loads(_decoded(claims))
        assert said["iss"] == EMAIL
        assert said["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"
        assert said["exp"] > time.time()
        return self._issue()

    def _issue(self) -> Answer:
        self.tokens.append(f"token-{len(self.tokens)}")
        return _json({"access_token": self.tokens[-1], "expires_in": self.life, "token_type": "Bearer"})

    def _linked(self, request: Request, path: str) -> Answer:
        """A signed URL, taken to pieces as Google says."""
        target, _, signature = request.uri.decode().partition("&X-Goog-Signature=")
        query = dict(parse_qsl(urlsplit(target).query))
        canonical = "\n".join(
            (
                "GET",
                path,
                urlsplit(target).query,
                f"host:{request.getHeader('Host')}",
                "",
                query["X-Goog-SignedHeaders"],
                "UNSIGNED-PAYLOAD",
            )
        )
        scope = query["X-Goog-Credential"].partition("/")[2]
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(("GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, digest))
        try:
            private_key().public_key().verify(
                bytes.fromhex(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return failure(403, "SignatureDoesNotMatch")
        assert query["X-Goog-Credential"].startswith(f"{EMAIL}/")
        return self._media(request, self.objects.get(unquote(path.removeprefix(f"/{BUCKET}/"))))

    def _list(self, query: dict[str, str]) -> Answer:
        token = query.get("pageToken", "")
        if token and not token.startswith("page:"):
            return failure(400, "Invalid argument.")
        keys = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")))
        keys = [key for key in keys if key > token.removeprefix("page:")]
        size = int(query.get("maxResults", "1000"))
        page: dict[str, Any] = {"kind": "storage#objects"}
        if keys:
            page["items"] = [_known(key, self.objects[key]) for key in keys[:size]]
        if keys[size:]:
            page["nextPageToken"] = f"page:{keys[size - 1]}"
        return _json(page)

    def _object(self, request: Request, key: str, query: dict[str, str]) -> Answer:
        found = self.objects.get(key)
        if found is None or query.get("generation", found.generation) != found.generation:
            return failure(404, f"No such object: {BUCKET}/{key}")
        if request.method == b"DELETE":
            del self.objects[key]
            return 204, {}, b""
        return self._media(request, found) if query.get("alt") == "media" else _json(_known(key, found))

    def _media(self, request: Request, found: Object | None) -> Answer:
        if found is None:
            return 404, {}, b"No such object"
        headers = {"X-Goog-Generation": found.generation, "Content-Type": found.content_type}
        span = (request.getHeader("Range") or "").removeprefix("bytes=").partition("-")
        if not span[0]:
            return 200, headers, found.data
        data = found.data[int(span[0]) : int(span[2]) + 1]
        return 206, {**headers, "Content-Range": f"bytes {span[0]}-{span[2]}/{len(found.data)}"}, data

    # -- uploads

    def _upload(self, request: Request, query: dict[str, str], body: bytes) -> Answer:
        if "upload_id" in query:
            return self._resume(request, query["upload_id"], body)
        if query["uploadType"] == "resumable":
            known = json.loads(body)
            name = f"upload-{len(self.sessions)}"
            self.sessions[name] = Session(known["name"], known["contentType"], query.get("ifGenerationMatch"))
            location = f"https://storage.googleapis.com{urlsplit(request.uri.decode()).path}?upload_id={name}"
            return 200, {"Location": location}, b""
        boundary = (request.getHeader("Content-Type") or "").partition("boundary=")[2].encode()
        _, head, rest = body.split(b"--" + boundary + b"\r\n", 2)
        known = json.loads(head.partition(b"\r\n\r\n")[2])
        data = rest.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n--" + boundary + b"--\r\n")
        made = Object(self.damages(data), known["contentType"], "")
        if known["md5Hash"] != made.md5:
            return failure(400, f"Provided MD5 hash does not match calculated MD5 hash {made.md5}.")
        return self._made(known["name"], made.data, known["contentType"], query.get("ifGenerationMatch"))

    def _resume(self, request: Request, name: str, body: bytes) -> Answer:
        session = self.sessions.get(name)
        if session is None:
            return failure(404, "Upload not found")
        if request.method == b"DELETE":
            del self.sessions[name]
            return 499, {}, b""
        if session.done:
            return _json(_known(session.key, self.objects[session.key]))
        span, _, length = (request.getHeader("Content-Range") or "").removeprefix("bytes ").partition("/")
        if span != "*":
            start, _, end = span.partition("-")
            assert int(end) - int(start) + 1 == len(body)
            assert int(start) == len(session.data)
            assert int(end) + 1 == int(length) or len(body) % (256 << 10) == 0
            session.data += body[: self.keeps(len(body))]
        if len(session.data) < int(length):
            return 308, {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}, b""
        answer = self._made(session.key, self.damages(session.data), session.content_type, session.match)
        session.done = "yes" if answer[0] == 200 else ""
        return answer

    def _made(self, key: str, data: bytes, content_type: str, match: str | None) -> Answer:
        there = self.objects.get(key)
        if match is not None and match != (there.generation if there is not None else "0"):
            return failure(412, "At least one of the pre-conditions you specified did not hold.")
        self.keep(key, data, content_type)
        return _json(_known(key, self.objects[key]))


def failure(status: int, message: str) -> Answer:
    """@return: an answer as Google gives it."""
    return _json({"error": {"code": status, "message": message, "errors": [{"message": message}]}}, status)


def _json(document: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _known(key: str, found: Object) -> dict[str, str]:
    return {
        "name": key,
        "generation": found.generation,
        "size": str(len(found.data)),
        "md5Hash": found.md5,
        "timeCreated": "2024-05-23T11:46:22.123Z",
    }


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
