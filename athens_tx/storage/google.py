"""
What google-auth knows of Google's cloud, away from the reactor's thread where it blocks: credentials and signatures.

google-auth speaks HTTP itself, through requests; that is for tokens and for signatures alone, never for stored bytes.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import attrs
import google.auth
from google.auth import aws, iam, identity_pool, pluggable
from google.auth.credentials import Scoped, Signing
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport import Request as AnyTransport
from google.auth.transport.requests import Request as RequestsTransport
from requests import Session
from requests.adapters import HTTPAdapter
from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.threads import deferToThreadPool

from athens_tx.errors import ConfigError, StorageUnavailable
from athens_tx.http_client import masked
from athens_tx.storage.credentials import Credentials
from athens_tx.storage.google_links import unsigned

T = TypeVar("T")

#: What Athens asks for.
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
#: What Google's signing service asks for.
SIGNING_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: Seconds that a signed URL is good for.
LINK_SECONDS = 900
#: Seconds for one request of google-auth, which tries some of them three times.
REQUEST_LIMIT = 5.0
#: Seconds for all that it does at a time.
LIMIT = 20.0
#: Signatures that are made at once: Google's service may take its time for each, in a thread that others want too.
SIGNATURES = 3

_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105
_NONE_FOUND = "Your default credentials were not found"
_LONGEST = 300


@attrs.frozen
class Token:
    """What goes with a request; C{ends} is C{None} where nothing has to."""

    headers: Mapping[str, str] = attrs.field(repr=False)
    ends: datetime | None = None


class _Trusting(HTTPAdapter):
    """Trusts the certificates of a file too, as our own client does."""

    def __init__(self, file: str) -> None:
        self._context = ssl.create_default_context()
        self._context.load_verify_locations(file)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **named)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context, **named)


class Transport(AnyTransport):
    """How google-auth speaks to Google: never for long, and in each thread through a session of its own."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """@param environ: has C{SSL_CERT_FILE}, which requests does not look at."""
        self._certificates = environ.get("SSL_CERT_FILE", "")
        self._of_thread = threading.local()
        self._sessions: list[Session] = []

    @property
    def session(self) -> Session:
        """That of this thread."""
        if not hasattr(self._of_thread, "session"):
            self._of_thread.session = session = Session()
            if self._certificates:
                session.mount("https://", _Trusting(self._certificates))
            self._sessions.append(session)
        found: Session = self._of_thread.session
        return found

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> Any:
        """See C{google.auth.transport.Request}."""
        seconds = min(timeout or REQUEST_LIMIT, REQUEST_LIMIT)
        return RequestsTransport(self.session)(url, method, body, headers, timeout=seconds, **named)

    def close(self) -> None:
        """Let go of the connections."""
        for session in self._sessions:
            session.close()


def from_key(key: str, transport: Transport) -> Any:
    """
    Read C{JSONKey}. Blocks, a little.

    @param key: a JSON credential of any kind that google-auth knows, in base64.
    @return: credentials of google-auth.
    @raise ConfigError: it is none.
    """
    try:
        found = json.loads(base64.b64decode(re.sub(r"[\r\n]", "", key), validate=True))
        if isinstance(found, dict) and found.get("type") == "external_account":
            return _federated(found)
        return google.auth.load_credentials_from_dict(found, scopes=SCOPES, request=transport)[0]
    except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError([f"Storage.GCP.JSONKey: not a credential that can be used: {said(error)}"]) from None


def _federated(found: Mapping[str, Any]) -> Any:
    """@return: credentials as google-auth would make them, who would also ask a service which project they are of."""
    if found.get("subject_token_type") == _AWS_TOKEN:
        return aws.Credentials.from_info(found, scopes=SCOPES)
    if "executable" in (found.get("credential_source") or {}):
        return pluggable.Credentials.from_info(found, scopes=SCOPES)
    return identity_pool.Credentials.from_info(found, scopes=SCOPES)


def from_surroundings(transport: Transport) -> Any:
    """
    Look where Google's programs look: C{GOOGLE_APPLICATION_CREDENTIALS} in the process's own environment, gcloud's
    file, the metadata service of the machine. Blocks, for seconds where there is no such service.

    @return: credentials of google-auth; C{None} if there are none.
    @raise ConfigError: there are some that can't be used.
    """
    try:
        return google.auth.default(scopes=SCOPES, request=transport)[0]
    except (GoogleAuthError, ValueError, OSError) as error:
        if isinstance(error, DefaultCredentialsError) and str(error).startswith(_NONE_FOUND):
            return None
        raise ConfigError([f"Storage.GCP: the default credentials can't be used: {said(error)}"]) from None


def said(error: BaseException) -> str:
    """@return: what a failure of google-auth says, in one line."""
    words = [said(part) if isinstance(part, BaseException) else part for part in error.args]
    text = " ".join(" ".join(word for word in words if isinstance(word, str)).split()) or type(error).__name__
    return masked(text[:_LONGEST])


class Access:
    """
    Who we are to Google.

    @ivar domain: of the cloud that the credentials belong to.
    """

    def __init__(
        self,
        reactor: Any,
        identity: Any,
        source: str,
        transport: Transport,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        @param identity: credentials of google-auth; C{None} for nobody.
        @param source: what they are called in a message.
        """
        self.domain = "googleapis.com"
        self._reactor = reactor
        self._identity = identity
        self._transport = transport
        self._now = now
        self._credentials: Credentials[Token] = Credentials(reactor, {source: self._load}, now)
        self._signer: tuple[str, Callable[[bytes], bytes]] | None = None
        self._signing = DeferredSemaphore(SIGNATURES)

    @property
    def anonymous(self) -> bool:
        """Whether we are nobody."""
        return self._identity is None

    async def begin(self) -> None:
        """Get the first token, and learn L{domain}; raise L{StorageUnavailable} if there is none to be had."""
        await self._credentials.keys()
        if self._identity is None:
            return
        try:  # it asks the machine's metadata service, for some
            self.domain = await in_thread(self._reactor, lambda: str(self._identity.universe_domain))
        except (GoogleAuthError, OSError, ValueError) as error:
            raise StorageUnavailable("nobody says to which cloud the credentials belong", detail=said(error)) from None

    async def headers(self) -> Mapping[str, str]:
        """@return: what goes with a request now; raise L{StorageUnavailable} if there is nothing."""
        return (await self._credentials.keys()).headers

    def refused(self, sent: Mapping[str, str]) -> bool:
        """
        Note that the store refused what L{headers} gave.

        @return: whether L{headers} may give something better.
        """
        return not self.anonymous and self._credentials.forget(lambda token: token.headers.items() <= sent.items())

    async def _load(self) -> Token | None:
        if self._identity is None:
            return Token({})
        try:
            return await in_thread(self._reactor, self._fetch)
        except (GoogleAuthError, ValueError, OSError) as error:
            raise StorageUnavailable(said(error)) from None

    def _fetch(self) -> Token:
        self._identity.refresh(self._transport)
        headers: dict[str, str] = {}
        self._identity.apply(headers)
        ends = self._identity.expiry
        return Token(headers, None if ends is None else ends.replace(tzinfo=UTC))

    # -- signatures

    async def begin_links(self) -> None:
        """Look whether we can sign; raise L{ConfigError} if not."""
        try:
            self._signer = await in_thread(self._reactor, lambda: _signer(self._identity, self._transport))
            if self._signer is not None:
                await self.link("https://storage.googleapis.com/bucket/object")
                return
            why = "the credentials are not those of a service account"
        except StorageUnavailable as error:
            why = f"{error}: {error.detail}: they need the role Service Account Token Creator on their own account"
        except (GoogleAuthError, OSError, ValueError) as error:
            why = said(error)
        raise ConfigError([f"Storage.GCP.PresignedRedirect: the credentials can't sign: {why}"])

    async def link(self, url: str) -> str:
        """@return: C{url} with a signature for GET in its query."""
        assert self._signer is not None
        email, sign = self._signer
        waiting = unsigned(url, email, self._now(), LINK_SECONDS)
        try:
            signature = await in_thread(self._reactor, lambda: sign(waiting.to_sign.encode()), self._signing)
            return waiting.signed(signature)
        except (GoogleAuthError, OSError, ValueError, KeyError) as error:
            raise StorageUnavailable("gcp storage: no signature for a link", detail=said(error)) from None

    def close(self) -> None:
        """Let go of the connections."""
        self._transport.close()


