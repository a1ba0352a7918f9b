"""Rules of the storage, the lock and the index that are chosen."""

from __future__ import annotations

import base64

import pytest

from athens_tx.config import Config
from athens_tx.config.backend_checks import backend_checks
from athens_tx.config.settings import SETTINGS

KEYS = {setting.key for setting in SETTINGS}
JSON = base64.b64encode(b'{"type": "service_account"}').decode()


def found(**values):
    """@return: key of the first setting and whether the start is refused, for each finding."""
    findings = list(backend_checks(Config.model_validate(values)))
    for finding in findings:
        assert set(finding.keys) <= KEYS
        assert len(finding.text.splitlines()) == 1
    return [(finding.keys[0], finding.fatal) for finding in findings]


def test_the_defaults_are_right():
    assert found() == []


@pytest.mark.parametrize(
    ("kind", "needs"),
    [
        ("memory", []),
        ("disk", ["Disk.RootPath"]),
        ("mongo", ["Mongo.URL"]),
        ("gcp", ["GCP.Bucket"]),
        ("minio", ["Minio.Endpoint", "Minio.Key", "Minio.Secret", "Minio.Bucket"]),
        ("s3", ["S3.Region", "S3.Bucket"]),
        ("azureblob", ["AzureBlob.AccountName", "AzureBlob.ContainerName", "AzureBlob.AccountKey"]),
        ("external", ["External.URL"]),
    ],
)
def test_a_chosen_storage_needs_its_keys(kind, needs):
    assert found(storage_type=kind) == [(f"Storage.{need}", True) for need in needs]


@pytest.mark.parametrize("kind", ["", "none", "memory", "mysql", "postgres"])
def test_the_defaults_of_an_index_are_enough(kind):
    assert found(index_type=kind) == []


def test_a_chosen_index_needs_its_keys():
    empty = {"host": "", "user": "", "database": "", "port": 0}
    assert [key for key, _ in found(index_type="mysql", index={"mysql": {**empty, "protocol": ""}})] == [
        f"Index.MySQL.{name}" for name in ("Protocol", "Host", "User", "Database")
    ]
    assert [key for key, _ in found(index_type="postgres", index={"postgres": empty})] == [
        f"Index.Postgres.{name}" for name in ("Host", "Port", "User", "Database")
    ]
    [zero] = backend_checks(Config.model_validate({"index_type": "postgres", "index": {"postgres": {"port": 0}}}))
    assert zero.text == 'must not be 0 with IndexType = "postgres"'


AZURE = {"account_name": "a", "container_name": "c"}
BOTH = {"managed_identity_resource_id": "/x", "credential_scope": "s"}
S3 = {"region": "r", "bucket": "b"}


