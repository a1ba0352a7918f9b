"""The forms in which a checksum database is given."""

from __future__ import annotations

import pytest

from athens_tx.errors import ConfigError
from athens_tx.module.note import KNOWN_KEYS
from athens_tx.sumdb.database import Database, parse_databases
from tests.support.checksum_log import ChecksumLog

OURS = ChecksumLog("sum.example.test")


@pytest.mark.parametrize(
    ("entry", "name", "url", "address", "signer"),
    [
        ("https://sum.golang.org", "sum.golang.org", None, "https://sum.golang.org", "sum.golang.org"),
        ("https://sum.golang.org/path", "sum.golang.org", None, "https://sum.golang.org", "sum.golang.org"),
        ("https://sum.corp:8443", "sum.corp:8443", None, "https://sum.corp:8443", None),
        ("sum.golang.org", "sum.golang.org", None, "https://sum.golang.org", "sum.golang.org"),
        (
            "sum.golang.org http://mirror:1/x/",
            "sum.golang.org",
            "http://mirror:1/x",
            "http://mirror:1/x",
            "sum.golang.org",
        ),
        (
            "sum.golang.google.cn",
            "sum.golang.org",
            "https://sum.golang.google.cn",
            "https://sum.golang.google.cn",
            "sum.golang.org",
        ),
        ("sum.corp/db", "sum.corp/db", None, "https://sum.corp/db", None),
        (OURS.key, "sum.example.test", None, "https://sum.example.test", "sum.example.test"),
        (f"{OURS.key} https://x.y", "sum.example.test", "https://x.y", "https://x.y", "sum.example.test"),
        (KNOWN_KEYS["sum.golang.org"], "sum.golang.org", None, "https://sum.golang.org", "sum.golang.org"),
    ],
)
def test_forms(entry: str, name: str, url: str | None, address: str, signer: str | None) -> None:
    database = Database.parse(entry)
    assert (database.name, database.url, database.address) == (name, url, address)
    assert (database.key.name if database.key else None) == signer


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "http://sum.golang.org",
        "https://",
        "https://a:b",
        "https://u:p@sum.corp",
        "https://sum.corp https://x",
        "a b c",
        "a.b ftp://x",
        "a.b x",
        "a.b/",
        "a.b?x",
        "a.b#x",
        "ä.b",
        "[::1",
        "sum.corp+00000000+AAAA",
    ],
)
def test_all_else_is_refused(entry: str) -> None:
    with pytest.raises(ValueError) as caught:
        Database.parse(entry)
    assert "\n" not in str(caught.value)


def test_all_problems_of_a_list_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_databases(["http://x", "sum.golang.org", "https://sum.golang.org", "a b c"])
    assert caught.value.problems == [
        "SumDBs: 'http://x' is not an https URL",
        "SumDBs: sum.golang.org is there twice",
        "SumDBs: 'a b c' has more than a name and a URL",
    ]
    assert [database.name for database in parse_databases(["sum.golang.org", "https://x"])] == ["sum.golang.org", "x"]
