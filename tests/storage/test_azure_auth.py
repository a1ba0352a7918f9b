"""Who asks Azure Blob Storage: signatures as the vendor's library makes them, and tokens of an identity."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import azure.storage.blob._shared_access_signature as sas
import pytest
import pytest_twisted
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob import UserDelegationKey, generate_blob_sas
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import ConfigError, NotFound, StorageUnavailable
from athens_tx.http_client import HttpClient
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage import azure_links
from athens_tx.storage.azure_auth import Bearer, SharedKey, Token
from athens_tx.storage.azure_links import by_account, by_identity
from athens_tx.storage.azure_xml import DelegationKey
from athens_tx.storage.body import BytesZip
from athens_tx.storage.calls import Request
from athens_tx.storage.credentials import Credentials
from tests.contract.zips import whole
from tests.storage.azure import IDENTITY, SCOPE, AzuriteTls, Metadata, jwt, storage_at
from tests.support import servers
from tests.support.loopback import LoopbackServer
from tests.support.servers_clouds import Azurite

NOW = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
X = MV("example.com/Capital/~x", "v1.0.0-RC.1+incompatible")
ZIP = b"PK\x03\x04" * 100

result = SynchronousTestCase().successResultOf


def headers_of(signer: Any, method: str, url: str, headers: dict[str, str], length: int) -> dict[str, str]:
    found: dict[str, str] = result(Deferred.fromCoroutine(signer.headers(method, url, headers, length)))
    return found


# --- The key of the account ---


@pytest.mark.parametrize(
    ("method", "url", "headers", "length"),
    [
        ("GET", "https://a.blob.core.windows.net/c?restype=container&comp=list&prefix=a%2Fb%2B&marker=2%21x%3D", {}, 0),
        ("GET", "http://127.0.0.1:1/devstoreaccount1/c/x%40v/~a%2B%21", {"x-ms-range": "bytes=1-2"}, 0),
        ("GET", "https://h/c/k", {"If-Match": '"0x8D"'}, 0),
        ("PUT", "https://h/c/k", {"Content-MD5": "aGFzaA==", "Content-Type": "a/b", "x-ms-blob-type": "BlockBlob"}, 12),
        ("PUT", "https://h/c/k", {"If-None-Match": "*", "Content-Type": "a/b", "x-ms-blob-content-type": "t/p"}, 0),
        ("PUT", "https://h/c/k?comp=block&blockid=AAAA%2BA%3D%3D", {"Content-Type": "a/b"}, 8 << 20),
        ("HEAD", "https://h/c/%C3%A9", {}, 0),
    ],
)
def test_requests_are_signed_as_the_vendors_library_does(
    method: str, url: str, headers: dict[str, str], length: int
) -> None:
    sent = headers_of(SharedKey("account", Azurite.key, lambda: NOW), method, url, headers, length)
    assert sent["x-ms-date"] == "Sat, 03 Feb 2024 04:05:06 GMT"
    theirs = HttpRequest(method, url, {name: value for name, value in sent.items() if name != "Authorization"})
    theirs.headers["Content-Length"] = str(length)
    context: Any = PipelineContext(transport=None)
    SharedKeyCredentialPolicy("account", Azurite.key).on_request(PipelineRequest(theirs, context))
    assert sent["Authorization"] == theirs.headers["Authorization"]


def test_a_link_is_signed_as_the_vendors_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sas, "X_MS_VERSION", azure_links._VERSION)
    path = "c/example.com/~x/@v/v1.0.0+a.zip"
    ours = result(Deferred.fromCoroutine(by_account("account", Azurite.key, lambda: NOW)(path)))
    theirs = generate_blob_sas(
        "account", *path.split("/", 1), account_key=Azurite.key, permission="r", expiry=NOW + timedelta(minutes=15)
    )
    assert parse_qs(ours) == parse_qs(theirs)


def test_a_link_of_an_identity_says_what_the_vendors_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sas, "X_MS_VERSION", azure_links._VERSION)
    fields = {"skoid": "o", "sktid": "t", "skt": "2024-01-01T00:00:00Z", "ske": "2024-03-01T00:00:00Z"}
    fields |= {"sks": "b", "skv": "2020-10-02"}

    async def load() -> DelegationKey:
        return DelegationKey(Azurite.key, list(fields.items()), NOW + timedelta(hours=1))

    keys = Credentials(Clock(), {"it": load}, lambda: NOW)
    ours = result(Deferred.fromCoroutine(by_identity("account", keys, lambda: NOW)("c/k")))
    key = UserDelegationKey()
    key.signed_oid, key.signed_tid, key.signed_start, key.signed_expiry = list(fields.values())[:4]
    key.signed_service, key.signed_version, key.value = "b", "2020-10-02", Azurite.key
    expiry = NOW + timedelta(minutes=15)
    theirs = generate_blob_sas("account", "c", "k", user_delegation_key=key, permission="r", expiry=expiry)
    # what is signed has two lines more in their version; Azurite looks at ours below
    assert _unsigned(ours) == _unsigned(theirs)


def _unsigned(query: str) -> list[str]:
    return sorted(part for part in query.split("&") if not part.startswith("sig="))


@pytest_twisted.ensureDeferred
async def test_a_wrong_key_is_named_and_not_told() -> None:
    server = servers.azure()
    wrong = "bm90IHRoZSBrZXk="
    storage = storage_at(reactor, server.endpoint, server.bucket().name, account_key=wrong)
    problem = await problem_of(storage)
    assert problem.startswith("Storage.AzureBlob: the server answers 403 AuthorizationFailure: look at AccountName and")
    assert "AccountKey" in problem
    assert wrong not in problem


async def problem_of(storage: Any) -> str:
    """@return: the one line that a failed start gives."""
    storage.startService()
    with pytest.raises(ConfigError) as caught:
        await storage.ready
    await storage.stopService()
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return str(problem)


# --- Tokens, with a clock ---


class Tokens:
    """Gives tokens, or fails; counts how often."""

    def __init__(self, clock: Clock, lasts: float = 3600.0) -> None:
        self.clock = clock
        self.lasts = lasts
        self.asked = 0
        self.broken = False

    async def load(self) -> Token:
        self.asked += 1
        if self.broken:
            raise OSError("no service")
        return Token(f"token-{self.asked}", self.now() + timedelta(seconds=self.lasts))

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock.seconds())

    def bearer(self) -> Bearer:
        return Bearer(Credentials(self.clock, {"the identity": self.load}, self.now), self.now)


def authorization(signer: Bearer) -> str:
    return headers_of(signer, "GET", "https://h/c", {}, 0)["Authorization"]


def test_a_token_is_renewed_before_it_ends() -> None:
    clock = Clock()
    tokens = Tokens(clock)
    signer = tokens.bearer()
    assert [authorization(signer) for _ in range(3)] == ["Bearer token-1"] * 3
    clock.advance(3000 - 1)
    assert (authorization(signer), tokens.asked) == ("Bearer token-1", 1)
    clock.advance(2)
    authorization(signer)
    assert (authorization(signer), tokens.asked) == ("Bearer token-2", 2)


def test_without_a_new_token_the_old_one_goes_on_until_it_ends(logged: list[Any]) -> None:
    clock = Clock()
    tokens = Tokens(clock)
    signer = tokens.bearer()
    authorization(signer)
    tokens.broken = True
    clock.advance(3100)
    assert [authorization(signer) for _ in range(5)] == ["Bearer token-1"] * 5
    assert tokens.asked == 2  # and again in a minute
    clock.advance(600)
    failed = SynchronousTestCase().failureResultOf(Deferred.fromCoroutine(signer.prepare()), StorageUnavailable)
    assert "the identity: no service" in failed.value.detail
    tokens.broken = False
    assert authorization(signer) == "Bearer token-4"


def test_tokens_that_last_short_are_not_asked_for_all_the_time() -> None:
    clock = Clock()
    tokens = Tokens(clock, lasts=300.0)
    signer = tokens.bearer()
    for _ in range(5):
        authorization(signer)
    assert tokens.asked == 1
    clock.advance(61)
    for _ in range(5):
        authorization(signer)
    assert tokens.asked == 2


def test_a_refused_token_is_forgotten_once_a_minute() -> None:
    clock = Clock()
    tokens = Tokens(clock)
    signer = tokens.bearer()

    def refused() -> bool:
        return signer.refused(Request("GET", "https://h/c", {"Authorization": mine}))

    mine = authorization(signer)
    assert (refused(), refused()) == (True, True)  # two requests with one token
    assert authorization(signer) == "Bearer token-2"
    assert refused()
    assert authorization(signer) == "Bearer token-2"
    mine = "Bearer token-2"
    assert not refused()
    clock.advance(61)
    assert refused()
    assert authorization(signer) == "Bearer token-3"


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Token("secret", NOW))
    assert "secret" not in repr(DelegationKey("secret", [], NOW))
    assert not SharedKey("a", Azurite.key, lambda: NOW).refused(Request("GET", "", {}))


# --- A managed identity, over azure-identity and Azurite ---


@pytest_twisted.async_yield_fixture
async def metadata(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where azure-identity asks for tokens."""
    service = Metadata(jwt())
    server = LoopbackServer(reactor, service)
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{server.port}")
    yield service
    await server.stop()
    await deferLater(reactor, 0, lambda: None)  # what azure-identity keeps open is cut in the next turn


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteTls]:
    lacking = AzuriteTls.program.lacking()
    if lacking is not None:
        pytest.skip(lacking)
    server = AzuriteTls(tmp_path_factory.mktemp("tls") / "azure")
    server.start()
    yield server
    server.stop()


