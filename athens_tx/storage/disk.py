"""
Versions kept in a directory, in the layout of Athens, which may run over the same directory at the same time.

Every look at the disk is made in the reactor's thread pool, and has a limit in time: a file system that hangs (a
network one) must not stop the daemon. L{athens_tx.storage.tree} does the work there.
"""

from __future__ import annotations

import builtins
import errno
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import AthensError, ConfigError, InvalidModule, StorageUnavailable
from athens_tx.interfaces import IFindsIncomplete, IStorage, IZip
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import FileSink, FileZip, file_tag, pour
from athens_tx.storage.layout import check_files, check_limit, check_names, check_path, parse_token, token_of
from athens_tx.storage.staging import Staging
from athens_tx.storage.tree import ZIP, Tree

P = ParamSpec("P")
T = TypeVar("T")


@implementer(IStorage, IFindsIncomplete)
class DiskStorage(Service):
    """
    A storage below C{root}.

    @ivar ready: fires when the root was found good; fails with L{ConfigError}. Set by C{startService}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorThreads,
        root: Path,
        *,
        stash_limit: float = 600.0,
        time_limit: float = 60.0,
        check_limit: float = 5.0,
    ) -> None:
        """
        @param reactor: has a thread pool and a clock.
        @param root: a directory that exists.
        @param stash_limit: seconds that a save takes at most; what lies in the staging for longer, and of which nobody
            knows whose it is, is removed at start.
        @param time_limit: seconds for each look at the disk; a save has many, a catalog page or a list one.
        @param check_limit: seconds for L{check}.
        """
        self.ready: Deferred[None] = succeed(None)
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._root = Path(os.path.abspath(root))
        self._time_limit = time_limit
        self._check_limit = check_limit
        self._staging = Staging(self._root, stash_limit)
        self._tree = Tree(self._root, self._staging)
        self._checkers: builtins.list[Deferred[None]] = []
        self._probing = False

    def startService(self) -> None:
        """Look at the root, and remove what was left of saves that were interrupted; see C{ready}."""
        super().startService()
        self.ready = Deferred.fromCoroutine(self._run(self._open))

    def _open(self) -> None:
        """In a thread."""
        try:
            os.listdir(self._root)
            self._staging.sweep()  # first: it may give back the room that is missing
            self._staging.open()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                problem = _problem(shlex.quote(str(self._root)), error)
                raise ConfigError([f"Storage.Disk.RootPath (ATHENS_DISK_STORAGE_ROOT): {problem}"]) from error
            self.log.warn("the disk of {root} is full: nothing can be saved", root=str(self._root))

    def stopService(self) -> Deferred[None]:
        """Remove the staging of this process."""
        super().stopService()
        return Deferred.fromCoroutine(self._run(self._staging.close))

    def _start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[Deferred[T], Deferred[None]]:
        """
        Run in a thread what looks at the disk.

        @return: its result, which one may stop waiting for; and when it is over, come what may.
        """
        result: Deferred[T] = Deferred()
        over: Deferred[None] = Deferred()

        def end(outcome: T | Failure) -> None:
            result.callback(outcome)  # a failure fails it
            over.callback(None)

        deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args, **kwargs).addBoth(end)
        return result, over

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """@return: what C{function} gives in a thread, within the limit."""
        result, _ = self._start(function, *args, **kwargs)
        return await self._in_time(result, self._time_limit)

    async def _in_time(self, result: Deferred[T], limit: float) -> T:
        late = self._clock.callLater(limit, result.cancel)
        try:
            return await result
        except CancelledError:
            if late.active():
                raise
            raise StorageUnavailable(f"the disk did not answer within {limit:g} s") from None
        except OSError as error:
            raise _trouble(error) from error
        finally:
            if late.active():
                late.cancel()

    async def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}."""
        check_path(path)
        return await self._run(self._tree.list, path)

    async def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        check_names(mv)
        return await self._run(self._tree.info, mv)

    async def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        check_names(mv)
        return await self._run(self._tree.mod, mv)

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """See L{IStorage.zip}."""
        check_names(mv)
        path, found = await self._run(self._tree.zip, mv)
        return FileZip(self._reactor, path, found.st_size, tag=file_tag(found))

    async def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}."""
        check_names(mv)
        return await self._run(self._tree.exists, mv)

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """See L{IStorage.save}."""
        started = False
        over: Deferred[None] | None = None
        staged = self._staging.name()
        sink = FileSink(self._reactor, Path(staged, ZIP), zip.length)
        try:
            check_names(mv)
            check_files(mv, info, mod)
            wanted, over = self._start(self._tree.stage, mv, mod, staged)
            if await self._in_time(wanted, self._time_limit):
                started = True
                await pour(zip, sink)
                await sink.finish()
                published, over = self._start(self._tree.publish, mv, staged, info)
                await self._in_time(published, self._time_limit)
        except BaseException:
            if over is not None:
                await self._clean(sink, staged, over)
            raise
        finally:
            if not started:
                zip.stopProducing()

    def _clean(self, sink: FileSink, staged: str, over: Deferred[None]) -> Deferred[None]:
        """
        Remove what a save has left, once no thread works on it. That goes on when the one who waits for it is
        cancelled, or has waited for C{time_limit}.
        """

        async def clean() -> None:
            await over
            await sink.abort()
            await self._run(self._staging.discard, staged)

        def cleaned(result: Failure | None) -> None:
            if result is not None:
                self.log.failure("can't remove {path}", result, LogLevel.warn, path=staged)
            if late.active():
                late.cancel()
                waiter.callback(None)

        waiter: Deferred[None] = Deferred()
        late = self._clock.callLater(self._time_limit, waiter.callback, None)
        Deferred.fromCoroutine(clean()).addBoth(cleaned)
        return waiter

    async def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        check_names(mv)
        await self._run(self._tree.delete, mv)

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """See L{IStorage.catalog}; in the order in which Athens walks, so that its tokens are good here."""
        check_limit(limit)
        found = await self._run(self._tree.catalog, parse_token(token), limit + 1)
        page = found[:limit]
        return page, token_of(page[-1]) if len(found) > limit else ""

    async def incomplete(self) -> Sequence[ModuleVersion]:
        """See L{IFindsIncomplete.incomplete}; directories that an interrupted save of Athens leaves."""
        result, _ = self._start(self._tree.incomplete)
        try:
            return await result
        except OSError as error:
            raise _trouble(error) from error

    async def check(self) -> None:
        """
        Read the root, and make and remove a directory in the staging.

        @raise StorageUnavailable: also after C{check_limit}. As long as one probe hangs no other is made.
        """

        def leave(waiter: Deferred[None]) -> None:
            if waiter in self._checkers:
                self._checkers.remove(waiter)

        waiter: Deferred[None] = Deferred(leave)
        self._checkers.append(waiter)
        if not self._probing:
            self._probing = True
            deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._tree.probe).addBoth(self._probed)
        await self._in_time(waiter, self._check_limit)

    def _probed(self, result: Failure | None) -> None:
        self._probing = False
        checkers, self._checkers = self._checkers, []
        for checker in checkers:
            if not checker.called:  # one may cancel the next
                checker.callback(result)  # a failure fails it


def _problem(root: str, error: OSError) -> str:
    """@return: what keeps the root from being one, and what to type against it."""
    if isinstance(error, FileNotFoundError):
        return f"the directory {root} does not exist; make it with: mkdir -p {root}"
    if isinstance(error, NotADirectoryError):
        return f"{root} is not a directory; name one that is, or make it"
    advice = f"; give it to the user of the daemon with: chown -R {os.geteuid()} {root}"
    denied = isinstance(error, PermissionError)
    return f"{root} can't be written: {error.strerror}{advice if denied else ''}"


def _trouble(error: OSError) -> AthensError:
    """@return: what an error of the disk is for others; it never means that something does not exist."""
    if error.errno == errno.ENAMETOOLONG:
        return InvalidModule("a name is too long to be stored")
    return StorageUnavailable(f"the disk can't be used: {error.strerror}", detail=str(error))
