"""The managed identity of the machine: azure-identity, which blocks, away from the reactor's thread."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from azure.identity import ManagedIdentityCredential
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.threads import deferToThreadPool

from athens_tx.errors import StorageUnavailable
from athens_tx.storage.azure_auth import Load, Token

#: Seconds for a token, with the attempts of azure-identity.
LIMIT = 20.0
#: What keeps azure-identity, which is patient, within it.
_HASTE: Mapping[str, Any] = {"retry_total": 2, "retry_status": 2, "connection_timeout": 2, "read_timeout": 4}


def from_identity(reactor: Any, resource: str, scope: str) -> Load:
    """
    @param resource: the resource id of the identity; C{scope} is what the token is for.
    @return: tokens from where the machine's identities are to be had; azure-identity finds out where that is, in the
        environment of the process.
    """

    def ask() -> Token:
        # A new one each time: an old one would give its old token again, though the store refuses it.
        with ManagedIdentityCredential(identity_config={"resource_id": resource}, **_HASTE) as credential:
            got = credential.get_token(scope)
        return Token(got.token, datetime.fromtimestamp(got.expires_on, UTC))

    async def load() -> Token:
        asked = deferToThreadPool(reactor, reactor.getThreadPool(), ask)
        try:
            return await asked.addTimeout(LIMIT, reactor)
        except TimedOut:
            raise StorageUnavailable(f"no answer within {LIMIT:g} s") from None

    return load
