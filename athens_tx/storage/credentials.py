"""What a remote store lets us in for: loaded from the first source that has it, renewed before it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from athens_tx.errors import StorageUnavailable
from athens_tx.http_client import masked
from athens_tx.singleflight.waiters import Waiters

#: New credentials are looked for so long before the old ones end; without new ones, those go on until they end.
AHEAD = timedelta(minutes=10)
#: Seconds after which new ones are looked for again, where there were none.
AGAIN = 60.0
#: Seconds after which a source that failed is asked again, where a later one has given something.
BETTER = 300.0


class Ending(Protocol):
    """Something that holds for a time; C{ends} is aware, and C{None} for what holds for ever."""

    @property
    def ends(self) -> datetime | None: ...


K = TypeVar("K", bound=Ending)


class Credentials(Generic[K]):
    """The keys of the first source that has some, loaded again before they end, once for all who wait."""

    log = Logger()

    def __init__(
        self, reactor: Any, sources: Mapping[str, Callable[[], Awaitable[K | None]]], now: Callable[[], datetime]
    ) -> None:
        """@param sources: by what they are called in a message, in their order."""
        self._reactor = reactor
        self._sources = sources
        self._now = now
        self._keys: K | None = None
        self._loading: Waiters[K] | None = None
        self._not_before = 0.0
        self._passed_over: list[str] = []
        self._keep_until = 0.0

    async def keys(self) -> K:
        """@return: what to sign with now; raise L{StorageUnavailable} if there is nothing."""
        keys, now = self._keys, self._now()
        if keys is None or (keys.ends is not None and now >= keys.ends):
            return await (self._loading or self._load()).wait()
        wanted = bool(self._passed_over) or (keys.ends is not None and now >= keys.ends - AHEAD)
        if wanted and self._loading is None and self._reactor.seconds() >= self._not_before:
            self._load().wait().addErrback(self._later)
        return keys

    def forget(self, refused: Callable[[K], bool]) -> bool:
        """
        Load new keys, if those of the moment were refused.

        @return: whether it may help to try again; not if new ones were loaded for this reason just now.
        """
        if self._keys is not None and refused(self._keys):
            now = self._reactor.seconds()
            if now < self._keep_until:
                return False
            self._keep_until = now + AGAIN
            self._keys = None
        return True

    def _later(self, failure: Failure) -> None:
        self._not_before = self._reactor.seconds() + AGAIN
        self.log.warn("no new credentials yet: {reason}", reason=failure.getErrorMessage())

    def _load(self) -> Waiters[K]:
        loading = self._loading = Waiters()
        Deferred.fromCoroutine(self._find()).addBoth(self._found)
        return loading

    def _found(self, result: K | Failure) -> None:
        loading, self._loading = self._loading, None
        if not isinstance(result, Failure):
            self._keys = result
            if result.ends is not None and self._now() >= result.ends - AHEAD:  # there are no better ones yet
                self._not_before = self._reactor.seconds() + AGAIN
            elif self._passed_over:
                self._not_before = self._reactor.seconds() + BETTER
        assert loading is not None
        loading.land(result)

    async def _find(self) -> K:
        said, failed = [], []
        for name, load in self._sources.items():
            try:
                keys = await load()
            except Exception as error:  # whatever a vendor's library raises, the next source may do better
                said.append(f"{name}: {masked(str(error)) or type(error).__name__}")
                failed.append(name)
                continue
            if keys is not None:
                self._settle(name, failed, said)
                return keys
            said.append(f"{name}: none")
        raise StorageUnavailable("there are no credentials for the storage", detail="; ".join(said), retry_after=30)

    def _settle(self, name: str, failed: list[str], said: list[str]) -> None:
        """C{name} is used; those before it that failed are asked again."""
        if failed and failed != self._passed_over:
            self.log.warn("credentials come from {name} for now: {reason}", name=name, reason="; ".join(said))
        self._passed_over = failed
