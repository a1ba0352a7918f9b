"""What C{twistd athens} and C{athens-tx serve} do before the reactor runs: read the settings, open the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python import usage
from twisted.python.logfile import LogFile

from athens_tx import __version__
from athens_tx.config import Config, Loaded, load
from athens_tx.config.masking import Secret
from athens_tx.config.settings import SETTINGS
from athens_tx.errors import ConfigError

if TYPE_CHECKING:
    from athens_tx.observe.logs import LogObserver


class Options(usage.Options):
    """The options of C{twistd athens}."""

    longdesc = "Serves Go modules. Without --config, athens.toml of the working directory is read if it is there."
    optParameters = [["config", "c", "", "the TOML file with the settings"]]
    optFlags = [
        ["strict", None, "refuse to start for what is only worth a warning"],
        ["announce", None, "print the line that points the go command here, once it may be used"],
    ]

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"athens-tx {__version__}")
        sys.exit(0)


class Root(MultiService):
    """The service tree's root, which brings the application its log."""

    def __init__(self, observer: ILogObserver | None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """Give the log to C{parent} too, since twistd asks the application for one."""
        super().setServiceParent(parent)
        if self._observer is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)


def read_settings(file: str, environ: Mapping[str, str], *, strict: bool = False) -> Loaded:
    """
    @param file: path, or empty for C{athens.toml} of the working directory, if that is there.
    @raise ConfigError: all that is wrong.
    """
    return load(Path(file) if file else None, environ, cwd=Path.cwd(), strict=strict)


def makeService(options: Options) -> IService:
    """@return: the service tree; a wrong setting ends the program with status 1 and one line for each problem."""
    from twisted.internet import reactor

    from athens_tx.daemon import Daemon
    from athens_tx.observe.stdlib import bridge
    from athens_tx.service import assemble
    from athens_tx.systemd import Notifier

    environ = environment()
    # What twistd changes (its working directory) must not change what a reload reads.
    file = os.path.abspath(options["config"]) if options["config"] else ""
    strict = bool(options["strict"])
    try:
        loaded = read_settings(file, environ, strict=strict)
    except ConfigError as error:
        sys.exit("\n".join(f"athens-tx: {problem}" for problem in error.problems))
    stream = _log_stream(options.parent or {})
    observer = None if stream is None else _observer(stream, loaded.config)
    bridge(globalLogPublisher)

    def read_again() -> Loaded:
        if isinstance(stream, LogFile):
            stream.reopen()  # logrotate has moved it away
        return read_settings(file, environ, strict=strict)

    root = Root(observer)
    daemon = Daemon(
        reactor,
        loaded,
        assemble=lambda loaded: assemble(reactor, loaded.config, environ),
        load=read_again,
        environ=environ,
        notifier=lambda: Notifier(os.environ, cast(Any, reactor), pid=os.getpid()),
        observer=observer,
        on_ready=_announce if options["announce"] else lambda url: None,
        pid_file=_pid_file(options.parent or {}),
    )
    daemon.setServiceParent(root)
    return root


def _observer(stream: TextIO, config: Config) -> LogObserver:
    from athens_tx.observe.logs import make_observer

    return make_observer(
        stream,
        level=config.log_level,
        log_format=config.log_format,
        cloud_runtime=config.cloud_runtime,
        is_tty=stream.isatty() if hasattr(stream, "isatty") else False,
        secrets=_secrets(config),
    )


def _announce(url: str) -> None:
    """Say to a person at a terminal what to type next."""
    if url.startswith("unix:"):  # which go can't dial
        path = url.removeprefix("unix:")
        text = f"Listening on the Unix socket {path}: put a web server in front, and point the go command at that."
    else:
        text = f"Point the go command here:\n\n    export GOPROXY={url}"
    print(f"\n{text}\n", file=sys.__stderr__, flush=True)


def environment() -> dict[str, str]:
    """
    @return: the environment of the start: importing C{twisted.internet.endpoints} takes systemd's sockets out of ours.
    """
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    start = [os.fsdecode(item).partition("=") for item in raw.split(b"\0") if item]
    passed = {name: value for name, _, value in start if name in ("LISTEN_PID", "LISTEN_FDS")}
    return {**passed, **os.environ}


def _secrets(config: Config) -> list[str]:
    """@return: what no line of the log may show, wherever it comes from; URLs lose their passwords by their form."""
    return [setting.of(config) for setting in SETTINGS if setting.secret is Secret.YES and setting.of(config)]


def _pid_file(twistd: Mapping[str, Any]) -> str:
    """@return: absolute path of the file that twistd writes its process id to; empty if it writes none."""
    return os.path.abspath(twistd["pidfile"]) if twistd.get("pidfile") else ""


def _log_stream(twistd: Mapping[str, Any]) -> TextIO | None:
    """@return: where our lines go; C{None} if twistd was told to log in a way of its own."""
    if twistd.get("logger") or twistd.get("syslog"):
        return None
    name = twistd.get("logfile")
    if name == "-" or (not name and (twistd.get("nodaemon") or twistd.get("debug") or not twistd)):
        return sys.stdout
    path = os.path.abspath(name or "twistd.log")
    return cast(TextIO, LogFile(os.path.basename(path), os.path.dirname(path), rotateLength=None, defaultMode=0o640))