@pytest.mark.parametrize(
    ("kind", "table", "values", "wrong"),
    [
        ("gcp", "gcp", {"bucket": "b"}, []),
        ("gcp", "gcp", {"bucket": "b", "json_key": JSON}, []),
        ("gcp", "gcp", {"bucket": "b", "json_key": JSON[:8] + "\n" + JSON[8:]}, []),
        ("gcp", "gcp", {"bucket": "b", "json_key": "{}"}, [("GCP.JSONKey", True)]),
        ("gcp", "gcp", {"bucket": "b", "json_key": "e30"}, [("GCP.JSONKey", True)]),
        ("gcp", "gcp", {"bucket": "b", "json_key": base64.b64encode(b"[]").decode()}, [("GCP.JSONKey", True)]),
        ("gcp", "gcp", {"bucket": "b", "json_key": base64.b64encode(b"[" * 99999).decode()}, [("GCP.JSONKey", True)]),
        ("mongo", "mongo", {"url": "mongodb://u:p@a:1,b/db?x=y"}, []),
        ("mongo", "mongo", {"url": "mongodb+srv://a"}, []),
        ("mongo", "mongo", {"url": "http://a"}, [("Mongo.URL", True)]),
        ("mongo", "mongo", {"url": "mongodb://"}, [("Mongo.URL", True)]),
        ("mongo", "mongo", {"url": "mongodb://a", "insecure_conn": True}, [("Mongo.InsecureConn", False)]),
        ("mongo", "mongo", {"url": "mongodb://a", "insecure_conn": True, "cert_path": "c"}, []),
        ("s3", "s3", S3, []),
        ("s3", "s3", {**S3, "key": "k", "secret": "s", "token": "t"}, []),
        ("s3", "s3", {**S3, "key": "k"}, [("S3.Secret", False)]),
        ("s3", "s3", {**S3, "secret": "s"}, [("S3.Key", False)]),
        ("s3", "s3", {**S3, "secret": "s", "use_default_configuration": True}, []),
        ("s3", "s3", {**S3, "endpoint": "s3.example"}, []),
        ("s3", "s3", {**S3, "endpoint": "http://127.0.0.1:9000"}, []),
        ("s3", "s3", {**S3, "endpoint": "a b"}, [("S3.Endpoint", False)]),
        ("s3", "s3", {**S3, "credentials_endpoint": "x"}, [("S3.CredentialsEndpoint", False)]),
        (
            "s3",
            "s3",
            {**S3, "credentials_endpoint": "http://169.254.170.2", "aws_container_credentials_relative_uri": "/v2/x"},
            [],
        ),
        (
            "s3",
            "s3",
            {**S3, "credentials_endpoint": "http://169.254.170.2", "aws_container_credentials_relative_uri": "x"},
            [("S3.AwsContainerCredentialsRelativeURI", False)],
        ),
        ("azureblob", "azure_blob", {**AZURE, "account_key": "YWI="}, []),
        ("azureblob", "azure_blob", {**AZURE, **BOTH}, []),
        ("azureblob", "azure_blob", {**AZURE, **BOTH, "account_key": "YWI="}, []),
        ("azureblob", "azure_blob", {**AZURE, "account_key": "?"}, [("AzureBlob.AccountKey", True)]),
        ("azureblob", "azure_blob", {**AZURE, "credential_scope": "s"}, [("AzureBlob.AccountKey", True)]),
        (
            "azureblob",
            "azure_blob",
            {**AZURE, "account_key": "YWI=", "managed_identity_resource_id": "/x"},
            [("AzureBlob.CredentialScope", True)],
        ),
        ("external", "external", {"url": "http://h/x/"}, []),
        ("external", "external", {"url": "h"}, [("External.URL", False)]),
    ],
    ids=str,
)
def test_storages(kind, table, values, wrong):
    expected = [(f"Storage.{key}", fatal) for key, fatal in wrong]
    assert found(storage_type=kind, storage={table: values}) == expected
    assert found(storage={table: values}) == []


REDIS = "SingleFlight.Redis"
SENTINEL = "SingleFlight.RedisSentinel"


