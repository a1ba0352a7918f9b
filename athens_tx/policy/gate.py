"""The gate that every request for a module goes through, and files of policy that can be read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from athens_tx.errors import ConfigError, Elsewhere, Refused
from athens_tx.interfaces import DownloadRule, IDownloadModes, IGate
from athens_tx.policy.download_mode import DownloadModes, is_web_url
from athens_tx.policy.filter import Filter, Rule

log = Logger()


class Validator(Protocol):
    """See L{athens_tx.policy.validator.ValidatorHook}."""

    async def check(self, path: str, version: str) -> None:
        """Return if the version may be served."""


def load_filter(path: str, global_endpoint: str, *, exact: bool, read: Callable[[Path], str]) -> Filter:
    """
    Read a filter file and log what is odd about it. May block, so it is for a start or for a thread.

    @param path: C{FilterFile}; empty for a filter that includes everything.
    @param global_endpoint: C{GlobalEndpoint}, which rules with C{D} need.
    @param read: gives the text of a file, or raises C{OSError} or C{UnicodeDecodeError}.
    @raise ConfigError: with all problems.
    """
    if not path:
        return Filter()
    try:
        text = read(Path(path))
    except OSError as error:
        raise ConfigError([f"FilterFile {path}: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"FilterFile {path}: not UTF-8 at byte {error.start}"]) from error
    rules = Filter.parse(text, exact=exact)
    if rules.direct_line and not is_web_url(global_endpoint):
        line = rules.direct_line
        raise ConfigError([f"FilterFile line {line}: D needs a GlobalEndpoint that is an http(s) URL"])
    for warning in rules.warnings:
        log.warn("{warning}", warning=warning)
    return rules


@implementer(IGate)
class Gate:
    """
    The filter, then the validator hook.

    @ivar generation: counts how often the rules changed, so that an answer can be kept as long as it stays the same.
    """

    def __init__(
        self,
        reactor: Any,
        load: Callable[[], Filter],
        *,
        global_endpoint: str = "",
        filter_lists: bool = False,
        hook: Validator | None = None,
    ) -> None:
        """
        @param reactor: whose thread pool reads the file again.
        @param load: gives the filter or raises L{ConfigError}, see L{load_filter}; called at once.
        @param global_endpoint: where clients are sent for modules with a C{D} rule.
        @param filter_lists: C{FilterLists}: lists leave out what the filter excludes.
        @param hook: C{None} if there is none to ask.
        """
        self._reactor = reactor
        self._load = load
        self._filter = load()
        self._global_endpoint = global_endpoint.rstrip("/")
        self._filter_lists = filter_lists
        self._hook = hook
        self.generation = 0

    @property
    def asks(self) -> bool:
        """Whether a hook is asked, so that an answer may change without a new L{generation}."""
        return self._hook is not None

    def listed(self, path: str, version: str) -> bool:
        """@return: C{False} for what the filter excludes, if lists are filtered."""
        return not self._filter_lists or self._filter.rule(path, version) is not Rule.EXCLUDE

    async def admit(self, path: str, version: str | None) -> None:
        """See L{IGate.admit}."""
        rule = self._filter.rule(path, version, thinned=self._filter_lists)
        if rule is Rule.EXCLUDE:
            raise Refused(f"the filter excludes {path}" + (f"@{version}" if version is not None else ""))
        if rule is Rule.DIRECT:
            raise Elsewhere(self._global_endpoint, 303)
        if self._hook is not None and version is not None:
            await self._hook.check(path, version)

    async def reload(self) -> bool:
        """
        Read the filter file again; one with problems is refused, they are logged, and the old rules stay.

        @return: whether the new rules are in force.
        """
        try:
            rules: Filter = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._load)
        except ConfigError as error:
            _refuse("filter file", error)
            return False
        self._filter = rules
        self.generation += 1
        return True


@implementer(IDownloadModes)
class ReloadableModes:
    """Download modes that can be read again."""

    def __init__(self, reactor: Any, load: Callable[[], DownloadModes]) -> None:
        """
        @param reactor: whose thread pool reads the file again.
        @param load: gives the modes or raises L{ConfigError}, see L{DownloadModes.parse}; called at once.
        """
        self._reactor = reactor
        self._load = load
        self._modes = load()

    def rule(self, path: str) -> DownloadRule:
        """See L{IDownloadModes.rule}."""
        return self._modes.rule(path)

    async def reload(self) -> bool:
        """As L{Gate.reload}."""
        try:
            modes: DownloadModes = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._load)
        except ConfigError as error:
            _refuse("download modes", error)
            return False
        self._modes = modes
        return True


def _refuse(what: str, error: ConfigError) -> None:
    for problem in error.problems:
        log.error("keeping the old {what}: {problem}", what=what, problem=problem)
