"""All routes in one table, the door in front of them, and the site that serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from athens_tx.errors import IndexUnavailable, InvalidRequest
from athens_tx.interfaces import IGate, IIndex, ILagging, IProtocol, ISingleFlight, IStorage
from athens_tx.web.download import Download
from athens_tx.web.errors import ErrorAnswers
from athens_tx.web.external import ExternalStorage, body_limit
from athens_tx.web.guard import Guard, host_of
from athens_tx.web.home import HomePage
from athens_tx.web.listings import Listings
from athens_tx.web.request import WebRequest
from athens_tx.web.settings import WebSettings
from athens_tx.web.site import Metrics, WebSite
from athens_tx.web.status import Check, Status
from athens_tx.web.sumdb import SumDB, SumDBRoutes
from athens_tx.web.target import clean, escape, parse_target

Handler = Callable[..., Awaitable[bytes | None]]

#: How long a request id of a client's may be.
MAX_ID = 128


class Routes:
    """The routes, as Klein knows them, without the path prefix."""

    def __init__(self, guard: Guard, errors: ErrorAnswers) -> None:
        self.klein = Klein()
        self._guard = guard
        self._errors = errors
        self.klein.handle_errors(HTTPException)(cast(Any, self._no_route))

    def add(self, rule: str, name: str, handler: Handler, method: str = "GET") -> None:
        """
        @param rule: of werkzeug's kind.
        @param name: for the metrics, and for what depends on the route.
        @param handler: given the request and the parts of the path that C{rule} names.
        @param method: what it is for; GET brings HEAD.
        """

        async def run(request: WebRequest, **parts: str) -> bytes | None:
            request.route = name
            try:
                refusal = self._guard.refusal(request)
                return await handler(request, **parts) if refusal is None else refusal
            except Exception as error:
                return self._errors.answer(request, error)

        self.klein.route(rule, methods=[method], endpoint=name)(run)

    @staticmethod
    def _no_route(request: WebRequest, failure: Failure) -> bytes:
        if isinstance(failure.value, MethodNotAllowed):
            return wrong_method(request, sorted(failure.value.valid_methods or ()))
        return not_found(request)


def not_found(request: WebRequest) -> bytes:
    """@return: the body for a path that has no route."""
    body = request.reply(404, b"404 page not found\n")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return body


def wrong_method(request: WebRequest, possible: Sequence[str] = ("GET", "HEAD")) -> bytes:
    """@return: the body for a method that the route does not have."""
    verb = "is" if len(possible) == 1 else "are"
    body = request.reply(405, f"only {' and '.join(possible)} {verb} possible here\n".encode())
    request.setHeader(b"Allow", ", ".join(possible).encode())
    return body


class Front(Resource):
    """The door: what can't be understood stays outside, the rest goes to its route."""

    isLeaf = True

    def __init__(self, klein: Klein, prefix: str, external: str = "", body_limit: int = 0) -> None:
        """
        @param external: the path, without the prefix, below which versions are saved; empty: none are.
        @param body_limit: how many bytes of a body such a request may have.
        """
        super().__init__()
        self._routes = klein.resource()
        self._prefix = prefix
        self._external = external
        self._body_limit = body_limit

    def upload_limit(self, method: bytes, uri: bytes) -> int:
        """See L{WebSite.upload_limit}."""
        if not self._external or method != b"POST":
            return 0
        try:
            local = self._local(parse_target(uri).path) or ""
        except InvalidRequest:
            return 0
        return self._body_limit if local.startswith(f"{self._external}/") and local.endswith(".save") else 0

    def render(self, request: WebRequest) -> None:
        """Answer now or later; L{WebRequest.finish} is called in any case."""
        request.request_id = request_id(request)
        try:
            target = request.target = parse_target(request.uri)
        except InvalidRequest as error:
            request.reply_and_finish(400, f"{error}\n".encode())
            return
        if host_of(request) is None and request.clientproto != b"HTTP/1.0":
            request.reply_and_finish(400, b"the request needs exactly one host\n")
            return
        cleaned = clean(target.path)
        if cleaned != target.path:
            query = f"?{target.query.decode('ascii')}" if target.query else ""
            request.redirect_to(301, escape(cleaned) + query)
            request.finish()
            return
        local = self._local(target.path)
        if local is None:
            request.write(not_found(request))
            request.finish()
        elif not (request.method.isascii() and request.method.isupper()):
            request.write(wrong_method(request))  # routes don't mind get for GET, but HTTP does
            request.finish()
        else:
            request.local = local
            request.postpath = [local[1:].encode()]
            self._routes.render(request)

    def _local(self, path: str) -> str | None:
        """@return: the path without the prefix, C{None} where it does not begin with that."""
        prefix = self._prefix
        if not prefix:
            return path
        if path == "/":
            return "/healthz"
        if path == "/metrics":
            return path
        return path[len(prefix) :] if path.startswith(prefix + "/") else None


