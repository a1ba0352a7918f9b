"""What the environment gives."""

from __future__ import annotations

import os

import pytest

from athens_tx.config.declare import Kind
from athens_tx.config.settings import SETTINGS

TEXTS = {
    Kind.STRING: ("value", "value"),
    Kind.INT: ("7", 7),
    Kind.FLOAT: ("0.5", 0.5),
    Kind.BOOL: ("yes", True),
    Kind.LIST: ("a.example,b.example", ["a.example", "b.example"]),
    Kind.MAP: ("a:b", {"a": "b"}),
    Kind.ENV_LIST: ("A=b;C=d", ["A=b", "C=d"]),
    Kind.SECONDS: ("2h", 7200),
    Kind.BYTES: ("3MiB", 3 * 2**20),
}
WORDS = {
    "LogLevel": "info",
    "LogFormat": "json",
    "Port": "127.0.0.1:1",
    "PathPrefix": "/x",
    "DownloadMode": "none",
    "NetworkMode": "offline",
    "ExternalStoragePath": "/storage",
    "StorageType": "memory",
    "SingleFlightType": "memory",
    "IndexType": "memory",
    "UpstreamErrors": "gateway",
    "ValidatorHook": "http://h",
}


@pytest.mark.parametrize("form", [0, -1], ids=["long", "plain"])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_read_from_its_variables(load_text, setting, form):
    text, value = TEXTS[setting.kind]
    text = value = WORDS.get(setting.key, text)
    if setting.key not in WORDS:
        value = TEXTS[setting.kind][1]
    variable = setting.variables[form]
    loaded = load_text(**{variable: text})
    assert setting.of(loaded.config) == value
    assert str(loaded.origins[setting.key]) == variable


def test_the_environment_wins_over_the_file(load_text):
    loaded = load_text('LogLevel = "info"\nLogFormat = "json"', ATHENS_LOG_LEVEL="error")
    assert (loaded.config.log_level, loaded.config.log_format) == ("error", "json")


def test_the_long_form_wins_even_if_it_is_empty(load_text):
    loaded = load_text(ATHENS_BASIC_AUTH_USER="", BASIC_AUTH_USER="me", ATHENS_GO_ENV="a", GO_ENV="b")
    assert (loaded.config.basic_auth_user, loaded.config.go_env) == ("", "a")


def test_a_shared_variable_sets_both_and_a_long_form_one(load_text):
    long = "ATHENS_SINGLEFLIGHT_REDIS_ATHENS_REDIS_PASSWORD"
    locks = load_text(ATHENS_REDIS_PASSWORD="a", ATHENS_REDIS_LOCK_TTL="1000").config.single_flight
    assert (locks.redis.password, locks.redis_sentinel.redis_password) == ("a", "a")
    assert (locks.redis.lock_config.ttl, locks.redis_sentinel.lock_config.ttl) == (1000, 1000)
    locks = load_text(**{"ATHENS_REDIS_PASSWORD": "a", long: "b"}).config.single_flight
    assert (locks.redis.password, locks.redis_sentinel.redis_password) == ("b", "a")


def test_names_that_athens_does_not_know_do_nothing(load_text):
    config = load_text(ATHENS_GOENV="x", TIMEOUT="1", go_env="x", ATHENS_ATHENS_TIMEOUT="1").config
    assert (config.go_env, config.timeout) == ("development", 300)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_set_but_empty(load_text, problems, setting):
    text = 'StorageType = "memory"'
    if setting.kind in (Kind.INT, Kind.FLOAT, Kind.BOOL, Kind.SECONDS, Kind.BYTES):
        lines = problems(text, **{setting.env: ""})
        assert any(line.startswith(f'{setting.key} = "" ({setting.env}): must be') for line in lines)
    elif setting.rule.startswith("not empty") and "*" not in setting.rule and "LogFormat" not in setting.rule:
        assert problems(text, **{setting.env: ""}) == [f'{setting.key} = "" ({setting.env}): must not be empty']
    elif setting.key in ("NetworkMode", "DownloadMode", "LogLevel", "StorageType", "UpstreamErrors"):
        assert problems(text, **{setting.env: ""})[0].startswith(f'{setting.key} = "" ({setting.env}): must be')
    else:
        value = setting.of(load_text(text, **{setting.env: ""}).config)
        kept = {"GoBinaryEnvVars", "Port", "Storage.Mongo.DefaultDBName", "Storage.Mongo.DefaultCollectionName"}
        empty = {Kind.STRING: "", Kind.LIST: [], Kind.MAP: {}}
        assert value == (setting.default if setting.key in kept else empty[setting.kind])


