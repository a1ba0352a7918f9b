"""How the server is, and who it is: health, readiness, version, metrics, and what robots are told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError
from twisted.logger import Logger
from twisted.web.http import datetimeToString

from athens_tx.errors import AthensError, NotFound
from athens_tx.web import bodies
from athens_tx.web.conditional import body_tag
from athens_tx.web.errors import scrub
from athens_tx.web.files import WatchedFile
from athens_tx.web.request import JSON, TEXT, WebRequest
from athens_tx.web.settings import WebSettings
from athens_tx.web.site import Metrics

#: How long a store may take to say that it works, in seconds.
CHECK_TIME = 10.0
#: The same for what we can do without: who asks whether we are ready often waits no longer than a second.
GLANCE_TIME = 0.5

#: The C{RobotsFile} that nobody chose, and what is served while there is no such file.
DEFAULT_ROBOTS_FILE = "robots.txt"
STAY_AWAY = b"User-agent: *\nDisallow: /\n"

#: Raises what is wrong.
Check = Callable[[], Awaitable[None]]

_log = Logger(namespace="athens_tx.web")


class Status:
    """The routes for machines that look after this one."""

    def __init__(
        self,
        reactor: Any,
        settings: WebSettings,
        checked: Mapping[str, Check],
        metrics: Metrics | None,
        helpful: Mapping[str, Check] | None = None,
    ) -> None:
        """
        @param checked: what has to work, by its name.
        @param helpful: what should, and what we do without for a while.
        """
        self._reactor = reactor
        self._checked = checked
        self._helpful = helpful or {}
        self._metrics = metrics
        self._robots = WatchedFile(reactor, settings.robots_file) if settings.robots_file else None
        self._built_in = settings.robots_file == DEFAULT_ROBOTS_FILE
        known = {"version": settings.version, "date": settings.date}
        said = {name: value for name, value in known.items() if value}
        self._version = json.dumps(said, separators=(",", ":")).encode() + b"\n"

    async def healthz(self, request: WebRequest) -> bytes:
        """C{/healthz}: the process answers; nothing is looked at."""
        return request.reply(200, b"", JSON)

    async def readyz(self, request: WebRequest) -> bytes:
        """C{/readyz}: what has to work does; 503 says what does not. Both say without what else we do, a line each."""
        checks = [self._problem(name, check(), CHECK_TIME) for name, check in self._checked.items()]
        glances = [self._problem(name, check(), GLANCE_TIME) for name, check in self._helpful.items()]
        asked = [Deferred.fromCoroutine(check) for check in [*checks, *glances]]
        results = [str(problem) for _, problem in await DeferredList(asked, consumeErrors=True)]
        problems = [f"{name}: {text}" for name, text in zip(self._checked, results, strict=False) if text]
        without = zip(self._helpful, results[len(checks) :], strict=True)
        lines = [*filter(None, ["; ".join(problems)]), *(f"{name}: degraded: {text}" for name, text in without if text)]
        if not lines:
            return request.reply(200, b"", None)
        return request.reply(503 if problems else 200, "".join(f"{line}\n" for line in lines).encode())

    async def _problem(self, name: str, check: Awaitable[None], limit: float) -> str:
        """@return: what is wrong, empty if nothing."""
        try:
            await Deferred.fromCoroutine(_awaited(check)).addTimeout(limit, self._reactor)
        except TimeoutError:
            return f"no answer in {limit:g} s"
        except CancelledError:
            raise
        except AthensError as error:
            return scrub(str(error))
        except Exception:
            _log.failure("the {room} could not be checked", room=name)
            return "internal error"
        return ""

    async def version(self, request: WebRequest) -> bytes:
        """C{/version}: what was built, and when."""
        return request.reply(200, self._version, JSON)

    async def metrics(self, request: WebRequest) -> bytes:
        """C{/metrics}: for Prometheus."""
        if self._metrics is None:
            raise NotFound("404 page not found")
        content_type, text = self._metrics.render()
        return request.reply(200, text, content_type.encode())

    async def robots(self, request: WebRequest) -> bytes:
        """C{/robots.txt}: a file; where nobody chose one, a request to stay away, since each visit may cost a fetch."""
        try:
            if self._robots is None:
                raise FileNotFoundError
            file = await self._robots.contents()
        except FileNotFoundError as error:
            if self._built_in:
                return bodies.body(request, STAY_AWAY, TEXT, body_tag(STAY_AWAY), cache=b"no-cache")
            raise NotFound("404 page not found") from error
        except OSError as error:
            raise NotFound("404 page not found", detail=f"RobotsFile: {error}") from error
        modified = datetimeToString(file.modified)
        return bodies.body(request, file.data, TEXT, body_tag(file.data), cache=b"no-cache", modified=modified)


async def _awaited(check: Awaitable[None]) -> None:
    await check
