"""Rules of the backends: they hold only for the storage, the lock and the index that are used."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from athens_tx.config.backends import LockConfig
from athens_tx.config.checks import Finding, doubt, refuse
from athens_tx.config.declare import Setting
from athens_tx.config.rules import is_base64, is_url
from athens_tx.config.settings import SETTINGS, Config
from athens_tx.errors import ConfigError
from athens_tx.singleflight import etcd_servers, redis_url

_BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in SETTINGS}

_STORAGE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "disk": ("Storage.Disk.RootPath",),
    "mongo": ("Storage.Mongo.URL",),
    "gcp": ("Storage.GCP.Bucket",),
    "minio": ("Storage.Minio.Endpoint", "Storage.Minio.Key", "Storage.Minio.Secret", "Storage.Minio.Bucket"),
    "s3": ("Storage.S3.Region", "Storage.S3.Bucket"),
    "azureblob": ("Storage.AzureBlob.AccountName", "Storage.AzureBlob.ContainerName"),
    "external": ("Storage.External.URL",),
}
_INDEX_NEEDS: Mapping[str, tuple[str, ...]] = {
    "mysql": ("Index.MySQL.Protocol", "Index.MySQL.Host", "Index.MySQL.User", "Index.MySQL.Database"),
    "postgres": ("Index.Postgres.Host", "Index.Postgres.Port", "Index.Postgres.User", "Index.Postgres.Database"),
}


def backend_checks(config: Config) -> Iterator[Finding]:
    """@return: what is wrong with the tables that are in use."""
    yield from storage_checks(config, config.storage_type)
    yield from _needs(config, _INDEX_NEEDS.get(config.index_type, ()), f'with IndexType = "{config.index_type}"')
    if config.single_flight_type in _LOCKS:
        yield from _LOCKS[config.single_flight_type](config)


def storage_checks(config: Config, kind: str) -> Iterator[Finding]:
    """
    @param kind: the storage that is used, whatever C{StorageType} says.
    @return: what is wrong with its table.
    """
    chosen = kind == config.storage_type
    why = f'with StorageType = "{kind}"' if chosen else f'where the storage "{kind}" is used'
    yield from _needs(config, _STORAGE_NEEDS.get(kind, ()), why)
    if kind in _STORAGE:
        yield from _STORAGE[kind](config)


def _needs(config: Config, keys: Iterable[str], why: str) -> Iterator[Finding]:
    for key in keys:
        what = _BY_KEY[key].of(config)
        if not what:
            yield refuse(f"must not be {'0' if what == 0 else 'empty'} {why}", key)


def _gcp(config: Config) -> Iterator[Finding]:
    if config.storage.gcp.endpoint and not is_url(config.storage.gcp.endpoint):
        yield refuse("must be an http or https URL", "Storage.GCP.Endpoint")
    key = config.storage.gcp.json_key
    if not key:
        return
    try:
        good = isinstance(json.loads(base64.b64decode(re.sub(r"[\r\n]", "", key), validate=True)), dict)
    except (binascii.Error, ValueError, RecursionError):
        good = False
    if not good:
        yield refuse("must be a JSON credential in standard base64", "Storage.GCP.JSONKey")


def _mongo(config: Config) -> Iterator[Finding]:
    table = config.storage.mongo
    if table.url and not re.match(r"mongodb(\+srv)?://[^/?]", table.url):
        yield refuse("must begin with mongodb:// or mongodb+srv:// and name a server", "Storage.Mongo.URL")
    if table.insecure_conn and not table.cert_path:
        yield doubt("has no effect without CertPath", "Storage.Mongo.InsecureConn")


def _s3(config: Config) -> Iterator[Finding]:
    table = config.storage.s3
    if table.endpoint and not is_url(table.endpoint) and not is_url(f"https://{table.endpoint}"):
        yield doubt("must be a URL or a host", "Storage.S3.Endpoint")
    if table.use_default_configuration:
        return
    if bool(table.key) != bool(table.secret):
        missing, there = ("Key", "Secret") if table.secret else ("Secret", "Key")
        yield doubt("both are needed to sign a request", f"Storage.S3.{missing}", f"Storage.S3.{there}")
    relative = table.aws_container_credentials_relative_uri
    if table.credentials_endpoint and not is_url(table.credentials_endpoint):
        yield doubt("must be an http or https URL", "Storage.S3.CredentialsEndpoint")
    elif table.credentials_endpoint and relative and not relative.startswith("/"):
        yield doubt("must begin with a slash", "Storage.S3.AwsContainerCredentialsRelativeURI")


def _azure_blob(config: Config) -> Iterator[Finding]:
    table = config.storage.azure_blob
    if table.endpoint and not is_url(table.endpoint):
        yield refuse("must be an http or https URL", "Storage.AzureBlob.Endpoint")
    identity, scope = table.managed_identity_resource_id, table.credential_scope
    if not table.account_key and not (identity and scope):
        yield refuse(
            "must be set, or both ManagedIdentityResourceID and CredentialScope", "Storage.AzureBlob.AccountKey"
        )
    elif table.account_key and not is_base64(table.account_key):
        yield refuse("must be standard base64", "Storage.AzureBlob.AccountKey")
    if table.account_key and identity and not scope:
        text = "must not be empty: ManagedIdentityResourceID is set, so AccountKey is not used"
        yield refuse(text, "Storage.AzureBlob.CredentialScope")


def _external(config: Config) -> Iterator[Finding]:
    if config.storage.external.url and not is_url(config.storage.external.url):
        yield doubt("must be an http or https URL", "Storage.External.URL")


def _etcd(config: Config) -> Iterator[Finding]:
    yield from _read(etcd_servers.parse, config.single_flight.etcd.endpoints, key=etcd_servers.ENDPOINTS)


def _read(parse: Callable[..., object], *given: object, key: str) -> Iterator[Finding]:
    """@return: what the backend's own reading of a setting has to say."""
    try:
        parse(*given)
    except ConfigError as error:
        yield refuse(error.problems[0].removeprefix(f"{key}: "), key)


