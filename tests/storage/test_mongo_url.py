"""Connection strings: what is understood, what is refused by name, and that no message tells a password."""

from __future__ import annotations

from typing import Any

import pytest

from athens_tx.errors import ConfigError
from athens_tx.storage.mongo_url import MongoTarget, parse_url, target


def meant(url: str, **more: Any) -> MongoTarget:
    return target(parse_url(url), **more)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("mongodb://localhost", [("localhost", 27017)]),
        ("mongodb://LocalHost:1/", [("localhost", 1)]),
        ("mongodb://a,b:2,c.example.com:65535/db", [("a", 27017), ("b", 2), ("c.example.com", 65535)]),
        ("mongodb://[::1],[fe80::1%25eth0]:3?tls=true", [("::1", 27017), ("fe80::1%eth0", 3)]),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/db", [("/tmp/mongodb-27017.sock", 0)]),
        ("mongodb://user@127.0.0.1", [("127.0.0.1", 27017)]),
        ("mongodb+srv://cluster.example.com/", [("cluster.example.com", 27017)]),
    ],
)
def test_hosts(url: str, hosts: Any) -> None:
    assert list(parse_url(url).hosts) == hosts


def test_a_login_is_decoded() -> None:
    url = parse_url("mongodb://us%40er:p%2Fa%3As%25s@h/the%20db?authSource=other")
    assert (url.user, url.password, url.database) == ("us@er", "p/a:s%s", "the db")
    assert target(url).source == "other"
    assert meant("mongodb://u:p@h/db").source == "db"
    assert meant("mongodb://u:p@h").source == "admin"
    assert "p/a" not in repr(url)
    assert "p/a" not in repr(target(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:27017",
        "http://localhost",
        "mongodb://",
        "mongodb://a,,b",
        "mongodb://a:0",
        "mongodb://a:65536",
        "mongodb://a:port",
        "mongodb://a b",
        "mongodb://u:se/cret@h/",
        "mongodb://u:se@cret@h/",
        "mongodb://u:se:cret@h/",
        "mongodb://:secret@h/",
        "mongodb+srv://a.example.com:27017/",
        "mongodb+srv://a.example.com,b.example.com/",
        "mongodb+srv://localhost/",
        "mongodb://h/?tls",
        "mongodb://h/?=true",
    ],
)
def test_what_nobody_can_read_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"Storage\.Mongo\.URL \(ATHENS_MONGO_STORAGE_URL\)") as caught:
        meant(url)
    assert "cret" not in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "option",
    [
        "nonsense=1",
        "proxyHost=h",
        "loadBalanced=true",
        "authMechanism=GSSAPI",
        "authMechanism=PLAIN",
        "authMechanism=MONGODB-X509",
        "authMechanismProperties=SERVICE_NAME:x",
        "readPreference=secondary",
        "w=0",
        "tls=yes",
        "directConnection=1",
        "journal=maybe",
        "connectTimeoutMS=soon",
        "maxPoolSize=-1",
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(option: str) -> None:
    name = option.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"(?i)Storage\.Mongo\.URL.*{name}"):
        meant(f"mongodb://user:secret@h/?{option}")


@pytest.mark.parametrize(
    "option",
    ["compressors=zstd", "minPoolSize=3", "retryWrites=true", "heartbeatFrequencyMS=1", "readPreference=nearest"],
)
def test_what_changes_nothing_is_taken_and_noted(option: str) -> None:
    (note,) = meant(f"mongodb://h/?{option}").notes
    assert option.partition("=")[0].lower() in note.lower()


def test_the_options_have_the_meaning_of_the_drivers() -> None:
    found = meant(
        "mongodb://h/?replicaSet=rs&SSL=true&tlsCAFile=ca&tlsCertificateKeyFile=own&tlsCertificateKeyFilePassword=x"
        "&connectTimeoutMS=1500&serverSelectionTimeoutMS=2500&socketTimeoutMS=9000&timeoutMS=8000&maxPoolSize=7"
        "&appName=me&readConcernLevel=majority&w=2&journal=true&wtimeoutMS=50;directConnection=true"
    )
    assert (found.replica_set, found.direct, found.tls, found.authority) == ("rs", True, True, "ca")
    assert (found.certificate, found.certificate_password) == ("own", "x")
    assert (found.connect_limit, found.selection, found.call_limit, found.pool_size) == (1.5, 2.5, 8.0, 7)
    assert (found.application, found.read_concern) == ("me", "majority")
    assert found.write_concern == {"w": 2, "j": True, "wtimeout": 50}
    assert meant("mongodb://h/?w=majority").write_concern == {"w": "majority"}
    assert meant("mongodb://h").write_concern is None
    assert meant("mongodb://h/?connect=direct").direct
    assert meant("mongodb://h/?authMechanism=SCRAM-SHA-256").mechanism == "SCRAM-SHA-256"
    assert meant("mongodb://h/?authMechanism=DEFAULT").mechanism == ""
    x509 = meant("mongodb://h/?authMechanism=MONGODB-X509&tls=true&tlsCertificateKeyFile=own")
    assert x509.source == "$external"


@pytest.mark.parametrize(
    ("options", "more", "tls", "chain", "name", "authority"),
    [
        ("", {}, False, True, True, ""),
        ("tls=true", {}, True, True, True, ""),
        ("tls=true&tlsInsecure=true", {}, True, False, False, ""),
        ("tls=true&tlsAllowInvalidCertificates=true", {}, True, False, False, ""),
        ("tls=true&tlsAllowInvalidHostnames=true&tlsCAFile=a", {}, True, True, False, "a"),
        ("", {"cert_path": "ca"}, True, True, True, "ca"),
        ("tls=false&tlsCAFile=a&tlsInsecure=true", {"cert_path": "ca"}, True, True, True, "ca"),
        ("", {"cert_path": "ca", "insecure": True}, True, False, False, "ca"),
        ("", {"insecure": True}, False, True, True, ""),
    ],
)
def test_tls(options: str, more: Any, tls: bool, chain: bool, name: bool, authority: str) -> None:
    found = meant(f"mongodb://h/?{options}", **more)
    assert (found.tls, found.verify_chain, found.verify_name, found.authority) == (tls, chain, name, authority)


def test_srv_has_tls_unless_it_is_told_otherwise() -> None:
    assert meant("mongodb+srv://h.example.com").tls
    assert not meant("mongodb+srv://h.example.com/?tls=false&srvServiceName=other&srvMaxHosts=1").tls
