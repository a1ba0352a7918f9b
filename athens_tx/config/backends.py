"""
The tables of locks, storages and indexes.

A star marks a rule that holds only where the backend is chosen; L{athens_tx.config.backend_checks} looks after those.
"""

from __future__ import annotations

from athens_tx.config.declare import Seconds, Table, setting, table
from athens_tx.config.masking import Secret

_CHOSEN = "not empty*"


class Etcd(Table):
    """C{SingleFlightType = "etcd"}."""

    endpoints: str = setting(
        "Endpoints",
        "ATHENS_ETCD_ENDPOINTS",
        "localhost:2379,localhost:22379,localhost:32379",
        "The etcd servers, the first that answers is used; a URL may have TLS and its options, user and password.",
        rule="one string with commas, in the file too: `host:port`, or `http://` or `https://` URLs",
        secret=Secret.SERVERS,
    )


class LockConfig(Table):
    """How a Redis lock behaves."""

    timeout: Seconds = setting(
        "Timeout",
        "ATHENS_REDIS_LOCK_TIMEOUT",
        15,
        "Kept for old files; it has no effect: who waits does so as long as StashTimeout.",
        rule="> 0*",
    )
    ttl: Seconds = setting(
        "TTL",
        "ATHENS_REDIS_LOCK_TTL",
        900,
        "How long a lock outlives its holder: at most 30 s, for one that is held is renewed.",
        rule="> 0*",
    )
    max_retries: int = setting(
        "MaxRetries", "ATHENS_REDIS_LOCK_MAX_RETRIES", 10, "Kept for old files; it has no effect.", rule="> 0*"
    )


class Redis(Table):
    """C{SingleFlightType = "redis"}."""

    endpoint: str = setting(
        "Endpoint",
        "ATHENS_REDIS_ENDPOINT",
        "127.0.0.1:6379",
        "The Redis server; with Cluster, some of its servers, with commas.",
        rule="`host:port`, or a `redis://`, `rediss://` or `unix://` URL",
        secret=Secret.URL,
    )
    password: str = setting(
        "Password",
        "ATHENS_REDIS_PASSWORD",
        "",
        "Password of the server.",
        rule="the same as in the URL, if that has one",
        secret=Secret.YES,
    )
    cluster: bool = setting("Cluster", "ATHENS_REDIS_CLUSTER", False, "Endpoint names a Redis Cluster.")
    lock_config: LockConfig = table("LockConfig", LockConfig)


class RedisSentinel(Table):
    """C{SingleFlightType = "redis-sentinel"}."""

    endpoints: list[str] = setting(
        "Endpoints",
        "ATHENS_REDIS_SENTINEL_ENDPOINTS",
        ["127.0.0.1:26379"],
        "The sentinels; if one has TLS, all have, and the master.",
        rule="at least one*, `host:port`, or `rediss://host:port` for TLS",
        secret=Secret.SERVERS,
    )
    master_name: str = setting(
        "MasterName", "ATHENS_REDIS_SENTINEL_MASTER_NAME", "redis-1", "Name of the master that they watch."
    )
    sentinel_password: str = setting(
        "SentinelPassword",
        "ATHENS_REDIS_SENTINEL_PASSWORD",
        "sekret",
        "Password of the sentinels; set it to empty where they have none.",
        secret=Secret.YES,
    )
    redis_username: str = setting("RedisUsername", "ATHENS_REDIS_USERNAME", "", "User on the master.")
    redis_password: str = setting(
        "RedisPassword", "ATHENS_REDIS_PASSWORD", "", "Password on the master.", secret=Secret.YES
    )
    db: int = setting("DB", "ATHENS_REDIS_SENTINEL_DB", 0, "Number of the Redis database.")
    lock_config: LockConfig = table("LockConfig", LockConfig)


class GcpLock(Table):
    """C{SingleFlightType = "gcp"}."""

    stale_threshold: Seconds = setting(
        "StaleThreshold", "ATHENS_GCP_STALE_THRESHOLD", 120, "Kept for old files; it has no effect.", rule="> 0*"
    )


