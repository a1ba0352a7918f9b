"""
The map of the house: what one room may ask of another, and nothing else.

Every C{async} method may be implemented by anything that returns an awaitable. Errors are those of L{athens_tx.errors}.
"""

from athens_tx.interfaces.fetching import (
    Checksums,
    FetchedVersion,
    IChecksumDatabase,
    IFetcher,
    ILister,
    Listing,
    VersionFiles,
)
from athens_tx.interfaces.indexing import Filled, IFillable, IIndex, ILagging, IndexLine
from athens_tx.interfaces.locking import ILock, ILocks, ISingleFlight
from athens_tx.interfaces.serving import Answer, DownloadRule, IDownloadModes, IGate, IProtocol, ZipAnswer, ZipLink
from athens_tx.interfaces.storage import IFindsIncomplete, ILinks, IObjects, IStorage, IZip, ObjectPage, StoredObject

__all__ = [
    "Answer",
    "Checksums",
    "DownloadRule",
    "FetchedVersion",
    "Filled",
    "IChecksumDatabase",
    "IDownloadModes",
    "IFetcher",
    "IFillable",
    "IFindsIncomplete",
    "IGate",
    "IIndex",
    "ILagging",
    "ILinks",
    "ILister",
    "ILock",
    "ILocks",
    "IObjects",
    "IProtocol",
    "ISingleFlight",
    "IStorage",
    "IZip",
    "IndexLine",
    "Listing",
    "ObjectPage",
    "StoredObject",
    "VersionFiles",
    "ZipAnswer",
    "ZipLink",
]
