"""Fetching with C{NetworkMode = "offline"}: nobody is asked, so no go command is needed either."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from zope.interface import implementer

from athens_tx.errors import NotFound
from athens_tx.interfaces import IFetcher, ILister, VersionFiles
from athens_tx.module.version import ModuleVersion


@implementer(IFetcher, ILister)
class Offline:
    """Has nothing."""

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> NoReturn:
        """@raise NotFound: always."""
        raise NotFound(f'{mv}: not in storage, and nothing is fetched with NetworkMode = "offline"')

    async def listing(self, path: str) -> NoReturn:
        """@raise NotFound: always."""
        raise NotFound(f'{path}: nobody is asked for versions with NetworkMode = "offline"')
