"""Every setting of C{[Storage.S3]} and C{[Storage.Minio]} does what it says, at real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

from athens_tx.backends import STORAGES
from athens_tx.config.backends import S3 as S3Table
from athens_tx.config.backends import Minio as MinioTable
from athens_tx.errors import ConfigError, NotFound, StorageUnavailable
from athens_tx.interfaces import IFindsIncomplete, ILinks, IStorage
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip
from athens_tx.storage.minio_start import minio_storage
from athens_tx.storage.objects import ObjectStorage
from athens_tx.storage.s3_start import s3_storage
from tests.contract.zips import whole
from tests.support import servers
from tests.support.http import request
from tests.support.loopback import LoopbackServer
from tests.support.servers_s3 import Versitygw

ONE = MV("github.com/Azure/sdk", "v68.0.0+incompatible")
DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of AWS in the environment but what a test puts there."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


class Answers(Resource):
    """Answers everything, and knows what it was asked."""

    isLeaf = True

    def __init__(self, body: Any = b"<ListBucketResult/>") -> None:
        super().__init__()
        self.body = body
        self.asked: list[tuple[str, str, str]] = []

    def render(self, request: Any) -> bytes:
        host = request.getHeader("host").partition(":")[0]
        self.asked.append((request.method.decode(), host, request.uri.decode()))
        self.authorization = request.getHeader("authorization")
        self.token = request.getHeader("x-amz-security-token")
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class World:
    """What a test has started, and is stopped after it."""

    def __init__(self) -> None:
        self.storages: list[ObjectStorage] = []
        self.stubs: list[LoopbackServer] = []

    def stub(self, resource: Resource, tls: Any = None) -> str:
        """@return: host and port of a server."""
        self.stubs.append(LoopbackServer(reactor, resource, tls))
        return f"127.0.0.1:{self.stubs[-1].port}"

    async def s3(self, *, environ: Any = None, limit: float = 5.0, **settings: Any) -> ObjectStorage:
        """@return: a storage that runs, over versitygw unless the settings say otherwise."""
        server = servers.s3()
        table = S3Table(
            region=server.region, key=server.access_key, secret=server.secret_key, endpoint=server.endpoint
        ).model_copy(update={"bucket": "athens", **settings})
        return await self._started(s3_storage(reactor, table, environ or {}, timeout=limit))

    async def minio(self, *, environ: Any = None, server: Any = None, **settings: Any) -> ObjectStorage:
        """@return: the same of C{minio_storage}, over MinIO."""
        server = server or servers.minio()
        table = MinioTable(
            endpoint=f"127.0.0.1:{server.port}", key=server.access_key, secret=server.secret_key
        ).model_copy(update={"bucket": "athens", **settings})
        return await self._started(minio_storage(reactor, table, environ or {}, timeout=5.0))

    async def _started(self, storage: ObjectStorage) -> ObjectStorage:
        self.storages.append(storage)
        storage.startService()
        await storage.ready
        return storage

    async def stop(self) -> None:
        for storage in self.storages:
            await storage.stopService()
        for stub in self.stubs:
            await stub.stop()
        await deferLater(reactor, 0, lambda: None)


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.stop()


async def assert_works(storage: ObjectStorage) -> None:
    assert verifyObject(IStorage, storage)
    assert verifyObject(IFindsIncomplete, storage)
    await storage.save(ONE, b"info", b"mod", BytesZip(b"zip"))
    assert (await storage.info(ONE), await whole(await storage.zip(ONE))) == (b"info", b"zip")


async def refused(starting: Any) -> str:
    """@return: the line with which a start fails."""
    with pytest.raises(ConfigError) as raised:
        await starting
    assert "\n" not in str(raised.value)
    return str(raised.value)


def shared(tmp_path: Path, server: Any, profile: str = "default") -> None:
    (tmp_path / "credentials").write_text(
        f"[{profile}]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )


# --- S3


@pytest.mark.parametrize("path_style", [True, False])
@pytest_twisted.ensureDeferred
async def test_key_secret_region_bucket_and_endpoint(world: World, path_style: bool) -> None:
    bucket = servers.s3().bucket()
    storage = await world.s3(bucket=bucket.name, force_path_style=path_style)
    await assert_works(storage)
    assert sorted(bucket.names()) == [
        f"github.com/Azure/sdk/@v/v68.0.0+incompatible.{end}" for end in ("info", "mod", "zip")
    ]


@pytest_twisted.ensureDeferred
async def test_the_bucket_is_in_the_path_or_in_the_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers()
    port = world.stub(answers).partition(":")[2]
    # A name that the resolver knows without asking anybody.
    await world.s3(endpoint=f"http://localhost:{port}", force_path_style=True)
    assert answers.asked[0][1:] == ("localhost", "/athens/?encoding-type=url&list-type=2&max-keys=1")
    answers.asked.clear()
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{port}"}
    await world.s3(endpoint="http://s3.example.com", environ=proxy)
    asked = [each for each in answers.asked if each[1] != "localhost"]
    assert asked[0][1:] == (
        "athens.s3.example.com",
        "http://athens.s3.example.com/?encoding-type=url&list-type=2&max-keys=1",
    )


@pytest_twisted.ensureDeferred
async def test_an_endpoint_without_a_scheme_is_https(world: World, tmp_path: Path, authority: trustme.CA) -> None:
    answers = Answers()
    server = world.stub(answers, tls(authority))
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    await world.s3(endpoint=server, force_path_style=True, environ={"SSL_CERT_FILE": str(trusted)})
    assert answers.asked
    line = await refused(world.s3(endpoint=server, force_path_style=True, limit=0.5))
    assert "no trusted TLS connection to the server" in line


@pytest_twisted.ensureDeferred
async def test_the_session_token_goes_with_every_request(world: World) -> None:
    answers = Answers()
    server = world.stub(answers)
    await world.s3(endpoint=f"http://{server}", token="a token")
    assert answers.token == "a token"
    assert "Credential=test-key/" in answers.authorization
    assert "/us-east-1/s3/aws4_request" in answers.authorization
    assert "x-amz-security-token" in answers.authorization


@pytest_twisted.ensureDeferred
async def test_without_a_key_the_chain_of_aws_is_used(world: World, tmp_path: Path) -> None:
    server = servers.s3()
    bucket = server.bucket()
    line = await refused(world.s3(bucket=bucket.name, key="", secret=""))
    assert "there are no credentials for the storage: Key and Secret: none; the default chain: none" in line
    shared(tmp_path, server)
    await assert_works(await world.s3(bucket=bucket.name, key="", secret=""))


@pytest_twisted.ensureDeferred
async def test_the_default_configuration_ignores_the_other_credentials(world: World, tmp_path: Path) -> None:
    server = servers.s3()
    bucket = server.bucket()
    shared(tmp_path, server)
    wrong = {"key": "nobody", "secret": "sesame", "token": "x", "credentials_endpoint": DEAD}
    await assert_works(await world.s3(bucket=bucket.name, use_default_configuration=True, **wrong))
    wrong = {"key": "nobody", "secret": "sesame", "token": "", "credentials_endpoint": ""}
    assert "look at Key" in await refused(world.s3(bucket=bucket.name, use_default_configuration=False, **wrong))


@pytest_twisted.ensureDeferred
async def test_the_default_configuration_has_profiles(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.s3()
    shared(tmp_path, server, "other")
    monkeypatch.setenv("AWS_PROFILE", "other")
    bucket = server.bucket()
    await assert_works(await world.s3(bucket=bucket.name, use_default_configuration=True))


@pytest.mark.parametrize("uri", ["", "/v2/role?id=1"])
@pytest_twisted.ensureDeferred
async def test_the_credentials_endpoint_comes_before_the_key(world: World, uri: str) -> None:
    server = servers.s3()
    given = {"AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key, "Token": ""}
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answers = Answers(given | {"Expiration": ends})
    endpoint = f"http://{world.stub(answers)}"
    storage = await world.s3(
        bucket=server.bucket().name,
        key="nobody",
        secret="sesame",
        credentials_endpoint=endpoint,
        aws_container_credentials_relative_uri=uri,
        environ={"AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me in"},
    )
    await assert_works(storage)
    assert [asked[2] for asked in answers.asked] == [uri or "/"]
    assert answers.authorization == "let me in"


@pytest_twisted.ensureDeferred
async def test_where_the_credentials_endpoint_has_none_the_key_is_used(world: World) -> None:
    await assert_works(await world.s3(bucket=servers.s3().bucket().name, credentials_endpoint=DEAD))


@pytest_twisted.ensureDeferred
async def test_the_relative_uri_alone_is_left_to_the_chain(world: World) -> None:
    bucket = servers.s3().bucket()
    await assert_works(await world.s3(bucket=bucket.name, aws_container_credentials_relative_uri="/nothing"))


class Wants(Answers):
    """Answers only who has a certain key, and tells the others C{status} and C{code}."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__()
        self.status, self.code, self.wanted = status, code, "old"

    def render(self, request: Any) -> bytes:
        if b"prefix=" not in request.uri:  # the start, and what is swept behind it
            return b"<ListBucketResult/>"
        answer = super().render(request)
        if f"Credential={self.wanted}/" in self.authorization:
            return answer
        request.setResponseCode(self.status)
        return f"<Error><Code>{self.code}</Code></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (400, "InvalidToken"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "RequestExpired"),
        (400, "TokenRefreshRequired"),
        (401, "Whatever"),
        (403, "AccessDenied"),
        (400, "MalformedPolicy"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_keys_that_are_refused_are_looked_for_again(world: World, tmp_path: Path, status: int, code: str) -> None:
    wants = Wants(status, code)
    server = SimpleNamespace(access_key="old", secret_key="sesame")
    shared(tmp_path, server)
    storage = await world.s3(endpoint=f"http://{world.stub(wants)}", use_default_configuration=True)
    assert await storage.list(ONE.path) == []
    server.access_key = wants.wanted = "new"
    shared(tmp_path, server)
    if code in ("AccessDenied", "MalformedPolicy"):
        with pytest.raises(StorageUnavailable, match=f"status {status}"):
            await storage.list(ONE.path)
        assert len(wants.asked) == 2
        return
    assert await storage.list(ONE.path) == []
    assert len(wants.asked) == 3
    wants.wanted = "another"  # that nobody finds
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match=f"status {status}"):
            await storage.list(ONE.path)
    assert len(wants.asked) == 6  # not looked for again within a minute


