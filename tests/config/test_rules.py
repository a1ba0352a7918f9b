"""What single values have to be."""

from __future__ import annotations

import base64

import pytest

from athens_tx.config import Config
from athens_tx.config.rules import is_address, is_base64, is_url, quoted
from athens_tx.config.settings import SETTINGS

HCL = base64.b64encode(b'mode = "sync"\ndownloadURL = ""').decode()
KEY = "033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"


def test_choices_are_named():
    assert quoted(["a"]) == '"a"'
    assert quoted(["a", "b", "c"]) == '"a", "b" or "c"'


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h:3000/path?q#f",
        "HTTPS://H",
        "http://u:p@h",
        "http://[::1]:3000",
        "http://127.0.0.1",
        "http://grün.example",
    ],
)
def test_urls(url):
    assert is_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h:3000",
        "//h",
        "ftp://h",
        "http:/h",
        "http://",
        "http://:80",
        "http://h:x",
        "http://h:99999",
        "http://[h",
        "http://a b",
        "http://h\n",
        "https//h",
    ],
)
def test_what_is_no_url(url):
    assert not is_url(url)


@pytest.mark.parametrize(
    "address",
    [":3000", "127.0.0.1:3000", "[::1]:3000", "[fe80::1%eth0]:80", "localhost:0", ":http", ":", "h:http-alt", ":65535"],
)
def test_addresses(address):
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    ["", "3000", "::1:3000", "[::1]", "[x]:1", ":65536", ":-1", "a b:1", "h:1:2", ":3000 ", "tcp://h:1", ":٣", "h:1\n"],
)
def test_what_is_no_address(address):
    assert not is_address(address)


def test_base64():
    assert is_base64("YWI=")
    assert is_base64("YW\r\nI=\n")
    assert not any(map(is_base64, ["", "YWI", "YW I=", "YW-_", "ä"]))


def fault(key, value):
    """@return: what is said about a value; C{None} if it is right."""
    from pydantic import ValidationError

    [setting] = [setting for setting in SETTINGS if setting.key == key]
    try:
        Config.model_validate({setting.attributes[0]: value})
    except ValidationError as error:
        [one] = error.errors()
        return one["msg"]
    return None


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("GoEnv", ["development", "production", "staging", " "], [""]),
        ("GoBinary", ["go", "/usr/bin/go"], [""]),
        (
            "LogLevel",
            ["debug", "TRACE", " Warn ", "warning", "fatal", "panic", "info", "error"],
            ["", "verbose", "warn ing"],
        ),
        ("LogFormat", ["", "plain", "json"], ["Plain", "text", " "]),
        ("NetworkMode", ["strict", "offline", "fallback"], ["", "Strict", "online"]),
        (
            "StorageType",
            ["memory", "disk", "mongo", "gcp", "minio", "s3", "azureblob", "external"],
            ["", "Disk", "tape"],
        ),
        (
            "SingleFlightType",
            ["", "memory", "etcd", "redis", "redis-sentinel", "gcp", "azureblob"],
            ["Redis", "none"],
        ),
        ("IndexType", ["", "none", "memory", "mysql", "postgres"], ["MySQL", "sqlite"]),
        ("UpstreamErrors", ["not-found", "gateway"], ["", "404"]),
        ("GoGetWorkers", [1, 1000], [0, -1]),
        ("ProtocolWorkers", [1], [0, -1]),
        ("Timeout", [1], [0, -1]),
        ("StashTimeout", [1], [0, -600]),
        ("ShutdownTimeout", [0, 1], [-1]),
        ("ListCacheTTL", [0, 1], [-1]),
        ("NotFoundTTL", [0], [-1]),
        ("MemoryStorageLimit", [1], [0, -1]),
        ("GoModCacheLimit", [0], [-1]),
        ("FetchQueueLimit", [0], [-1]),
        ("ValidatorTimeout", [1], [0]),
        ("ValidatorCacheTTL", [0], [-1]),
        ("HeaderTimeout", [1], [0]),
        ("IdleTimeout", [1], [0]),
        ("MaxZipSize", [1], [0]),
        (
            "ExternalStoragePath",
            ["", "/storage", "/a-b/c.d/E_1"],
            [
                "storage",
                "/",
                "/a/",
                "//a",
                "/a//b",
                "/.a",
                "/a/..",
                "/a b",
                "/<x>",
                "/github.com",
                "/catalog",
                "/sumdb/x",
            ],
        ),
        (
            "DownloadMode",
            ["sync", "async", "none", "redirect", "async_redirect", "file:/etc/x", "file:x y", f"custom:{HCL}"],
            ["", "Sync", " sync", "file:", "file", "custom:", "custom:%%%", "custom:YWI", "http:x"],
        ),
        ("GoBinaryEnvVars", [[], ["A=b"], ["A="], ["A=b=c"]], [["A"], ["A=b", ""], ["=b"]]),
        (
            "SumDBs",
            [
                [],
                ["https://sum.golang.org"],
                ["https://sum.golang.org/", "https://other.example:8443/path"],
                ["sum.golang.org"],
                ["db.example:8080"],
                [f"sum.golang.org+{KEY}"],
                ["sum.golang.org https://mirror.example/sumdb"],
                ["sum.golang.org http://127.0.0.1:3001"],
                [f"sum.golang.org+{KEY}  http://127.0.0.1:3001/x"],
            ],
            [
                [""],
                [" "],
                ["off"],
                ["http://127.0.0.1:3001"],
                ["ftp://h"],
                ["https://"],
                ["name ftp://h"],
                ["name h"],
                ["name https://h more"],
                ["https://h https://h"],
                ["name+key https://h"],
                ["../x"],
                ["https://sum.golang.org", "http://h"],
            ],
        ),
    ],
)
def test_rules(key, good, bad):
    assert [value for value in good if fault(key, value) is not None] == []
    for value in bad:
        said = fault(key, value)
        assert said, value
        assert len(said.splitlines()) == 1


def test_an_item_that_is_no_assignment_is_not_repeated():
    assert fault("GoBinaryEnvVars", ["A=b", "hush"]) == "item 2 must have the form NAME=value"


def test_every_rule_is_in_the_reference():
    texts = {setting.key: setting.rule for setting in SETTINGS}
    assert texts["GoGetWorkers"] == "> 0"
    assert texts["ShutdownTimeout"] == ">= 0"
    assert texts["LogFormat"] == '`""` `plain` `json`'
    assert texts["Storage.S3.Region"] == "not empty*"