def identified(server: AzuriteTls, **more: Any) -> Any:
    """@return: a storage that has an identity, in a container of its own; the key is wrong, and is not used."""
    settings: dict[str, Any] = {"managed_identity_resource_id": IDENTITY, "credential_scope": SCOPE}
    settings |= {"account_key": "bm90IHRoZSBrZXk="} | more
    container = settings.pop("container", None) or server.bucket().name
    return storage_at(reactor, server.endpoint, container, {"SSL_CERT_FILE": str(server.trust)}, **settings)


@pytest_twisted.ensureDeferred
async def test_an_identity_saves_and_reads(azurite: AzuriteTls, metadata: Metadata) -> None:
    storage = identified(azurite)
    storage.startService()
    await storage.ready
    await storage.save(X, b"{}", b"module x\n", BytesZip(ZIP))
    assert await whole(await storage.zip(X)) == ZIP
    await gatherResults([Deferred.fromCoroutine(storage.info(X)) for _ in range(10)])
    await storage.delete(X)
    with pytest.raises(NotFound):
        await storage.info(X)
    (asked,) = metadata.asked
    assert asked["resource"] == "https://storage.azure.com"
    assert IDENTITY in asked.values()
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_renewed_once(azurite: AzuriteTls, metadata: Metadata) -> None:
    container = azurite.bucket().name
    storage = identified(azurite, container=container)
    storage.startService()
    await storage.ready
    stub = LoopbackServer(reactor, gate := Gate())
    other = storage_at(
        reactor,
        f"http://127.0.0.1:{stub.port}/a",
        container,
        managed_identity_resource_id=IDENTITY,
        credential_scope=SCOPE,
    )
    metadata.tokens = ["old", "new"]
    other.startService()
    await other.ready
    gate.good = "Bearer new"
    assert await other.info(X) == b"{}"
    assert gate.seen == ["Bearer old", "Bearer old", "Bearer new"]
    gate.good = "Bearer none"
    with pytest.raises(StorageUnavailable, match="status 401"):
        await other.info(X)
    assert len(metadata.asked) == 3
    await other.stopService()
    await storage.stopService()
    await stub.stop()


