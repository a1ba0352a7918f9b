"""A file of Athens starts the proxy, unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from athens_tx.config import Config, ConfigError, changes, load
from athens_tx.config.document import read_document
from athens_tx.config.settings import SETTINGS

FILE = Path(__file__).parent / "athens.toml"
DEAD = {
    "BuffaloLogLevel",
    "DownloadRedirectURL",
    "GoNoSumPatterns",
    "Storage.CDN",
    "Storage.Mongo.Insecure",
    "Storage.AzureBlob.StorageResource",
}


def test_the_file_holds_every_setting_of_athens():
    written = {".".join(path).casefold() for path in read_document(FILE).lines}
    assert {setting.key for setting in SETTINGS if not setting.own and setting.key.casefold() not in written} == set()


def test_it_loads_with_a_word_about_what_is_dead(tmp_path):
    loaded = load(FILE, {}, cwd=tmp_path)
    unknown = [warning for warning in loaded.warnings if "is not a setting" in warning]
    assert {warning.partition(" (")[0] for warning in unknown} == DEAD
    others = [warning for warning in loaded.warnings if warning not in unknown]
    # Only that placeholders stand where secrets belong, if the mode of the checkout lets everybody read it.
    assert all("holds a secret" in warning for warning in others)


def test_what_it_says_is_taken_over(tmp_path):
    config = load(FILE, {}, cwd=tmp_path).config
    differences = {key: new for key, _, new in changes(Config(), config)}
    assert differences.pop("Index.Postgres.Params") == '{ connect_timeout = "30s", sslmode = "disable" }'
    assert {key.split(".")[0] for key in differences} == {"Storage"}
    assert config.storage.azure_blob.managed_identity_resource_id == "MY_MANAGED_IDENTITY_RESOURCE_ID"
    assert config.storage.mongo.insecure_conn is False
    assert config.storage.disk.root_path == "/path/on/disk"


@pytest.mark.parametrize("kind", ["memory", "disk", "mongo", "minio", "s3"])
def test_it_loads_with_each_storage_that_its_placeholders_fill(tmp_path, kind):
    assert load(FILE, {"ATHENS_STORAGE_TYPE": kind}, cwd=tmp_path).config.storage_type == kind


@pytest.mark.parametrize(
    ("kind", "key"), [("gcp", "JSONKey"), ("azureblob", "AccountKey"), ("external", "Storage.External.URL")]
)
def test_a_placeholder_that_can_not_be_meant_is_told(tmp_path, kind, key):
    with pytest.raises(ConfigError, match=key):
        load(FILE, {"ATHENS_STORAGE_TYPE": kind}, cwd=tmp_path)


@pytest.mark.parametrize("lock", ["", "memory", "etcd", "redis", "redis-sentinel"])
@pytest.mark.parametrize("index", ["", "none", "memory", "mysql", "postgres"])
def test_it_loads_with_each_lock_and_index(tmp_path, lock, index):
    environ = {"ATHENS_SINGLE_FLIGHT_TYPE": lock, "ATHENS_INDEX_TYPE": index}
    config = load(FILE, environ, cwd=tmp_path).config
    assert (config.single_flight_type, config.index_type) == (lock, index)


def test_a_container_overrides_it_by_variables(tmp_path):
    environ = {
        "ATHENS_STORAGE_TYPE": "disk",
        "ATHENS_DISK_STORAGE_ROOT": "/var/lib/athens",
        "ATHENS_GOGET_WORKERS": "5",
        "ATHENS_PORT": "tcp://10.96.0.1:80",
        "ATHENS_SERVICE_HOST": "10.96.0.1",
        "ATHENS_PORT_80_TCP_ADDR": "10.96.0.1",
        "GO_ENV": "production",
    }
    if FILE.stat().st_mode & 0o033:
        environ["GO_ENV"] = "development"
    config = load(FILE, environ, cwd=tmp_path).config
    assert (config.storage.disk.root_path, config.go_get_workers, config.port) == ("/var/lib/athens", 5, ":3000")
