"""The real servers: each holds what is put into it, keeps out who has the wrong key, and ends with who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from botocore.exceptions import ClientError

from tests.support import servers
from tests.support.processes import group_members, having_in_environment
from tests.support.servers_clouds import Azurite
from tests.support.servers_install import NotInstalled, Program
from tests.support.servers_process import NotReady, Server, connects
from tests.support.servers_s3 import Versitygw

ABSENT = {"s3": ClientError, "minio": ClientError, "gcs": OSError, "azure": ResourceNotFoundError}
LONG = "example.com/" + "x" * 255 + "/@v/v1.0.0-" + "x" * 243 + ".info"


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_a_bucket_is_new_and_holds_what_is_put_into_it(name: str) -> None:
    server = servers.session.server(name)
    one, other = server.bucket(), server.bucket()
    assert (one.keys(), other.keys()) == ({}, {})
    one.put("a/b_c/@v/v1.0.0+incompatible.info", b"{}", "application/json")
    one.put("a/[glob]*?/go.mod", b"module")
    one.put(LONG, b"\0" * 100_000)
    assert one.keys() == {
        "a/b_c/@v/v1.0.0+incompatible.info": b"{}",
        "a/[glob]*?/go.mod": b"module",
        LONG: b"\0" * 100_000,
    }
    assert (one.names()[2], one.get(LONG), other.keys()) == (LONG, b"\0" * 100_000, {})
    known = one.headers("a/b_c/@v/v1.0.0+incompatible.info")
    assert (known["content-type"], known["content-length"]) == ("application/json", "2")
    one.drop(LONG)
    assert LONG not in one.names()
    with pytest.raises(ABSENT[name]):
        one.get(LONG)


@pytest.mark.parametrize("name", ["s3", "minio"])
def test_what_is_spoilt_is_no_absent_object(name: str) -> None:
    bucket = servers.session.server(name).bucket()
    for key in ("x/a", "x/b", "x/c"):
        bucket.put(key, b"1" * 1000)
    bucket.spoil("x/b")
    with pytest.raises(ClientError) as caught:
        bucket.get("x/b")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert (bucket.get("x/a"), bucket.get("x/c")) == (b"1" * 1000, b"1" * 1000)


@pytest.mark.parametrize("name", ["s3", "minio"])
def test_an_upload_in_parts_is_seen_until_it_is_done(name: str) -> None:
    bucket = servers.session.server(name).bucket()
    upload = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="x/a")["UploadId"]
    bucket.client.upload_part(Bucket=bucket.name, Key="x/a", UploadId=upload, PartNumber=1, Body=b"1")
    assert (bucket.unfinished(), bucket.names()) == (["x/a"], [])
    bucket.client.abort_multipart_upload(Bucket=bucket.name, Key="x/a", UploadId=upload)
    assert bucket.unfinished() == []


def test_a_blob_of_which_there_are_only_blocks_is_seen() -> None:
    container = servers.azure().bucket()
    container.put("x/b", b"whole")
    container.client.get_blob_client("x/a").stage_block("MDAw", b"1")
    assert (container.unfinished(), container.names()) == (["x/a"], ["x/b"])


def test_a_database_is_new_and_holds_what_is_put_into_it() -> None:
    one, other = servers.mongo().bucket(), servers.mongo().bucket()
    one.database["modules"].insert_one({"module": "example.com/x"})
    one.files("zips").put(b"\0" * 3_000_000, filename="v1.0.0.zip")
    assert one.files("zips").get_last_version("v1.0.0.zip").read() == b"\0" * 3_000_000
    assert other.database.list_collection_names() == []
    one.drop()
    assert one.database["modules"].find_one() is None


@pytest.mark.parametrize("name", ["s3", "minio"])
def test_a_wrong_key_is_refused_by_s3(name: str) -> None:
    server = servers.session.server(name)
    bucket = server.bucket()
    stranger = type(server)(Path("nowhere"))
    stranger.port, stranger.secret_key = server.port, "another-secret-key"
    with pytest.raises(ClientError) as caught:
        stranger.client.list_objects_v2(Bucket=bucket.name)
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_a_wrong_key_is_refused_by_azure() -> None:
    container = servers.azure().bucket()
    stranger = Azurite(Path("nowhere"))
    stranger.port, stranger.key = servers.azure().port, "bm8="
    with pytest.raises(HttpResponseError, match=r"AuthorizationFailure"):
        stranger.client.get_container_client(container.name).get_container_properties()


def test_a_server_of_a_test_s_own_comes_back_where_it_was_with_its_data(tmp_path: Path) -> None:
    server = servers.own("s3", tmp_path / "s3")
    try:
        bucket, port = server.bucket(), server.port
        bucket.put("a", b"1")
        server.kill()
        assert (server.running, connects(port)) == (False, False)
        server.start()
        assert (server.port, bucket.keys()) == (port, {"a": b"1"})
        server.pause()
        server.resume()
        assert bucket.keys() == {"a": b"1"}
        group = server.pid
        assert group_members(group) == [group]
    finally:
        server.stop()
    assert (group_members(group), server.data.exists()) == ([], False)


class Broken(Server):
    """Says why it won't do, and ends."""

    name = "broken"
    program = Versitygw.program

    def command(self) -> list[str]:
        return ["sh", "-c", "echo the disk is on fire; exit 3"]

    def answers(self) -> bool:
        return False


