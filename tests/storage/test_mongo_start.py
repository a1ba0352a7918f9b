"""How a MongoDB storage starts, or says in one line what keeps it from that: logins, certificates, replica sets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
import pytest_twisted
import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from athens_tx.backends import STORAGES, backend
from athens_tx.config.load import load
from athens_tx.errors import ConfigError
from tests.contract.zips import whole
from tests.storage.mongos import MV, ZIP, events, opened, save
from tests.support import servers
from tests.support.daemon import free_port
from tests.support.mongo_front import MongoFront

SETTING = r"^Storage\.Mongo\.URL \(ATHENS_MONGO_STORAGE_URL\): "


@pytest.fixture
def bucket() -> Any:
    bucket = servers.mongo().bucket()
    yield bucket
    bucket.drop()


@pytest_twisted.async_yield_fixture
async def front(bucket: Any) -> Any:
    front = MongoFront(reactor, bucket.server.port)
    yield front
    await front.stop()


async def refused(url: str, **settings: Any) -> str:
    """@return: the one line that says why the storage does not start."""
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        async with opened(url, "nowhere", **settings):
            pass
    assert time.monotonic() - begun < 30
    (line,) = caught.value.problems
    assert "\n" not in line
    assert "s3cret" not in line
    return line


async def works(url: str, bucket: Any, **settings: Any) -> None:
    async with opened(url, bucket.name, **settings) as storage:
        await save(storage)
        assert await whole(await storage.zip(MV)) == ZIP
        await storage.delete(MV)


# --- Nothing there ---


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_not_there() -> None:
    port = free_port()
    line = await refused(f"mongodb://user:s3cret@127.0.0.1:{port}/?serverSelectionTimeoutMS=300")
    assert line.startswith("Storage.Mongo.URL (ATHENS_MONGO_STORAGE_URL): no server can be reached")
    assert f"127.0.0.1:{port}" in line


@pytest_twisted.ensureDeferred
async def test_a_server_that_comes_up_a_little_later_is_waited_for(bucket: Any) -> None:
    port = free_port()
    late: list[Any] = []

    def appear() -> None:
        factory = Factory.forProtocol(lambda: _Pipe(TCP4ClientEndpoint(reactor, "127.0.0.1", bucket.server.port)))
        factory.noisy = False
        late.append(reactor.listenTCP(port, factory, interface="127.0.0.1"))  # type: ignore[attr-defined]

    reactor.callLater(0.3, appear)  # type: ignore[attr-defined]
    async with opened(f"mongodb://127.0.0.1:{port}", bucket.name) as storage:
        await storage.check()
    await late[0].stopListening()


class _Pipe(Protocol):
    """Passes all on, from before it is connected."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self._early: list[bytes] = []
        self._other: Any = None

    def connectionMade(self) -> None:
        client = self

        class Other(Protocol):
            def connectionMade(self) -> None:
                client._other = self.transport
                self.transport.write(b"".join(client._early))  # type: ignore[union-attr]

            def dataReceived(self, data: bytes) -> None:
                client.transport.write(data)  # type: ignore[union-attr]

        self._endpoint.connect(Factory.forProtocol(Other))

    def dataReceived(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self._other is not None:
            self._other.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_answers() -> None:
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    line = await refused(f"mongodb://127.0.0.1:{port.getHost().port}", limit=1.0)
    assert "no answer" in line
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_speaks_something_else() -> None:
    class Web(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 40)  # type: ignore[union-attr]

    factory = Factory.forProtocol(Web)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    line = await refused(f"mongodb://127.0.0.1:{port.getHost().port}/?serverSelectionTimeoutMS=1", limit=1.0)
    assert "no answer" in line or "no server can be reached" in line
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_socket_of_this_machine(bucket: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    factory = Factory.forProtocol(lambda: _Pipe(TCP4ClientEndpoint(reactor, "127.0.0.1", bucket.server.port)))
    factory.noisy = False
    port = reactor.listenUNIX(path, factory)  # type: ignore[attr-defined]
    await works(f"mongodb://{path.replace('/', '%2F')}/", bucket)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_bad_url_is_refused_before_anything_is_asked() -> None:
    assert "nonsense" in await refused("mongodb://u:s3cret@127.0.0.1/?nonsense=1")
    assert "mongodb://" in await refused("")


# --- Logins ---


@pytest.mark.parametrize("mechanisms", [("SCRAM-SHA-1",), ("SCRAM-SHA-256",), ("SCRAM-SHA-1", "SCRAM-SHA-256")])
@pytest.mark.parametrize("login", [("user", "s3cret"), ("us,er=1", "p\u00aa\u00adss/:@%"), ("u", "")])
@pytest_twisted.ensureDeferred
async def test_we_log_in_as_pymongo_does(
    bucket: Any, front: MongoFront, mechanisms: Any, login: tuple[str, str]
) -> None:
    user, password = login
    best = mechanisms[-1]
    prepared = "pass/:@%" if best == "SCRAM-SHA-256" and "\u00aa" in password else password
    front.users, front.mechanisms = {user: prepared}, mechanisms
    url = f"mongodb://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{front.port}/"

    def reference() -> Any:
        with pymongo.MongoClient(url, serverSelectionTimeoutMS=5000) as client:
            return client[bucket.name].modules.count_documents({})

    if password:  # pymongo takes no empty one
        assert await deferToThread(reference) == 0
        assert set(front.logins) == {best}
    front.logins.clear()
    await works(url, bucket)
    assert set(front.logins) == {best}


@pytest_twisted.ensureDeferred
async def test_the_mechanism_and_the_database_of_the_login_can_be_said(bucket: Any, front: MongoFront) -> None:
    front.users = {"user": "s3cret"}
    url = f"mongodb://user:s3cret@127.0.0.1:{front.port}/db?authSource=other&authMechanism=SCRAM-SHA-1"
    await works(url, bucket)
    assert set(front.logins) == {"SCRAM-SHA-1"}
    assert {command["$db"] for command in front.seen if "saslStart" in command} == {"other"}


@pytest.mark.parametrize("login", ["user:s3cret-but-wrong@", "nobody:s3cret@", ""])
@pytest_twisted.ensureDeferred
async def test_a_wrong_login_is_refused(front: MongoFront, login: str) -> None:
    front.users = {"user": "s3cret"}
    line = await refused(f"mongodb://{login}127.0.0.1:{front.port}/")
    assert line.startswith("Storage.Mongo.URL (ATHENS_MONGO_STORAGE_URL): ")
    assert "user name, password and authSource" in line


@pytest.mark.parametrize(
    "first", [b"", b"r=abc,s=c2FsdA==,i=4096", b"r=%s,s=c2FsdA==,i=1", b"r=%s,s=c2FsdA==,i=many", b"r=%s,i=4096"]
)
@pytest_twisted.ensureDeferred
async def test_a_server_that_only_wants_the_password_is_refused(front: MongoFront, first: bytes) -> None:
    front.users = {"user": "s3cret"}

    def spoil(command: Any) -> None:
        if "saslStart" in command:
            nonce = bytes(command["payload"]).rpartition(b"r=")[2] + b"more"
            payload = first.replace(b"%s", nonce)
            front.answers.append(("saslStart", {"ok": 1.0, "conversationId": 1, "done": False, "payload": payload}))

    front.watch = spoil
    assert "login is not what it should be" in await refused(f"mongodb://user:s3cret@127.0.0.1:{front.port}/")


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_know_the_password_itself_is_refused(front: MongoFront) -> None:
    front.users = {"user": "s3cret"}
    answer = {"ok": 1.0, "conversationId": 1, "done": True, "payload": b"v=d3Jvbmc="}
    front.answers.append(("saslContinue", answer))
    assert "does not know the password" in await refused(f"mongodb://user:s3cret@127.0.0.1:{front.port}/")


@pytest_twisted.ensureDeferred
async def test_a_password_that_the_mechanism_does_not_allow(front: MongoFront) -> None:
    front.users, front.mechanisms = {"user": "x"}, ("SCRAM-SHA-256",)
    assert "characters that SCRAM-SHA-256" in await refused(f"mongodb://user:s3cret%07@127.0.0.1:{front.port}/")


@pytest_twisted.ensureDeferred
async def test_a_user_without_the_right_to_read(front: MongoFront) -> None:
    front.answers.append(("find", {"ok": 0.0, "code": 13, "errmsg": "not authorized on nowhere"}))
    assert "the user is not allowed to" in await refused(f"mongodb://127.0.0.1:{front.port}/")


@pytest_twisted.ensureDeferred
async def test_indexes_that_may_not_be_made_are_a_warning(bucket: Any, front: MongoFront, logged: Any) -> None:
    front.answers += [("createIndexes", {"ok": 0.0, "code": 13, "errmsg": "not authorized"})] * 4
    await works(f"mongodb://127.0.0.1:{front.port}/", bucket)
    assert len(events(logged, "an index can't be made")) == 3


# --- TLS ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory: Any) -> Any:
    authority = trustme.CA()
    authority.file = str(tmp_path_factory.mktemp("tls") / "ca.pem")  # type: ignore[attr-defined]
    authority.cert_pem.write_to_path(authority.file)  # type: ignore[attr-defined]
    return authority


def context(authority: Any, *names: str, ask: bool = False) -> Any:
    """@return: the server's side, with a certificate for C{names}; C{ask} for the client's too."""
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    authority.issue_cert(*names).configure_cert(made)
    if ask:
        authority.configure_trust(made)
        made.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *arguments: arguments[-1])

    @implementer(IOpenSSLContextFactory)
    class Contexts:
        def getContext(self) -> SSL.Context:
            return made

    return Contexts()


@pytest_twisted.async_yield_fixture
async def secure(bucket: Any, authority: Any) -> Any:
    front = MongoFront(reactor, bucket.server.port, context(authority, "127.0.0.1", "localhost"))
    yield front
    await front.stop()


@pytest_twisted.ensureDeferred
async def test_tls_with_the_authority_of_cert_path(bucket: Any, secure: MongoFront, authority: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        await works(f"mongodb://{host}:{secure.port}", bucket, cert_path=authority.file)
        await works(f"mongodb://{host}:{secure.port}/?tls=true&tlsCAFile={authority.file}", bucket)
        await works(f"mongodb://{host}:{secure.port}/?tls=true&tlsInsecure=true", bucket)
    await works(
        f"mongodb://127.0.0.1:{secure.port}/?tls=true&tlsAllowInvalidHostnames=true&tlsCAFile={authority.file}", bucket
    )


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_nobody_vouches_for(bucket: Any, secure: MongoFront, tmp_path: Path) -> None:
    other = str(tmp_path / "other.pem")
    trustme.CA().cert_pem.write_to_path(other)
    url = f"mongodb://user:s3cret@127.0.0.1:{secure.port}/?serverSelectionTimeoutMS=1"
    for options in ({"cert_path": other}, {}):
        line = await refused(url + ("" if options else "&tls=true"), **options)
        assert "no trusted TLS connection" in line
        assert "CertPath" in line
    assert "no trusted TLS" in await refused(f"{url}&tls=true&tlsAllowInvalidHostnames=true&tlsCAFile={other}")
    await works(f"mongodb://127.0.0.1:{secure.port}", bucket, cert_path=other, insecure=True)


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name(bucket: Any, authority: Any) -> None:
    front = MongoFront(reactor, bucket.server.port, context(authority, "other.example.com"))
    url = f"mongodb://127.0.0.1:{front.port}/?serverSelectionTimeoutMS=1"
    assert "no trusted TLS connection" in await refused(url, cert_path=authority.file)
    await works(f"{url}&tls=true&tlsAllowInvalidHostnames=true&tlsCAFile={authority.file}", bucket)
    await works(url, bucket, cert_path=authority.file, insecure=True)
    await front.stop()


@pytest_twisted.ensureDeferred
async def test_one_side_speaks_tls_and_the_other_does_not(
    secure: MongoFront, front: MongoFront, authority: Any
) -> None:
    line = await refused(f"mongodb://127.0.0.1:{secure.port}/?serverSelectionTimeoutMS=1", limit=2.0)
    assert "no server can be reached" in line or "no answer" in line
    line = await refused(
        f"mongodb://127.0.0.1:{front.port}/?serverSelectionTimeoutMS=1", cert_path=authority.file, limit=2.0
    )
    assert "no server can be reached" in line or "no answer" in line


@pytest_twisted.ensureDeferred
async def test_our_own_certificate_is_shown(bucket: Any, authority: Any, tmp_path: Path) -> None:
    own = authority.issue_cert("client.example.com")
    file = tmp_path / "own.pem"
    file.write_bytes(own.private_key_pem.bytes() + b"".join(blob.bytes() for blob in own.cert_chain_pems))
    front = MongoFront(reactor, bucket.server.port, context(authority, "127.0.0.1", ask=True))
    front.answers.append(("authenticate", {"ok": 1.0}))
    url = f"mongodb://127.0.0.1:{front.port}/?tls=true&tlsCAFile={authority.file}&serverSelectionTimeoutMS=1"
    await works(f"{url}&tlsCertificateKeyFile={file}", bucket)
    line = await refused(url, limit=2.0)
    assert "no server can be reached" in line or "no answer" in line
    front.watch = lambda command: "authenticate" in command and front.answers.append(("authenticate", {"ok": 1.0}))
    await works(f"{url}&tlsCertificateKeyFile={file}&authMechanism=MONGODB-X509", bucket)
    asked = [command for command in front.seen if "authenticate" in command]
    assert asked[0]["mechanism"] == "MONGODB-X509"
    assert asked[0]["$db"] == "$external"
    front.watch = lambda command: None
    front.answers[:] = [("authenticate", {"ok": 0.0, "code": 18, "errmsg": "no such user"})]
    named = f"mongodb://CN%3Dme@127.0.0.1:{front.port}/{url.partition('/?')[2] and '?' + url.partition('/?')[2]}"
    line = await refused(f"{named}&tlsCertificateKeyFile={file}&authMechanism=MONGODB-X509")
    assert "no such user" in line
    assert front.seen[-1]["user"] == "CN=me"
    await front.stop()


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
@pytest_twisted.ensureDeferred
async def test_files_that_are_none(content: bytes | None, tmp_path: Path, authority: Any) -> None:
    file = tmp_path / "x.pem"
    if content is not None:
        file.write_bytes(content)
    line = await refused("mongodb://127.0.0.1:1", cert_path=str(file))
    assert line.startswith("Storage.Mongo.CertPath (ATHENS_MONGO_CERT_PATH): can't read certificates")
    assert "tlsCAFile" in await refused(f"mongodb://127.0.0.1:1/?tls=true&tlsCAFile={file}")
    assert "tlsCertificateKeyFile" in await refused(f"mongodb://127.0.0.1:1/?tls=true&tlsCertificateKeyFile={file}")


# --- Replica sets ---


@pytest_twisted.ensureDeferred
async def test_the_primary_of_a_set_is_found(bucket: Any, front: MongoFront) -> None:
    second = MongoFront(reactor, bucket.server.port)
    third = MongoFront(reactor, bucket.server.port)
    hosts = [f"127.0.0.1:{one.port}" for one in (front, second, third)]
    for one in (front, second, third):
        one.hello = {"setName": "rs", "hosts": hosts, "ismaster": one is third, "secondary": one is not third}
    try:
        await works(f"mongodb://127.0.0.1:{front.port}/?replicaSet=rs", bucket)  # by the list of hosts
        front.hello["primary"] = f"127.0.0.1:{third.port}"
        second.seen.clear()
        await works(f"mongodb://127.0.0.1:{front.port}", bucket)
        assert second.seen == []  # who the primary is was told
        writes = [one for one in third.seen if next(iter(one)) in ("insert", "delete")]
        assert all(one["writeConcern"]["w"] == "majority" for one in writes)
        assert writes
        dead = free_port()
        await works(f"mongodb://127.0.0.1:{dead},127.0.0.1:{front.port}/?replicaSet=rs&w=1", bucket)
        assert third.seen[-1].get("writeConcern") == {"w": 1}
    finally:
        await second.stop()
        await third.stop()


@pytest_twisted.ensureDeferred
async def test_a_server_alone_is_not_told_to_wait_for_a_majority(bucket: Any, front: MongoFront) -> None:
    url = f"mongodb://127.0.0.1:{front.port}/?readConcernLevel=local&compressors=zstd"
    await works(url, bucket)
    assert not [one for one in front.seen if "writeConcern" in one]
    assert {"level": "local"} in [one.get("readConcern") for one in front.seen]


@pytest_twisted.ensureDeferred
async def test_a_set_without_a_primary_and_one_of_another_name(front: MongoFront) -> None:
    front.hello = {"setName": "rs", "hosts": [f"127.0.0.1:{front.port}"], "ismaster": False}
    url = f"mongodb://127.0.0.1:{front.port}/?serverSelectionTimeoutMS=200"
    assert "is not the primary" in await refused(url)
    assert "belongs to the replica set rs, not to other" in await refused(f"{url}&replicaSet=other")
    front.hello = {"ok": 0, "errmsg": "go away"}
    assert "go away" in await refused(url)


@pytest_twisted.ensureDeferred
async def test_a_direct_connection_takes_whatever_is_there(bucket: Any, front: MongoFront) -> None:
    front.hello = {"setName": "rs", "ismaster": False}
    await works(f"mongodb://127.0.0.1:{front.port}/?directConnection=true", bucket)


# --- From the settings ---


@pytest_twisted.ensureDeferred
async def test_the_backend_of_the_settings(bucket: Any, tmp_path: Path) -> None:
    environ = {
        "ATHENS_STORAGE_TYPE": "mongo",
        "ATHENS_MONGO_STORAGE_URL": bucket.server.endpoint,
        "ATHENS_MONGO_DEFAULT_DATABASE": bucket.name,
        "ATHENS_MONGO_DEFAULT_COLLECTION": "mine",
    }
    config = load(None, environ, cwd=tmp_path).config
    storage = backend(STORAGES, "StorageType", "mongo")(reactor, config, environ)
    storage.startService()
    await storage.ready
    await save(storage)
    await storage.stopService()
    assert bucket.database.mine.count_documents({}) == 1
