"""What a request asks for: may it be answered, and with what."""

from __future__ import annotations

import attrs
from zope.interface import Interface

from athens_tx.interfaces.storage import IZip
from athens_tx.module.version import ModuleVersion


@attrs.frozen
class Answer:
    """
    An answer of the download protocol that fits into memory.

    @ivar source: where it came from, for the request log: C{memory}, C{storage}, C{upstream} or C{go}.
    """

    body: bytes
    source: str


@attrs.frozen
class ZipAnswer:
    """A module zip as an answer, not started. C{source} as in L{Answer}."""

    body: IZip
    source: str


@attrs.frozen
class ZipLink:
    """Where the client finds a module zip: a URL that is a secret, see L{ILinks}. C{source} as in L{Answer}."""

    url: str = attrs.field(repr=False)
    source: str


class IProtocol(Interface):
    """
    The five questions of the download protocol, for values that are decoded and checked.

    @param fetch: C{False} where the client sent C{Disable-Module-Fetch: true}: answer from storage or C{NotFound}.
    @raise Elsewhere: the download mode of the module says to redirect.
    """

    async def list(path: str, *, fetch: bool = True) -> Answer:
        """@return: versions, joined by newlines, without a final one."""

    async def latest(path: str, *, fetch: bool = True) -> Answer:
        """@return: a JSON object with C{Version} and C{Time} as Athens gives it, ended by a newline."""

    async def info(mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: the C{.info} document of a version or a query."""

    async def mod(mv: ModuleVersion, *, fetch: bool = True) -> Answer:
        """@return: the go.mod of a version or a query."""

    async def zip(
        mv: ModuleVersion, *, fetch: bool = True, link: bool = False, whole: bool = True
    ) -> ZipAnswer | ZipLink:
        """
        @param link: whether the client can be sent to the store for the bytes; a L{ZipLink} is given only then.
        @param whole: see L{IStorage.zip}.
        @return: the module zip of a version or a query.
        """


class IGate(Interface):
    """The organisation's say: the filter file and the validator hook."""

    def listed(path: str, version: str) -> bool:
        """@return: whether a list may name C{version}; C{False} only with C{FilterLists = true}. No hook is asked."""

    async def admit(path: str, version: str | None) -> None:
        """
        Let a request pass: as it was asked, before storage is looked at, and what a query turned out to mean, before
        anything of it is answered or stored.

        @param version: C{None} for list and latest, which no hook is asked for.
        @raise Refused: the filter excludes it, or the hook says no.
        @raise Elsewhere: the filter says that clients ask another server directly (303).
        @raise HookFailed: the hook gave no clear answer.
        """


class IDownloadModes(Interface):
    """What to do with a version that is not stored."""

    def rule(path: str) -> DownloadRule:
        """@param path: the module path, unescaped."""


@attrs.frozen
class DownloadRule:
    """C{mode} is C{sync}, C{async}, C{none}, C{redirect} or C{async_redirect}; C{url} is set for the two redirects."""

    mode: str
    url: str