class SingleFlight(Table):
    """The locks. L{athens_tx.config.Config}'s C{single_flight_type} says which one is used."""

    etcd: Etcd = table("Etcd", Etcd)
    redis: Redis = table("Redis", Redis)
    redis_sentinel: RedisSentinel = table("RedisSentinel", RedisSentinel)
    gcp: GcpLock = table("GCP", GcpLock)


class Disk(Table):
    """C{StorageType = "disk"}."""

    root_path: str = setting(
        "RootPath", "ATHENS_DISK_STORAGE_ROOT", "", "Folder of the versions; it must exist.", rule=_CHOSEN
    )


class Gcp(Table):
    """C{StorageType = "gcp"}."""

    project_id: str = setting("ProjectID", "GOOGLE_CLOUD_PROJECT", "", "Accepted and not used, as in Athens.")
    bucket: str = setting(
        "Bucket", "ATHENS_STORAGE_GCP_BUCKET", "", "Bucket; it must exist.", rule=_CHOSEN, example="athens"
    )
    json_key: str = setting(
        "JSONKey",
        "ATHENS_STORAGE_GCP_JSON_KEY",
        "",
        "Credential; empty is Google's application default credentials.",
        rule="standard base64 of a JSON credential",
        secret=Secret.YES,
    )
    endpoint: str = setting(
        "Endpoint",
        "ATHENS_STORAGE_GCP_ENDPOINT",
        "",
        "Where the storage service is, if it is not Google's public one: a private endpoint, an emulator.",
        rule="URL",
        own=True,
    )
    presigned_redirect: bool = setting(
        "PresignedRedirect",
        "ATHENS_STORAGE_GCP_PRESIGNED_REDIRECT",
        False,
        "Answer a zip by a redirect to a signed URL of the store, good for some minutes, and not by its bytes.",
        own=True,
    )


class Minio(Table):
    """C{StorageType = "minio"}."""

    endpoint: str = setting(
        "Endpoint",
        "ATHENS_MINIO_ENDPOINT",
        "",
        "The server; a scheme in front is ignored.",
        rule=f"{_CHOSEN}, `host:port`",
        example="127.0.0.1:9000",
    )
    key: str = setting("Key", "ATHENS_MINIO_ACCESS_KEY_ID", "", "Access key.", rule=_CHOSEN, example="an access key")
    secret: str = setting(
        "Secret",
        "ATHENS_MINIO_SECRET_ACCESS_KEY",
        "",
        "Secret key.",
        rule=_CHOSEN,
        secret=Secret.YES,
        example="a secret key",
    )
    bucket: str = setting(
        "Bucket",
        "ATHENS_MINIO_BUCKET_NAME",
        "",
        "Bucket; made at the start if it can be.",
        rule=_CHOSEN,
        example="athens",
    )
    region: str = setting("Region", "ATHENS_MINIO_REGION", "", "Region in which the bucket is made.")
    enable_ssl: bool = setting("EnableSSL", "ATHENS_MINIO_USE_SSL", False, "Speak HTTPS to the server.")
    presigned_redirect: bool = setting(
        "PresignedRedirect",
        "ATHENS_MINIO_PRESIGNED_REDIRECT",
        False,
        "Answer a zip by a redirect to a signed URL of the store, good for some minutes, and not by its bytes.",
        own=True,
    )


