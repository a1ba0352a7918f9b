"""What the index is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime

import attrs
from zope.interface import Attribute, Interface

from athens_tx.module.version import ModuleVersion


@attrs.frozen
class IndexLine:
    """One line of the index: when a version was first stored here. C{time} is aware, in UTC."""

    path: str
    version: str
    time: datetime


class IIndex(Interface):
    """When each version was stored. An C{IService} as well."""

    async def begin(mv: ModuleVersion) -> None:
        """
        Note that C{mv} is about to be stored: should this process end before it says so by L{add}, the line is not
        forgotten. Waits for no other machine, and never fails.
        """

    async def add(mv: ModuleVersion) -> None:
        """
        Note that C{mv} is stored now; adding it again changes nothing. Waits for no other machine.

        @raise IndexUnavailable: the line is lost.
        @raise NotSupported: the index can't hold such a line.
        """

    def lines(since: datetime | None, limit: int) -> AsyncGenerator[Sequence[IndexLine], None]:
        """
        Read lines, in the order of time, ties in the order they were added. To be closed by who does not take them all.

        @param since: the earliest time wanted, inclusive; C{None} is the beginning.
        @param limit: how many at most, C{>= 1}.
        @return: some lines at a time, none of them empty; what is not taken is not in memory.
        @raise IndexUnavailable: at any moment.
        """

    async def check() -> None:
        """Look whether the index takes lines, for readiness. Raise what is wrong."""


class ILagging(Interface):
    """What an index offers besides L{IIndex}, if lines are on their way to it for a while."""

    lost: int = Attribute("how many lines found no room on their way")
    trouble: str = Attribute("why the last of them could not get there; empty where they get there")

    def watch(exists: Callable[[ModuleVersion], Awaitable[bool]], limit: float) -> None:
        """
        From now on see to it that what L{IIndex.begin} said and L{IIndex.add} did not has its line, if it is stored.

        @param exists: asks the storage; may raise L{StorageUnavailable}.
        @param limit: seconds that saving one version may take.
        """

    def lag_lines() -> int:
        """@return: how many lines are on their way."""

    def lag_seconds() -> float:
        """@return: how long the oldest of them is; 0 if there is none."""


@attrs.frozen
class Filled:
    """
    What became of some versions.

    @ivar added: how many got a line; C{there}: had one.
    @ivar refused: those that can't have one.
    """

    added: int
    there: int
    refused: Sequence[ModuleVersion]


class IFillable(Interface):
    """What an index offers besides L{IIndex}, if it outlives the process."""

    async def fill(versions: Sequence[ModuleVersion]) -> Filled:
        """
        See to it that stored versions have a line: those that have none get one of the present time, in this order.

        @param versions: at most 1000.
        @raise IndexUnavailable: some are added perhaps; all may be given again.
        """
