"""
An upstream proxy on loopback, in the test's own reactor, that serves what the real go command made; it can misbehave.

C{cache/download} of a module cache is itself a tree of the download protocol; what it lacks, C{@latest} and the answers
to queries, is made up here.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from athens_tx.module.escape import escape_version, unescape_version
from tests.support.checksum_log import ChecksumLog, escaped
from tests.support.goclient import environment, json_documents, real_go
from tests.support.loopback import LoopbackServer
from tests.support.processes import run
from tests.support.repositories import Repositories


async def module_tree(reactor: Any, root: Path, repositories: Repositories, queries: Iterable[str]) -> Path:
    """
    Have the real go command fetch C{queries} from C{repositories} into an empty module cache.

    @return: its C{cache/download} folder.
    """
    values = environment(root, GOPROXY="direct", HOME=str(repositories.home))
    empty = root / "empty"
    empty.mkdir(parents=True)
    result = await run(reactor, [real_go(), "mod", "download", "-json", *queries], values, cwd=empty, limit=120)
    failures = [d for d in json_documents(result.stdout) if d.get("Error")]
    assert not failures, failures
    result.check()
    return root / "modcache" / "cache" / "download"


@attrs.define
class Trouble:
    """
    What an upstream does wrong with one path.

    @ivar status: answer this instead.
    @ivar text: the body of C{status}, or, without one, instead of the file.
    @ivar headers: added.
    @ivar cut: lose the connection after so many bytes of the body.
    @ivar claim: say this Content-Length.
    @ivar delay: seconds before the answer.
    @ivar hold: don't answer until L{Upstream.release}.
    @ivar gzip: compress the body, with its C{Content-Encoding}.
    @ivar times: how often, then all is well; for ever by default.
    """

    status: int | None = None
    text: bytes | None = None
    headers: dict[str, str] = attrs.Factory(dict)
    cut: int | None = None
    claim: int | None = None
    delay: float = 0.0
    hold: bool = False
    gzip: bool = False
    times: int = -1


class Upstream(Resource):
    """
    @ivar asked: how often each path was asked for.
    @ivar log: the requests: method, path and headers that matter.
    @ivar troubles: by path, or by the end of one (C{.zip}).
    @ivar aliases: canonical versions by C{MODULE@QUERY}: C{github.com/acme/lib@main}.
    @ivar url: where it is, without a final slash.
    """

    isLeaf = True

    def __init__(self, reactor: Any, tree: Path, sumdb: ChecksumLog | None = None) -> None:
        super().__init__()
        self._reactor = reactor
        self.tree = tree
        self.sumdb = sumdb
        self.asked: Counter[str] = Counter()
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.troubles: dict[str, Trouble] = {}
        self.aliases: dict[str, str] = {}
        self._held: list[Deferred[None]] = []
        self._watchers: list[tuple[str, Deferred[None]]] = []
        self._released = False
        self._server = LoopbackServer(reactor, self)
        self.url = f"http://127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        self.release()
        await self._server.stop()

    def release(self) -> None:
        """Let everything that is held go on, and hold nothing any more."""
        self._released = True
        held, self._held = self._held, []
        for waiter in held:
            waiter.callback(None)

    def when_asked(self, end: str) -> Deferred[None]:
        """@return: fires when a path with this end is asked for the next time."""
        waiter: Deferred[None] = Deferred()
        self._watchers.append((end, waiter))
        return waiter

    def file(self, path: str, version: str, kind: str) -> Path:
        """@return: where the C{info}, C{mod} or C{zip} of a version lies."""
        return self.tree / f"{escaped(path, version)}.{kind}"

    def total(self, end: str = "") -> int:
        """@return: how many requests had a path with this end."""
        return sum(count for path, count in self.asked.items() if path.endswith(end))

    def render(self, request: Request) -> Any:
        path = request.path.decode().lstrip("/").replace("%21", "!").replace("%2B", "+")
        self.asked[path] += 1
        interesting = ("authorization", "cookie", "user-agent", "accept-encoding", "disable-module-fetch", "host")
        headers = {name: value for name in interesting if (value := request.getHeader(name)) is not None}
        self.log.append((request.method.decode(), path, headers))
        for watcher in [w for w in self._watchers if path.endswith(w[0])]:
            self._watchers.remove(watcher)
            watcher[1].callback(None)
        Deferred.fromCoroutine(self._serve(request, path))
        return NOT_DONE_YET

    def _trouble(self, path: str) -> Trouble:
        for end, trouble in self.troubles.items():
            if path.endswith(end) and trouble.times != 0:
                trouble.times -= 1
                return trouble
        return Trouble()

    async def _serve(self, request: Request, path: str) -> None:
        gone: list[bool] = []
        request.notifyFinish().addErrback(lambda _: gone.append(True))
        trouble = self._trouble(path)
        if trouble.hold and not self._released:
            waiter: Deferred[None] = Deferred()
            self._held.append(waiter)
            await waiter
        if trouble.delay:
            waiter = Deferred()
            self._reactor.callLater(trouble.delay, waiter.callback, None)
            await waiter
        if gone:
            return
        self._answer(request, path, trouble)

    def _answer(self, request: Request, path: str, trouble: Trouble) -> None:
        status, kind, body = self._content(path)
        if trouble.text is not None:
            status, body = 200, trouble.text
        if trouble.status is not None:
            status, body = trouble.status, trouble.text or b"%d\n" % trouble.status
        request.setResponseCode(status)
        request.setHeader("Content-Type", kind)
        if trouble.gzip:
            body = gzip.compress(body)
            request.setHeader("Content-Encoding", "gzip")
        for name, value in trouble.headers.items():
            request.setHeader(name, value)
        request.setHeader("Content-Length", str(len(body) if trouble.claim is None else trouble.claim))
        if request.method == b"HEAD":
            request.finish()
            return
        if trouble.cut is not None:
            request.write(body[: trouble.cut])
            request.transport.loseConnection()
            return
        request.write(body)
        if trouble.claim is not None and trouble.claim != len(body):
            request.transport.loseConnection()
            return
        request.finish()

    def _content(self, path: str) -> tuple[int, str, bytes]:
        missing = (404, "text/plain; charset=utf-8", f"not found: {path}: no such thing\n".encode())
        if path.startswith("sumdb/"):
            _, name, rest = path.split("/", 2)
            found = self.sumdb.answer(rest) if self.sumdb is not None and name == self.sumdb.name else None
            return missing if found is None else (200, "text/plain; charset=utf-8", found)
        module, at, rest = path.rpartition("/@")
        if at and rest == "latest":
            version = self._latest(module)
            return self._file(f"{module}/@v/{version}.info") if version else missing
        if at and rest == "v/list":
            versions = [v for v in self._versions(module) if not _is_pseudo(v)]
            known = (self.tree / module / "@v").is_dir()
            return (
                (200, "text/plain; charset=utf-8", "".join(f"{v}\n" for v in versions).encode()) if known else missing
            )
        if at and rest.startswith("v/"):
            stem, _, end = rest.removeprefix("v/").rpartition(".")
            alias = self.aliases.get(f"{module}@{unescape_version(stem)}")
            if alias:
                return self._file(f"{module}/@v/{escape_version(alias)}.{end}")
        return self._file(path)

    def _file(self, path: str) -> tuple[int, str, bytes]:
        found = self.tree / path
        if ".." in path or not found.is_file() or found.suffix not in (".info", ".mod", ".zip"):
            return 404, "text/plain; charset=utf-8", f"not found: {path}: no such thing\n".encode()
        kinds = {".info": "application/json", ".mod": "text/plain; charset=utf-8", ".zip": "application/zip"}
        return 200, kinds[found.suffix], found.read_bytes()

    def _versions(self, module: str) -> list[str]:
        found = [unescape_version(file.stem) for file in (self.tree / module / "@v").glob("*.info")]
        return sorted(found, key=_rough_order)

    def _latest(self, module: str) -> str | None:
        found = self._versions(module)
        for wanted in (lambda v: "-" not in v, lambda v: not _is_pseudo(v)):
            chosen = [version for version in found if wanted(version)]
            if chosen:
                return chosen[-1]
        if not found:
            return None
        return max(found, key=lambda v: json.loads((self.tree / module / "@v" / f"{v}.info").read_bytes())["Time"])


def _is_pseudo(version: str) -> bool:
    """@return: whether this looks like a pseudo-version; good enough for the versions of the test repositories."""
    date, _, commit = version.partition("+")[0].rpartition("-")
    return len(commit) == 12 and date[-14:].isdigit()


def _rough_order(version: str) -> tuple[list[int], bool, str]:
    """@return: a sort key that is right for C{vN.N.N}, C{-beta.N} and pseudo-versions of the test repositories."""
    release, dash, pre = version.partition("+")[0].removeprefix("v").partition("-")
    return [int(part) for part in release.split(".")], not dash, pre