class Mongo(Table):
    """C{StorageType = "mongo"}."""

    url: str = setting(
        "URL",
        "ATHENS_MONGO_STORAGE_URL",
        "",
        "Connection string.",
        rule=f"{_CHOSEN}, `mongodb://` or `mongodb+srv://`",
        secret=Secret.URL,
        example="mongodb://127.0.0.1:27017",
    )
    default_db_name: str = setting(
        "DefaultDBName",
        "ATHENS_MONGO_DEFAULT_DATABASE",
        "athens",
        "Database. As in Athens only the variable counts, never the file.",
    )
    default_collection_name: str = setting(
        "DefaultCollectionName",
        "ATHENS_MONGO_DEFAULT_COLLECTION",
        "modules",
        "Collection. As in Athens only the variable counts, never the file.",
    )
    cert_path: str = setting(
        "CertPath", "ATHENS_MONGO_CERT_PATH", "", "Certificate authority of the server: use TLS.", rule="path (PEM)"
    )
    insecure_conn: bool = setting(
        "InsecureConn",
        "ATHENS_MONGO_INSECURE",
        False,
        "Do not verify the server's certificate.",
        rule="works only with CertPath",
    )


class S3(Table):
    """C{StorageType = "s3"}."""

    region: str = setting(
        "Region", "AWS_REGION", "", "Region, needed with Endpoint too.", rule=_CHOSEN, example="eu-central-1"
    )
    key: str = setting("Key", "AWS_ACCESS_KEY_ID", "", "Access key.", rule="with Secret")
    secret: str = setting("Secret", "AWS_SECRET_ACCESS_KEY", "", "Secret key.", rule="with Key", secret=Secret.YES)
    token: str = setting("Token", "AWS_SESSION_TOKEN", "", "Session token.", secret=Secret.YES)
    bucket: str = setting(
        "Bucket", "ATHENS_S3_BUCKET_NAME", "", "Bucket; it must exist.", rule=_CHOSEN, example="athens"
    )
    use_default_configuration: bool = setting(
        "UseDefaultConfiguration",
        "AWS_USE_DEFAULT_CONFIGURATION",
        False,
        "Take credentials as other AWS programs do, and not those of this table.",
    )
    force_path_style: bool = setting(
        "ForcePathStyle", "AWS_FORCE_PATH_STYLE", False, "The bucket is part of the path, not of the host name."
    )
    credentials_endpoint: str = setting(
        "CredentialsEndpoint",
        "AWS_CREDENTIALS_ENDPOINT",
        "",
        "Service that hands out credentials; asked before Key and Secret are used.",
        rule="URL",
    )
    aws_container_credentials_relative_uri: str = setting(
        "AwsContainerCredentialsRelativeURI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "",
        "Put behind CredentialsEndpoint.",
        rule="begins with `/`",
    )
    endpoint: str = setting(
        "Endpoint", "AWS_ENDPOINT", "", "A server that speaks S3; a bare host is taken as https.", rule="URL or host"
    )
    presigned_redirect: bool = setting(
        "PresignedRedirect",
        "ATHENS_S3_PRESIGNED_REDIRECT",
        False,
        "Answer a zip by a redirect to a signed URL of the store, good for some minutes, and not by its bytes.",
        own=True,
    )


class AzureBlob(Table):
    """C{StorageType = "azureblob"}."""

    account_name: str = setting(
        "AccountName", "ATHENS_AZURE_ACCOUNT_NAME", "", "Storage account.", rule=_CHOSEN, example="athens"
    )
    account_key: str = setting(
        "AccountKey",
        "ATHENS_AZURE_ACCOUNT_KEY",
        "",
        "Shared key.",
        rule="base64; this or both ManagedIdentityResourceID and CredentialScope*",
        secret=Secret.YES,
    )
    managed_identity_resource_id: str = setting(
        "ManagedIdentityResourceID",
        "ATHENS_AZURE_MANAGED_IDENTITY_RESOURCE_ID",
        "",
        "User-assigned identity; used even where AccountKey is set.",
        rule="with CredentialScope",
    )
    credential_scope: str = setting(
        "CredentialScope",
        "ATHENS_AZURE_CREDENTIAL_SCOPE",
        "",
        "Scope that is asked for with the identity, usually https://storage.azure.com/.default.",
    )
    container_name: str = setting(
        "ContainerName",
        "ATHENS_AZURE_CONTAINER_NAME",
        "",
        "Container; it must exist.",
        rule=_CHOSEN,
        example="athens",
    )
    endpoint: str = setting(
        "Endpoint",
        "ATHENS_AZURE_ENDPOINT",
        "",
        "The account's blob service, if it is not that of the public cloud: a sovereign cloud, a private endpoint, an"
        " emulator.",
        rule="URL",
        own=True,
    )
    presigned_redirect: bool = setting(
        "PresignedRedirect",
        "ATHENS_AZURE_PRESIGNED_REDIRECT",
        False,
        "Answer a zip by a redirect to a signed URL of the store, good for some minutes, and not by its bytes.",
        own=True,
    )


