"""What locks are asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from athens_tx.module.version import ModuleVersion


class ISingleFlight(Interface):
    """
    Across everything that shares the lock, one piece of work at a time for one version as requested.

    An C{IService} as well, for what has a connection.
    """

    def run(
        mv: ModuleVersion, work: Callable[[], Awaitable[ModuleVersion]], *, nested: bool = False
    ) -> Deferred[ModuleVersion]:
        """
        Run C{work}, or wait for the one who runs it already.

        A waiter is never failed merely because somebody else holds the lock, has a Deferred of its own, and leaves
        nothing but itself when it is cancelled: work that has begun goes on. What has not begun is dropped when the
        last waiter leaves.
        @param work: looks into the storage first: who had the lock before may have stored the version.
        @param nested: whether this is asked from within other work, which is not to wait for itself.
        @return: the canonical version, which is in storage now.
        """

    async def check() -> None:
        """Look whether the lock works, for readiness. Raise what is wrong."""


class ILock(Interface):
    """
    One who wants the lock of one name: first a place in the queue, where there is one, then the lock.

    Used by one, once: C{take} until it is C{True}, then C{renew} now and then, and C{release} in any case.
    """

    lease: float = Attribute("seconds after which the lock of a holder that does not renew it is free")

    async def take() -> bool:
        """
        Try to get the lock, in few round trips, without waiting for its holder.

        @return: whether it is ours now.
        @raise LockUnavailable: the lock service can't be asked; it may be tried again.
        """

    async def changed(seconds: float) -> None:
        """
        Wait until it may be worth while to L{take} again, as the service tells where it can, but at most C{seconds}.

        @raise LockUnavailable: as L{take}.
        """

    async def renew() -> bool:
        """
        Let the lease begin anew.

        @return: C{False} if the lock is not ours any more.
        @raise LockUnavailable: nobody knows.
        """

    async def release() -> None:
        """
        Give up the lock, or the place in the queue; harmless at any moment.

        @raise LockLost: it was taken, and is not ours any more.
        @raise LockUnavailable: it ends with its lease.
        """


class ILocks(Interface):
    """A lock service, shared with others; L{athens_tx.singleflight.locked} makes an L{ISingleFlight} of it."""

    async def connect() -> None:
        """Look whether it can be used. Raise L{ConfigError}, one line, naming the setting to look at."""

    async def close() -> None:
        """Let go of everything; what is held is released as far as that goes at once."""

    async def check() -> None:
        """Look whether it works, for readiness. Raise what is wrong."""

    def lock(name: str) -> ILock:
        """@param name: C{path@version} as requested, unescaped: what Athens calls the lock too."""
