"""The life of the daemon: start everything, then listen; reload on SIGHUP; stop without losing what is under way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from athens_tx import __version__
from athens_tx.config import Loaded, changes
from athens_tx.errors import ConfigError
from athens_tx.listening import split_port
from athens_tx.observe.logs import LogObserver
from athens_tx.service import Assembly
from athens_tx.systemd import Notifier

#: Seconds that cleaning up may take when all requests are done or given up.
CLEANING = 10.0


class Daemon(Service):
    """
    The one service of C{twistd athens}.

    @param assemble: plugs the rooms together for some settings, see L{athens_tx.service.assemble}.
    @param load: reads the settings anew, for SIGHUP.
    @param environ: of the start of the process.
    @param notifier: speaks to systemd; made when we start, since twistd may have forked by then.
    @param observer: the log, whose level a reload may change; C{None} where twistd has a log of its own.
    @param on_ready: told the URL when the first request may come.
    @param pid_file: that of twistd, absolute; removed where we end the program before twistd can do it.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        assemble: Callable[[Loaded], Assembly],
        load: Callable[[], Loaded],
        environ: Mapping[str, str],
        notifier: Callable[[], Notifier],
        observer: LogObserver | None = None,
        on_ready: Callable[[str], None] = lambda url: None,
        pid_file: str = "",
    ) -> None:
        self._reactor = reactor
        self._loaded = loaded
        self._assemble = assemble
        self._load = load
        self._environ = environ
        self._make_notifier = notifier
        self._observer = observer
        self._on_ready = on_ready
        self._pid_file = pid_file
        self._assembly: Assembly | None = None
        self._ports: list[IListeningPort] = []
        self._starting: Deferred[None] | None = None
        self._reloading: Deferred[None] | None = None
        self._again = False
        self.exit_status = 0

    # -- start

    def startService(self) -> None:
        """Start in the background; when that fails, the reason is logged and the program ends with status 1."""
        super().startService()
        self._notifier = self._make_notifier()
        self._reactor.callWhenRunning(self._take_signals)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._not_started)

    async def _start(self) -> None:
        for warning in self._loaded.warnings:
            self.log.warn("settings: {warning}", warning=warning)
        config = self._loaded.config
        self.log.info("Starting application", version=__version__, tcpPort=config.port, unixSocket=config.unix_socket)
        self._assembly = self._assemble(self._loaded)
        for line in self._assembly.unbuilt():
            self.log.warn("settings: {warning}", warning=line)
        await self._assembly.start()
        self._ports = await self._assembly.listening.listen(self._reactor, self._assembly.site, self._environ)
        self._notifier.start_watchdog(self._assembly.healthy)
        self._notifier.ready()
        url = self.url()
        self.log.info("ready: {url}", url=url)
        self._on_ready(url)

    def _not_started(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if isinstance(failure.value, ConfigError):
            for problem in failure.value.problems:
                self.log.error("can't start: {problem}", problem=problem)
        else:
            self.log.failure("can't start", failure)
        self._stop_reactor(1)

    def url(self) -> str:
        """@return: how a client on this machine reaches us, for GOPROXY."""
        config, port = self._loaded.config, self._ports[0]
        address = port.getHost()
        if not hasattr(address, "port"):
            return f"unix:{config.unix_socket}"
        host = split_port(config.port)[0] if not config.port.startswith("systemd:") else ""
        host = "localhost" if host in ("", "::", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104
        scheme = "https" if config.tls_cert_file and config.tls_key_file else "http"
        return f"{scheme}://{host}:{address.port}{config.path_prefix.rstrip('/')}"

    # -- signals

    def _take_signals(self) -> None:
        """
        Take over from the reactor, which would end the process by the signal that stopped it, so that a clean end were
        not status 0.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._asked_to_stop))
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))

    def _asked_to_stop(self) -> None:
        # A second signal kills at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._stop_reactor(self.exit_status)

    def _stop_reactor(self, status: int) -> None:
        self.exit_status = status
        if self._reactor.running:
            self._reactor.stop()
        else:
            self._reactor.callWhenRunning(self._reactor.stop)

    # -- reload

    def reload(self) -> Deferred[None]:
        """
        Read files and settings again; what is bad is refused with a log line, and the old stays in use.

        Asked for while that goes on, it is done once more: what was read already may have changed since.
        @return: fires when all is read.
        """
        if self._assembly is not None:
            self._again = True
            if self._reloading is None:
                self._reloading = Deferred.fromCoroutine(self._reload_until_quiet(self._assembly))
                self._reloading.addBoth(self._reloaded)
        done: Deferred[None] = Deferred()
        (self._reloading or Deferred.fromCoroutine(_nothing())).addBoth(lambda result: done.callback(None))
        return done

    def _reloaded(self, result: object) -> None:
        self._reloading = None

    async def _reload_until_quiet(self, assembly: Assembly) -> None:
        while self._again:
            self._again = False
            try:
                await self._reload(assembly)
            except Exception:
                self.log.failure("reloading failed")

    async def _reload(self, assembly: Assembly) -> None:
        self.log.info("reloading")
        self._notifier.reloading()
        problems = 0
        try:
            new = self._load()
        except ConfigError as error:
            problems = len(error.problems)
            for problem in error.problems:
                self.log.error("not reloaded, the old settings stay: {problem}", problem=problem)
        else:
            self._adopt(new)
        refused, logged = await assembly.reload()
        problems += len(refused) + logged
        for problem in refused:
            self.log.error("not reloaded, the old one stays: {problem}", problem=problem)
        self._notifier.ready()
        if problems:
            self.log.warn("reloaded, but {problems} refused: there the old stays in use", problems=problems)
        else:
            self.log.info("reloaded")

    def _adopt(self, new: Loaded) -> None:
        """Take what can change while we run: the log level. All else that differs waits for a restart."""
        for key, old, now in changes(self._loaded.config, new.config):
            if key == "LogLevel":
                if self._observer is not None:
                    self._observer.set_level(new.config.log_level)
                self.log.info("{key} is now {now}", key=key, now=now)
            else:
                self.log.warn("{key} has changed from {old} to {now}: it takes a restart", key=key, old=old, now=now)

    # -- stop

    def stopService(self) -> Deferred[None]:
        """@return: fires when all is clean; the reactor waits for it."""
        super().stopService()
        stopping = Deferred.fromCoroutine(self._stop())
        stopping.addErrback(lambda failure: self.log.failure("stopping failed", failure))
        if self.exit_status:
            self._leave_with_status()
        return stopping

    async def _stop(self) -> None:
        self.log.info("Shutting down server")
        self._notifier.stopping()
        if self._starting is not None:
            self._starting.cancel()
        for port in self._ports:
            await _awaitable(port.stopListening())
        if self._assembly is None:
            return
        limit = float(self._loaded.config.shutdown_timeout)
        try:
            await _within(self._assembly.finish(), limit, self._reactor)
        except DeferredTimeout:
            self.log.error("Could not shut down server: requests were still open after {limit:g} s", limit=limit)
            self.exit_status = 1
            self._leave_with_status()
        try:
            await _within(self._assembly.stop(), CLEANING, self._reactor)
        except DeferredTimeout:
            self.log.error("cleaning up took over {limit:g} s", limit=CLEANING)
        self._notifier.stop_watchdog()

    def _leave_with_status(self) -> None:
        # twistd returns 0 after reactor.stop(), and a SystemExit in a trigger is only logged.
        def leave() -> None:
            if self._pid_file:
                with suppress(OSError):
                    os.unlink(self._pid_file)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.exit_status)

        self._reactor.addSystemEventTrigger("after", "shutdown", leave)


async def _within(work: Awaitable[None], limit: float, clock: IReactorTime) -> None:
    """Limit C{work} to some seconds; 0 gives it one turn of the reactor."""
    await Deferred.fromCoroutine(_awaitable(work)).addTimeout(limit, clock)


async def _awaitable(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


async def _nothing() -> None:
    return None
