"""Credentials, places and signatures are what botocore has them to be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import botocore.auth
import pytest
import pytest_twisted
from botocore.awsrequest import AWSResponse
from botocore.config import Config as ClientConfig
from botocore.session import Session
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.resource import Resource

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.http_client import HttpClient
from athens_tx.storage.aws import LINK_SECONDS, Keys, Signer, bucket_url, from_chain, from_endpoint, static
from athens_tx.storage.credentials import Credentials
from tests.support.loopback import LoopbackServer

NOW = datetime(2024, 1, 2, 3, 4, 5)
KEYS = ("a+b~c!d", "with space", "é/ü", "a=b&c?d#e", "per%2Fcent", "q'uo\"te", "(a)*$,;:@[]", "g/a/@v/v1.0.0+x.info")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of AWS in the environment but what a test puts there."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: NOW)


def signer(token: str = "") -> Signer:
    async def load() -> Keys:
        return Keys("key", "secret", token)

    return Signer(Credentials(reactor, {"test": load}, lambda: datetime.now(UTC)), "eu-central-1")


def client(token: str = "", endpoint: str = "http://127.0.0.1:9000") -> Any:
    return Session().create_client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        aws_session_token=token or None,
        config=ClientConfig(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


# --- signatures


@pytest.mark.parametrize("token", ["", "a token"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("method", ["get_object", "put_object"])
@pytest.mark.usefixtures("frozen")
@pytest_twisted.ensureDeferred
async def test_a_request_is_signed_as_botocore_signs_it(method: str, key: str, token: str) -> None:
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda: iter(()), read=lambda *_: b""))

    theirs = client(token)
    theirs.meta.events.register("before-send.s3", answer)
    getattr(theirs, method)(Bucket="bucket", Key=key)
    request = sent[0]
    theirs_said = request.headers["Authorization"]
    if isinstance(theirs_said, bytes):
        theirs_said = theirs_said.decode()
    signed = theirs_said.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    text = {name.lower(): _text(value) for name, value in request.headers.items()}
    ours = {name: text[name] for name in signed if not name.startswith(("host", "x-amz-date", "x-amz-security"))}
    digest = ours.pop("x-amz-content-sha256")
    headers = await signer(token).headers(request.method, request.url, ours, digest)
    assert headers["Authorization"] == theirs_said
    assert headers.get("X-Amz-Security-Token", "") == token
    assert request.url == f"http://127.0.0.1:9000/bucket/{quote(key, safe='/~')}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("token", ["", "a token"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.usefixtures("frozen")
@pytest_twisted.ensureDeferred
async def test_a_link_is_the_one_that_botocore_makes(key: str, token: str) -> None:
    theirs = client(token).generate_presigned_url(
        "get_object", Params={"Bucket": "bucket", "Key": key}, ExpiresIn=LINK_SECONDS
    )
    assert await signer(token).link(f"http://127.0.0.1:9000/bucket/{quote(key, safe='/~')}") == theirs


def test_keys_tell_nothing_of_themselves() -> None:
    assert "sesame" not in repr(Keys("sesame", "sesame", "sesame"))


# --- where a bucket is


@pytest.mark.parametrize(
    ("region", "bucket", "endpoint", "path_style", "url"),
    [
        ("eu-central-1", "athens", "", False, "https://athens.s3.eu-central-1.amazonaws.com"),
        ("us-east-1", "athens", "", False, "https://athens.s3.amazonaws.com"),
        ("cn-north-1", "athens", "", False, "https://athens.s3.cn-north-1.amazonaws.com.cn"),
        ("eu-central-1", "athens", "", True, "https://s3.eu-central-1.amazonaws.com/athens"),
        ("eu-central-1", "dotted.bucket", "", False, "https://s3.eu-central-1.amazonaws.com/dotted.bucket"),
        ("any", "athens", "https://s3.example.com", False, "https://athens.s3.example.com"),
        ("any", "athens", "https://s3.example.com", True, "https://s3.example.com/athens"),
        ("any", "athens", "http://s3.example.com:9000/", True, "http://s3.example.com:9000/athens"),
        ("any", "athens", "http://127.0.0.1:9000", False, "http://127.0.0.1:9000/athens"),
        ("any", "athens", "http://127.0.0.1:9000", True, "http://127.0.0.1:9000/athens"),
        ("any", "athens", "https://example.com/s3", True, "https://example.com/s3/athens"),
    ],
)
def test_a_bucket_is_where_botocore_finds_it(
    region: str, bucket: str, endpoint: str, path_style: bool, url: str
) -> None:
    assert bucket_url(Session(), region, bucket, endpoint, path_style=path_style) == url


def test_without_an_endpoint_the_one_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://private.example.com")
    assert bucket_url(Session(), "any", "athens", "", path_style=True) == "https://private.example.com/athens"
    given = bucket_url(Session(), "any", "athens", "https://other.example.com", path_style=True)
    assert given == "https://other.example.com/athens"


@pytest.mark.parametrize(
    ("region", "bucket", "endpoint"),
    [
        ("no region!", "athens", ""),
        ("eu-central-1", "no bucket!", ""),
        ("eu-central-1", "athens", "https://user:sesame@s3. example.com"),
    ],
)
def test_names_that_can_not_be_are_one_line_that_names_the_settings(region: str, bucket: str, endpoint: str) -> None:
    with pytest.raises(ConfigError) as error:
        bucket_url(Session(), region, bucket, endpoint, path_style=True)
    assert str(error.value).startswith("Storage.S3: Bucket, Region or Endpoint: ")
    assert "sesame" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        bucket_url(Session(), "eu-central-1", "athens", "", path_style=True)


# --- credentials


@pytest_twisted.ensureDeferred
async def test_those_of_the_settings_are_used_if_both_are_there() -> None:
    assert await static("key", "secret", "token")() == Keys("key", "secret", "token")
    for half in (static("key", "", ""), static("", "secret", ""), static("", "", "token")):
        assert await half() is None


class Endpoint(Resource):
    """Hands out credentials."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = {}
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []

    def render_GET(self, request: Any) -> bytes:
        self.asked.append((request.uri.decode(), request.getHeader("authorization")))
        request.setResponseCode(self.status)
        return self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()