class Gate(Metadata):
    """A blob service that lets in whoever comes with C{good}."""

    def __init__(self) -> None:
        super().__init__("")
        self.good = "Bearer old"
        self.seen: list[str] = []
        self.answer = b""

    def render_POST(self, request: Any) -> bytes:
        if not self.answer:
            request.setResponseCode(403)
        return self.answer

    def render_GET(self, request: Any) -> bytes:
        self.seen.append(request.getHeader(b"authorization").decode())
        if self.seen[-1] != self.good:
            request.setResponseCode(401)
            request.setHeader(b"x-ms-error-code", b"InvalidAuthenticationInfo")
            return b""
        return b"<EnumerationResults><Blobs/></EnumerationResults>" if request.args.get(b"comp") else b"{}"


@pytest_twisted.ensureDeferred
async def test_links_of_an_identity_are_good(azurite: AzuriteTls, metadata: Metadata) -> None:
    storage = identified(azurite, presigned_redirect=True)
    storage.startService()
    await storage.ready
    await storage.save(X, b"{}", b"module x\n", BytesZip(ZIP))
    http = HttpClient(reactor, {"SSL_CERT_FILE": str(azurite.trust)})
    link = await storage.link(X)
    answer = await http.get_bytes(link, limit=1 << 20, timeout=10)
    assert (answer.status, answer.body) == (200, ZIP)
    forged = await http.get_bytes(link.replace("sig=", "sig=A"), limit=1 << 20, timeout=10)
    assert forged.status == 403
    await http.close()
    await storage.stopService()


