"""What the file gives."""

from __future__ import annotations

import pytest

from athens_tx.config import Config
from athens_tx.config.settings import SETTINGS


def test_plain_keys_tables_dotted_keys_and_inline_tables(load_text):
    texts = (
        'Storage.S3.Region = "r"\nStorage.S3.Bucket = "b"',
        '[Storage.S3]\nRegion = "r"\nBucket = "b"',
        '[Storage]\nS3 = { Region = "r", Bucket = "b" }',
        '[Storage]\n  [Storage.S3]\n  Region = "r"\n  Bucket = "b"',
        'Storage = { S3.Region = "r", S3 .Bucket = "b" }',
    )
    for text in texts:
        table = load_text(text).config.storage.s3
        assert (table.region, table.bucket) == ("r", "b")


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.swapcase])
def test_names_match_without_regard_to_case(load_text, spell):
    text = f'{spell("GoEnv")} = "x"\n[{spell("SingleFlight.RedisSentinel.LockConfig")}]\n{spell("TTL")} = 7000'
    loaded = load_text(text)
    assert loaded.warnings == []
    assert loaded.config.go_env == "x"
    assert loaded.config.single_flight.redis_sentinel.lock_config.ttl == 7000


def test_folding_is_that_of_unicode(load_text):
    assert load_text('"TL\u017fCertFile" = "c"\nTLSKeyFile = "k"').config.tls_cert_file == "c"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('Port = ":1"\nport = ":2"', "Port (athens.toml:1) and port (athens.toml:2): are one key in two spellings"),
        (
            '[Storage.S3]\nRegion = "a"\nregion = "b"\nREGION = "c"',
            "Storage.S3.Region (athens.toml:2) and Storage.S3.region (athens.toml:3): are one key in two spellings",
        ),
        (
            '[Storage.Disk]\nRootPath = "a"\n[storage.disk]\nRootPath = "b"',
            "Storage (athens.toml:1) and storage (athens.toml:3): are one key in two spellings",
        ),
        ('Storage = "disk"', "Storage (athens.toml:1): must be a table, this is a string"),
        ("Storage = [1]", "Storage (athens.toml:1): must be a table, this is an array"),
        ('[[Storage.S3]]\nRegion = "x"', "Storage.S3 (athens.toml:1): must be a table, this is an array of tables"),
        ('[Port]\nx = "y"', 'Port = { x = "y" } (athens.toml:1): must be a string, this is a table'),
        ("Port = 3000", "Port = 3000 (athens.toml:1): must be a string, this is an integer; put it in quotes"),
        (
            'ForceSSL = "true"',
            'ForceSSL = "true" (athens.toml:1): must be a boolean, this is a string; leave the quotes',
        ),
        ("GoGetWorkers = true", "GoGetWorkers = true (athens.toml:1): must be an integer, this is a boolean"),
        ("Timeout = 5.0", "Timeout = 5.0 (athens.toml:1): must be whole seconds"),
        ("MaxZipSize = 5.0", "MaxZipSize = 5.0 (athens.toml:1): must be a number of bytes"),
        ('\n\nSumDBs = "https://x"', 'SumDBs = "https://x" (athens.toml:3): must be an array of strings'),
        ("GoEnv = 1979-05-27", "GoEnv = 1979-05-27 (athens.toml:1): must be a string, this is a date or time"),
        (
            "[Index.MySQL.Params]\ntimeout = 30",
            "Index.MySQL.Params = { timeout = 30 } (athens.toml:1): must be a table of strings, but 'timeout' is",
        ),
        (
            "[Storage.S3]\nSecret = 4711",
            'Storage.S3.Secret = "***" (athens.toml:2): must be a string, this is an integer',
        ),
        (
            'GoBinaryEnvVars = ["A_TOKEN=hush", 3]',
            'GoBinaryEnvVars = ["A_TOKEN=***", 3] (athens.toml:1): must be an array',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(problems, text, said):
    assert problems(text)[0].startswith(said)


def test_a_table_that_is_none_leaves_its_rules_alone(problems):
    assert len(problems('StorageType = "disk"\nStorage = 3')) == 1
    assert len(problems('StorageType = "disk"\n[storage.disk]\nRootPath = "x"\n[Storage.Disk]\nRootPath = ""')) == 1


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("GoGetWorkers = 0x1F", "GoGetWorkers", 31),
        ("GoGetWorkers = 1_000", "GoGetWorkers", 1000),
        ("GoGetWorkers = 0o17", "GoGetWorkers", 15),
        ("TraceSamplingFraction = 1", "TraceSamplingFraction", 1.0),
        ('Timeout = "5m"', "Timeout", 300),
        ('MemoryStorageLimit = "2GiB"', "MemoryStorageLimit", 2**31),
        ("MemoryStorageLimit = 2048", "MemoryStorageLimit", 2048),
        ("GoBinaryEnvVars = []", "GoBinaryEnvVars", []),
        ('NoSumPatterns = ["a", " b"]', "NoSumPatterns", ["a", " b"]),
    ],
)
def test_values(load_text, text, key, value):
    [setting] = [setting for setting in SETTINGS if setting.key == key]
    assert setting.of(load_text(text).config) == value


