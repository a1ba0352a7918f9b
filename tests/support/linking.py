"""
Runs C{athens-tx} with a storage on disk that sends clients elsewhere for zips, as a store with signed URLs does.

C{LINKS} is the URL in front; a test serves the storage's folder there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from zope.interface import implementer

from athens_tx.backends import STORAGES
from athens_tx.cli import main
from athens_tx.interfaces import ILinks
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.disk import DiskStorage

#: What no log may show.
SIGNATURE = "0123456789abcdef"


@implementer(ILinks)
class LinkingDisk(DiskStorage):
    """Gives links to C{source.zip}."""

    async def link(self, mv: ModuleVersion) -> str:
        """See L{ILinks.link}."""
        (await self.zip(mv)).stopProducing()  # NotFound where there is none
        return f"{os.environ['LINKS']}/{quote(str(mv.path))}/{quote(mv.version)}/source.zip?signed={SIGNATURE}"


if __name__ == "__main__":
    cast(Any, STORAGES)["disk"] = lambda reactor, config, environ: LinkingDisk(
        reactor, Path(config.storage.disk.root_path)
    )
    main()
