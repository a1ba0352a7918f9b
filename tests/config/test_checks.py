"""Rules that look at more than one setting."""

from __future__ import annotations

import pytest

from athens_tx.config import Config
from athens_tx.config.checks import general_checks
from athens_tx.config.settings import SETTINGS

KEYS = {setting.key for setting in SETTINGS}


def found(**values):
    """@return: key of the first setting and whether the start is refused, for each finding."""
    findings = list(general_checks(Config.model_validate(values)))
    for finding in findings:
        assert set(finding.keys) <= KEYS
        assert len(finding.text.splitlines()) == 1
    return [(finding.keys[0], finding.fatal) for finding in findings]


def test_the_defaults_are_right():
    assert found() == []


@pytest.mark.parametrize(
    "values",
    [
        {"log_format": ""},
        {"cloud_runtime": "", "log_format": "json"},
        {"go_env": "production"},
        {"go_env": "staging"},
        {"cloud_runtime": "GCP"},
        {"cloud_runtime": "AWS"},
        {"trace_exporter": "otlp"},
        {"trace_exporter": "otlp", "trace_exporter_url": ""},
        {"trace_exporter_url": "not looked at"},
        {"trace_sampling_fraction": 0.0},
        {"stats_exporter": ""},
        {"port": "systemd:domain=INET:index=0"},
        {"port": "rubbish", "unix_socket": "/run/a.sock"},
        {"pprof_port": "3001"},
        {"pprof_port": "127.0.0.1:3001", "enable_pprof": True},
        {"tls_cert_file": "c", "tls_key_file": "k"},
        {"basic_auth_user": "u", "basic_auth_pass": "p"},
        {"path_prefix": "/x"},
        {"external_storage_path": "/x", "basic_auth_user": "u", "basic_auth_pass": "p"},
        {"github_token": "t"},
        {"netrc_path": "n"},
        {"download_mode": "redirect", "download_url": "https://proxy.example"},
        {"download_mode": "file:x"},
        {"filter_file": "f"},
        {"validator_hook": "http://127.0.0.1/x"},
    ],
    ids=str,
)
def test_what_is_right(values):
    assert found(**values) == []


@pytest.mark.parametrize(
    ("values", "key", "fatal"),
    [
        ({"cloud_runtime": "", "log_format": ""}, "CloudRuntime", True),
        ({"go_env": "Production"}, "GoEnv", False),
        ({"go_env": " development"}, "GoEnv", False),
        ({"cloud_runtime": "gcp"}, "CloudRuntime", False),
        ({"trace_exporter": "jaeger"}, "TraceExporter", False),
        ({"trace_exporter": "otlp", "trace_exporter_url": "localhost:4317"}, "TraceExporterURL", False),
        ({"stats_exporter": "datadog"}, "StatsExporter", False),
        ({"trace_sampling_fraction": 1.5}, "TraceSamplingFraction", False),
        ({"trace_sampling_fraction": -0.1}, "TraceSamplingFraction", False),
        ({"trace_sampling_fraction": float("nan")}, "TraceSamplingFraction", False),
        ({"port": "rubbish"}, "Port", True),
        ({"port": " "}, "Port", True),
        ({"port": "tcp://10.0.0.1:3000"}, "Port", True),
        ({"pprof_port": "3001", "enable_pprof": True}, "PprofPort", True),
        ({"tls_cert_file": "c"}, "TLSKeyFile", False),
        ({"tls_key_file": "k"}, "TLSCertFile", False),
        ({"basic_auth_user": "u"}, "BasicAuthPass", False),
        ({"basic_auth_pass": "p"}, "BasicAuthUser", False),
        ({"path_prefix": "x"}, "PathPrefix", False),
        ({"external_storage_path": "/x"}, "ExternalStoragePath", False),
        ({"github_token": "t", "netrc_path": "n"}, "GithubToken", True),
        ({"download_mode": "redirect"}, "DownloadURL", True),
        ({"download_mode": "async_redirect"}, "DownloadURL", True),
        ({"download_mode": "async_redirect", "download_url": "proxy"}, "DownloadURL", True),
        ({"download_url": "proxy"}, "DownloadURL", False),
        ({"global_endpoint": "x"}, "GlobalEndpoint", False),
        ({"global_endpoint": ""}, "GlobalEndpoint", False),
        ({"global_endpoint": "", "filter_file": "f"}, "GlobalEndpoint", False),
        ({"global_endpoint": "x", "filter_file": "f"}, "GlobalEndpoint", True),
        ({"validator_hook": "x"}, "ValidatorHook", True),
    ],
    ids=str,
)
def test_what_is_wrong(values, key, fatal):
    assert found(**values) == [(key, fatal)]
