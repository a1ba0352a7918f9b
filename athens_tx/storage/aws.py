"""
What botocore knows of AWS, away from the reactor's thread where it blocks: credentials, where a bucket is, signatures.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import attrs
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as ClientConfig
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session
from twisted.internet.threads import deferToThreadPool

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.http_client import HttpClient, masked
from athens_tx.storage.credentials import Credentials

#: Seconds that a signed URL is good for.
LINK_SECONDS = 900


@attrs.frozen
class Keys:
    """What requests are signed with; C{ends} is C{None} for what holds for ever."""

    access: str = attrs.field(repr=False)
    secret: str = attrs.field(repr=False)
    token: str = attrs.field(repr=False, default="")
    ends: datetime | None = None

    def botocore(self) -> BotocoreCredentials:
        """@return: the same for botocore."""
        return BotocoreCredentials(self.access, self.secret, self.token or None)


Load = Callable[[], Awaitable[Keys | None]]


def static(key: str, secret: str, token: str) -> Load:
    """@return: keys from the settings."""

    async def load() -> Keys | None:
        return Keys(key, secret, token) if key and secret else None

    return load


def from_endpoint(http: HttpClient, url: str, environ: Mapping[str, str]) -> Load:
    """
    @return: keys as a container gets them: from a service that answers C{AccessKeyId}, C{SecretAccessKey}, C{Token}
        and C{Expiration}; with the token of the environment, which such services may want.
    """

    async def load() -> Keys | None:
        token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        headers = {"Accept": "application/json"} | ({"Authorization": token} if token else {})
        response = await http.get_bytes(url, limit=64 * 1024, timeout=10.0, headers=headers)
        if response.status != 200:
            raise StorageUnavailable(f"the credentials endpoint answered {response.status}")
        answer = json.loads(response.body)
        ends = answer.get("Expiration")
        when = datetime.fromisoformat(ends).astimezone(UTC) if ends else None
        return Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer.get("Token") or "", when)

    return load


def from_chain(reactor: Any) -> Load:
    """
    @return: keys from where AWS programs look: environment, profiles and files, container, instance; looked for anew
        each time, because a session of botocore reads a file once and keeps what it found.
    """

    def look() -> Keys | None:
        credentials = Session().get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        ends = getattr(credentials, "_expiry_time", None)  # botocore has no public name for it
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "", ends)

    async def load() -> Keys | None:
        return await deferToThreadPool(reactor, reactor.getThreadPool(), look)

    return load


def bucket_url(session: Session, region: str, bucket: str, endpoint: str, *, path_style: bool) -> str:
    """
    Ask botocore where a bucket is. Blocks for some tenths of a second.

    @param endpoint: a server of ours; empty for what botocore finds in the environment, in files, or in its own tables.
    @return: the URL to which a slash and a key are added.
    @raise ConfigError: the names can't be those of a bucket or a region.
    """
    style = ClientConfig(s3={"addressing_style": "path" if path_style else "virtual"}, signature_version="s3v4")
    try:
        client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint or None,
            config=style,
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106  nothing is sent
        )
        url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    except (BotoCoreError, ValueError) as error:
        reason = masked(" ".join(str(error).split()))
        raise ConfigError([f"Storage.S3: Bucket, Region or Endpoint: {reason}"]) from error
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/key')}"


class _Signature(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore would hash the body itself, on this thread and once more."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])


class Signer:
    """Signs requests for C{region} with the credentials of the moment."""

    def __init__(self, credentials: Credentials[Keys], region: str) -> None:
        self.region = region
        self._credentials = credentials

    async def headers(self, method: str, url: str, headers: Mapping[str, str], sha256: str) -> dict[str, str]:
        """
        @param sha256: of the body, in hexadecimal digits.
        @return: C{headers} and those of the signature; all of C{headers} are signed.
        """
        keys = await self._credentials.keys()
        request = AWSRequest(method, url, headers=dict(headers))
        request.context["sha256"] = sha256
        _Signature(keys.botocore(), "s3", self.region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    def refused(self, sent: Mapping[str, str]) -> bool:
        """
        The keys that C{sent} was signed with are not good any more: forget them, unless others have taken their place.

        @return: whether L{headers} may give something better.
        """

        def used(keys: Keys) -> bool:
            token = sent.get("X-Amz-Security-Token", "")
            return f"Credential={keys.access}/" in sent.get("Authorization", "") and token == keys.token

        return self._credentials.forget(used)

    async def link(self, url: str) -> str:
        """@return: C{url} with a signature for GET in its query."""
        keys = await self._credentials.keys()
        request = AWSRequest("GET", url)
        S3SigV4QueryAuth(keys.botocore(), "s3", self.region, expires=LINK_SECONDS).add_auth(request)
        return str(request.url)
