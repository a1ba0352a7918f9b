"""Who we are to Google: keys of every kind, tokens that are renewed in time, signatures."""

from __future__ import annotations

import base64
import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from google.auth import environment_vars, iam
from google.auth.compute_engine import Credentials, _metadata
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock, deferLater

from athens_tx.config.backends import Gcp
from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.storage import gcp_start, google
from athens_tx.storage.credentials import AGAIN, AHEAD
from athens_tx.storage.google import SIGNATURES, Access, Transport, from_key, from_surroundings, in_thread, said
from tests.storage.google_cloud import EMAIL, GoogleCloud

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:google")


class FakeTime(Clock):
    """A reactor whose time stands still, with the threads of the real one."""

    def getThreadPool(self) -> Any:
        return reactor.getThreadPool()  # type: ignore[attr-defined]

    def callFromThread(self, *arguments: Any) -> None:
        reactor.callFromThread(*arguments)  # type: ignore[attr-defined]


class Now:
    """A clock on the wall."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest_twisted.async_yield_fixture
async def cloud() -> Any:
    cloud = GoogleCloud(reactor)
    yield cloud
    await cloud.server.stop()
    await deferLater(reactor, 0, lambda: None)


@pytest.fixture
def transport() -> Any:
    transport = Transport({})
    yield transport
    transport.close()


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


async def access(cloud: GoogleCloud, transport: Transport, now: Any = None, on: Any = reactor) -> Access:
    identity = from_key(encoded(cloud.service_account()), transport)
    made = Access(on, identity, "JSONKey", transport, now or Now())
    await made.begin()
    return made


# --- Keys ---


@pytest_twisted.ensureDeferred
async def test_the_key_of_a_service_account_signs_for_a_token(cloud: GoogleCloud, transport: Transport) -> None:
    made = await access(cloud, transport)
    assert await made.headers() == {"authorization": "Bearer token-0"}
    assert await made.headers() == {"authorization": "Bearer token-0"}
    assert (made.domain, made.anonymous) == ("googleapis.com", False)
    assert cloud.requests == ["POST /token"]


@pytest_twisted.ensureDeferred
async def test_a_key_may_have_lines(cloud: GoogleCloud, transport: Transport) -> None:
    text = encoded(cloud.service_account())
    lines = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    assert from_key(lines, transport).signer_email == EMAIL


@pytest_twisted.ensureDeferred
async def test_the_credentials_of_a_user_are_taken(cloud: GoogleCloud, transport: Transport) -> None:
    key = {
        "type": "authorized_user",
        "client_id": "1",
        "client_secret": "2",
        "refresh_token": "a refresh token",
        "quota_project_id": "who-pays",
    }
    identity = from_key(encoded(key), transport).with_token_uri(f"{cloud.url}/token")  # Google's own is always meant
    made = Access(reactor, identity, "JSONKey", transport)
    await made.begin()
    assert await made.headers() == {"authorization": "Bearer token-0", "x-goog-user-project": "who-pays"}
    with pytest.raises(ConfigError, match=r"PresignedRedirect: the credentials can't sign: .*not those of a service"):
        await made.begin_links()


@pytest_twisted.ensureDeferred
async def test_another_cloud_signs_its_tokens_itself(cloud: GoogleCloud, transport: Transport) -> None:
    key = cloud.service_account(universe_domain="cloud.example")
    made = Access(reactor, from_key(encoded(key), transport), "JSONKey", transport)
    await made.begin()
    assert made.domain == "cloud.example"
    assert (await made.headers())["authorization"].startswith("Bearer ey")
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("%%%", "Only base64 data is allowed"),
        (base64.b64encode(b"secret").decode(), "Expecting value"),
        (encoded([]), "dict type was expected"),
        (encoded({"type": "nothing", "private_key": "secret"}), "does not have a valid type"),
        (encoded({"type": "service_account", "client_email": EMAIL}), "missing fields token_uri"),
        (
            encoded({"type": "service_account", "client_email": EMAIL, "token_uri": "u", "private_key": "secret"}),
            "Failed to load service account credentials",
        ),
        (encoded({"type": "authorized_user", "refresh_token": "secret"}), "missing fields client_"),
        (encoded({"type": "external_account", "audience": 1}), "."),
        (encoded({"type": "impersonated_service_account"}), "."),
    ],
)
def test_a_key_that_is_none_is_a_line_about_the_setting(key: str, why: str, transport: Transport) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        from_key(key, transport)
    (line,) = raised.value.problems
    assert line.startswith("Storage.GCP.JSONKey: not a credential that can be used: ")
    assert "secret" not in line.replace("client_secret", "")
    assert "\n" not in line


# --- Default credentials ---


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is to be found but what the test lays there."""
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv(environment_vars.CREDENTIALS, raising=False)
    return tmp_path