class World:
    def __init__(self) -> None:
        self.endpoint = Endpoint()
        self.server = LoopbackServer(reactor, self.endpoint)
        self.http = HttpClient(reactor, {})

    async def keys(self, uri: str = "/keys?of=me", **environ: str) -> Keys | None:
        return await from_endpoint(self.http, f"http://127.0.0.1:{self.server.port}{uri}", environ)()


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.http.close()
    await world.server.stop()
    await deferLater(reactor, 0, lambda: None)


GIVEN = {"AccessKeyId": "key", "SecretAccessKey": "secret", "Token": "token", "RoleArn": "x"}


@pytest.mark.parametrize(
    ("expiration", "ends"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T04:04:05.25+01:00", datetime(2030, 1, 2, 3, 4, 5, 250000, tzinfo=UTC)),
        (None, None),
        ("", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_endpoint_gives_keys_and_their_end(world: World, expiration: Any, ends: datetime | None) -> None:
    world.endpoint.answer = GIVEN | {"Expiration": expiration}
    assert await world.keys() == Keys("key", "secret", "token", ends)
    assert world.endpoint.asked == [("/keys?of=me", None)]


@pytest_twisted.ensureDeferred
async def test_an_endpoint_gives_keys_without_a_token_and_is_told_the_one_of_the_environment(world: World) -> None:
    world.endpoint.answer = {"AccessKeyId": "key", "SecretAccessKey": "secret"}
    assert await world.keys(AWS_CONTAINER_AUTHORIZATION_TOKEN="sesame") == Keys("key", "secret")
    assert world.endpoint.asked == [("/keys?of=me", "sesame")]


@pytest.mark.parametrize(
    ("status", "answer"), [(500, b"sesame"), (404, b""), (200, b"no json: sesame"), (200, {"Token": "sesame"})]
)
@pytest_twisted.ensureDeferred
async def test_an_endpoint_that_has_none_is_passed_over_without_telling_what_it_said(
    world: World, status: int, answer: Any
) -> None:
    world.endpoint.status, world.endpoint.answer = status, answer

    async def last() -> None:
        return None

    sources = {"CredentialsEndpoint": world.keys, "last": last}
    with pytest.raises(StorageUnavailable) as error:
        await Credentials(reactor, sources, lambda: datetime.now(UTC)).keys()
    assert error.value.detail.startswith("CredentialsEndpoint: ")
    assert error.value.detail.endswith("; last: none")
    assert "sesame" not in error.value.detail


@pytest_twisted.ensureDeferred
async def test_the_chain_finds_profiles_of_the_shared_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n"
        "[other]\naws_access_key_id = key 2\naws_secret_access_key = secret 2\naws_session_token = token 2\n"
    )
    assert await from_chain(reactor)() == Keys("key", "secret")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert await from_chain(reactor)() == Keys("key 2", "secret 2", "token 2")


@pytest_twisted.ensureDeferred
async def test_the_chain_finds_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert await from_chain(reactor)() == Keys("key", "secret", "token")


@pytest_twisted.ensureDeferred
async def test_the_chain_looks_again_each_time(tmp_path: Path) -> None:
    load = from_chain(reactor)
    assert await load() is None
    for key in ("key", "new"):
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
        (tmp_path / "credentials").write_text(text)
        assert await load() == Keys(key, "secret")


@pytest_twisted.ensureDeferred
async def test_the_chain_renews_those_of_a_container(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{world.server.port}/role")
    first, second = (datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=each) for each in (5, 60))
    world.endpoint.answer = GIVEN | {"Expiration": first.isoformat()}
    load = from_chain(reactor)
    assert await load() == Keys("key", "secret", "token", first)
    world.endpoint.answer = GIVEN | {"AccessKeyId": "new", "Expiration": second.isoformat()}
    assert await load() == Keys("new", "secret", "token", second)
