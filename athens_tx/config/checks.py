"""Rules that look at more than one setting, and settings that do something only when another one is set."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from athens_tx.config.rules import is_address, is_url
from athens_tx.config.settings import Config


@attrs.frozen
class Finding:
    """
    What is wrong with some settings.

    @ivar keys: the settings, the first is the one to change.
    @ivar text: what would be right.
    @ivar fatal: the start is refused; otherwise it is a warning, and refused only where strictness is asked for.
    """

    keys: tuple[str, ...]
    text: str
    fatal: bool


def refuse(text: str, *keys: str) -> Finding:
    """What can't work, or would do something else than its writer meant."""
    return Finding(keys, text, True)


def doubt(text: str, *keys: str) -> Finding:
    """What Athens lets pass, but is hardly meant."""
    return Finding(keys, text, False)


def general_checks(config: Config) -> Iterator[Finding]:
    """@return: what is wrong with the settings outside of the tables of backends."""
    yield from _logs_and_traces(config)
    yield from _listening(config)
    yield from _credentials(config)
    yield from _targets(config)


def _logs_and_traces(config: Config) -> Iterator[Finding]:
    if config.cloud_runtime == "" and config.log_format == "":
        yield refuse("must not be empty while LogFormat is", "CloudRuntime")
    for key, value, meant in (
        ("GoEnv", config.go_env, ("production", "development")),
        ("CloudRuntime", config.cloud_runtime, ("GCP",)),
    ):
        for word in meant:
            if value != word and value.strip().casefold() == word.casefold():
                yield doubt(f'has no meaning; only exactly "{word}" has', key)
    if config.trace_exporter not in ("", "otlp"):
        yield doubt('there will be no traces: must be "otlp", or empty for none', "TraceExporter")
    if config.stats_exporter not in ("", "prometheus"):
        yield doubt('there will be no metrics: must be "prometheus", or empty for none', "StatsExporter")
    if config.trace_exporter == "otlp" and config.trace_exporter_url and not is_url(config.trace_exporter_url):
        yield doubt("must be an http or https URL", "TraceExporterURL")
    if math.isnan(config.trace_sampling_fraction) or not 0 <= config.trace_sampling_fraction <= 1:
        yield doubt("must be from 0 (no traces) to 1 (all)", "TraceSamplingFraction")


def _listening(config: Config) -> Iterator[Finding]:
    # A Twisted endpoint description is how systemd's sockets are named.
    if not config.unix_socket and not is_address(config.port) and not config.port.startswith("systemd:"):
        yield refuse('must be a port ("3000") or an address ("127.0.0.1:3000", "[::1]:3000")', "Port")
    if config.enable_pprof and not is_address(config.pprof_port):
        yield refuse('must be an address such as ":3001" or "127.0.0.1:3001"', "PprofPort")
    if bool(config.tls_cert_file) != bool(config.tls_key_file):
        missing, there = _halves("TLSCertFile", "TLSKeyFile", bool(config.tls_key_file))
        yield doubt("both are needed for HTTPS; as it is, plain HTTP is spoken", missing, there)
    if bool(config.basic_auth_user) != bool(config.basic_auth_pass):
        missing, there = _halves("BasicAuthUser", "BasicAuthPass", bool(config.basic_auth_pass))
        yield doubt("both are needed for basic auth; as it is, everybody may come in", missing, there)
    if config.external_storage_path and not (config.basic_auth_user and config.basic_auth_pass):
        text = "anybody who reaches the port can write and delete versions; set BasicAuthUser and BasicAuthPass"
        yield doubt(text, "ExternalStoragePath", "BasicAuthUser", "BasicAuthPass")
    if config.path_prefix and not config.path_prefix.startswith("/"):
        yield doubt("must begin with a slash, or nothing below it can be reached", "PathPrefix")


def _halves(first: str, second: str, second_is_there: bool) -> tuple[str, str]:
    return (first, second) if second_is_there else (second, first)


def _credentials(config: Config) -> Iterator[Finding]:
    if config.github_token and config.netrc_path:
        yield refuse("only one of the two may be set, both become the one .netrc", "GithubToken", "NETRCPath")


def _targets(config: Config) -> Iterator[Finding]:
    if config.download_mode in ("redirect", "async_redirect"):
        if not config.download_url:
            mode = config.download_mode
            yield refuse(
                f'must not be empty with DownloadMode = "{mode}": clients would go round in circles', "DownloadURL"
            )
        elif not is_url(config.download_url):
            yield refuse("must be an http or https URL", "DownloadURL")
    elif config.download_url and not is_url(config.download_url):
        yield doubt("must be an http or https URL", "DownloadURL")
    if not is_url(config.global_endpoint):
        in_use = config.filter_file and config.global_endpoint
        yield (refuse if in_use else doubt)("must be an http or https URL", "GlobalEndpoint")
    if config.validator_hook and not is_url(config.validator_hook):
        yield refuse("must be an http or https URL, or empty for no validator", "ValidatorHook")