def _signer(identity: Any, transport: Transport) -> tuple[str, Callable[[bytes], bytes]] | None:
    """@return: the account that signs, and how; C{None} if it can't."""
    if isinstance(identity, Signing):  # with a key of its own, or as somebody else
        return identity.signer_email, identity.sign_bytes
    email = getattr(identity, "service_account_email", None)
    if not email:
        return None
    if isinstance(identity, Scoped):
        identity = identity.with_scopes(list(SIGNING_SCOPES))
    return email, iam.Signer(transport, identity, email).sign


async def in_thread(reactor: Any, work: Callable[[], T], places: DeferredSemaphore | None = None) -> T:
    """
    Do what blocks.

    @param places: one of them is taken until C{work} is at its end, though nobody waits for it any more.
    @raise StorageUnavailable: it takes too long; its thread is left to end by itself.
    """

    def done() -> T:
        try:
            return work()
        finally:
            if places is not None:
                reactor.callFromThread(places.release)

    async def begun() -> T:
        if places is not None:
            await places.acquire()
        return await deferToThreadPool(reactor, reactor.getThreadPool(), done)

    try:
        return await Deferred.fromCoroutine(begun()).addTimeout(LIMIT, reactor)
    except TimeoutError:
        raise StorageUnavailable(f"Google's credentials: no answer within {LIMIT:g} s", retry_after=10) from None