def request_id(request: WebRequest) -> str:
    """@return: what the client calls its request, if that is sane; else a new id."""
    given = request.requestHeaders.getRawHeaders(b"Athens-Request-ID")
    if given is not None and 0 < len(given[0]) <= MAX_ID:
        text = given[0].decode("ascii", "replace")
        if text.isascii() and text.isprintable():
            return text
    return str(uuid4())


def make_site(
    *,
    reactor: Any,
    settings: WebSettings,
    protocol: IProtocol,
    gate: IGate,
    storage: IStorage,
    index: IIndex,
    sumdb: SumDB,
    lock: ISingleFlight | None = None,
    metrics: Metrics | None = None,
    staging: Path | None = None,
) -> WebSite:
    """
    @param reactor: provides C{IReactorTime} and C{IReactorThreads}.
    @param storage: for the catalog and for readiness; C{index} likewise.
    @param lock: for readiness.
    @param metrics: counts the requests and is shown at C{/metrics}; C{None} does neither.
    @param staging: a directory for what is saved through the external storage, if that is on.
    @return: to listen with, also behind TLS, where it speaks HTTP/2 too. Nothing is to be started; to stop it, see
        L{WebSite.drain} and L{WebSite.abort}.
    """
    routes = Routes(Guard(settings), ErrorAnswers(gateway=settings.gateway_errors))
    checked = {"storage": storage.check, "index": index.check}
    status = Status(reactor, settings, checked, metrics, _helpful(index, lock))
    listings = Listings(storage, index, reactor)
    download = Download(protocol, gate, private=settings.wants_credentials)
    for rule, name, handler in (
        ("/", "home", HomePage(reactor, settings).page),
        ("/healthz", "healthz", status.healthz),
        ("/readyz", "readyz", status.readyz),
        ("/version", "version", status.version),
        ("/metrics", "metrics", status.metrics),
        ("/robots.txt", "robots", status.robots),
        ("/catalog", "catalog", listings.catalog),
        ("/index", "index", listings.index),
        ("/sumdb/<path:rest>", "sumdb", SumDBRoutes(sumdb, settings.path_prefix).answer),
        ("/<path:module>/@v/list", "list", download.list),
        ("/<path:module>/@latest", "latest", download.latest),
        ("/<path:module>/@v/<version>.info", "info", download.info),
        ("/<path:module>/@v/<version>.mod", "mod", download.mod),
        ("/<path:module>/@v/<version>.zip", "zip", download.zip),
    ):
        routes.add(rule, name, handler)
    if settings.external_storage_path and staging is not None:
        _offer_storage(routes, ExternalStorage(reactor, storage, staging, settings), listings, settings)
    front = Front(routes.klein, settings.path_prefix, settings.external_storage_path, body_limit(settings.max_zip_size))
    return WebSite(
        front,
        reactor,
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        metrics=metrics,
        upload_limit=front.upload_limit,
    )


def _helpful(index: IIndex, lock: ISingleFlight | None) -> dict[str, Check]:
    """@return: what we can do without: locks save work, and lines of the index are kept until its database is back."""
    found: dict[str, Check] = {}
    if ILagging.providedBy(index):

        async def trouble() -> None:
            if index.trouble:
                raise IndexUnavailable(f"lines wait for it: {index.trouble}")

        found["index"] = trouble
    if lock is not None:
        found["lock"] = lock.check
    return found


def _offer_storage(routes: Routes, external: ExternalStorage, listings: Listings, settings: WebSettings) -> None:
    """The routes of the external storage, below a path of their own."""
    top = settings.external_storage_path
    versions = f"{top}/<path:module>/@v"
    for rule, name, handler, method in (
        (f"{top}/catalog", "external-catalog", listings.catalog, "GET"),
        (f"{versions}/list", "external-list", external.list, "GET"),
        (f"{versions}/<version>.info", "external-info", external.info, "GET"),
        (f"{versions}/<version>.mod", "external-mod", external.mod, "GET"),
        (f"{versions}/<version>.zip", "external-zip", external.zip, "GET"),
        (f"{versions}/<version>.save", "external-save", external.save, "POST"),
        (f"{versions}/<version>.delete", "external-delete", external.delete, "DELETE"),
    ):
        routes.add(rule, name, handler, method)
