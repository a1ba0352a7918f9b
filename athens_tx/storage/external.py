"""
Versions kept by another server that speaks Athens' protocol of external storage: an athens-tx, or a service of one's
own. Its other side is L{athens_tx.web.external}.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from athens_tx.errors import (
    AthensError,
    ConfigError,
    FetchTimeout,
    InvalidModule,
    InvalidRequest,
    NotFound,
    NotSupported,
    StorageUnavailable,
    UpstreamUnreachable,
)
from athens_tx.http_client import ClientClosed, HttpClient, OpenResponse, Response
from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.escape import escape_path, escape_version
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.calls import IDLE_LIMIT, PASSING, Calls, Request, to_the_end
from athens_tx.storage.external_calls import (
    REFUSALS,
    Redirected,
    describe,
    is_markup,
    parse_page,
    strong_tag,
)
from athens_tx.storage.formbody import FormBody
from athens_tx.storage.health import Health
from athens_tx.storage.layout import INFO_LIMIT, MOD_LIMIT, check_files, check_limit, check_names, check_path, is_listed
from athens_tx.storage.remote_zip import RemoteZip, stated_length
from athens_tx.storage.slices import Counted, Slice

SETTING = "Storage.External.URL (ATHENS_EXTERNAL_STORAGE_URL)"

#: The module whose list shows that the server works; Athens asks for the same.
PROBE = "github.com/gomods/athens"

#: Seconds for the first question, and for one that only asks whether the server works.
PROBE_LIMIT = 25.0

_LIST_LIMIT = 32 << 20
_PAGE = 1000
# Bytes of a zip that has to be counted.
_MOST_COUNTED = 16 << 30

# What Go leaves unescaped in a path.
_SAFE = "/$&+,:;=@~!"


def _wants(url: str, method: str = "GET", **headers: str) -> Any:
    async def make() -> Request:
        return Request(method, url, headers)

    return make


@implementer(IStorage)
class ExternalStorage(Service):
    """
    A storage that is asked over HTTP.

    @ivar ready: fires when the server has answered; fails with L{ConfigError}. Set by C{startService}.
    """

    def __init__(
        self, reactor: Any, url: str, environ: Mapping[str, str], timeout: float, *, save_limit: float = 600.0
    ) -> None:
        """
        @param url: of the server; a user and a password in it are used for basic authentication.
        @param environ: see L{HttpClient}.
        @param timeout: seconds for a call, and from the end of a body to its answer.
        @param save_limit: seconds for a save, in which a large zip has to be sent.
        """
        self.ready: Deferred[None] = succeed(None)
        self._reactor = reactor
        self._base = url.removesuffix("/")
        self._timeout = timeout
        self._save_limit = save_limit
        self._http = HttpClient(reactor, environ, header_timeout=save_limit)
        self._health = Health(reactor, "external")
        named: dict[str, Any] = {"name": "external", "describe": describe, "health": self._health}
        self._calls = Calls(reactor, self._http, limit=timeout, **named)
        self._probes = Calls(reactor, self._http, limit=min(timeout, PROBE_LIMIT), **named)
        self._redirected = Redirected(self._base)
        self._escapes = False  # whether the server wants capitals of versions escaped
        self._heads = True  # until it says that it knows no HEAD

    def startService(self) -> None:
        """Ask the server once; see C{ready}."""
        super().startService()
        self.ready = Deferred.fromCoroutine(self._connect())

    async def _connect(self) -> None:
        try:
            await self.check()
        except AthensError as error:
            await self._http.close()
            raise ConfigError([f"{SETTING}: {error}{'; ' if error.detail else ''}{error.detail}"]) from None

    def stopService(self) -> Deferred[None]:
        """Close the connections."""
        super().stopService()
        return Deferred.fromCoroutine(self._http.close())

    # -- names

    def _url(self, path: str, rest: str) -> str:
        return f"{self._base}/{quote(escape_path(path), safe=_SAFE)}/@v/{rest}"

    def _forms(self, mv: ModuleVersion, suffix: str) -> Sequence[str]:
        """@return: the URLs of a file, the likely one first: Athens' client escapes no version, its server wants it."""
        check_names(mv)
        versions = [mv.version]
        if mv.version != mv.version.lower():
            versions.append(escape_version(mv.version))
        if self._escapes:
            versions.reverse()
        return [self._url(mv.path, quote(version, safe=_SAFE) + suffix) for version in versions]

    def _learn(self, mv: ModuleVersion, number: int) -> None:
        """The server took the form with this number, and not the one before it."""
        if number:
            self._escapes = not self._escapes

    # -- reading

    async def list(self, path: str) -> Sequence[str]:
        """See L{IStorage.list}."""
        check_path(path)
        response = await self._small("list", path, self._url(path, "list"), (200, 404), _LIST_LIMIT)
        if response.status != 200:
            return []
        self._refuse_markup(f"list {path}", response)
        return _lines(response)

    def _refuse_markup(self, what: str, response: Response) -> None:
        if is_markup(response.body):
            raise self._strange(what, "the answer is a page for people")

    def _strange(self, what: str, why: str) -> StorageUnavailable:
        error = _trouble(f"{what}: {why}", f"look at the server that {SETTING} names")
        self._health.refuses(error, (what.partition(" ")[0], why))
        return error

    async def _small(self, verb: str, what: str, url: str, expect: Collection[int], limit: int) -> Response:
        return await self._redirected.follow(
            url,
            lambda url, more: self._calls.small(f"{verb} {what}", _wants(url), expect={*expect, *more}, limit=limit),
        )

    async def _file(self, mv: ModuleVersion, suffix: str, limit: int) -> Response:
        """@return: the answer, 200 or 404, to a question for a small file."""
        for number, url in enumerate(self._forms(mv, suffix)):
            response = await self._small("get", f"{mv}{suffix}", url, (200, 400, 404), limit)
            if response.status != 400:
                self._learn(mv, number)
                if response.status == 200:
                    self._refuse_markup(f"get {mv}{suffix}", response)
                return response
        raise InvalidModule(f"the external storage refuses the name {str(mv)!r}")

    async def _whole(self, mv: ModuleVersion, suffix: str, limit: int) -> bytes:
        response = await self._file(mv, suffix, limit)
        if response.status == 404 or not response.body:  # empty is what a torn save leaves
            raise NotFound(f"{mv} is not stored")
        return response.body

    async def info(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.info}."""
        return await self._whole(mv, ".info", INFO_LIMIT)

    async def mod(self, mv: ModuleVersion) -> bytes:
        """See L{IStorage.mod}."""
        return await self._whole(mv, ".mod", MOD_LIMIT)

    async def exists(self, mv: ModuleVersion) -> bool:
        """See L{IStorage.exists}: whether there is an info, as Athens asks."""
        response = await self._file(mv, ".info", INFO_LIMIT)
        return response.status == 200 and bool(response.body)

    async def zip(self, mv: ModuleVersion, *, whole: bool = True) -> IZip:
        """See L{IStorage.zip}. Of a server that does not say how long a zip is, it is fetched once to be counted."""
        if not whole and self._heads:
            looked = await self._look(mv)
            stated = None if looked is None else stated_length(looked)
            if looked is not None and stated is not None:
                return self._zip(mv, stated, strong_tag(looked))
        opened = await self._open(mv)
        length, tag = opened.length, strong_tag(opened)
        if length is None:
            return self._zip(mv, await self._count(mv, opened), tag)
        return self._zip(mv, length, tag, opened)

    def _zip(self, mv: ModuleVersion, length: int, tag: str, opened: OpenResponse | None = None) -> IZip:
        condition = {"If-Range": tag} if tag else {}

        async def reach(start: int, length: int) -> OpenResponse | Slice:
            answer = await self._open(mv, Range=f"bytes={start}-{start + length - 1}", **condition)
            if strong_tag(answer) != tag:
                answer.abort()
                raise _trouble(f"get {mv}.zip: it is another one than before", "")
            if answer.status == 206 and answer.length == length:
                return answer
            return Slice(answer, 0 if answer.status == 206 else start, length)

        return RemoteZip(self._reactor, reach, length, opened, resumable=bool(tag))

    async def _look(self, mv: ModuleVersion) -> Response | None:
        """@return: what the server says to HEAD of a zip; C{None} where only GET tells. Athens' own knows no HEAD."""
        expect = {200, 400, 401, 403, 404, 405, 501}
        for number, url in enumerate(self._forms(mv, ".zip")):
            answer = await self._redirected.follow(
                url,
                lambda url, more: self._calls.small(f"look at {mv}.zip", _wants(url, "HEAD"), expect={*expect, *more}),
            )
            self._heads = answer.status not in (405, 501)
            if answer.status == 200:
                self._learn(mv, number)
                return answer
        return None

    async def _count(self, mv: ModuleVersion, opened: OpenResponse) -> int:
        counted = Counted()
        receiving = opened.receive(counted, limit=_MOST_COUNTED, idle=IDLE_LIMIT)
        try:
            await receiving.addTimeout(self._save_limit, self._reactor)
        except TimeoutError:
            trouble = _trouble(f"get {mv}.zip: no end within {self._save_limit:g} s", "")
        except AthensError as error:
            trouble = _trouble(f"get {mv}.zip: {error}", error.detail)
            if isinstance(error, ClientClosed):
                raise trouble from None
        else:
            return counted.length
        self._health.fails(trouble)
        raise trouble from None

    async def _open(self, mv: ModuleVersion, **headers: str) -> OpenResponse:
        for number, url in enumerate(self._forms(mv, ".zip")):
            answer = await self._redirected.follow(
                url,
                lambda url, more: self._calls.open(
                    f"get {mv}.zip", _wants(url, **headers), expect={200, 206, 400, 404, *more}
                ),
            )
            if answer.status in (200, 206):
                self._learn(mv, number)
                return answer
            answer.abort()
            if answer.status == 404:
                self._learn(mv, number)
                raise NotFound(f"{mv} is not stored")
        raise InvalidModule(f"the external storage refuses the name {str(mv)!r}")

    # -- writing

    async def save(self, mv: ModuleVersion, info: bytes, mod: bytes, zip: IBodyProducer) -> None:
        """See L{IStorage.save}. The question whether it exists also shows how the version has to be written."""
        form = FormBody(self._reactor, info, mod, zip, idle=IDLE_LIMIT)
        try:
            check_names(mv)
            check_files(mv, info, mod)
            if not await self.exists(mv):
                await self._send(mv, form)
        finally:
            form.leave()

    async def _send(self, mv: ModuleVersion, form: FormBody) -> None:
        url = self._forms(mv, ".save")[0]
        headers = {"Content-Type": form.content_type}
        asking = self._http.request("POST", url, headers=headers, data=form, timeout=self._save_limit)
        try:
            response = await self._answer(Deferred.fromCoroutine(asking), form)
        except (UpstreamUnreachable, FetchTimeout) as error:
            trouble = _trouble(f"save {mv}: {error}", error.detail)
            if not isinstance(error, ClientClosed):
                self._health.fails(trouble)
            raise trouble from None
        if response.status in (200, 409):
            return
        if response.status == 400 and await self.exists(mv):  # so Athens' server says that somebody was faster
            return
        raise self._calls.unwanted(f"save {mv}", response, passing=response.status in PASSING)

    async def _answer(self, asking: Deferred[Response], form: FormBody) -> Response:
        """Wait for the answer to a save: once all is sent not for long, and then though nobody waits any more."""
        answer: Deferred[Response] = Deferred(lambda _: asking.cancel())
        ready: Deferred[None] = Deferred(lambda _: asking.cancel())

        def tell(_: object) -> None:
            if not ready.called:
                ready.callback(None)

        asking.chainDeferred(answer)
        asking.addBoth(tell)
        form.sent.addCallback(tell)
        await ready
        return await to_the_end(self._last(answer))

    async def _last(self, answer: Deferred[Response]) -> Response:
        try:
            return await answer.addTimeout(self._timeout, self._reactor)
        except TimeoutError:
            raise FetchTimeout(f"no answer within {self._timeout:g} s") from None

    async def delete(self, mv: ModuleVersion) -> None:
        """See L{IStorage.delete}."""
        for number, url in enumerate(self._forms(mv, ".delete")):
            response = await self._calls.small(f"delete {mv}", _wants(url, "DELETE"), expect=(200, 400, 404))
            if response.status != 400:
                self._learn(mv, number)
                break
        if response.status == 400:
            raise InvalidModule(f"the external storage refuses the name {str(mv)!r}")
        if response.status == 404:
            raise NotFound(f"{mv} is not stored")

    # -- all of it

    async def catalog(self, token: str, limit: int) -> tuple[Sequence[ModuleVersion], str]:
        """See L{IStorage.catalog}. Only another athens-tx has one."""
        check_limit(limit)
        query = urlencode({"token": token, "pagesize": min(limit, _PAGE)})
        response = await self._small("catalog", "", f"{self._base}/catalog?{query}", (200, 400, *REFUSALS), _LIST_LIMIT)
        if response.status == 400:
            raise InvalidRequest("the token of the catalog is not one that it gave")
        if response.status in REFUSALS:
            raise NotSupported("this external storage has no catalog")
        try:
            found, following, odd = parse_page(response.body)
        except ValueError:
            raise self._strange("catalog", "the answer is no page of a catalog") from None
        if following and following == token:
            raise self._strange("catalog", "goes round in circles")
        if odd:
            self._strange("catalog", "names that can't be stored are left out")  # told, not raised
        return found, following

    async def check(self) -> None:
        """Ask for the list that Athens asks for."""
        url = self._url(PROBE, "list")
        answer = await self._redirected.follow(
            url, lambda url, more: self._probes.small(f"list {PROBE}", _wants(url), expect={200, *more})
        )
        self._refuse_markup(f"list {PROBE}", answer)


def _trouble(what: str, detail: str) -> StorageUnavailable:
    return StorageUnavailable(f"external storage: {what}", detail=detail, retry_after=10)


def _lines(response: Response) -> Sequence[str]:
    return [line for line in response.body.decode("utf-8", "replace").splitlines() if is_listed(line)]