@pytest.mark.parametrize("kind", ["s3", "minio"])
@pytest_twisted.ensureDeferred
async def test_links_are_given_only_where_they_are_wanted(world: World, kind: str) -> None:
    bucket = getattr(servers, kind)().bucket()
    storage: Any = await getattr(world, kind)(bucket=bucket.name)
    assert not ILinks.providedBy(storage)
    storage = await getattr(world, kind)(bucket=bucket.name, presigned_redirect=True)
    assert ILinks.providedBy(storage)
    with pytest.raises(NotFound):
        await storage.link(ONE)
    await assert_works(storage)
    link = await storage.link(ONE)
    assert (await request(reactor, link)).body == b"zip"
    assert (await request(reactor, link.replace("Expires=900", "Expires=901"))).status == 403


@pytest_twisted.ensureDeferred
async def test_names_that_can_not_be(world: World) -> None:
    assert (await refused(world.s3(region="no region!"))).startswith("Storage.S3: Bucket, Region or Endpoint: ")


@pytest_twisted.ensureDeferred
async def test_the_timeout_is_that_of_an_operation(world: World) -> None:
    answers = Answers()
    storage = await world.s3(endpoint=f"http://{world.stub(answers)}", limit=0.3)
    answers.body = b"<html>"
    answers.render = lambda request: 1  # type: ignore[method-assign]  # NOT_DONE_YET
    with pytest.raises(StorageUnavailable, match=r"no (complete )?answer within 0\.\d+ s"):
        await storage.info(ONE)


