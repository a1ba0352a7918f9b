"""
Some daemons over one store and one lock service, and many clients that ask all of them for versions nobody has yet.

The clients do as one behind a load balancer does: a request that comes to nothing is made once more, of another daemon.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.support import leases
from tests.support.daemon import Daemon, through
from tests.support.fleet_figures import Figures, Waits
from tests.support.fleet_services import Service
from tests.support.http import request
from tests.support.repositories import noise
from tests.support.synthetic import add_version
from tests.support.upstream import Trouble, Upstream

DAEMONS = 3
VERSION = "v1.0.0"
KINDS = ("info", "mod", "zip")


@attrs.frozen
class Size:
    """
    @ivar clients: no less than there are versions, so that each is asked for.
    @ivar each: how many of the versions a client asks for.
    @ivar workers: how many versions a daemon fetches at once.
    @ivar pause: seconds that upstream takes for a zip.
    @ivar lease: seconds that a lock outlives its holder, where that can be set; 0 for what it is by default.
    """

    versions: int
    clients: int
    each: int
    workers: int = 10
    pause: float = 0.3
    lease: int = 0


QUICK = Size(12, 24, 6, workers=2, lease=2)
FULL = Size(100, 300, 20)


def size() -> Size:
    """@return: what C{ATHENS_TX_FLEET} says: C{full}, or C{VERSIONS,CLIENTS,EACH}; else L{QUICK}."""
    text = os.environ.get("ATHENS_TX_FLEET", "")
    if text in ("", "full"):
        return FULL if text else QUICK
    return Size(*map(int, text.split(",")))


class Member(Daemon):
    """A daemon with an upstream of its own, which says what this one fetched."""

    upstream: Upstream

    def fetched(self, round_: str) -> Counter[str]:
        """@return: how often it asked upstream for the zip of each module of a round."""
        paths = {path: count for path, count in self.upstream.asked.items() if path.endswith(".zip")}
        return Counter({path.partition("/@v/")[0]: n for path, n in paths.items() if path.startswith(f"{round_}/")})

    def stored(self, round_: str) -> Counter[str]:
        """@return: how often it has said that it has stored each module of a round."""
        return Counter(re.findall(rf"\bstashed ({round_}/[^@]+)@", "\n".join(self.lines)))


class Fleet:
    """
    @ivar members: those that were started, dead ones too.
    """

    def __init__(self, reactor: Any, folder: Path, service: Service, size: Size, seed: int = 5) -> None:
        assert size.clients >= size.versions >= size.each, size
        self._reactor = reactor
        self._folder = folder
        self._service = service
        self._size = size
        self._dice = random.Random(seed)
        self._tree = folder / "tree"
        self._tree.mkdir(parents=True)
        self.members: list[Member] = []

    @property
    def lease(self) -> int:
        """Seconds that a lock outlives its holder."""
        return self._service.lease

    @property
    def alive(self) -> list[Member]:
        """Those that run."""
        return [member for member in self.members if member.status is None]

    async def open(self) -> Fleet:
        """Start all of it."""
        store = await self._service.store.open()
        shared = {**self._service.environ, **store.settings(), "ATHENS_GOGET_WORKERS": str(self._size.workers)}
        shared |= leases.ENVIRONMENT
        for number in range(DAEMONS):
            member = Member(self._reactor, self._folder / f"daemon{number}")
            member.upstream = Upstream(self._reactor, self._tree)
            member.upstream.troubles[".zip"] = Trouble(delay=self._size.pause)
            member.env = through(member.upstream, **shared, ATHENS_LOG_LEVEL="info")
            if self._size.lease:
                member.command = leases.COMMAND
            self.members.append(member)
        await gatherResults([Deferred.fromCoroutine(member.start()) for member in self.members])
        return self

    async def close(self) -> None:
        """End all of it."""
        for member in self.members:
            await member.kill()
            await member.upstream.stop()
        await self._service.close()

    # -- a round

    async def quiet(self, name: str) -> Figures:
        """@return: what comes of it when all clients ask for versions called C{name}, and nothing else happens."""
        return await self._round(f"example.test/{name}", trouble=False)

    async def troubled(self, name: str) -> Figures:
        """The same, with a daemon killed when half of the fetches have begun, and then the service's trouble."""
        return await self._round(f"example.test/{name}", trouble=True)

    async def _round(self, round_: str, *, trouble: bool) -> Figures:
        paths = [f"{round_}/m{number:03d}" for number in range(self._size.versions)]
        for number, path in enumerate(paths):
            add_version(self._tree, path, VERSION, noise(1.0 if number % 25 == 3 else 0.02, number))
        figures = Figures(versions=len(paths))
        logged = [len(member.lines) for member in self.members]
        before = await self._waits()
        begun = self._reactor.seconds()
        others = [Deferred.fromCoroutine(self._spoil(round_))] if trouble else []
        clients = [Deferred.fromCoroutine(self._client(n, paths, figures)) for n in range(self._size.clients)]
        await gatherResults([*clients, *others], consumeErrors=True)
        figures.seconds = self._reactor.seconds() - begun
        for member, first in zip(self.members, logged, strict=True):
            fetched, stored = member.fetched(round_), member.stored(round_)
            figures.fetches += fetched
            figures.saves += stored
            if member.status is not None:
                figures.unfinished = set(fetched) - set(stored)
            figures.remarks.update(filter(None, map(_remark, member.lines[first:])))
        for pid, waits in (await self._waits()).items():
            figures.waits += waits - before[pid]
        figures.broken += self._wrong(round_, paths)
        return figures

    async def _spoil(self, round_: str) -> None:
        await self._fetches(round_, self._size.versions // 2)
        self.members[0].signal(signal.SIGKILL)
        await self._fetches(round_, self._size.versions * 2 // 3)
        await self._service.happen()

    async def _fetches(self, round_: str, count: int) -> None:
        """Wait until so many fetches of a round have begun."""
        while sum(member.fetched(round_).total() for member in self.members) < count:
            await deferLater(self._reactor, 0.01)

    async def _waits(self) -> dict[int, Waits]:
        """@return: of each daemon that runs, by its process id."""
        return {member.pid: Waits.read((await member.get("/metrics")).text) for member in self.alive}

    # -- a client

    async def _client(self, number: int, paths: list[str], figures: Figures) -> None:
        dice = random.Random(self._dice.random())
        own = paths[number % len(paths)]
        wanted = [own, *dice.sample([path for path in paths if path != own], self._size.each - 1)]
        for path in dice.sample(wanted, len(wanted)):
            for kind in KINDS:
                first, *others = dice.sample(self.members, len(self.members))
                begun = self._reactor.seconds()
                trouble = await self._ask(first, path, kind, figures)
                if trouble:
                    figures.retries[trouble] += 1
                    second = next(member for member in others if member.status is None)
                    trouble = await self._ask(second, path, kind, figures)
                    if trouble:
                        figures.errors.append(f"{path} {kind}: {trouble}")
                figures.answers.append(self._reactor.seconds() - begun)

    async def _ask(self, member: Member, path: str, kind: str, figures: Figures) -> str:
        """@return: what went wrong; nothing if there is an answer."""
        try:
            reply = await request(self._reactor, f"{member.url}/{path}/@v/{VERSION}.{kind}", keep=False)
        except Exception as error:
            return type(error).__name__
        if reply.status != 200:
            return f"status {reply.status}"
        if not reply.whole:
            return "cut off"
        if reply.sha256 != sha256(self._file(path, kind).read_bytes()).hexdigest():
            figures.broken.append(f"the answer of {path} {kind}")
        return ""

    def _file(self, path: str, kind: str) -> Path:
        return self.members[0].upstream.file(path, VERSION, kind)

    # -- afterwards

    def _wrong(self, round_: str, paths: list[str]) -> list[str]:
        """@return: what lies in the bucket, or does not, and is not as upstream has it."""
        there = {key: data for key, data in self._service.store.raw.bucket.keys().items() if key.startswith(round_)}
        wanted = {f"{path}/@v/{VERSION}.{kind}": self._file(path, kind) for path in paths for kind in KINDS}
        wrong = [key for key, file in wanted.items() if there.pop(key, None) != file.read_bytes()]
        return [f"{key} in the bucket" for key in (*wrong, *there)]

    async def verify(self) -> str:
        """@return: what C{athens-tx verify} says of the store."""
        return (await self.alive[0].cli("verify", limit=120)).stdout.strip()

    async def left(self, limit: float) -> list[str]:
        """@return: the locks that are still held after C{limit} seconds."""
        end = self._reactor.seconds() + limit
        while (held := self._service.left()) and self._reactor.seconds() < end:
            await deferLater(self._reactor, 0.1)
        return held


def _remark(line: str) -> str:
    """@return: a warning, or worse, of a log, without what is different each time; nothing if it is none."""
    if not re.search(r"WARN|ERROR|CRITICAL|Traceback", line):
        return ""
    return re.sub(r"example\.test/\S+", "M", line.partition(": ")[2].partition("\t")[0] or line)