@pytest.mark.parametrize(
    ("kind", "table", "values", "wrong"),
    [
        ("etcd", "etcd", {"endpoints": "a:1, b:2"}, []),
        ("etcd", "etcd", {"endpoints": "https://user:pass@a, http://b:2"}, []),
        ("etcd", "etcd", {"endpoints": " , "}, [("SingleFlight.Etcd.Endpoints", True)]),
        ("etcd", "etcd", {"endpoints": "http:/u:pass@h"}, [("SingleFlight.Etcd.Endpoints", True)]),
        ("etcd", "etcd", {"endpoints": "a b:1"}, [("SingleFlight.Etcd.Endpoints", True)]),
        ("etcd", "etcd", {"endpoints": "user:pass@a:1"}, [("SingleFlight.Etcd.Endpoints", True)]),
        ("redis", "redis", {"endpoint": "h:1"}, []),
        ("redis", "redis", {"endpoint": "redis://u:p@h:1/0?dial_timeout=5"}, []),
        ("redis", "redis", {"endpoint": "rediss://h"}, []),
        ("redis", "redis", {"endpoint": "redis://:p@/1"}, []),
        ("redis", "redis", {"endpoint": "redis://"}, []),
        ("redis", "redis", {"endpoint": "unix:///run/redis.sock?db=1"}, []),
        ("redis", "redis", {"endpoint": "unix://u:p@/run/redis.sock"}, []),
        ("redis", "redis", {"endpoint": "unix://[x"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redi://h"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redis://h:x"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redis://:p@h", "password": "p"}, []),
        ("redis", "redis", {"endpoint": "redis://:a%2Fb@h", "password": "a/b"}, []),
        ("redis", "redis", {"endpoint": "redis://u@h", "password": "p"}, []),
        ("redis", "redis", {"endpoint": "redis://:q@h", "password": "p"}, [(f"{REDIS}.Password", True)]),
        ("redis", "redis", {"endpoint": "unix://:q@/s", "password": "p"}, [(f"{REDIS}.Password", True)]),
        ("redis", "redis", {"cluster": True, "endpoint": "a:1, redis://b:2,"}, []),
        ("redis", "redis", {"cluster": True, "endpoint": "a:1, http://b:2"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "user:pass@h:1"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redis:/:pass@h:1"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "rediss//:pass@h"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redis://h/abc"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"endpoint": "redis://a_b:1"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"cluster": True, "endpoint": "a:1,u:pass@h:1"}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"cluster": True, "endpoint": " , "}, [(f"{REDIS}.Endpoint", True)]),
        ("redis", "redis", {"lock_config": {"timeout": 0}}, [(f"{REDIS}.LockConfig.Timeout", True)]),
        ("redis", "redis", {"lock_config": {"ttl": 0}}, [(f"{REDIS}.LockConfig.TTL", True)]),
        ("redis", "redis", {"lock_config": {"max_retries": -1}}, [(f"{REDIS}.LockConfig.MaxRetries", True)]),
        ("redis", "redis", {"lock_config": {"ttl": 599}}, []),
        ("redis", "redis", {"lock_config": {"ttl": 600}}, []),
        ("redis-sentinel", "redis_sentinel", {}, []),
        ("redis-sentinel", "redis_sentinel", {"endpoints": []}, [(f"{SENTINEL}.Endpoints", True)]),
        ("redis-sentinel", "redis_sentinel", {"endpoints": [" "]}, [(f"{SENTINEL}.Endpoints", True)]),
        ("redis-sentinel", "redis_sentinel", {"endpoints": ["a:1", "[::1]:2", "c"]}, []),
        ("redis-sentinel", "redis_sentinel", {"endpoints": ["u:pass@h:1"]}, [(f"{SENTINEL}.Endpoints", True)]),
        ("redis-sentinel", "redis_sentinel", {"endpoints": ["redis://h:1"]}, [(f"{SENTINEL}.Endpoints", True)]),
        ("redis-sentinel", "redis_sentinel", {"endpoints": ["h:x"]}, [(f"{SENTINEL}.Endpoints", True)]),
        ("redis-sentinel", "redis_sentinel", {"db": -1}, [(f"{SENTINEL}.DB", True)]),
        ("redis-sentinel", "redis_sentinel", {"lock_config": {"ttl": 1}}, []),
    ],
    ids=str,
)
def test_locks(kind, table, values, wrong):
    assert found(single_flight_type=kind, single_flight={table: values}) == wrong
    assert found(single_flight={table: values}) == []


def test_some_locks_work_only_with_their_storage():
    gcp = {"gcp": {"bucket": "b"}}
    azure = {"azure_blob": {**AZURE, **BOTH}}
    assert found(single_flight_type="gcp") == [("SingleFlightType", True)]
    assert found(single_flight_type="gcp", storage_type="gcp", storage=gcp) == []
    assert found(single_flight_type="azureblob") == [("SingleFlightType", True)]
    assert found(single_flight_type="azureblob", storage_type="azureblob", storage=azure) == []
    stale = {"gcp": {"stale_threshold": 0}}
    assert found(single_flight_type="gcp", storage_type="gcp", storage=gcp, single_flight=stale) == [
        ("SingleFlight.GCP.StaleThreshold", True)
    ]