@pytest_twisted.ensureDeferred
async def test_an_identity_that_may_sign_no_links_fails_the_start_that_wants_them(metadata: Metadata) -> None:
    stub = LoopbackServer(reactor, gate := Gate())
    metadata.tokens = ["old"]
    endpoint = f"http://127.0.0.1:{stub.port}/a"
    more = {"managed_identity_resource_id": IDENTITY, "credential_scope": SCOPE, "presigned_redirect": True}
    problem = await problem_of(storage_at(reactor, endpoint, "c", **more))
    assert problem.startswith("Storage.AzureBlob.PresignedRedirect: ")
    assert "get a key to sign links with: status 403" in problem
    gate.answer = b"<UserDelegationKey/>"
    problem = await problem_of(storage_at(reactor, endpoint, "c", **more))
    assert "not the answer of a blob service" in problem
    await stub.stop()


@pytest_twisted.ensureDeferred
async def test_no_token_is_told_at_the_start(metadata: Metadata, tmp_path: Path) -> None:
    metadata.refusal = (400, b'{"error": "invalid_request", "error_description": "Identity not found"}')
    settings = {"managed_identity_resource_id": IDENTITY, "credential_scope": SCOPE}
    problem = await problem_of(storage_at(reactor, "http://127.0.0.1:1/a", "c", **settings))
    assert problem.startswith("Storage.AzureBlob.ManagedIdentityResourceID: no token for the identity: ")
    assert "Identity not found" in problem
    assert "CredentialScope" in problem


@pytest_twisted.ensureDeferred
async def test_a_metadata_service_that_does_not_answer_is_not_waited_for_long(monkeypatch: Any) -> None:
    from athens_tx.storage import azure_identity

    monkeypatch.setattr(azure_identity, "LIMIT", 0.1)
    monkeypatch.setattr(azure_identity, "_HASTE", {"retry_total": 0, "connection_timeout": 1, "read_timeout": 1})
    hole = reactor.listenTCP(0, SilentFactory(), interface="127.0.0.1")  # type: ignore[attr-defined]
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{hole.getHost().port}")
    settings = {"managed_identity_resource_id": IDENTITY, "credential_scope": SCOPE}
    begun = reactor.seconds()  # type: ignore[attr-defined]
    problem = await problem_of(storage_at(reactor, "http://127.0.0.1:1/a", "c", **settings))
    assert "no token" in problem
    assert reactor.seconds() - begun < 0.9  # type: ignore[attr-defined]
    await hole.stopListening()


class SilentFactory(SimpleNamespace):
    """Takes connections and says nothing."""

    numPorts = 0

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, address: Any) -> Any:
        from twisted.internet.protocol import Protocol

        return Protocol()
