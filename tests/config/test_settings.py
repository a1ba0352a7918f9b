"""Every setting is Athens', name by name, or one of ours."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from athens_tx.config import Config
from athens_tx.config.backends import Disk, Storage
from athens_tx.config.declare import Kind
from athens_tx.config.settings import SETTINGS

ATHENS = [
    [cell.strip() for cell in line.split("|")]
    for line in (Path(__file__).parent / "athens_settings.txt").read_text().splitlines()
]
OURS = {
    "ListCacheTTL": ("ATHENS_LIST_CACHE_TTL", 60),
    "NotFoundTTL": ("ATHENS_NOT_FOUND_TTL", 10),
    "MemoryStorageLimit": ("ATHENS_MEMORY_STORAGE_LIMIT", 2**30),
    "GoModCacheLimit": ("ATHENS_GO_MOD_CACHE_LIMIT", 10 * 2**30),
    "FetchQueueLimit": ("ATHENS_FETCH_QUEUE_LIMIT", 1000),
    "UpstreamErrors": ("ATHENS_UPSTREAM_ERRORS", "not-found"),
    "FilterLists": ("ATHENS_FILTER_LISTS", False),
    "FilterExactVersions": ("ATHENS_FILTER_EXACT_VERSIONS", False),
    "ValidatorTimeout": ("ATHENS_VALIDATOR_TIMEOUT", 10),
    "ValidatorCacheTTL": ("ATHENS_VALIDATOR_CACHE_TTL", 0),
    "HeaderTimeout": ("ATHENS_HEADER_TIMEOUT", 10),
    "IdleTimeout": ("ATHENS_IDLE_TIMEOUT", 180),
    "SumDBCacheDir": ("ATHENS_SUM_DB_CACHE_DIR", ""),
    "IndexJournal": ("ATHENS_INDEX_JOURNAL", ""),
    "MaxZipSize": ("ATHENS_MAX_ZIP_SIZE", 500 * 2**20),
    "ExternalStoragePath": ("ATHENS_EXTERNAL_STORAGE_PATH", ""),
    "Storage.GCP.Endpoint": ("ATHENS_STORAGE_GCP_ENDPOINT", ""),
    "Storage.GCP.PresignedRedirect": ("ATHENS_STORAGE_GCP_PRESIGNED_REDIRECT", False),
    "Storage.Minio.PresignedRedirect": ("ATHENS_MINIO_PRESIGNED_REDIRECT", False),
    "Storage.S3.PresignedRedirect": ("ATHENS_S3_PRESIGNED_REDIRECT", False),
    "Storage.AzureBlob.Endpoint": ("ATHENS_AZURE_ENDPOINT", ""),
    "Storage.AzureBlob.PresignedRedirect": ("ATHENS_AZURE_PRESIGNED_REDIRECT", False),
}


def test_there_are_103_settings_of_athens_and_ours():
    assert len(ATHENS) == 103
    assert {row[0] for row in ATHENS} == {setting.key for setting in SETTINGS if not setting.own}
    assert set(OURS) == {setting.key for setting in SETTINGS if setting.own}
    assert len({setting.key.casefold() for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("row", ATHENS, ids=lambda row: row[0])
def test_a_setting_is_as_athens_has_it(row):
    key, env, kind, default, secret = row
    [setting] = [setting for setting in SETTINGS if setting.key == key]
    assert setting.env == env
    assert {"seconds": "int"}.get(setting.kind.value, setting.kind.value) == kind
    assert setting.default == tomllib.loads(f"v = {default}")["v"]
    assert type(setting.default) is type(tomllib.loads(f"v = {default}")["v"])
    assert setting.of(Config()) == setting.default
    assert setting.secret.hidden == (secret == "secret")
    assert setting.meaning.endswith(".")
    assert "\n" not in setting.meaning


@pytest.mark.parametrize("key", OURS)
def test_a_setting_is_ours(key):
    [setting] = [setting for setting in SETTINGS if setting.key == key]
    assert (setting.env, setting.default) == OURS[key]
    assert setting.variables == (setting.env,)


def test_long_forms_are_prefix_and_plain_name():
    variables = {setting.key: setting.variables for setting in SETTINGS}
    assert variables["GoEnv"] == ("ATHENS_GO_ENV", "GO_ENV")
    assert variables["GoBinary"] == ("ATHENS_GO_BINARY_PATH", "GO_BINARY_PATH")
    assert variables["ForceSSL"] == ("ATHENS_PROXY_FORCE_SSL", "PROXY_FORCE_SSL")
    assert variables["Port"] == ("ATHENS_ATHENS_PORT", "ATHENS_PORT")
    assert variables["Timeout"] == ("ATHENS_TIMEOUT",)
    assert variables["Storage.S3.Region"] == ("ATHENS_STORAGE_S3_AWS_REGION", "AWS_REGION")
    assert variables["SingleFlight.RedisSentinel.LockConfig.TTL"] == (
        "ATHENS_SINGLEFLIGHT_REDISSENTINEL_LOCKCONFIG_ATHENS_REDIS_LOCK_TTL",
        "ATHENS_REDIS_LOCK_TTL",
    )
    assert {setting.prefix for setting in SETTINGS} == {
        "ATHENS_",
        "ATHENS_SINGLEFLIGHT_ETCD_",
        "ATHENS_SINGLEFLIGHT_REDIS_",
        "ATHENS_SINGLEFLIGHT_REDIS_LOCKCONFIG_",
        "ATHENS_SINGLEFLIGHT_REDISSENTINEL_",
        "ATHENS_SINGLEFLIGHT_REDISSENTINEL_LOCKCONFIG_",
        "ATHENS_SINGLEFLIGHT_GCP_",
        "ATHENS_STORAGE_DISK_",
        "ATHENS_STORAGE_GCP_",
        "ATHENS_STORAGE_MINIO_",
        "ATHENS_STORAGE_MONGO_",
        "ATHENS_STORAGE_S3_",
        "ATHENS_STORAGE_AZUREBLOB_",
        "ATHENS_STORAGE_EXTERNAL_",
        "ATHENS_INDEX_MYSQL_",
        "ATHENS_INDEX_POSTGRES_",
    }


def test_only_the_documented_variables_are_shared():
    shared: dict[str, set[str]] = {}
    for setting in SETTINGS:
        for variable in setting.variables:
            shared.setdefault(variable, set()).add(setting.key)
        if setting.secret.hidden:
            for variable in setting.variables:
                shared.setdefault(f"{variable}_FILE", set()).add(f"{setting.key} file")
    lock = "LockConfig"
    assert {variable: keys for variable, keys in shared.items() if len(keys) > 1} == {
        "ATHENS_REDIS_PASSWORD": {"SingleFlight.Redis.Password", "SingleFlight.RedisSentinel.RedisPassword"},
        "ATHENS_REDIS_PASSWORD_FILE": {
            "SingleFlight.Redis.Password file",
            "SingleFlight.RedisSentinel.RedisPassword file",
        },
        **{
            f"ATHENS_REDIS_LOCK_{env}": {f"SingleFlight.Redis.{lock}.{key}", f"SingleFlight.RedisSentinel.{lock}.{key}"}
            for env, key in (("TTL", "TTL"), ("TIMEOUT", "Timeout"), ("MAX_RETRIES", "MaxRetries"))
        },
    }


def test_plain_settings_come_before_tables():
    depths = [len(setting.path) > 1 for setting in SETTINGS]
    assert depths == sorted(depths)


def test_a_configuration_is_frozen_typed_and_closed():
    config = Config(storage_type="disk", storage=Storage(disk=Disk(root_path="/srv")))
    assert config.storage.disk.root_path == "/srv"
    with pytest.raises(ValidationError):
        config.port = ":1"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Config(timeout="300")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Config(prot="x")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="must be above 0"):
        Config(go_get_workers=0)


def test_defaults_are_not_shared():
    one, other = Config(), Config()
    one.go_binary_env_vars.append("A=b")
    one.index.mysql.params["x"] = "y"
    assert other.go_binary_env_vars == ["GOPROXY=direct"]
    assert "x" not in other.index.mysql.params


def test_a_printed_configuration_shows_no_secret():
    config = Config(
        basic_auth_pass="hush1",
        go_binary_env_vars=["GOPROXY=https://me:hush2@proxy", "MY_TOKEN=hush3"],
        validator_hook="https://me:hush4@hook/",
        storage=Storage.model_validate({"s3": {"secret": "hush5"}, "mongo": {"url": "mongodb://a:hush6@h"}}),
    )
    for text in (repr(config), str(config), f"{config.storage!r}"):
        assert "hush" not in text
        assert "root_path=''" in text


def test_an_error_of_pydantic_shows_no_value():
    with pytest.raises(ValidationError) as caught:
        Config(go_binary_env_vars=["hush"])
    assert "hush" not in str(caught.value)


def test_kinds_cover_every_type():
    assert {setting.kind for setting in SETTINGS} == set(Kind)
