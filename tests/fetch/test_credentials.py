"""Credentials: the private home, and logins for upstream proxies."""

from __future__ import annotations

from pathlib import Path

import pytest

from athens_tx.errors import ConfigError
from athens_tx.fetch.credentials import Credentials, Login, parse_netrc

BASIC = b"Basic bWU6czNjcmV0"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    home = tmp_path / "real"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n")
    (home / ".gitconfig").write_text("[user]\n")
    (home / ".netrc").write_text("machine real.test login a password real-secret\n")
    return home


def credentials(tmp_path: Path, **settings: str) -> Credentials:
    return Credentials({"HOME": str(tmp_path / "real")}, lambda: tmp_path / "private", **settings)


def test_without_a_setting_home_is_what_it_was(tmp_path: Path, real: Path) -> None:
    found = credentials(tmp_path)
    found.load()
    assert found.home is None
    assert not (tmp_path / "private").exists()
    assert found.authorization("https://real.test/x") is not None
    found.close()


@pytest.mark.parametrize("name", ["netrc", ".netrc", "_netrc"])
def test_the_private_home_replaces_netrc_and_links_to_the_rest(tmp_path: Path, real: Path, name: str) -> None:
    (tmp_path / name).write_text("machine m.test login me password s3cret\n")
    found = credentials(tmp_path, netrc_path=str(tmp_path / name))
    found.load()
    home = Path(found.home or "")
    assert home == tmp_path / "private"
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / ".netrc").stat().st_mode & 0o777 == 0o600
    assert not (home / ".netrc").is_symlink()
    assert (home / ".netrc").read_text() == "machine m.test login me password s3cret\n"
    assert (home / ".ssh" / "config").read_text() == "Host *\n"
    assert (home / ".gitconfig").read_text() == "[user]\n"
    assert found.authorization("https://m.test/x") == BASIC
    assert found.authorization("https://real.test/x") is None
    assert found.secrets() == ["s3cret"]
    found.close()
    assert not home.exists()
    assert (real / ".netrc").exists()
    assert (real / ".ssh" / "config").exists()


def test_a_token_is_a_login_for_github_and_nothing_else(tmp_path: Path, real: Path) -> None:
    found = credentials(tmp_path, github_token="ghp_token")
    found.load()
    assert (tmp_path / "private" / ".netrc").read_text() == "machine github.com login ghp_token\n"
    assert found.secrets() == ["ghp_token"]
    assert found.authorization("https://github.com/x") is None  # go wants a password too


def test_hgrc_and_names_without_effect(tmp_path: Path, logged: list[dict[str, object]]) -> None:
    for name in (".hgrc", "mynetrc"):
        (tmp_path / name).write_text(name)
    found = credentials(tmp_path, hgrc_path=str(tmp_path / ".hgrc"), netrc_path=str(tmp_path / "mynetrc"))
    found.load()
    assert sorted(p.name for p in (tmp_path / "private").iterdir()) == [".hgrc", "mynetrc"]
    assert [event.get("name") for event in logged if event.get("setting")] == ["mynetrc"]


def test_problems_name_their_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only one of them"):
        credentials(tmp_path, netrc_path="x", github_token="y")
    found = credentials(tmp_path, netrc_path=str(tmp_path / "none"), hgrc_path=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        found.load()
    assert [line.partition(":")[0] for line in caught.value.problems] == ["NETRCPath", "HGRCPath"]


def test_loading_again_replaces_and_a_bad_file_keeps_the_old(tmp_path: Path, real: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine m.test login me password s3cret\n")
    found = credentials(tmp_path, netrc_path=str(netrc))
    found.load()
    netrc.write_text("machine n.test login me password s3cret\n")
    (real / ".gitconfig").unlink()
    (real / ".hgignore").touch()
    (tmp_path / "private" / ".netrc.new").touch()
    found.load()
    assert found.authorization("https://m.test/") is None
    assert found.authorization("https://n.test/") == BASIC
    assert sorted(p.name for p in (tmp_path / "private").iterdir()) == [".hgignore", ".netrc", ".ssh"]
    netrc.unlink()
    with pytest.raises(ConfigError):
        found.load()
    assert found.authorization("https://n.test/") == BASIC
    assert (tmp_path / "private" / ".netrc").read_text().startswith("machine n.test")


def test_the_rule_of_go_for_upstreams(tmp_path: Path, real: Path) -> None:
    (real / ".netrc").write_text(
        "machine m.test login me password s3cret\nmachine m.test login other password s3cret\n"
        "machine n.test:8443/go login me password s3cret\nmachine o.test login me\n"
        "default login anybody password anything\n"
    )
    found = credentials(tmp_path)
    found.load()
    for url in ("https://m.test", "https://m.test/a/b", "https://u@m.test/", "https://n.test:8443/go/x/@v/list"):
        assert found.authorization(url) == BASIC, url
    for url in (
        "http://m.test/a",
        "https://m.test:8443/",
        "https://n.test:8443/other",
        "https://sub.m.test/",
        "https://o.test/",
        "file:///x",
    ):
        assert found.authorization(url) is None, url


def test_another_netrc_of_go_s_environment(tmp_path: Path, real: Path) -> None:
    (tmp_path / "other").write_text("machine m.test login me password s3cret\n")
    found = credentials(tmp_path, netrc_variable=str(tmp_path / "other"), github_token="ghp_token")
    found.load()
    assert found.authorization("https://m.test/") == BASIC
    nobody = Credentials({}, lambda: tmp_path / "private", hgrc_path=str(tmp_path / "other"))
    nobody.load()
    assert nobody.authorization("https://real.test/") is None


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("machine a login b password c", [("a", "b", "c")]),
        ("machine a\n  login b\n  password c\nmachine d login e", [("a", "b", "c"), ("d", "e", "")]),
        ("machine a password c", []),
        ("machine a account x login b port 3 password c", [("a", "b", "c")]),
        ("default login b password c\nmachine z login z", [("", "b", "c")]),
        ("macdef init\nmachine x login y\n\nmachine a login b", [("a", "b", "")]),
        ("login b password c", []),
        ("machine a login", []),
    ],
)
def test_netrc(text: str, entries: list[tuple[str, str, str]]) -> None:
    assert parse_netrc(text) == [Login(*entry) for entry in entries]
    assert "secret" not in repr(Login("m", "l", "secret"))