def test_without_default_credentials_there_are_none(nowhere: Path, transport: Transport) -> None:
    assert from_surroundings(transport) is None


@pytest_twisted.ensureDeferred
async def test_the_file_of_the_environment_is_found(
    cloud: GoogleCloud, nowhere: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nowhere / "key.json").write_text(json.dumps(cloud.service_account()))
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(nowhere / "key.json"))
    made = Access(reactor, from_surroundings(transport), "default credentials", transport)
    assert await made.headers() == {"authorization": "Bearer token-0"}


def test_a_file_that_is_not_there_is_not_overlooked(
    nowhere: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(nowhere / "key.json"))
    with pytest.raises(ConfigError, match=r"Storage.GCP: the default credentials can't be used: .*was not found"):
        from_surroundings(transport)


# --- Tokens ---


@pytest_twisted.ensureDeferred
async def test_a_token_is_renewed_before_it_ends_and_once_for_all(cloud: GoogleCloud, transport: Transport) -> None:
    now = Now()
    made = await access(cloud, transport, now)
    now.now += timedelta(seconds=3600) - AHEAD - timedelta(seconds=5)
    assert await made.headers() == {"authorization": "Bearer token-0"}
    now.now += timedelta(seconds=10)
    for _ in range(3):  # the old one goes on meanwhile
        assert await made.headers() == {"authorization": "Bearer token-0"}
    await until(made, "Bearer token-1")
    assert cloud.count("POST /token") == 2


@pytest_twisted.ensureDeferred
async def test_an_ended_token_is_waited_for_by_all(cloud: GoogleCloud, transport: Transport) -> None:
    now = Now()
    made = await access(cloud, transport, now)
    now.now += timedelta(seconds=3601)
    asked = [Deferred.fromCoroutine(made.headers()) for _ in range(20)]
    assert await gatherResults(asked) == [{"authorization": "Bearer token-1"}] * 20
    assert cloud.count("POST /token") == 2


@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_replaced_once(cloud: GoogleCloud, transport: Transport) -> None:
    time = FakeTime()
    made = await access(cloud, transport, on=time)
    sent = {**await made.headers(), "Range": "bytes=0-1"}
    assert made.refused(sent)
    assert await made.headers() == {"authorization": "Bearer token-1"}
    assert made.refused(sent)  # somebody else had the old one, too: there is a better one already
    assert await made.headers() == {"authorization": "Bearer token-1"}
    assert not made.refused(await made.headers())  # a new one each time would not help
    time.advance(AGAIN)
    assert made.refused(await made.headers())
    assert await made.headers() == {"authorization": "Bearer token-2"}


@pytest_twisted.ensureDeferred
async def test_the_old_token_goes_on_while_there_is_no_new_one(
    cloud: GoogleCloud, transport: Transport, logged: list[Any]
) -> None:
    now = Now()
    made = await access(cloud, transport, now)
    cloud.answers["POST /token"] = (400, {}, b'{"error": "invalid_grant", "error_description": "no\\n more"}')
    now.now += timedelta(seconds=3500)
    await made.headers()
    while not any("no new credentials yet" in event.get("log_format", "") for event in logged):
        assert await made.headers() == {"authorization": "Bearer token-0"}
        await turn()
    now.now += timedelta(seconds=200)
    with pytest.raises(StorageUnavailable, match="no credentials") as raised:
        await made.headers()
    assert "JSONKey: invalid_grant: no more" in raised.value.detail
    del cloud.answers["POST /token"]
    assert await made.headers() == {"authorization": "Bearer token-1"}


@pytest_twisted.ensureDeferred
async def test_nobody_sends_nothing(transport: Transport) -> None:
    made = Access(reactor, None, "default credentials", transport)
    await made.begin()
    assert (made.anonymous, await made.headers(), made.refused({})) == (True, {}, False)
    with pytest.raises(ConfigError, match=r"Storage.GCP.PresignedRedirect: the credentials can't sign"):
        await made.begin_links()


