"""The home page: how to use the proxy, from where the reader sits."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from twisted.logger import Logger

from athens_tx.web.files import Contents, WatchedFile
from athens_tx.web.gotemplate import Template, TemplateError
from athens_tx.web.guard import came_by_tls, host_of
from athens_tx.web.request import WebRequest
from athens_tx.web.settings import WebSettings

_HTML = b"text/html; charset=utf-8"
_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_log = Logger(namespace="athens_tx.web")


class HomePage:
    """Gives our own page, or that of the administrator's own template."""

    def __init__(self, reactor: Any, settings: WebSettings) -> None:
        self._prefix = settings.path_prefix
        self._patterns = ",".join(settings.no_sum_patterns)
        self._authenticated = settings.wants_credentials
        self._file = WatchedFile(reactor, settings.home_template_path) if settings.home_template_path else None
        self._read: Contents | None = None
        self._template: Template | None = None
        self._trouble = ""
        loader = PackageLoader("athens_tx.web")
        environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._default = environment.get_template("home.html")

    async def page(self, request: WebRequest) -> bytes:
        """C{/}: the page, for the host that the request was sent to."""
        scheme = "https" if came_by_tls(request) else "http"
        host = (host_of(request) or b"localhost").decode("ascii")
        template = await self._own_template()
        if template is not None:
            try:
                text = template.render({"Host": f"{scheme}://{host}", "NoSumPatterns": self._patterns})
            except TemplateError as error:
                self._complain(str(error))
            else:
                return request.reply(200, text.encode("utf-8", "replace"), _HTML)
        request.setHeader(b"Content-Security-Policy", _POLICY)
        text = self._default.render(
            url=f"{scheme}://{host}{self._prefix}",
            prefix=self._prefix,
            patterns=self._patterns,
            authenticated=self._authenticated,
        )
        return request.reply(200, text.encode(), _HTML)

    async def _own_template(self) -> Template | None:
        """@return: the administrator's template, if there is one that can be read."""
        if self._file is None:
            return None
        try:
            contents = await self._file.contents()
        except FileNotFoundError:
            self._read = self._template = None
            return None
        except OSError as error:
            self._complain(str(error.strerror or error))
            return None
        if contents is not self._read:
            self._read, self._template = contents, None
            self._trouble = ""
            try:
                self._template = Template(contents.data.decode("utf-8"))
            except (TemplateError, UnicodeDecodeError) as error:
                self._complain(str(error))
        return self._template

    def _complain(self, trouble: str) -> None:
        """Say it once, not once a visit."""
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error("HomeTemplatePath can't be used, the built-in page is served: {trouble}", trouble=trouble)