class External(Table):
    """C{StorageType = "external"}."""

    url: str = setting(
        "URL",
        "ATHENS_EXTERNAL_STORAGE_URL",
        "",
        "Base URL of the storage service.",
        rule=f"{_CHOSEN}, URL; a login in it is used for basic auth",
        secret=Secret.URL,
        example="http://127.0.0.1:3002",
    )


class Storage(Table):
    """The storages. L{athens_tx.config.Config}'s C{storage_type} says which one is used."""

    disk: Disk = table("Disk", Disk)
    gcp: Gcp = table("GCP", Gcp)
    minio: Minio = table("Minio", Minio)
    mongo: Mongo = table("Mongo", Mongo)
    s3: S3 = table("S3", S3)
    azure_blob: AzureBlob = table("AzureBlob", AzureBlob)
    external: External = table("External", External)


class MySQL(Table):
    """C{IndexType = "mysql"}."""

    protocol: str = setting("Protocol", "ATHENS_INDEX_MYSQL_PROTOCOL", "tcp", "Network: tcp, or unix.", rule=_CHOSEN)
    host: str = setting(
        "Host", "ATHENS_INDEX_MYSQL_HOST", "localhost", "Host; with unix the path of the socket.", rule=_CHOSEN
    )
    port: int = setting("Port", "ATHENS_INDEX_MYSQL_PORT", 3306, "Port.")
    user: str = setting("User", "ATHENS_INDEX_MYSQL_USER", "root", "User.", rule=_CHOSEN)
    password: str = setting("Password", "ATHENS_INDEX_MYSQL_PASSWORD", "", "Password.", secret=Secret.YES)
    database: str = setting(
        "Database", "ATHENS_INDEX_MYSQL_DATABASE", "athens", "Database; it must exist.", rule=_CHOSEN
    )
    params: dict[str, str] = setting(
        "Params",
        "ATHENS_INDEX_MYSQL_PARAMS",
        {"parseTime": "true", "timeout": "30s"},
        "Parameters as the Go driver names them, see docs/index.md. The file adds to the default, the variable replaces"
        " it.",
    )


class Postgres(Table):
    """C{IndexType = "postgres"}."""

    host: str = setting("Host", "ATHENS_INDEX_POSTGRES_HOST", "localhost", "Host.", rule=_CHOSEN)
    port: int = setting("Port", "ATHENS_INDEX_POSTGRES_PORT", 5432, "Port.", rule="not 0*")
    user: str = setting("User", "ATHENS_INDEX_POSTGRES_USER", "postgres", "User.", rule=_CHOSEN)
    password: str = setting("Password", "ATHENS_INDEX_POSTGRES_PASSWORD", "", "Password.", secret=Secret.YES)
    database: str = setting(
        "Database", "ATHENS_INDEX_POSTGRES_DATABASE", "athens", "Database; it must exist.", rule=_CHOSEN
    )
    params: dict[str, str] = setting(
        "Params",
        "ATHENS_INDEX_POSTGRES_PARAMS",
        {"connect_timeout": "30", "sslmode": "disable"},
        "Parameters of libpq, see docs/index.md. The file adds to the default, the variable replaces it.",
    )


class Index(Table):
    """The index databases. L{athens_tx.config.Config}'s C{index_type} says which one is used."""

    mysql: MySQL = table("MySQL", MySQL)
    postgres: Postgres = table("Postgres", Postgres)