@pytest_twisted.ensureDeferred
async def test_a_token_service_that_says_nothing_is_given_up(
    cloud: GoogleCloud, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "REQUEST_LIMIT", 0.2)
    hole = socket.create_server(("127.0.0.1", 0))
    key = cloud.service_account(token_uri=f"http://user:secret@127.0.0.1:{hole.getsockname()[1]}/token")
    made = Access(reactor, from_key(encoded(key), transport), "JSONKey", transport)
    with pytest.raises(StorageUnavailable) as raised:
        await made.begin()
    assert "timed out" in raised.value.detail
    assert "secret" not in raised.value.detail
    hole.close()


@pytest_twisted.ensureDeferred
async def test_work_that_takes_too_long_is_not_waited_for() -> None:
    time = FakeTime()
    go_on: Deferred[None] = Deferred()
    pool = reactor.getThreadPool()  # type: ignore[attr-defined]
    held = threading.Event()
    working = Deferred.fromCoroutine(in_thread(time, held.wait))
    time.advance(google.LIMIT)
    with pytest.raises(StorageUnavailable, match="no answer within 20 s"):
        await working
    held.set()
    pool.callInThread(reactor.callFromThread, go_on.callback, None)  # type: ignore[attr-defined]
    await go_on


@pytest_twisted.ensureDeferred
async def test_work_that_nobody_waits_for_still_has_its_place() -> None:
    time, places = FakeTime(), DeferredSemaphore(1)
    held, done = threading.Event(), []
    first = Deferred.fromCoroutine(in_thread(time, held.wait, places))
    second = Deferred.fromCoroutine(in_thread(time, lambda: done.append(2), places))
    time.advance(google.LIMIT)
    for working in (first, second):  # who waits for a place does not wait for ever
        with pytest.raises(StorageUnavailable, match="no answer within 20 s"):
            await working
    third = Deferred.fromCoroutine(in_thread(time, lambda: done.append(3), places))
    await turn()
    assert done == []
    held.set()
    await third
    assert done == [3]
    await turn()
    assert places.tokens == 1