# --- MinIO


@pytest.mark.parametrize("scheme", ["", "http://", "https://"])
@pytest_twisted.ensureDeferred
async def test_minio_makes_its_bucket_and_ignores_a_scheme(world: World, scheme: str) -> None:
    server = servers.minio()
    name = f"made-{len(scheme)}"
    storage = await world.minio(bucket=name, endpoint=f"{scheme}127.0.0.1:{server.port}")
    await assert_works(storage)
    keys = server.client.list_objects_v2(Bucket=name)["Contents"]
    folder = "github.com/Azure/sdk/v68.0.0+incompatible"
    assert [entry["Key"] for entry in keys] == [
        f"{folder}/go.mod",
        f"{folder}/source.zip",
        f"{folder}/v68.0.0+incompatible.info",
    ]
    await assert_works(await world.minio(bucket=name))  # it is there already


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"secret": "sesame"},
            "Storage.Minio: the server answers 403 SignatureDoesNotMatch: look at Key, Secret and Token",
        ),
        ({"key": "nobody"}, "Storage.Minio: the server answers 403 InvalidAccessKeyId: look at Key, Secret and Token"),
        ({"bucket": "No_Bucket"}, "Storage.Minio: the server answers 400 InvalidBucketName"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_start_over_minio_that_can_not_be(world: World, settings: dict[str, str], said: str) -> None:
    line = await refused(world.minio(**settings))
    assert line.startswith(said)
    assert "sesame" not in line


@pytest.fixture
def abroad(tmp_path: Path) -> Iterator[Versitygw]:
    """A server of another region."""
    session = servers.s3()  # skips where there is none
    server = Versitygw(tmp_path / "abroad")
    server.region = "eu-test-1"
    assert session.region != server.region
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("region", ["", "eu-test-1"])
@pytest_twisted.ensureDeferred
async def test_the_bucket_is_made_in_the_region_or_where_the_server_is(
    world: World, abroad: Versitygw, region: str
) -> None:
    await assert_works(await world.minio(server=abroad, bucket="made", region=region))
    assert abroad.client.get_bucket_location(Bucket="made")["LocationConstraint"] == "eu-test-1"


@pytest_twisted.ensureDeferred
async def test_a_region_that_is_not_the_one_of_the_server_is_told(world: World, abroad: Versitygw) -> None:
    line = await refused(world.minio(server=abroad, bucket="made", region="us-west-1"))
    assert line == "Storage.Minio.Region: the bucket is in eu-test-1"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls(authority: trustme.CA) -> CertificateOptions:
    from OpenSSL import SSL, crypto

    issued = authority.issue_cert("127.0.0.1")
    context = SSL.Context(SSL.TLS_METHOD)
    issued.configure_cert(context)
    pem = issued.private_key_pem.bytes()
    key = crypto.load_privatekey(crypto.FILETYPE_PEM, pem)
    chain = [crypto.load_certificate(crypto.FILETYPE_PEM, blob.bytes()) for blob in issued.cert_chain_pems]
    return CertificateOptions(privateKey=key, certificate=chain[0], extraCertChain=chain[1:])


@pytest_twisted.ensureDeferred
async def test_minio_over_tls(world: World, tmp_path: Path, authority: trustme.CA) -> None:
    answers = Answers()
    server = world.stub(answers, tls(authority))
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    await world.minio(endpoint=server, enable_ssl=True, environ={"SSL_CERT_FILE": str(trusted)})
    assert answers.asked[0] == ("GET", "127.0.0.1", "/athens/?encoding-type=url&list-type=2&max-keys=1")
    assert "no trusted TLS connection" in await refused(world.minio(endpoint=server, enable_ssl=True))
    answers.asked.clear()
    await refused(world.minio(endpoint=server, enable_ssl=False, environ={"SSL_CERT_FILE": str(trusted)}))
    assert answers.asked == []


@pytest_twisted.ensureDeferred
async def test_siblings_that_sort_between_do_not_hide_what_follows(world: World) -> None:
    """Why C{_MINIO_MARKER} is there: asked to go on behind a C{g/a/...}, MinIO goes through C{g/a-b...} once more."""
    server = servers.minio()
    bucket = server.bucket()
    names = [MV(f"g/a-b{number:03}", "v1.0.0") for number in range(60)]
    names += [MV("g/a", f"v1.0.{number}") for number in range(60)]
    for mv in names:
        folder = f"{mv.path}/{mv.version}"
        for key in (f"{folder}/go.mod", f"{folder}/source.zip", f"{folder}/{mv.version}.info"):
            bucket.put(key, b"x")
    storage = await world.minio(bucket=bucket.name)
    for size in (10, 7):
        found: list[MV] = []
        token = ""
        while True:
            page, token = await storage.catalog(token, size)
            found += page
            if not token:
                break
        assert sorted(map(str, found)) == sorted(map(str, names))
    assert sorted(await storage.list("g/a")) == sorted(mv.version for mv in names if mv.path == "g/a")


@pytest.mark.parametrize("old", [True, False])
@pytest_twisted.ensureDeferred
async def test_pieces_of_zips_that_athens_left_are_taken_away_when_they_are_old(world: World, old: bool) -> None:
    bucket = servers.minio().bucket()
    left = ["parts/github.com/Azure/sdk/v1.0.0/0", "parts/github.com/Azure/sdk/v1.0.0/1"]
    stay = [
        "parts/x/v1.0.0/go.mod",
        "parts/x/v1.0.0/source.zip",
        "parts/x/v1.0.0/v1.0.0.info",
        "parts/readme",
        "parts/1",
    ]
    for key in left + stay:
        bucket.put(key, b"x")
    storage = await world.minio(bucket=bucket.name)
    sweep: Any = storage._objects.sweep
    await sweep(-1.0 if old else 3600.0)
    assert bucket.names() == sorted(stay if old else left + stay)
    assert await storage.list("parts/x") == ["v1.0.0"]


def test_both_are_in_the_table_of_storages() -> None:
    assert {"s3", "minio"} <= set(STORAGES)
