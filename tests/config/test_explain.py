"""The effective settings as they are shown."""

from __future__ import annotations

import json
import tomllib

import pytest

from athens_tx.config import Config, as_json, as_toml, changes
from athens_tx.config.masking import MASK
from athens_tx.config.settings import SETTINGS

TEXT = """GoBinaryEnvVars = ["GOPROXY=https://u:hush@h", "X_TOKEN=hush"]
TraceSamplingFraction = inf
[Storage.S3]
Secret = "hush"
[SingleFlight.Redis]
Endpoint = "redis://:hush@h"
"""


@pytest.fixture
def loaded(load_text, tmp_path):
    (tmp_path / "pass").write_text("hush\n")
    return load_text(TEXT, BASIC_AUTH_PASS_FILE="pass", BASIC_AUTH_USER="me", ATHENS_INDEX_MYSQL_PARAMS="a:b")


def test_the_toml_form_holds_every_setting_and_no_secret(loaded):
    text = as_toml(loaded)
    assert "hush" not in text
    values = tomllib.loads(text)
    for setting in SETTINGS:
        value = values
        for name in setting.path:
            value = value[name]
        if setting.secret.value == "no":
            assert value == setting.of(loaded.config)
    assert values["BasicAuthPass"] == values["Storage"]["S3"]["Secret"] == MASK
    assert values["GoBinaryEnvVars"] == [f"GOPROXY=https://{MASK}@h", f"X_TOKEN={MASK}"]
    assert values["SingleFlight"]["Redis"]["Endpoint"] == f"redis://{MASK}@h"


def test_the_toml_form_names_every_origin(loaded, tmp_path):
    lines = as_toml(loaded).splitlines()
    assert lines[0] == f'# The effective settings, secrets masked. File: "{tmp_path}/athens.toml"'
    assert 'BasicAuthUser = "me"  # BASIC_AUTH_USER' in lines
    assert f'BasicAuthPass = "***"  # BASIC_AUTH_PASS_FILE: {tmp_path}/pass' in lines
    assert f'Secret = "***"  # {tmp_path}/athens.toml:4' in lines
    assert 'Params = { a = "b" }  # ATHENS_INDEX_MYSQL_PARAMS' in lines
    assert 'LogLevel = "debug"  # default' in lines


def test_without_a_file_none_is_named(load_text):
    assert as_toml(load_text(None)).startswith("# The effective settings, secrets masked. File: none\n")


def test_what_is_shown_can_be_loaded(loaded, load_text):
    shown = as_toml(loaded)
    again = load_text(shown, strict=False)
    assert {key for key, _, _ in changes(loaded.config, again.config)} == {
        "BasicAuthPass",
        "GoBinaryEnvVars",
        "Storage.S3.Secret",
        "SingleFlight.Redis.Endpoint",
        "SingleFlight.RedisSentinel.SentinelPassword",
        "Index.MySQL.Params",  # the file adds to the default
    }


def test_the_json_form(loaded, tmp_path):
    text = as_json(loaded)
    assert "hush" not in text
    document = json.loads(text, parse_constant=pytest.fail)
    assert document["file"] == f"{tmp_path}/athens.toml"
    assert document["warnings"] == loaded.warnings
    assert list(document["settings"]) == [setting.key for setting in SETTINGS]
    assert document["settings"]["Storage.S3.Secret"] == {"value": MASK, "origin": f"{tmp_path}/athens.toml:4"}
    assert document["settings"]["TraceSamplingFraction"]["value"] == "inf"
    assert document["settings"]["MaxZipSize"] == {"value": 500 * 2**20, "origin": "default"}


def test_the_json_form_without_a_file(load_text):
    assert json.loads(as_json(load_text(None)))["file"] is None


def test_changes_are_named_and_masked():
    new = {"log_level": "info", "github_token": "hush", "storage": {"mongo": {"url": "mongodb://u:hush@h"}}}
    assert changes(Config(), Config()) == []
    assert changes(Config(), Config.model_validate(new)) == [
        ("LogLevel", '"debug"', '"info"'),
        ("GithubToken", '""', '"***"'),
        ("Storage.Mongo.URL", '""', '"mongodb://***@h"'),
    ]


def test_a_secret_that_changes_is_a_change():
    assert changes(Config(github_token="a"), Config(github_token="b")) == [("GithubToken", '"***"', '"***"')]
