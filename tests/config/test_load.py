"""Loading as a whole: the layers, the port, file modes, and everything that is wrong at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from athens_tx.config import Config, ConfigError, load
from athens_tx.config.findings import Source
from athens_tx.config.settings import SETTINGS


def test_without_a_file_there_are_defaults_and_a_notice(tmp_path):
    loaded = load(None, {"ATHENS_LOG_LEVEL": "info"}, cwd=tmp_path)
    assert loaded.config == Config(log_level="info")
    assert loaded.file is None
    assert loaded.warnings == ["there is no athens.toml here: running on the defaults and the environment"]
    assert {str(origin) for origin in loaded.origins.values()} == {"default", "ATHENS_LOG_LEVEL"}
    assert set(loaded.origins) == {setting.key for setting in SETTINGS}


def test_the_notice_is_no_reason_to_refuse(tmp_path):
    assert load(None, {}, cwd=tmp_path, strict=True).config == Config()


def test_other_names_are_not_found_by_themselves(tmp_path):
    (tmp_path / "config.toml").write_text("GoEnv = 1")
    assert "config.toml is not read" in load(None, {}, cwd=tmp_path).warnings[0]


def test_the_named_file_is_read_and_no_other(tmp_path):
    (tmp_path / "athens.toml").write_text('LogLevel = "info"')
    (tmp_path / "other.toml").write_text('\nGoEnv = "x"')
    for path in (Path("other.toml"), tmp_path / "other.toml"):
        loaded = load(path, {}, cwd=tmp_path)
        assert (loaded.config.go_env, loaded.config.log_level) == ("x", "debug")
        assert loaded.file == tmp_path / "other.toml"
        assert str(loaded.origins["GoEnv"]) == f"{tmp_path}/other.toml:2"
        assert loaded.origins["GoEnv"].source is Source.FILE


@pytest.mark.parametrize(("name", "said"), [("none.toml", "No such file"), ("folder", "Is a directory")])
def test_a_named_file_must_be_readable(tmp_path, name, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"{name}: can't be read: {said}"):
        load(Path(name), {}, cwd=tmp_path)


def test_an_athens_toml_that_is_a_folder_is_an_error(tmp_path):
    (tmp_path / "athens.toml").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        load(None, {}, cwd=tmp_path)


def test_everything_wrong_is_told_at_once(problems):
    text = """
        GoGetWorkers = -1
        LogFormat = "xml"
        StorageType = "s3"
        IndexType = "sqlite"
        Port = 3000
        DownloadMode = "redirect"
        GithubToken = "hush"
        NETRCPath = "n"
        [Storage.S3]
        Bucket = ""
    """
    lines = problems(text, ATHENS_TIMEOUT="soon", ATHENS_NETWORK_MODE="bogus", AWS_REGION="")
    assert {line.partition(" =")[0] for line in lines} == {
        "Port",
        "Timeout",
        "GoGetWorkers",
        "LogFormat",
        "IndexType",
        "NetworkMode",
        "GithubToken",
        "DownloadURL",
        "Storage.S3.Region",
        "Storage.S3.Bucket",
    }
    assert len(lines) == 10
    assert 'Storage.S3.Region = "" (AWS_REGION): must not be empty with StorageType = "s3"' in lines
    assert 'Storage.S3.Bucket = "" (athens.toml:11): must not be empty with StorageType = "s3"' in lines
    assert 'NetworkMode = "bogus" (ATHENS_NETWORK_MODE): must be "strict", "offline" or "fallback"' in lines
    both = 'GithubToken = "***" (athens.toml:8) and NETRCPath = "n" (athens.toml:9): only one of the two'
    assert any(line.startswith(both) for line in lines)


def test_one_mistake_is_told_once(problems):
    assert len(problems('StorageType = "disk"\n[Storage.Disk]\nRootPath = 1')) == 1
    assert len(problems('PathPrefix = "x"\nDownloadMode = "redirect"', DOWNLOAD_URL="x")) == 1
    assert len(problems("ValidatorHook = 7")) == 1


def test_a_broken_file_does_not_hide_what_the_environment_has_wrong(problems):
    lines = problems("GoEnv = ", ATHENS_TIMEOUT="x", ATHENS_STORAGE_TYPE="disk", ATHENS_INDEX_TYPE="x")
    assert len(lines) == 3  # RootPath may well be in the file
    assert lines[0].startswith("athens.toml:1: is not TOML 1.0")


def test_the_warnings_are_behind_the_problems(load_text):
    with pytest.raises(ConfigError) as caught:
        load_text('StorageType = "disk"\n[Storage.Disk]\nRotPath = "/srv"')
    problem, warning = caught.value.problems
    assert problem.startswith("Storage.Disk.RootPath")
    assert warning.startswith("warning: Storage.Disk.RotPath")
    assert warning.endswith("did you mean Storage.Disk.RootPath?")


def test_doubts_are_warnings_and_problems_when_strict(load_text, problems):
    text = 'TLSCertFile = "c"'
    [warning] = load_text(text).warnings
    assert warning.startswith('TLSKeyFile = "" (default) and TLSCertFile = "c" (')
    [problem] = problems(text, strict=True)
    assert problem.startswith('TLSKeyFile = "" (default) and TLSCertFile = "c" (athens.toml:1): both are needed')


def test_a_check_looks_at_no_setting_that_is_broken_already(problems):
    [line] = problems("BasicAuthUser = 1", BASIC_AUTH_PASS="x", strict=True)
    assert line.startswith("BasicAuthUser = 1")


@pytest.mark.parametrize(
    ("file", "environ", "port"),
    [
        (None, {}, ":3000"),
        ("3001", {}, ":3001"),
        ("", {}, ":3000"),
        ("127.0.0.1:3001", {}, "127.0.0.1:3001"),
        ("[::1]:3001", {}, "[::1]:3001"),
        (":http", {}, ":http"),
        (" 3001 ", {}, ":3001"),
        ("+3001", {}, ":3001"),
        ("03001", {}, ":3001"),
        ("3001", {"PORT": "3002"}, ":3002"),
        ("3001", {"PORT": ""}, ":3001"),
        ("3001", {"ATHENS_PORT": "3003", "PORT": "3002"}, ":3003"),
        ("3001", {"ATHENS_PORT": "", "PORT": "3002"}, ":3002"),
        ("3001", {"ATHENS_PORT": ""}, ":3000"),
        ("3001", {"ATHENS_ATHENS_PORT": "3004"}, ":3004"),
        ("3001", {"ATHENS_ATHENS_PORT": "3004", "ATHENS_PORT": "3003"}, ":3004"),
        ("3001", {"ATHENS_ATHENS_PORT": "3004", "PORT": "3002"}, ":3002"),
        ("3001", {"ATHENS_PORT": "tcp://10.0.0.1:80"}, ":3001"),
        ("3001", {"ATHENS_PORT": "tcp://10.0.0.1:80", "PORT": "3002"}, ":3002"),
        ("3001", {"PORT": "tcp://10.0.0.1:80"}, ":3001"),
        (None, {"PORT": "localhost:3002"}, "localhost:3002"),
    ],
)
def test_the_port(load_text, file, environ, port):
    loaded = load_text("" if file is None else f'Port = "{file}"', **environ)
    assert loaded.config.port == port
    ignored = [value for value in environ.values() if value.startswith("tcp://")]
    assert [warning for warning in loaded.warnings if "is ignored" in warning] == [
        warning for warning in loaded.warnings if any(value in warning for value in ignored)
    ]
    assert len(loaded.warnings) == len(ignored)


def test_no_port_is_taken_from_kubernetes(load_text):
    config = load_text(ATHENS_INDEX_MYSQL_PORT="tcp://10.0.0.1:1", ATHENS_PPROF_PORT="tcp://10.0.0.1:1").config
    assert (config.index.mysql.port, config.pprof_port) == (3306, ":3001")


def test_the_origin_of_the_port(load_text):
    assert str(load_text(PORT="1").origins["Port"]) == "PORT"
    assert str(load_text(ATHENS_PORT="1").origins["Port"]) == "ATHENS_PORT"
    assert str(load_text(ATHENS_PORT="tcp://x").origins["Port"]) == "default"


@pytest.mark.parametrize("port", [" ", "99999", "-1", "x", "http://h:1"])
def test_a_port_that_is_none(problems, port):
    [line] = problems(PORT=port)
    assert line.startswith("Port = ")
    assert "(PORT): must be a port" in line


def test_names_of_mongo_count_only_as_variables(load_text):
    text = '[Storage.Mongo]\nDefaultDBName = "mine"\nDefaultCollectionName = "modules"'
    loaded = load_text(text)
    assert loaded.config.storage.mongo.default_db_name == "athens"
    assert str(loaded.origins["Storage.Mongo.DefaultDBName"]) == "default"
    [warning] = loaded.warnings
    assert warning.startswith('Storage.Mongo.DefaultDBName = "mine" (')
    assert '"athens" is used unless ATHENS_MONGO_DEFAULT_DATABASE is set' in warning
    loaded = load_text(text, ATHENS_MONGO_DEFAULT_DATABASE="theirs", ATHENS_MONGO_DEFAULT_COLLECTION="")
    table = loaded.config.storage.mongo
    assert (table.default_db_name, table.default_collection_name) == ("theirs", "modules")
    assert loaded.warnings == []


class TestModes:
    """Who may write, and who may read."""

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444, 0o744])
    def test_modes_that_production_takes(self, load_text, mode):
        assert load_text("", mode=mode, GO_ENV="production").warnings == []

    @pytest.mark.parametrize("mode", [0o660, 0o664, 0o622, 0o710, 0o755, 0o666])
    def test_modes_that_production_refuses(self, load_text, problems, mode):
        [line] = problems('GoEnv = "production"', mode=mode)
        assert line.startswith(f"athens.toml: has mode 0{mode:o}; ")
        load_text('GoEnv = "Production"', mode=mode)
        load_text("", mode=mode)

    def test_the_filter_file_is_looked_at_too(self, load_text, problems, tmp_path):
        (tmp_path / "filter").touch()
        (tmp_path / "filter").chmod(0o666)
        (tmp_path / "link").symlink_to("filter")
        text = 'GoEnv = "production"\nFilterFile = "link"'
        [line] = problems(text)
        assert line.startswith("link: has mode 0666")
        (tmp_path / "filter").chmod(0o644)
        load_text(text)
        (tmp_path / "link").unlink()
        load_text(text)

    def test_without_a_file_of_settings_nothing_is_looked_at(self, tmp_path):
        (tmp_path / "filter").touch()
        (tmp_path / "filter").chmod(0o666)
        load(None, {"GO_ENV": "production", "ATHENS_FILTER_FILE": "filter"}, cwd=tmp_path)

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ('GithubToken = "hush"', "GithubToken"),
            ('GoBinaryEnvVars = ["GOPROXY=https://u:hush@h"]', "GoBinaryEnvVars"),
            ('ValidatorHook = "https://u:hush@h"', "ValidatorHook"),
            ('[SingleFlight.Redis]\nEndpoint = "redis://:hush@h"', "SingleFlight.Redis.Endpoint"),
        ],
    )
    def test_a_file_with_secrets_that_all_can_read_is_told(self, load_text, text, key):
        [warning] = load_text(text, mode=0o644).warnings
        assert f"holds a secret ({key}) and everybody can read it" in warning
        assert "hush" not in warning
        assert load_text(text, mode=0o640).warnings == []

    def test_no_secret_is_no_reason(self, load_text):
        text = 'GithubToken = ""\n[SingleFlight.RedisSentinel]\nSentinelPassword = "sekret"'
        assert load_text(text, mode=0o644).warnings == []
        assert load_text('GithubToken = ""', mode=0o644, ATHENS_GITHUB_TOKEN="hush").warnings == []


def test_secrets_are_masked_in_problems(problems):
    text = 'GithubToken = "hush"\nNETRCPath = "x"\nValidatorHook = "ftp://u:hush@h"\n[Storage.S3]\nSecret = ["hush"]'
    lines = problems(text, ATHENS_GO_BINARY_ENV_VARS="hush", ATHENS_SUM_DBS="http://u:hush@h")
    assert len(lines) == 5
    assert "hush" not in "".join(lines)


def test_a_value_of_many_lines_stays_on_one(problems):
    [line] = problems(ATHENS_LOG_LEVEL="a\nb\x1b[31m")
    assert "\n" not in line
    assert "\x1b" not in line


def test_the_environment_of_this_process_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("ATHENS_LOG_LEVEL", "error")
    monkeypatch.chdir(tmp_path)
    assert load(None, {}, cwd=tmp_path).config.log_level == "debug"
    assert load(None, dict(os.environ), cwd=tmp_path).config.log_level == "error"