def _redis(config: Config) -> Iterator[Finding]:
    table, key = config.single_flight.redis, "SingleFlight.Redis.Endpoint"
    try:
        given = table.endpoint, key
        servers = redis_url.seeds(*given) if table.cluster else [redis_url.parse(*given)]
    except ConfigError as error:
        yield refuse(error.problems[0].removeprefix(f"{key}: "), key)
        servers = []
    if table.password and any(server.password not in ("", table.password) for server in servers):
        text = "the password in the URL and this one differ; give only one"
        yield refuse(text, "SingleFlight.Redis.Password", key)
    yield from _lock_config(table.lock_config, "SingleFlight.Redis.LockConfig")


def _redis_sentinel(config: Config) -> Iterator[Finding]:
    table = config.single_flight.redis_sentinel
    key = "SingleFlight.RedisSentinel.Endpoints"
    yield from _read(redis_url.sentinels, table.endpoints, key, key=key)
    if table.db < 0:
        yield refuse("must be at least 0", "SingleFlight.RedisSentinel.DB")
    yield from _lock_config(table.lock_config, "SingleFlight.RedisSentinel.LockConfig")


def _lock_config(lock: LockConfig, key: str) -> Iterator[Finding]:
    for name, value in (("Timeout", lock.timeout), ("TTL", lock.ttl), ("MaxRetries", lock.max_retries)):
        if value <= 0:
            yield refuse("must be above 0", f"{key}.{name}")


def _gcp_lock(config: Config) -> Iterator[Finding]:
    yield from _needs_storage(config, "gcp")
    if config.single_flight.gcp.stale_threshold <= 0:
        yield refuse("must be above 0", "SingleFlight.GCP.StaleThreshold")


def _azure_blob_lock(config: Config) -> Iterator[Finding]:
    yield from _needs_storage(config, "azureblob")


def _needs_storage(config: Config, kind: str) -> Iterator[Finding]:
    if config.storage_type != kind:
        yield refuse(f'works only with StorageType = "{kind}"', "SingleFlightType", "StorageType")


_Check = Callable[[Config], Iterator[Finding]]

_STORAGE: Mapping[str, _Check] = {
    "gcp": _gcp,
    "mongo": _mongo,
    "s3": _s3,
    "azureblob": _azure_blob,
    "external": _external,
}
_LOCKS: Mapping[str, _Check] = {
    "etcd": _etcd,
    "redis": _redis,
    "redis-sentinel": _redis_sentinel,
    "gcp": _gcp_lock,
    "azureblob": _azure_blob_lock,
}
