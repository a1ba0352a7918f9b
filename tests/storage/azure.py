"""What the tests of the azureblob storage share: an Azurite that knows identities, and where a machine gets its own."""

from __future__ import annotations

import functools
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme
from azure.storage.blob import BlobServiceClient
from twisted.web.resource import Resource

from athens_tx.config.backends import AzureBlob
from athens_tx.storage.azureblob_start import azureblob_storage
from tests.support.servers_clouds import Azurite
from tests.support.servers_process import connects

IDENTITY = "/subscriptions/1/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/athens"
SCOPE = "https://storage.azure.com/.default"


def storage_at(
    reactor: Any, endpoint: str, container: str, environ: Mapping[str, str] | None = None, **more: Any
) -> Any:
    """@param more: settings, and C{timeout}. @return: a storage, not started, with Azurite's account and key."""
    timeout = more.pop("timeout", 10.0)
    settings = {"account_name": Azurite.account, "account_key": Azurite.key, "container_name": container} | more
    return azureblob_storage(
        reactor, AzureBlob(endpoint=endpoint, **settings), environ or {}, timeout=timeout, patience=0.2
    )


def jwt(**claims: Any) -> str:
    """@return: a token that Azurite takes, which looks at the claims and not at the signature."""
    now = int(time.time())
    said = {
        "aud": "https://storage.azure.com",
        "iss": "https://sts.windows.net/tenant/",
        "oid": "11059fcc-5514-4800-b5f8-49808b9cfab6",
        "tid": "ab1f708d-50f6-404c-a006-d71b2ac7a606",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
    } | claims
    parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, said))
    return ".".join([*(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "sig"])


class Metadata(Resource):
    """
    The service that gives a virtual machine its tokens.

    @ivar asked: the queries of the requests.
    @ivar tokens: what it gives, one after the other, the last one for ever.
    @ivar lasts: seconds that they are good for.
    @ivar refusal: a status and a body to answer with instead.
    """

    isLeaf = True

    def __init__(self, *tokens: str, lasts: int = 3600) -> None:
        super().__init__()
        self.asked: list[dict[str, str]] = []
        self.tokens = list(tokens)
        self.lasts = lasts
        self.refusal: tuple[int, bytes] | None = None

    def render_GET(self, request: Any) -> bytes:
        self.asked.append({name.decode(): values[0].decode() for name, values in request.args.items()})
        request.setHeader(b"Content-Type", b"application/json")
        if self.refusal is not None:
            request.setResponseCode(self.refusal[0])
            return self.refusal[1]
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        answer = {"access_token": token, "expires_in": str(self.lasts), "resource": "r", "token_type": "Bearer"}
        return json.dumps(answer).encode()


class AzuriteTls(Azurite):
    """Azurite over TLS, which it wants for tokens."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        directory.mkdir()
        authority, self.trust = trustme.CA(), directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.trust))
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))

    def command(self) -> Sequence[str]:
        files = ["--cert", str(self.directory / "cert.pem"), "--key", str(self.directory / "key.pem")]
        return [*super().command(), "--oauth", "basic", *files]

    def answers(self) -> bool:
        return connects(self.port)

    @property
    def endpoint(self) -> str:
        return super().endpoint.replace("http:", "https:")

    @functools.cached_property
    def client(self) -> BlobServiceClient:
        credential: Any = {"account_name": self.account, "account_key": self.key}
        return BlobServiceClient(self.endpoint, credential=credential, retry_total=0, connection_verify=str(self.trust))
