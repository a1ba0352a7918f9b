"""What check-config finds on this machine before a start does."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from athens_tx.config import Config, load
from athens_tx.preflight import local_problems

Configure = Callable[..., Config]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Makes settings out of variables."""

    def make(**environ: str) -> Config:
        return load(None, environ, cwd=tmp_path).config

    return make


def problems(config: Config) -> list[str]:
    return local_problems(config, os.environ)[0]


def test_the_defaults_are_well(configure: Configure) -> None:
    assert local_problems(configure(), os.environ) == ([], [])


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ATHENS_FILTER_FILE": "/none/filter"}, "FilterFile"),
        ({"ATHENS_DOWNLOAD_MODE": "file:/none/modes.hcl"}, "DownloadMode file"),
        ({"ATHENS_DOWNLOAD_MODE": "custom:" + base64.b64encode(b"mode =").decode()}, "DownloadMode custom"),
        ({"ATHENS_TLSCERT_FILE": "/none/cert", "ATHENS_TLSKEY_FILE": "/none/key"}, "TLSKeyFile"),
        ({"ATHENS_NETRC_PATH": "/none/netrc"}, "NETRCPath"),
        ({"ATHENS_HGRC_PATH": "/none/hgrc"}, "HGRCPath"),
        ({"ATHENS_STORAGE_TYPE": "disk", "ATHENS_DISK_STORAGE_ROOT": "/none"}, "Storage.Disk.RootPath"),
        ({"GO_BINARY_PATH": "/none/go"}, "GoBinary"),
        ({"ATHENS_GO_BINARY_ENV_VARS": "GOPROXY=ftp://example.com"}, "GOPROXY"),
        ({"ATHENS_GOGET_DIR": "/dev/null/work"}, "GoGetDir"),
    ],
)
def test_each_thing_that_would_stop_a_start_is_said(configure: Configure, environ: dict[str, str], said: str) -> None:
    (problem,) = problems(configure(**environ))
    assert said in problem


def test_all_is_said_at_once(configure: Configure) -> None:
    config = configure(ATHENS_NETRC_PATH="/none/netrc", ATHENS_HGRC_PATH="/none/hgrc", GO_BINARY_PATH="/none/go")
    assert len(problems(config)) == 3


def test_files_with_a_bad_content(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "filter").write_bytes(b"- \xff\n")
    (tmp_path / "modes").write_text('mode = "nonsense"\n')
    authority = trustme.CA()
    first, second = (authority.issue_cert(f"{name}.example.com") for name in "ab")
    first.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    second.private_key_pem.write_to_path(tmp_path / "key.pem")
    found = problems(
        configure(
            ATHENS_FILTER_FILE=str(tmp_path / "filter"),
            ATHENS_DOWNLOAD_MODE=f"file:{tmp_path / 'modes'}",
            ATHENS_TLSCERT_FILE=str(tmp_path / "cert.pem"),
            ATHENS_TLSKEY_FILE=str(tmp_path / "key.pem"),
        )
    )
    for said in ("is not the key of TLSCertFile", "not UTF-8", f"DownloadMode file {tmp_path / 'modes'}"):
        assert any(said in problem for problem in found), (said, found)


def test_what_a_start_makes_by_itself_may_be_absent(configure: Configure, tmp_path: Path) -> None:
    assert problems(configure(ATHENS_GOGET_DIR=str(tmp_path / "to" / "be" / "made"))) == []
    assert not (tmp_path / "to").exists()


def test_a_root_that_can_not_be_written(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path))  # root may write everywhere
    (problem,) = problems(configure(ATHENS_STORAGE_TYPE="disk", ATHENS_DISK_STORAGE_ROOT=str(tmp_path)))
    assert "can't be written" in problem


def test_offline_wants_no_go(configure: Configure) -> None:
    assert problems(configure(GO_BINARY_PATH="/none/go", ATHENS_NETWORK_MODE="offline")) == []


def test_what_means_nothing_to_this_version_is_a_warning(configure: Configure) -> None:
    config = configure(ATHENS_ENABLE_PPROF="true", ATHENS_TRACE_EXPORTER="jaeger", ATHENS_TRACE_EXPORTER_URL="http://x")
    found, warnings = local_problems(config, os.environ)
    assert (found, [warning.partition(":")[0] for warning in warnings]) == ([], ["EnablePprof", "TraceExporter"])