def test_params_add_to_their_default(load_text):
    text = '[Index.MySQL.Params]\ntimeout = "90s"\nTimeout = "kept, case matters"'
    assert load_text(text).config.index.mysql.params == {
        "parseTime": "true",
        "timeout": "90s",
        "Timeout": "kept, case matters",
    }
    loaded = load_text("[Index]\nMySQL.Params = {}")
    assert loaded.config.index.mysql.params == Config().index.mysql.params
    assert str(loaded.origins["Index.MySQL.Params"]) == "default"


def test_the_rest_of_a_table_stays_at_its_defaults(load_text):
    lock = load_text("[SingleFlight.Redis.LockConfig]\nTTL = 1000").config.single_flight.redis.lock_config
    assert (lock.timeout, lock.ttl, lock.max_retries) == (15, 1000, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('Prot = "1"', "Prot (athens.toml:1): is not a setting and has no effect; did you mean Port?"),
        ('[Storage.Tape]\nA = 1\nB = 2\n[Index]\nX = "y"', "Storage.Tape (athens.toml:1): is not a setting"),
        (
            "[storage.mongo]\nInsecure = true",
            "storage.mongo.Insecure (athens.toml:2): is not a setting and has no effect; it never",
        ),
        (
            '[Storage.AzureBlob]\nStorageResource = "x"',
            "Storage.AzureBlob.StorageResource (athens.toml:2): .*CredentialScope",
        ),
        ('[Storage.CDN]\nEndpoint = "x"', "Storage.CDN (athens.toml:1): .*sample file of Athens"),
        ('DownloadRedirectURL = "x"', "DownloadRedirectURL .* the key is DownloadURL"),
        ("GoNoSumPatterns = []", "GoNoSumPatterns .* the key is NoSumPatterns"),
    ],
)
def test_an_unknown_name_is_a_warning_and_an_error_when_strict(load_text, problems, tmp_path, text, said):
    import re

    warning = load_text(text).warnings[0].replace(f"{tmp_path}/", "")
    assert re.match(said.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?"), warning)
    assert problems(text, strict=True)[0] == warning


def test_names_of_many_lines_stay_on_one(load_text, problems):
    assert all(len(warning.splitlines()) == 1 for warning in load_text('"Po\\nrt" = 1\n"a.b" = 2').warnings)
    problems('[Index.MySQL.Params]\n"a\\nb" = 1')


def test_an_unknown_name_in_two_spellings_is_only_unknown(load_text):
    assert len(load_text("Xyzzy = 1\nxyzzy = 2").warnings) == 2


def test_insecure_stays_without_effect(load_text):
    assert load_text("[Storage.Mongo]\nInsecure = true").config.storage.mongo.insecure_conn is False
