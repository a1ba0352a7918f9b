"""
The settings: each one's name, variable, default, meaning and rule. The tables of the backends are in
L{athens_tx.config.backends}.
"""

from __future__ import annotations

from typing import Annotated

from athens_tx.config.backends import Index, SingleFlight, Storage
from athens_tx.config.declare import Bytes, EnvList, Seconds, Setting, Table, declared, setting, table
from athens_tx.config.masking import Secret
from athens_tx.config.rules import (
    INDEX_TYPES,
    LOCK_TYPES,
    STORAGE_TYPES,
    above_zero,
    assignments,
    at_least,
    checksum_databases,
    known_log_level,
    known_mode,
    not_empty,
    one_of,
    service_path,
)

_MIB = 1024 * 1024


class Config(Table):
    """All settings, with the defaults of Athens."""

    # General, logs, observation, time limits.
    go_env: Annotated[str, not_empty] = setting(
        "GoEnv", "GO_ENV", "development", "Kind of deployment: production checks file modes, development traces all."
    )
    log_level: Annotated[str, known_log_level] = setting(
        "LogLevel", "ATHENS_LOG_LEVEL", "debug", "Least severe record that is written."
    )
    log_format: Annotated[str, one_of("", "plain", "json")] = setting(
        "LogFormat", "ATHENS_LOG_FORMAT", "plain", "Layout of the log, unless CloudRuntime is GCP; empty is plain."
    )
    cloud_runtime: str = setting(
        "CloudRuntime",
        "ATHENS_CLOUD_RUNTIME",
        "none",
        "GCP: log JSON records as Google's cloud wants them. Nothing else has a meaning.",
        rule="not empty if LogFormat is empty",
    )
    enable_pprof: bool = setting("EnablePprof", "ATHENS_ENABLE_PPROF", False, "Starts the profiling listener.")
    pprof_port: str = setting(
        "PprofPort",
        "ATHENS_PPROF_PORT",
        ":3001",
        "Address of the profiling listener.",
        rule="`host:port` or `:port`; a bare number is refused",
    )
    trace_exporter: str = setting(
        "TraceExporter", "ATHENS_TRACE_EXPORTER", "", "Where traces are sent.", rule='`""` (off) or `otlp`'
    )
    trace_exporter_url: str = setting(
        "TraceExporterURL",
        "ATHENS_TRACE_EXPORTER_URL",
        "http://localhost:4317",
        "OTLP collector; if empty, the OTEL_EXPORTER_OTLP_* variables decide.",
        rule="URL",
    )
    trace_sampling_fraction: float = setting(
        "TraceSamplingFraction",
        "ATHENS_TRACE_SAMPLING_FRACTION",
        1.0,
        "Share of traces that is kept when GoEnv is not development.",
        rule="0 to 1",
    )
    stats_exporter: str = setting(
        "StatsExporter", "ATHENS_STATS_EXPORTER", "prometheus", "Publishes /metrics.", rule='`""` (off) or `prometheus`'
    )
    timeout: Annotated[Seconds, above_zero] = setting(
        "Timeout", "ATHENS_TIMEOUT", 300, "Limit of one version listing at an upstream or repository."
    )
    stash_timeout: Annotated[Seconds, above_zero] = setting(
        "StashTimeout", "ATHENS_STASH_TIMEOUT", 600, "Limit of fetching and storing one version."
    )
    shutdown_timeout: Annotated[Seconds, at_least(0)] = setting(
        "ShutdownTimeout", "ATHENS_SHUTDOWN_TIMEOUT", 60, "How long open requests may run on at the end."
    )

    # Listening and HTTP.
    port: str = setting(
        "Port",
        "ATHENS_PORT",
        ":3000",
        "TCP address to listen on. The variable PORT comes second, before the file.",
        rule="`3000`, `:3000` or `host:3000`",
    )
    unix_socket: str = setting(
        "UnixSocket", "ATHENS_UNIX_SOCKET", "", "Listen on this socket and on no TCP port.", rule="path"
    )
    tls_cert_file: str = setting(
        "TLSCertFile", "ATHENS_TLSCERT_FILE", "", "Certificate chain: serve HTTPS.", rule="path (PEM), with TLSKeyFile"
    )
    tls_key_file: str = setting(
        "TLSKeyFile", "ATHENS_TLSKEY_FILE", "", "Private key of TLSCertFile.", rule="path (PEM), with TLSCertFile"
    )
    force_ssl: bool = setting(
        "ForceSSL", "PROXY_FORCE_SSL", False, "Redirect requests that came by plain HTTP to https."
    )
    path_prefix: str = setting(
        "PathPrefix", "ATHENS_PATH_PREFIX", "", "In front of every route.", rule="begins with `/`"
    )
    basic_auth_user: str = setting(
        "BasicAuthUser", "BASIC_AUTH_USER", "", "User of HTTP basic auth.", rule="with BasicAuthPass"
    )
    basic_auth_pass: str = setting(
        "BasicAuthPass",
        "BASIC_AUTH_PASS",
        "",
        "Password of HTTP basic auth.",
        rule="with BasicAuthUser",
        secret=Secret.YES,
    )
    home_template_path: str = setting(
        "HomeTemplatePath",
        "ATHENS_HOME_TEMPLATE_PATH",
        "/var/lib/athens/home.html",
        "Template of the home page; where there is no such file, the built-in page is shown.",
        rule="path",
    )
    robots_file: str = setting(
        "RobotsFile", "ATHENS_ROBOTS_FILE", "robots.txt", "Served as /robots.txt where it exists.", rule="path"
    )

    # Fetching.
    go_binary: Annotated[str, not_empty] = setting(
        "GoBinary", "GO_BINARY_PATH", "go", "The go command: a name on PATH, or a path."
    )
    go_binary_env_vars: Annotated[EnvList, assignments] = setting(
        "GoBinaryEnvVars",
        "ATHENS_GO_BINARY_ENV_VARS",
        ["GOPROXY=direct"],
        "Environment of the go command, and where modules come from (GOPROXY, GOPRIVATE, ...).",
        secret=Secret.ENVIRONMENT,
    )
    go_get_workers: Annotated[int, above_zero] = setting(
        "GoGetWorkers", "ATHENS_GOGET_WORKERS", 10, "Fetches that may run at once."
    )
    go_get_dir: str = setting(
        "GoGetDir",
        "ATHENS_GOGET_DIR",
        "",
        "Parent of the folders of fetches; empty is the system's temporary folder.",
        rule="path",
    )
    protocol_workers: Annotated[int, above_zero] = setting(
        "ProtocolWorkers", "ATHENS_PROTOCOL_WORKERS", 30, "Version listings that may run at once."
    )
    netrc_path: str = setting(
        "NETRCPath", "ATHENS_NETRC_PATH", "", "Credentials for git and for proxies.", rule="path; not with GithubToken"
    )
    github_token: str = setting(
        "GithubToken",
        "ATHENS_GITHUB_TOKEN",
        "",
        "Login for github.com.",
        rule="not with NETRCPath",
        secret=Secret.YES,
    )
    hgrc_path: str = setting("HGRCPath", "ATHENS_HGRC_PATH", "", "Settings of Mercurial.", rule="path")

    # Policy.
    download_mode: Annotated[str, known_mode] = setting(
        "DownloadMode", "ATHENS_DOWNLOAD_MODE", "sync", "What to do with a version that is not in storage."
    )
    download_url: str = setting(
        "DownloadURL",
        "ATHENS_DOWNLOAD_URL",
        "",
        "Where the modes redirect and async_redirect send clients.",
        rule="URL; not empty if DownloadMode redirects",
    )
    network_mode: Annotated[str, one_of("strict", "offline", "fallback")] = setting(
        "NetworkMode",
        "ATHENS_NETWORK_MODE",
        "strict",
        "strict: lists need upstream; fallback: storage helps out; offline: nothing leaves the machine.",
    )
    filter_file: str = setting("FilterFile", "ATHENS_FILTER_FILE", "", "Which modules may be served.", rule="path")
    global_endpoint: str = setting(
        "GlobalEndpoint",
        "ATHENS_GLOBAL_ENDPOINT",
        "http://localhost:3001",
        "Where rule D of the filter file sends clients.",
        rule="URL",
    )
    validator_hook: str = setting(
        "ValidatorHook",
        "ATHENS_PROXY_VALIDATOR",
        "",
        "Service that is asked whether a version may be served; empty is off.",
        rule="URL",
    )
    sum_dbs: Annotated[list[str], checksum_databases] = setting(
        "SumDBs",
        "ATHENS_SUM_DBS",
        ["https://sum.golang.org"],
        "Checksum databases that are passed on below /sumdb/.",
    )
    no_sum_patterns: list[str] = setting(
        "NoSumPatterns",
        "ATHENS_GONOSUM_PATTERNS",
        [],
        "Modules whose names no checksum database may learn; also GONOSUMDB of the go command.",
        rule="glob patterns",
    )

    # Selectors.
    storage_type: Annotated[str, one_of(*STORAGE_TYPES)] = setting(
        "StorageType", "ATHENS_STORAGE_TYPE", "memory", "Where versions are kept. Memory forgets them at the end."
    )
    single_flight_type: Annotated[str, one_of(*LOCK_TYPES)] = setting(
        "SingleFlightType",
        "ATHENS_SINGLE_FLIGHT_TYPE",
        "memory",
        "Lock that keeps two fetchers off one version; empty is memory.",
    )
    index_type: Annotated[str, one_of(*INDEX_TYPES)] = setting(
        "IndexType", "ATHENS_INDEX_TYPE", "none", "Keeper of the index; empty is none."
    )

    # Our own.
    list_cache_ttl: Annotated[Seconds, at_least(0)] = setting(
        "ListCacheTTL",
        "ATHENS_LIST_CACHE_TTL",
        60,
        "How long an answer to list and latest is fresh; 0 asks every time.",
        own=True,
    )
    not_found_ttl: Annotated[Seconds, at_least(0)] = setting(
        "NotFoundTTL",
        "ATHENS_NOT_FOUND_TTL",
        10,
        "How long it is remembered that a version does not exist; 0 is off.",
        own=True,
    )
    memory_storage_limit: Annotated[Bytes, above_zero] = setting(
        "MemoryStorageLimit",
        "ATHENS_MEMORY_STORAGE_LIMIT",
        1024 * _MIB,
        "How many bytes memory storage may hold; beyond, what was not read for the longest time is forgotten.",
        own=True,
    )
    go_mod_cache_limit: Annotated[Bytes, at_least(0)] = setting(
        "GoModCacheLimit",
        "ATHENS_GO_MOD_CACHE_LIMIT",
        10 * 1024 * _MIB,
        "Size to which the shared module cache below GoGetDir is pruned.",
        own=True,
    )
    fetch_queue_limit: Annotated[int, at_least(0)] = setting(
        "FetchQueueLimit",
        "ATHENS_FETCH_QUEUE_LIMIT",
        1000,
        "How many fetches, and how many listings, may wait for a worker; more are answered 503.",
        own=True,
    )
    upstream_errors: Annotated[str, one_of("not-found", "gateway")] = setting(
        "UpstreamErrors",
        "ATHENS_UPSTREAM_ERRORS",
        "not-found",
        "Trouble on the way to upstream is answered 404 as Athens does, or 502.",
        own=True,
    )
    filter_lists: bool = setting(
        "FilterLists", "ATHENS_FILTER_LISTS", False, "Thin list and latest by the filter file.", own=True
    )
    filter_exact_versions: bool = setting(
        "FilterExactVersions",
        "ATHENS_FILTER_EXACT_VERSIONS",
        False,
        "v1.2.3 in the filter file does not stand for v1.2.30 too.",
        own=True,
    )
    validator_timeout: Annotated[Seconds, above_zero] = setting(
        "ValidatorTimeout", "ATHENS_VALIDATOR_TIMEOUT", 10, "Limit of one question to ValidatorHook.", own=True
    )
    validator_cache_ttl: Annotated[Seconds, at_least(0)] = setting(
        "ValidatorCacheTTL",
        "ATHENS_VALIDATOR_CACHE_TTL",
        0,
        "How long a yes of ValidatorHook is remembered; 0 is off.",
        own=True,
    )
    header_timeout: Annotated[Seconds, above_zero] = setting(
        "HeaderTimeout", "ATHENS_HEADER_TIMEOUT", 10, "By then the headers of a request must be there.", own=True
    )
    idle_timeout: Annotated[Seconds, above_zero] = setting(
        "IdleTimeout", "ATHENS_IDLE_TIMEOUT", 180, "How long a connection without traffic stays open.", own=True
    )
    sum_db_cache_dir: str = setting(
        "SumDBCacheDir",
        "ATHENS_SUM_DB_CACHE_DIR",
        "",
        "Folder for what checksum databases said; empty keeps it in memory only.",
        rule="path",
        own=True,
    )
    index_journal: str = setting(
        "IndexJournal",
        "ATHENS_INDEX_JOURNAL",
        "",
        "Folder for lines that the database of the index has not got yet; empty is index-journal in the state directory"
        " of systemd's unit, else in GoGetDir, else in the system's temporary folder.",
        rule="path",
        own=True,
    )
    max_zip_size: Annotated[Bytes, above_zero] = setting(
        "MaxZipSize",
        "ATHENS_MAX_ZIP_SIZE",
        500 * _MIB,
        "Largest module zip that is accepted; the go command takes no larger one than 500 MiB.",
        own=True,
    )

    external_storage_path: Annotated[str, service_path] = setting(
        "ExternalStoragePath",
        "ATHENS_EXTERNAL_STORAGE_PATH",
        "",
        "Below this path the storage is offered as external storage to other proxies, to read, save and delete; empty"
        " is off.",
        own=True,
    )

    # The tables.
    single_flight: SingleFlight = table("SingleFlight", SingleFlight)
    storage: Storage = table("Storage", Storage)
    index: Index = table("Index", Index)


#: Every setting, in the order of the reference.
SETTINGS: tuple[Setting, ...] = declared(Config)