def test_an_empty_env_list_keeps_what_the_file_says(load_text):
    for text in ("", "  "):
        loaded = load_text('GoBinaryEnvVars = ["A=b"]', ATHENS_GO_BINARY_ENV_VARS=text)
        assert loaded.config.go_binary_env_vars == ["A=b"]


def test_a_map_of_a_variable_replaces_all(load_text):
    text = '[Index.MySQL.Params]\nx = "y"'
    loaded = load_text(text, ATHENS_INDEX_MYSQL_PARAMS="timeout:90s")
    assert loaded.config.index.mysql.params == {"timeout": "90s"}


def test_the_variable_that_was_read_is_named(problems):
    assert problems(ATHENS_GOGET_WORKERS="x") == ['GoGetWorkers = "x" (ATHENS_GOGET_WORKERS): must be a whole number']
    [line] = problems(ATHENS_PROXY_FORCE_SSL="x", PROXY_FORCE_SSL="true")
    assert line == 'ForceSSL = "x" (ATHENS_PROXY_FORCE_SSL): must be true or false'


def test_an_octal_is_told(load_text):
    loaded = load_text(ATHENS_GOGET_WORKERS="010")
    assert loaded.config.go_get_workers == 8
    assert loaded.warnings == ["GoGetWorkers = 010 (ATHENS_GOGET_WORKERS): a leading 0 means octal: read as 8"]


def test_a_bad_env_list_shows_nothing_of_itself(problems):
    assert "hush" not in "".join(problems(ATHENS_GO_BINARY_ENV_VARS="TOKEN=hush;"))
    assert "hush" not in "".join(problems(ATHENS_GO_BINARY_ENV_VARS="TOKEN=a;hush"))


def test_a_misspelt_variable_is_a_warning_and_an_error_when_strict(load_text, problems):
    line = "ATHENS_TLS_CERT_FILE: this variable is not a setting and has no effect; did you mean ATHENS_TLSCERT_FILE?"
    assert load_text(ATHENS_TLS_CERT_FILE="x").warnings == [line]
    assert problems(ATHENS_TLS_CERT_FILE="x", strict=True) == [line]