@pytest_twisted.ensureDeferred
async def test_each_thread_has_a_session_of_its_own(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    transport = Transport({"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    meeting = threading.Barrier(3)

    def look() -> tuple[Any, Any]:
        found = transport.session, transport.session
        meeting.wait(10)
        return found

    found = await gatherResults([Deferred.fromCoroutine(in_thread(reactor, look)) for _ in range(3)])
    assert all(first is second for first, second in found)
    assert len({first for first, _ in found}) == 3
    assert len({id(first.get_adapter("https://host/")._context) for first, _ in found}) == 3
    transport.close()


@pytest_twisted.ensureDeferred
async def test_the_certificates_of_the_environment_count(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    context = SSL.Context(SSL.TLS_METHOD)
    certificate.configure_cert(context)
    factory = CertificateOptions()
    factory.getContext = lambda: context  # type: ignore[method-assign]
    cloud = GoogleCloud(reactor, factory)
    for environ, trusted in (({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}, True), ({}, False)):
        transport = Transport(environ)
        made = Access(reactor, from_key(encoded(cloud.service_account()), transport), "JSONKey", transport)
        if trusted:
            assert await made.headers() == {"authorization": "Bearer token-0"}
        else:
            with pytest.raises(StorageUnavailable) as raised:
                await made.headers()
            assert "certificate verify failed" in raised.value.detail
        transport.close()
    await cloud.server.stop()
    await deferLater(reactor, 0, lambda: None)


def test_a_proxy_is_gone_through_with_the_same_certificates(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    adapter = Transport({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}).session.get_adapter("https://host/")
    manager = adapter.proxy_manager_for("http://127.0.0.1:1")
    assert manager.connection_pool_kw["ssl_context"] is adapter._context


def test_what_a_failure_says_is_one_line() -> None:
    assert said(ValueError("two\n lines", {"secret": 1}, KeyError("three"))) == "two lines three"
    assert said(ValueError({})) == "ValueError"
    assert said(ValueError("http://user:secret@host/")) == "http://***@host/"


# --- Signatures ---


def federated(cloud: GoogleCloud, path: Path, who: str = EMAIL) -> dict[str, Any]:
    """@return: the identity of a machine elsewhere, that may act as a service account."""
    (path / "subject").write_text("a token of somebody else")
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{cloud.url}/sts",
        "credential_source": {"file": str(path / "subject")},
        "service_account_impersonation_url": f"{cloud.url}/v1/projects/-/serviceAccounts/{who}:generateAccessToken",
    }


@pytest_twisted.ensureDeferred
async def test_an_account_without_a_key_lets_google_sign(
    cloud: GoogleCloud, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", f"{cloud.url}/sign?{{}}")
    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    impersonated = json.dumps({"accessToken": "as athens", "expireTime": ends}).encode()
    cloud.answers["POST /v1/"] = (200, {"Content-Type": "application/json"}, impersonated)
    made = Access(reactor, from_key(encoded(federated(cloud, tmp_path)), transport), "JSONKey", transport)
    await made.begin()
    assert await made.headers() == {"authorization": "Bearer as athens"}
    await made.begin_links()
    cloud.keep("a/@v/v1.zip", b"zipped")
    url = await made.link(f"{cloud.url}/modules/a/%40v/v1.zip")
    assert cloud.requests[-1] == f"POST /sign?{EMAIL}"
    response = await in_thread(reactor, lambda: transport(url))
    assert (response.status, response.data) == (200, b"zipped")
    cloud.answers["POST /sign"] = (403, {}, b"iam.serviceAccounts.signBlob denied")
    with pytest.raises(StorageUnavailable) as raised:
        await made.link(url)
    assert "signBlob denied" in raised.value.detail
    with pytest.raises(ConfigError, match=r"Storage.GCP.PresignedRedirect: .*signBlob denied.*Token Creator"):
        await made.begin_links()


@pytest_twisted.ensureDeferred
async def test_few_links_are_signed_at_once(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    held, signing, most = threading.Event(), [], []

    def sign(data: bytes) -> bytes:
        signing.append(data)
        most.append(len(signing))
        held.wait(10)
        signing.pop()
        return b"signed"

    made = Access(reactor, object(), "JSONKey", transport)
    monkeypatch.setattr(google, "_signer", lambda *_: (EMAIL, sign))
    held.set()
    await made.begin_links()
    held.clear()
    links = [Deferred.fromCoroutine(made.link(f"https://host/{number}")) for number in range(3 * SIGNATURES)]
    while len(signing) < SIGNATURES:
        await deferLater(reactor, 0.01)
    held.set()
    assert all(link.endswith(b"signed".hex()) for link in await gatherResults(links))
    assert max(most) == SIGNATURES


def machine(cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch, **answers: tuple[int, bytes]) -> Credentials:
    """@return: the identity of a machine of Google's, whose metadata service answers so."""
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", cloud.url.removeprefix("http://"))
    account = "GET /computeMetadata/v1/instance/service-accounts/default"
    said = {"Content-Type": "application/json"}
    cloud.answers[f"{account}/token"] = (200, said, b'{"access_token": "of the machine", "expires_in": 3600}')
    cloud.answers[account] = (200, said, json.dumps({"email": EMAIL, "scopes": []}).encode())
    status, body = answers["universe"]
    cloud.answers["GET /computeMetadata/v1/universe"] = (status, {}, body)
    return Credentials()


@pytest.mark.parametrize(("universe", "domain"), [((200, b"cloud.example"), "cloud.example"), ((403, b"no"), "")])
@pytest_twisted.ensureDeferred
async def test_a_machine_says_to_which_cloud_it_belongs(
    cloud: GoogleCloud, transport: Transport, monkeypatch: pytest.MonkeyPatch, universe: Any, domain: str
) -> None:
    identity = machine(cloud, monkeypatch, universe=universe)
    made = Access(reactor, identity, "default credentials", transport)
    if domain:
        await made.begin()
        assert made.domain == domain
        return
    with pytest.raises(StorageUnavailable, match="nobody says to which cloud the credentials belong") as raised:
        await made.begin()
    assert "Failed to retrieve" in raised.value.detail
    monkeypatch.setattr(gcp_start, "from_surroundings", lambda _: Credentials())
    storage = gcp_start.gcp_storage(reactor, Gcp(bucket="b"), {}, timeout=20.0)
    storage.startService()
    with pytest.raises(ConfigError, match=r"^Storage.GCP.JSONKey: nobody says .*: Failed to retrieve") as refused:
        await storage.ready
    assert len(refused.value.problems) == 1
    await storage.stopService()


async def until(made: Access, authorization: str) -> None:
    while (await made.headers())["authorization"] != authorization:
        await turn()


def turn() -> Deferred[None]:
    """Let threads and the reactor go on."""
    turned: Deferred[None] = Deferred()
    pool = reactor.getThreadPool()  # type: ignore[attr-defined]
    pool.callInThread(reactor.callFromThread, turned.callback, None)  # type: ignore[attr-defined]
    return turned
