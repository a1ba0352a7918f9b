"""What the web room wants to know of the configuration."""

from __future__ import annotations

import attrs


def _prefix(prefix: str) -> str:
    """A slash in front, none behind; empty where there is no prefix."""
    prefix = prefix.strip("/")
    return f"/{prefix}" if prefix else ""


@attrs.frozen(kw_only=True)
class WebSettings:
    """
    Plain values, as L{athens_tx.service} reads them from the configuration.

    @ivar path_prefix: in front of every route but C{/metrics}; written C{/athens} here, whatever slashes came in.
    @ivar basic_auth_user: with C{basic_auth_pass}, the credentials that are wanted; one of them empty: none are.
    @ivar force_ssl: send requests that did not come by TLS, nor through a proxy that says so, to C{https}.
    @ivar home_template_path: a template of the administrator's own for the home page; the file may be missing.
    @ivar robots_file: what C{/robots.txt} gives; the file may be missing, see L{athens_tx.web.status}.
    @ivar no_sum_patterns: module path patterns that the checksum database is not asked about.
    @ivar gateway_errors: C{UpstreamErrors = "gateway"}, see L{athens_tx.errors.http_status}.
    @ivar header_timeout: seconds in which the headers of a request must be complete.
    @ivar idle_timeout: seconds without a request on a kept-alive connection, or without progress of an answer.
    @ivar external_storage_path: below it the storage is offered as a service, see L{athens_tx.web.external}; empty: it
        is not.
    @ivar max_zip_size: in bytes, of a zip that is saved through that service; C{save_limit}: seconds for the save.
    @ivar version: of this program, for C{/version}; C{date} when it was built. Empty ones are left out.
    """

    path_prefix: str = attrs.field(default="", converter=_prefix)
    basic_auth_user: str = ""
    basic_auth_pass: str = attrs.field(default="", repr=False)
    force_ssl: bool = False
    home_template_path: str = ""
    robots_file: str = ""
    no_sum_patterns: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    gateway_errors: bool = False
    header_timeout: float = 10.0
    idle_timeout: float = 180.0
    external_storage_path: str = attrs.field(default="", converter=_prefix)
    max_zip_size: int = 500 << 20
    save_limit: float = 600.0
    version: str = ""
    date: str = ""

    @property
    def wants_credentials(self) -> bool:
        """Whether basic authentication is on: only with both a user and a password, as in Athens."""
        return bool(self.basic_auth_user and self.basic_auth_pass)