class Silent(Broken):
    """Starts, and is never ready."""

    limit = 0.1

    def command(self) -> list[str]:
        return ["sh", "-c", "echo thinking; exec sleep 60"]


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"(?s)^broken has ended\n.*the disk is on fire"):
        Broken(tmp_path / "broken").start()
    with pytest.raises(NotReady, match=r"(?s)^broken is not ready in time\n"):
        Silent(tmp_path / "silent").start()
    assert having_in_environment(str(tmp_path)) == []


def test_a_server_that_did_not_come_up_is_not_tried_by_every_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "SERVERS", {"broken": Broken})
    monkeypatch.setenv("ATHENS_TX_TEST_SERVERS", str(tmp_path))
    Broken.program.folder.mkdir()
    session = servers.Session()
    with pytest.raises(RuntimeError, match=r"outside a test session"):
        session.server("broken")
    session.begin(tmp_path)
    with pytest.raises(NotReady) as first:
        session.server("broken")
    with pytest.raises(NotReady) as second:
        session.server("broken")
    assert first.value is second.value


def test_what_is_not_installed_skips_the_test_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATHENS_TX_TEST_SERVERS", str(tmp_path / "none"))
    with pytest.raises(
        pytest.skip.Exception, match=r"versitygw v\S+ is not installed: python -m tests.support.servers"
    ):
        servers.own("s3", tmp_path / "s3")


def test_nothing_is_left_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    if Versitygw.program.lacking():
        pytest.skip(str(Versitygw.program.lacking()))
    argv = [sys.executable, "-m", "tests.support.servers", "run", "s3"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as command:
        assert command.stdout is not None
        lines = iter(command.stdout.readline, "")
        port = int(next(line for line in lines if "endpoint" in line).rpartition(":")[2])
        assert connects(port)
        os.kill(command.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while (having_in_environment(str(tmp_path)) or connects(port)) and time.monotonic() < end:
        time.sleep(0.01)  # the kernel's work, of which nobody is told
    assert (having_in_environment(str(tmp_path)), connects(port)) == ([], False)


def client_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> Program:
    """Have a npm that does what the script says; @return: something to install by it."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ATHENS_TX_TEST_SERVERS", str(tmp_path / "cache"))
    return Program("thing", "1.2.3", "npm", "thing")


def test_an_installation_is_tried_twice_and_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = client_that(
        monkeypatch, tmp_path, f"test -e {tmp_path}/tried || {{ : >{tmp_path}/tried; exit 1; }}; : >made"
    )
    assert program.lacking() is not None
    program.install(60)
    assert (program.lacking(), [path.name for path in program.folder.iterdir()]) == (None, ["made"])
    program.install(60)


def test_a_failed_installation_says_the_last_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = client_that(monkeypatch, tmp_path, "echo x >>$0.calls; : >half; echo 403 forbidden; exit 7")
    with pytest.raises(NotInstalled, match=r"^npm: exit status 7: 403 forbidden$"):
        program.install(60)
    assert (tmp_path / "bin" / "npm.calls").read_text() == "x\nx\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".thing.lock"]


def test_an_installation_ends_in_time_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = client_that(monkeypatch, tmp_path, "sleep 60 & sleep 60")
    with pytest.raises(NotInstalled, match=r"not done in time"):
        program.install(0.2)
    end = time.monotonic() + 5  # who was killed and is no child of ours takes a moment to go
    while having_in_environment(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.01)
    assert having_in_environment(str(tmp_path)) == []


def test_without_the_package_client_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match=r"^needs the command npm$"):
        Program("thing", "1.2.3", "npm", "thing").install(60)


def test_install_says_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = client_that(monkeypatch, tmp_path, ":")
    bad = Program("other", "2", "no-such-client", "other")
    classes = {"good": type("Good", (Broken,), {"program": good}), "bad": type("Bad", (Broken,), {"program": bad})}
    monkeypatch.setattr(servers, "SERVERS", classes)
    assert servers.install(["good", "bad"]) is False
    said = capsys.readouterr().out.splitlines()
    assert sorted(said[1:]) == [
        "bad: other 2 was not installed: needs the command no-such-client",
        "good: thing 1.2.3 was installed in 0 s",
    ]
    assert (servers.install(["good"]), capsys.readouterr().out) == (True, "")
    assert servers.show(["good"]) is True
    assert capsys.readouterr().out == f"good: {good.folder}\n"
