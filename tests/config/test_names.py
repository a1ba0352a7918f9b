"""Names that are no settings, and what is said about them."""

from __future__ import annotations

import pytest

from athens_tx.config.names import nearest_key, strange_variable


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("Prot", "did you mean Port?"),
        ("GoBinarry", "did you mean GoBinary?"),
        ("storagetipe", "did you mean StorageType?"),
        ("Storage.S3.Regoin", "did you mean Storage.S3.Region?"),
        ("Storage.S33", "did you mean Storage.S3?"),
        ("Storage.Postgres", "did you mean Index.Postgres?"),
        ("Storages", "did you mean Storage?"),
        ("RootPath", "did you mean Storage.Disk.RootPath?"),
        ("Storage.Disk.GoEnv", "did you mean GoEnv, which must stand before the first table header?"),
        ("Storage.Disk.GithubTokn", "did you mean GithubToken, which must stand before the first table header?"),
        ("Bucket", "did you mean Storage.GCP.Bucket or Storage.Minio.Bucket?"),
        ("Index.MySQL.LockConfig.TTL", "did you mean SingleFlight.Redis.LockConfig.TTL or"),
        ("Xyzzy", "no setting has a name like it"),
        ("Storage.Disk.Qqqqq", "no setting has a name like it"),
    ],
)
def test_the_nearest_key_is_named(path, hint):
    assert nearest_key(tuple(path.split("."))).startswith(hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ATHENS_TLS_CERT_FILE", "did you mean ATHENS_TLSCERT_FILE?"),
        ("ATHENS_GOGET_WORKER", "did you mean ATHENS_GOGET_WORKERS?"),
        ("ATHENS_AZURE_STORAGE_RESOURCE", "ATHENS_AZURE_CREDENTIAL_SCOPE"),
        ("ATHENS_SINGLE_FLIGHT TYPE", "ATHENS_SINGLE_FLIGHT_TYPE"),
        ("ATHENS_GITHUB_TOKEN_FIL", "did you mean ATHENS_GITHUB_TOKEN"),
    ],
)
def test_a_variable_that_looks_like_one_of_ours_is_told(name, hint):
    assert hint in strange_variable(name)


@pytest.mark.parametrize(
    "name",
    [
        "ATHENS_PORT",
        "GO_ENV",
        "ATHENS_GO_ENV",
        "ATHENS_GITHUB_TOKEN_FILE",
        "PATH",
        "GO_ENVV",
        "TIMEOUT",
        "ATHENS_VERSION",
        "ATHENS_SERVICE_HOST",
        "ATHENS_SERVICE_PORT",
        "ATHENS_SERVICE_PORT_HTTP",
        "ATHENS_PORT_3000_TCP",
        "ATHENS_PORT_3000_TCP_ADDR",
        "ATHENS_REDIS_PORT",
        "ATHENS_REDIS_SENTINEL_PORT",  # looks like ATHENS_REDIS_SENTINEL_DB
        "ATHENS_PROXY_SERVICE_HOST",
    ],
)
def test_other_variables_are_none_of_our_business(name):
    assert strange_variable(name) is None