class TestSecretFiles:
    """Secrets from files of their own."""

    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b"hush\n", "hush"),
            (b"hush", "hush"),
            (b"hush\r\n", "hush"),
            (b" hu sh \n\n", " hu sh \n"),
            (b"", ""),
            ("grün".encode(), "grün"),
        ],
    )
    def test_a_variable_names_the_file(self, load_text, tmp_path, content, value):
        (tmp_path / "s").write_bytes(content)
        for name in (str(tmp_path / "s"), "s"):
            loaded = load_text(BASIC_AUTH_PASS_FILE=name, BASIC_AUTH_USER="me")
            assert loaded.config.basic_auth_pass == value
            assert str(loaded.origins["BasicAuthPass"]) == f"BASIC_AUTH_PASS_FILE: {tmp_path}/s"

    @pytest.mark.parametrize("setting", [s for s in SETTINGS if s.secret.hidden], ids=lambda setting: setting.key)
    def test_every_secret_may_come_from_a_file_or_a_credential(self, load_text, tmp_path, setting):
        (tmp_path / setting.env).write_text("hush")
        for environ in (
            {f"{setting.env}_FILE": str(tmp_path / setting.env)},
            {f"{setting.variables[0]}_FILE": str(tmp_path / setting.env)},
            {"CREDENTIALS_DIRECTORY": str(tmp_path)},
        ):
            loaded = load_text('[Storage.S3]\nKey = "k"', **environ)
            assert setting.of(loaded.config) == "hush"

    def test_a_credential_may_have_the_long_name(self, load_text, tmp_path):
        (tmp_path / "ATHENS_BASIC_AUTH_PASS").write_text("hush\n")
        loaded = load_text('BasicAuthPass = "file"', CREDENTIALS_DIRECTORY=str(tmp_path))
        assert loaded.config.basic_auth_pass == "hush"

    def test_no_other_setting_is_read_from_a_file(self, load_text, tmp_path):
        (tmp_path / "ATHENS_LOG_LEVEL").write_text("error")
        (tmp_path / "key").write_text("x")
        config = load_text(
            CREDENTIALS_DIRECTORY=str(tmp_path),
            ATHENS_LOG_LEVEL_FILE=str(tmp_path / "key"),
            ATHENS_TLSKEY_FILE="key",
            ATHENS_TLSCERT_FILE="cert",
            ATHENS_FILTER_FILE="f",
            ATHENS_ROBOTS_FILE="r",
        ).config
        assert config.log_level == "debug"
        assert (config.tls_key_file, config.tls_cert_file) == ("key", "cert")
        assert (config.filter_file, config.robots_file) == ("f", "r")

    def test_two_forms_are_an_error(self, problems, tmp_path):
        (tmp_path / "ATHENS_GITHUB_TOKEN").write_text("hush")
        token = str(tmp_path / "ATHENS_GITHUB_TOKEN")
        said = "GithubToken: is given twice, by "
        assert problems(ATHENS_GITHUB_TOKEN="hush", ATHENS_GITHUB_TOKEN_FILE=token) == [
            f"{said}ATHENS_GITHUB_TOKEN and ATHENS_GITHUB_TOKEN_FILE: ATHENS_GITHUB_TOKEN; keep one"
        ]
        assert len(problems(ATHENS_GITHUB_TOKEN="", ATHENS_GITHUB_TOKEN_FILE=token)) == 1
        assert len(problems(ATHENS_GITHUB_TOKEN_FILE=token, CREDENTIALS_DIRECTORY=str(tmp_path))) == 1
        [line] = problems(ATHENS_GITHUB_TOKEN="hush", CREDENTIALS_DIRECTORY=str(tmp_path))
        assert line.startswith(f"{said}ATHENS_GITHUB_TOKEN and CREDENTIALS_DIRECTORY: ")

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("", 'BasicAuthPass = "" (BASIC_AUTH_PASS_FILE): names no file'),
            ("none", "the file can't be read: No such file or directory"),
            (".", "the file can't be read: Is a directory"),
            ("bytes", "the file is not UTF-8"),
            ("long", "too long, or not a text"),
            ("nul", "too long, or not a text"),
        ],
    )
    def test_a_file_that_is_none(self, problems, tmp_path, name, said):
        (tmp_path / "bytes").write_bytes(b"\xff")
        (tmp_path / "long").write_bytes(b"x" * 65537)
        (tmp_path / "nul").write_bytes(b"x\0")
        [line] = problems(BASIC_AUTH_PASS_FILE=name)
        assert said in line.replace(str(tmp_path), ".")

    def test_a_folder_of_credentials_may_be_empty_or_absent(self, load_text, tmp_path):
        for folder in ("", str(tmp_path / "none"), str(tmp_path)):
            assert load_text(CREDENTIALS_DIRECTORY=folder).config.github_token == ""


def test_a_variable_may_hold_bytes_that_are_no_text(load_text, problems):
    path = os.fsdecode(b"/b\xfcro")
    assert load_text(ATHENS_FILTER_FILE=path).config.filter_file == path
    [line] = problems(ATHENS_PORT=path)
    assert line.encode("utf-8")
