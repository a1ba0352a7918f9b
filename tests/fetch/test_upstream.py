"""Fetching and listing from an upstream proxy on loopback, and what the real go says of the same proxy."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from athens_tx.errors import (
    AthensError,
    BadUpstream,
    ChecksumMismatch,
    FetchFailed,
    FetchTimeout,
    InvalidModule,
    NotFound,
    RateLimited,
    StorageUnavailable,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.fetch import proxy_files
from athens_tx.fetch.assemble import Fetching
from athens_tx.fetch.outcome import Scrubber
from athens_tx.fetch.proxy_files import ProxyFiles
from athens_tx.fetch.upstream import UpstreamLister
from athens_tx.http_client import AnswerCut, BodyTooLong
from athens_tx.interfaces import Checksums, VersionFiles
from athens_tx.module.hashes import hash_mod, hash_zip
from athens_tx.module.version import ModuleVersion
from tests.fetch.conftest import Make, leftovers
from tests.support.goclient import environment, real_go
from tests.support.processes import run
from tests.support.repositories import Repositories
from tests.support.upstream import Trouble, Upstream

LIB = "github.com/acme/lib"
MV = ModuleVersion(LIB, "v1.0.0")


def through(upstream: Upstream) -> tuple[str, str]:
    return f"GOPROXY={upstream.url}", "GOSUMDB=off"


async def fetch(fetching: Fetching, version: str = "v1.0.0", path: str = LIB, known: Any = None) -> Any:
    return await fetching.fetcher.fetch(ModuleVersion(path, version), known or (lambda files: None))


async def refused(awaitable: Any, kind: type[AthensError]) -> AthensError:
    with pytest.raises(kind) as caught:
        await awaitable
    assert type(caught.value) is kind
    return caught.value


@pytest_twisted.ensureDeferred
async def test_the_three_files_over_kept_connections(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    fetching = await make(*through(upstream))
    for path, version in ((LIB, "v1.0.0"), ("github.com/Acme/Top", "v1.0.0"), ("github.com/acme/major/v2", "v2.1.0")):
        async with await fetch(fetching, version, path) as got:
            assert (got.mv, got.origin) == (ModuleVersion(path, version), "upstream")
            assert got.info == upstream.file(path, version, "info").read_bytes()
            assert got.mod == upstream.file(path, version, "mod").read_bytes()
            assert got.zip.read_bytes() == upstream.file(path, version, "zip").read_bytes()
        assert not leftovers(tmp_path)
    assert upstream.total() == 9
    assert upstream.asked["github.com/!acme/!top/@v/v1.0.0.zip"] == 1


@pytest_twisted.ensureDeferred
async def test_a_query_is_answered_by_its_version(make: Make, upstream: Upstream, repositories: Repositories) -> None:
    pseudo = repositories[LIB].commits[3].pseudo("v1.1.0-beta.1")
    upstream.aliases[f"{LIB}@main"] = pseudo
    upstream.aliases["github.com/acme/old@v2.0.0"] = "v2.0.0+incompatible"
    fetching = await make(*through(upstream))
    async with await fetch(fetching, "main") as got:
        assert got.mv.version == pseudo
    assert upstream.asked[f"{LIB}/@v/main.info"] == 1
    assert upstream.total(".info") == 1
    async with await fetch(fetching, "v2.0.0", "github.com/acme/old") as got:
        assert got.mv.version == "v2.0.0+incompatible"


@pytest_twisted.ensureDeferred
async def test_the_small_files_are_known_while_the_zip_is_on_its_way(make: Make, upstream: Upstream) -> None:
    upstream.troubles[".zip"] = Trouble(hold=True)
    fetching, known = await make(*through(upstream)), Deferred()
    running = Deferred.fromCoroutine(fetch(fetching, known=known.callback))
    files = await known
    assert (files.mv, files.mod) == (MV, upstream.file(LIB, "v1.0.0", "mod").read_bytes())
    assert not running.called
    upstream.release()
    await (await running).discard()


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(cut=20),
        Trouble(claim=10**6),
        Trouble(text=b"PK no zip"),
        Trouble(text=b"{}"),
        Trouble(text=b"\xff"),
        Trouble(text=b"no gzip", headers={"Content-Encoding": "gzip"}),
    ],
)
@pytest.mark.parametrize("end", [".info", ".mod", ".zip"])
@pytest_twisted.ensureDeferred
async def test_what_comes_broken_is_asked_for_again_and_never_given_out(
    make: Make, upstream: Upstream, tmp_path: Path, end: str, trouble: Trouble
) -> None:
    fetching = await make(*through(upstream))
    upstream.troubles[end] = attrs.evolve(trouble, times=2)
    async with await fetch(fetching) as got:
        assert got.zip.read_bytes() == upstream.file(LIB, "v1.0.0", "zip").read_bytes()
    assert upstream.total(end) == 3
    upstream.troubles[end] = attrs.evolve(trouble)
    kind = AnswerCut if trouble.cut or trouble.claim else BadUpstream
    await refused(fetch(fetching), kind)
    assert upstream.total(end) == 6
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_the_info_of_another_version(make: Make, upstream: Upstream) -> None:
    upstream.troubles["v1.0.0.info"] = Trouble(text=b'{"Version":"v0.9.0","Time":"2024-01-01T00:00:00Z"}')
    assert "v0.9.0" in str(await refused(fetch(await make(*through(upstream))), BadUpstream))


@pytest_twisted.ensureDeferred
async def test_the_zip_of_another_version(make: Make, upstream: Upstream) -> None:
    upstream.troubles["v1.0.0.zip"] = Trouble(text=upstream.file(LIB, "v0.9.0", "zip").read_bytes())
    await refused(fetch(await make(*through(upstream))), BadUpstream)


@pytest_twisted.ensureDeferred
async def test_gzip_and_redirects(make: Make, upstream: Upstream) -> None:
    fetching = await make(*through(upstream))
    upstream.troubles[".zip"] = Trouble(gzip=True)
    upstream.troubles["v1.0.0.mod"] = Trouble(
        status=302, headers={"Location": f"{upstream.url}/{LIB}/@v/v0.9.0.mod"}, times=1
    )
    async with await fetch(fetching) as got:
        assert got.zip.read_bytes() == upstream.file(LIB, "v1.0.0", "zip").read_bytes()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (410, NotFound),
        (401, UpstreamForbidden),
        (403, UpstreamForbidden),
        (429, RateLimited),
        (500, UpstreamUnreachable),
        (503, UpstreamUnreachable),
        (400, FetchFailed),
        (204, FetchFailed),
    ],
)
@pytest_twisted.ensureDeferred
async def test_statuses(make: Make, upstream: Upstream, tmp_path: Path, status: int, kind: type[AthensError]) -> None:
    fetching = await make(*through(upstream))
    for end in (".info", ".mod", ".zip"):
        upstream.troubles.clear()
        text = b"" if status == 204 else b"sorry /srv/a/b\nmore"
        upstream.troubles[end] = Trouble(status=status, text=text, headers={"Content-Type": "text/plain"})
        error = await refused(fetch(fetching), kind)
        assert str(error).startswith(f"{MV}: upstream answered {status}")
        assert "/srv" not in str(error)
        assert "more" not in str(error)
        assert ("sorry" in str(error)) is (status in (403, 404, 410))
        assert ("more" in error.detail) is (status != 204)
        assert upstream.total(end) >= 1
    upstream.troubles["@v/list"] = Trouble(status=status)
    await refused(fetching.lister.listing(LIB), kind)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 60), ("7", 7), ("99999999999", 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 1), ("soon", 60)],
)
@pytest_twisted.ensureDeferred
async def test_when_to_ask_again(make: Make, upstream: Upstream, value: str | None, seconds: int) -> None:
    headers = {} if value is None else {"Retry-After": value}
    upstream.troubles[".info"] = Trouble(status=429, headers=headers)
    assert (await refused(fetch(await make(*through(upstream))), RateLimited)).retry_after == seconds


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_is_slow_or_away(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    fetching = await make(*through(upstream), stash_timeout=1.0)
    upstream.troubles[".zip"] = Trouble(hold=True)
    await refused(fetch(fetching), FetchTimeout)
    assert not leftovers(tmp_path)
    await upstream.stop()
    await refused(fetch(fetching), UpstreamUnreachable)
    assert upstream.total(".zip") == 1


@pytest_twisted.ensureDeferred
async def test_a_zip_over_the_limit_is_not_asked_for_again(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    fetching = await make(*through(upstream), max_zip_size=100)
    await refused(fetch(fetching), BodyTooLong)
    assert upstream.total(".zip") == 1
    assert not leftovers(tmp_path)


class Database:
    """A checksum database of one version."""

    def __init__(self, upstream: Upstream, **wrong: str) -> None:
        self.asked: list[ModuleVersion] = []
        self.right = Checksums(
            zip=hash_zip(upstream.file(LIB, "v1.0.0", "zip")),
            mod=hash_mod(upstream.file(LIB, "v1.0.0", "mod").read_bytes()),
        )
        self.answer: Any = attrs.evolve(self.right, **wrong)

    async def checksums(self, mv: ModuleVersion) -> Checksums:
        self.asked.append(mv)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest_twisted.ensureDeferred
async def test_the_checksum_database_is_asked_and_believed(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    on = (f"GOPROXY={upstream.url}", "GOSUMDB=sum.golang.org")
    database = Database(upstream)
    fetching = await make(*on, checksums=database)
    await (await fetch(fetching)).discard()
    assert database.asked == [MV]
    known: list[VersionFiles] = []
    database.answer = attrs.evolve(database.right, mod="h1:other=")
    assert "go.mod" in str(await refused(fetch(fetching, known=known.append), ChecksumMismatch))
    assert not known
    database.answer = attrs.evolve(database.right, zip="h1:other=")
    assert "the zip" in str(await refused(fetch(fetching, known=known.append), ChecksumMismatch))
    assert len(known) == 1
    database.answer = NotFound("no such version")
    await refused(fetch(fetching), NotFound)
    assert not leftovers(tmp_path)
    for variable in ("GONOSUMDB=github.com/acme", "GOPRIVATE=github.com/other/*,github.com/acme/*"):
        asked = len(database.asked)
        extra = (variable, "GONOPROXY=none") if "PRIVATE" in variable else (variable,)
        await (await fetch(await make(*on, *extra, checksums=database))).discard()
        assert len(database.asked) == asked
    off = await make(*through(upstream), checksums=database)
    await (await fetch(off)).discard()
    assert len(database.asked) == asked


@pytest_twisted.ensureDeferred
async def test_names_that_can_t_be_are_not_asked_for(make: Make, upstream: Upstream) -> None:
    fetching = await make(*through(upstream))
    for path, version in (("-a.b/c", "v1.0.0"), (LIB, "-x"), ("a.b/../c", "v1.0.0"), (LIB, "../v1.0.0")):
        await refused(fetch(fetching, version, path), InvalidModule)
    await refused(fetching.lister.listing("a.b/../c"), InvalidModule)
    assert upstream.total() == 0


async def go_list(tmp_path: Path, path: str, proxy: str) -> tuple[list[str], str, str] | None:
    """@return: what the real go says."""
    values = environment(tmp_path / "client", GOPROXY=proxy)
    (tmp_path / "empty").mkdir(exist_ok=True)
    command = [real_go(), "list", "-m", "-versions", "-json", f"{path}@latest"]
    done = await run(reactor, command, values, cwd=tmp_path / "empty", limit=60)
    if done.status != 0:
        return None
    found = json.loads(done.stdout)
    return found.get("Versions", []), found["Version"], found["Time"]


@pytest.mark.parametrize(
    ("path", "listed", "latest"),
    [
        (LIB, None, "v1.0.0"),
        ("github.com/acme/untagged", None, "v0.0.0-"),
        ("github.com/acme/old", None, "v3.0.0+incompatible"),
        ("github.com/acme/major", None, "v1.0.0"),
        ("github.com/acme/major/v2", None, "v2.1.0"),
        ("github.com/acme/retracted", None, "v1.2.0"),
        ("github.com/acme/retracted", b"v1.1.0\n", "v1.1.0"),
        (LIB, b"v1.1.0-beta.1\nnonsense\n\nv0.9.0 2024-01-01T00:00:00Z\n", "v0.9.0"),
        (LIB, b"v1.1.0-beta.1\n", "v1.1.0-beta.1"),
        (LIB, b"", "v1.0.0"),
        ("github.com/acme/old", b"v3.0.0+incompatible\nv2.0.0+incompatible\nv1.0.0\n", "v3.0.0+incompatible"),
        ("github.com/acme/nothing", None, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_listing_is_what_go_says_through_the_same_proxy(
    make: Make, upstream: Upstream, tmp_path: Path, path: str, listed: bytes | None, latest: str | None
) -> None:
    if listed is not None:
        upstream.troubles["@v/list"] = Trouble(text=listed)
    said = await go_list(tmp_path, path, upstream.url)
    fetching = await make(*through(upstream))
    if said is None:
        assert latest is None
        await refused(fetching.lister.listing(path), NotFound)
        return
    got = await fetching.lister.listing(path)
    assert (list(got.versions), got.latest, got.time) == said
    assert got.latest.startswith(str(latest))


def rewrite(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


INFO = b'{"Version":"%s","Time":"2024-05-06T07:08:09+02:00"}'


@pytest.mark.parametrize(
    ("files", "versions", "latest"),
    [
        # a compatible version with a go.mod keeps the incompatible ones from being the latest
        ({"list": b"v1.0.0\nv2.0.0+incompatible\n", "v1.0.0.mod": b"module a.test/m\n\ngo 1.21\n"}, 2, "v1.0.0"),
        (
            {"list": b"v1.0.0\nv2.0.0+incompatible\n", "v1.0.0.mod": b"module a.test/m\n"},
            2,
            "v2.0.0+incompatible",
        ),
        (
            {"list": b"v1.0.0-rc.1\nv2.0.0+incompatible\n", "v1.0.0-rc.1.mod": b"module a.test/m\n// x\n"},
            2,
            "v1.0.0-rc.1",
        ),
        # all retracted, and no @latest
        ({"list": b"v1.0.0\nv1.1.0\n", "v1.1.0.mod": b"module a.test/m\nretract [v1.0.0, v1.1.0]\n"}, 0, None),
        # no @latest: the youngest of the list
        (
            {"list": b"v0.0.0-20240101000000-aaaaaaaaaaaa\nv0.0.0-20240301000000-bbbbbbbbbbbb\n"},
            0,
            "v0.0.0-20240301000000-bbbbbbbbbbbb",
        ),
        ({"list": b"v0.0.0-20249901000000-aaaaaaaaaaaa\n"}, 0, None),
        ({"list": b""}, 0, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_listings_from_a_folder_as_go_has_them(
    make: Make, tmp_path: Path, files: dict[str, bytes], versions: int, latest: str | None
) -> None:
    folder = tmp_path / "proxy" / "a.test" / "m" / "@v"
    for version in [line.split()[0].decode() for line in files["list"].splitlines()]:
        rewrite(folder, f"{version}.info", INFO % version.encode())
        rewrite(folder, f"{version}.mod", b"module a.test/m\n")
    for name, content in files.items():
        rewrite(folder, name, content)
    url = f"file://{tmp_path}/proxy"
    fetching = await make(f"GOPROXY={url}", "GOSUMDB=off")
    said = await go_list(tmp_path, "a.test/m", url)
    if latest is None:
        assert said is None
        await refused(fetching.lister.listing("a.test/m"), NotFound)
        return
    assert said is not None
    got = await fetching.lister.listing("a.test/m")
    assert (list(got.versions), got.latest) == said[:2]
    assert (len(got.versions), got.latest, got.time) == (versions, latest, "2024-05-06T05:08:09Z")


@pytest_twisted.ensureDeferred
async def test_a_listing_whose_retractions_can_t_be_read(make: Make, upstream: Upstream) -> None:
    fetching = await make(*through(upstream))
    upstream.troubles[".mod"] = Trouble(status=500)
    await refused(fetching.lister.listing(LIB), UpstreamUnreachable)
    got = await fetching.lister.listing("github.com/acme/untagged")
    assert got.latest.startswith("v0.0.0-")


@pytest_twisted.ensureDeferred
async def test_a_time_that_is_absent(make: Make, upstream: Upstream) -> None:
    upstream.troubles["v1.0.0.info"] = Trouble(text=b'{"Version":"v1.0.0"}')
    assert (await (await make(*through(upstream))).lister.listing(LIB)).time == "0001-01-01T00:00:00Z"


@pytest_twisted.ensureDeferred
async def test_a_folder_as_a_proxy(make: Make, tree: Path, tmp_path: Path) -> None:
    fetching = await make(f"GOPROXY=file://{tree}", "GOSUMDB=off")
    async with await fetch(fetching) as got:
        assert got.zip.read_bytes() == (tree / LIB / "@v" / "v1.0.0.zip").read_bytes()
    assert str(tree) not in str(await refused(fetch(fetching, "v7.7.7"), NotFound))
    small = await make(f"GOPROXY=file://{tree}", "GOSUMDB=off", max_zip_size=100)
    await refused(fetch(small), BodyTooLong)
    (tmp_path / "proxy" / LIB / "@v" / "list").mkdir(parents=True)
    odd = await make(f"GOPROXY=file://{tmp_path}/proxy", "GOSUMDB=off")
    await refused(odd.lister.listing(LIB), UpstreamUnreachable)
    rewrite(tmp_path / "proxy" / LIB / "@v", "v1.info", b"x" * (2**20 + 1))
    await refused(fetch(odd, "v1"), BodyTooLong)
    assert not leftovers(tmp_path)


@pytest_twisted.ensureDeferred
async def test_credentials_of_the_url_and_of_netrc(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    base = upstream.url.replace("http://", "http://me:s3cret@")
    fetching = await make(f"GOPROXY={base}", "GOSUMDB=off")
    await (await fetch(fetching)).discard()
    assert all(headers.get("authorization") == "Basic bWU6czNjcmV0" for _, _, headers in upstream.log)
    upstream.troubles[".info"] = Trouble(status=403, text=b"not for me:s3cret https://me:s3cret@h/")
    error = await refused(fetch(fetching), UpstreamForbidden)
    assert "me:s3cret@" not in f"{error} {error.detail}"
    exposed = await make("GOPROXY=http://me:s3cret@proxy.invalid", "GOSUMDB=off")
    error = await refused(fetch(exposed), UpstreamForbidden)
    assert "plain HTTP" in str(error)
    assert "s3cret" not in error.detail


@pytest_twisted.ensureDeferred
async def test_netrc_goes_with_every_request(make: Make, upstream: Upstream, tmp_path: Path) -> None:
    fetching = await make(*through(upstream))
    asked: list[str] = []

    def authorization(url: str) -> bytes:
        asked.append(url)
        return b"Basic eDp5"

    files = ProxyFiles(reactor, fetching.http, upstream.url, authorization, Scrubber(list), limit_seconds=5)
    assert repr(files) == f"<ProxyFiles {upstream.url}>"
    assert (await UpstreamLister(files).listing(LIB)).latest == "v1.0.0"
    assert all(headers["authorization"] == "Basic eDp5" for _, _, headers in upstream.log)
    assert asked[0] == f"{upstream.url}/{LIB}/@v/list"


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_not_the_upstream_s_fault(
    make: Make, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Full(proxy_files.FileSink):
        def _write_out(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(proxy_files, "FileSink", Full)
    fetching = await make(*through(upstream))
    assert "No space" in str(await refused(fetch(fetching), StorageUnavailable))
    assert not leftovers(tmp_path)


def big_module(folder: Path, mebibytes: int) -> None:
    """A module whose zip has this size."""
    rewrite(folder, "v1.0.0.info", b'{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}')
    rewrite(folder, "v1.0.0.mod", b"module a.test/big\n")
    with zipfile.ZipFile(folder / "v1.0.0.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.test/big@v1.0.0/go.mod", b"module a.test/big\n")
        for number in range(mebibytes // 10):
            archive.writestr(f"a.test/big@v1.0.0/f{number}", os.urandom(10 * 1024 * 1024))


@pytest_twisted.ensureDeferred
async def test_a_large_zip_streams_in_little_memory(make: Make, tmp_path: Path) -> None:
    from twisted.web.server import Site
    from twisted.web.static import File

    big_module(tmp_path / "proxy" / "a.test" / "big" / "@v", 200)
    site = Site(File(str(tmp_path / "proxy")))
    site.timeOut = None
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        fetching = await make(f"GOPROXY=http://127.0.0.1:{port.getHost().port}", "GOSUMDB=off")
        before = forget_peak()
        async with await fetch(fetching, path="a.test/big") as got:
            assert got.zip.lstat().st_size > 200 * 1024 * 1024
        assert resident("VmHWM") - before < 48 * 1024
    finally:
        await port.stopListening()


def forget_peak() -> int:
    """@return: what is resident now, in KiB; C{VmHWM} counts from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    """@return: KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(name)


@pytest_twisted.ensureDeferred
async def test_the_first_failure_ends_the_rest(make: Make, upstream: Upstream) -> None:
    upstream.troubles[".zip"] = Trouble(hold=True)
    upstream.troubles[".mod"] = Trouble(status=404)
    await refused(fetch(await make(*through(upstream))), NotFound)
