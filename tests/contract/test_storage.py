"""What every storage keeps to: L{athens_tx.interfaces.IStorage}, and the properties of Athens' own suite and more."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from itertools import combinations
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from athens_tx.errors import (
    BadUpstream,
    FetchFailed,
    InvalidModule,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
)
from athens_tx.interfaces import IStorage, IZip
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip, MemorySink
from tests.contract.storage_backends import BACKENDS
from tests.contract.zips import HandZip, Mouthful, whole

TOML = MV("github.com/BurntSushi/toml", "v1.4.0")
INFO = b'{"Version":"v1.4.0","Time":"2024-05-23T11:46:22Z"}'
MOD = b"module github.com/BurntSushi/toml\n\ngo 1.18\n"
ZIP = b"PK\x03\x04" + random.Random(1).randbytes(700_000)

NAMES = (
    TOML,
    MV("github.com/burntsushi/toml", "v1.4.0"),
    MV("github.com/Azure/azure-sdk-for-go", "v68.0.0+incompatible"),
    MV("golang.org/x/exp", "v0.0.0-20240102030405-0123456789ab"),
    MV("example.com/x", "v1.0.0-RC1"),
    MV("example.com/x", "v1.0.0"),
    MV("example.com/x", "v1.0.0-pre"),
    MV("example.com/x", "v1.0.0-pre.1"),
    MV("example.com/x", "v1.0.0-pre.10"),
    MV("example.com/x/v2", "v2.0.0"),
    MV("example.com/x/y", "v1.0.0"),
    MV("gopkg.in/yaml.v3", "v3.0.1"),
    MV("example.com/~tilde/a_b", "v1.0.0"),
    MV("a/b_c", "v1.0.0"),
    MV("a_b/c", "v1.0.0"),
    MV("example.com/" + "long" * 47, "v1.0.0"),
    MV("example.com/" + "/".join("deep" * 10 for _ in range(10)), "v1.0.0"),
    MV("example.com/[glob]*?", "v1.0.0"),
    MV("example.com/" + "x" * 255, "v1.0.0-" + "x" * 243),
)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return BACKENDS[request.param](reactor, tmp_path)


#: Only where the store can be reached past the storage.
on_raw = pytest.mark.parametrize("backend", sorted(name for name in BACKENDS if BACKENDS[name].raw), indirect=True)

#: Only where something that lies in the store can be made unreadable.
on_spoilt = pytest.mark.parametrize(
    "backend", sorted(name for name in BACKENDS if hasattr(BACKENDS[name], "spoil")), indirect=True
)

#: Only where the token behind a version can be known.
on_tokens = pytest.mark.parametrize(
    "backend", sorted(name for name in BACKENDS if hasattr(BACKENDS[name], "token")), indirect=True
)


@pytest_twisted.async_yield_fixture
async def storage(backend: Any) -> Any:
    storage = backend.storage()
    storage.startService()
    await storage.ready
    yield storage
    await maybeDeferred(storage.stopService)


async def save(storage: Any, mv: MV, mark: str = "") -> None:
    await storage.save(mv, *content(mv, mark)[:2], BytesZip(content(mv, mark)[2]))


def content(mv: MV, mark: str = "") -> tuple[bytes, bytes, bytes]:
    """Three files that belong to each other, and to no other version or mark."""
    return f"info {mark}{mv}".encode(), f"mod {mark}{mv}".encode(), f"zip {mark}{mv}".encode() * 100


async def assert_stored(storage: Any, mv: MV, mark: str = "") -> None:
    body = await storage.zip(mv)
    info, mod, zipped = content(mv, mark)
    assert (await storage.info(mv), await storage.mod(mv), await whole(body)) == (info, mod, zipped)
    assert body.length == len(zipped)
    assert await storage.exists(mv)


async def assert_absent(storage: Any, mv: MV) -> None:
    for ask in (storage.info, storage.mod, storage.zip, storage.delete):
        with pytest.raises(NotFound):
            await ask(mv)
    await assert_unseen(storage, mv)


async def assert_unseen(storage: Any, mv: MV, *, atomic: bool = True) -> None:
    """@param atomic: see L{Backend.atomic}."""
    for ask in (storage.info, storage.mod, storage.zip) if atomic else ():
        with pytest.raises(NotFound):
            await ask(mv)
    assert not await storage.exists(mv)
    assert mv.version not in await storage.list(mv.path)
    assert mv not in await pages(storage, 1000)


async def pages(storage: Any, size: int) -> list[MV]:
    found: list[MV] = []
    token = ""
    for _ in range(2000):
        page, token = await storage.catalog(token, size)
        assert len(page) <= size
        found += page
        if not token:
            return found
    raise AssertionError("the catalog has no end")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Any) -> None:
    """Give the threads time to be done, within bounds."""
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    raise AssertionError("it did not come to that")


def running(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


# --- What is there and what is not ---


def test_keeps_to_the_interface(storage: Any) -> None:
    assert verifyObject(IStorage, storage)


@pytest_twisted.ensureDeferred
async def test_an_absent_version_is_not_found(storage: Any) -> None:
    await assert_absent(storage, TOML)
    assert list(await storage.list(TOML.path)) == []
    assert await storage.catalog("", 10) == ([], "")


@pytest_twisted.ensureDeferred
async def test_what_was_saved_comes_back_byte_for_byte(storage: Any) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    body = await storage.zip(TOML)
    assert verifyObject(IZip, body)
    assert body.length == len(ZIP)
    assert (await storage.info(TOML), await storage.mod(TOML), await whole(body)) == (INFO, MOD, ZIP)
    assert await storage.exists(TOML)
    assert list(await storage.list(TOML.path)) == ["v1.4.0"]


@pytest_twisted.ensureDeferred
async def test_large_small_files_and_an_empty_zip_are_kept(storage: Any) -> None:
    info, mod = b"i" * (1 << 20), b"m" * (4 << 20)
    await storage.save(TOML, info, mod, BytesZip(b""))
    body = await storage.zip(TOML)
    assert (await storage.info(TOML), await storage.mod(TOML)) == (info, mod)
    assert (body.length, await whole(body)) == (0, b"")
    assert await storage.exists(TOML)


@pytest.mark.parametrize(
    ("info", "mod"), [(b"", MOD), (INFO, b""), (b"i" * ((1 << 20) + 1), MOD), (INFO, b"m" * ((16 << 20) + 1))]
)
@pytest_twisted.ensureDeferred
async def test_small_files_that_no_version_has_are_refused(storage: Any, info: bytes, mod: bytes) -> None:
    body = HandZip(10)
    with pytest.raises(BadUpstream):
        await storage.save(TOML, info, mod, body)
    assert body.stopped
    await assert_absent(storage, TOML)


@pytest_twisted.ensureDeferred
async def test_a_list_has_the_versions_of_its_module_alone(storage: Any) -> None:
    for path in ("x/two", "x/two/v2", "x/two-other"):
        for minor in range(3):
            await save(storage, MV(path, f"v1.{minor}.0"))
    await save(storage, MV("x/two", "v1.9.0"))
    for path, more in (("x/two", ["v1.9.0"]), ("x/two/v2", []), ("x/two-other", [])):
        assert sorted(await storage.list(path)) == ["v1.0.0", "v1.1.0", "v1.2.0", *more]
    for path in ("x", "x/tw", "x/two/none", "x/two/v1.0.0"):
        assert list(await storage.list(path)) == []


@pytest_twisted.ensureDeferred
async def test_a_list_has_only_full_versions(storage: Any) -> None:
    for version in ("v1.0.0", "v1.0.0-pre", "v1.0.0+meta", "v0.0.0-20240102030405-0123456789ab", "v1", "v1.2", "1.0.0"):
        await save(storage, MV("example.com/x", version))
    await save(storage, MV("example.com/x", "v01.0.0"))
    await save(storage, MV("example.com/x", "master"))
    assert sorted(await storage.list("example.com/x")) == [
        "v0.0.0-20240102030405-0123456789ab",
        "v1.0.0",
        "v1.0.0+meta",
        "v1.0.0-pre",
    ]
    await assert_stored(storage, MV("example.com/x", "master"))


@pytest_twisted.ensureDeferred
async def test_names_do_not_get_into_each_others_way(storage: Any) -> None:
    for mv in NAMES:
        await save(storage, mv)
    for mv in NAMES:
        await assert_stored(storage, mv)
        assert mv.version in await storage.list(mv.path)
    assert sorted(await pages(storage, 3), key=str) == sorted(set(NAMES), key=str)
    assert not await storage.exists(MV("example.com/x", "v1.0.0-p"))
    assert not await storage.exists(MV("example.com", "x"))


# --- Saving ---


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest_twisted.ensureDeferred
async def test_a_version_is_not_seen_before_it_is_whole(storage: Any, share: float) -> None:
    body = HandZip(len(ZIP))
    saving = running(storage.save(TOML, INFO, MOD, body))
    await body.started
    given_ = int(len(ZIP) * share)
    body.give(ZIP[:given_])
    await assert_absent(storage, TOML)
    body.give(ZIP[given_:])
    await assert_absent(storage, TOML)
    body.end()
    await saving
    assert await whole(await storage.zip(TOML)) == ZIP
    assert (await storage.info(TOML), await storage.mod(TOML)) == (INFO, MOD)
    assert await pages(storage, 10) == [TOML]


@pytest.mark.parametrize("how", ["breaks", "is short", "is long", "is far too long", "is cancelled", "was empty"])
@pytest_twisted.ensureDeferred
async def test_an_interrupted_save_leaves_nothing(backend: Any, storage: Any, how: str) -> None:
    await save(storage, MV("example.com/other", "v1.0.0"))
    before = backend.keys() if backend.raw else None
    for _ in range(2):
        body = HandZip(len(ZIP))
        saving = running(storage.save(TOML, INFO, MOD, body))
        await body.started
        body.give(ZIP[:500_000])
        expected: type[BaseException] = BadUpstream
        if how == "breaks":
            expected = FetchFailed
            body.break_off(FetchFailed("the connection broke"))
        elif how == "is short":
            body.give(ZIP[500_000:-1])
            body.end()
        elif how == "is long":
            body.give(ZIP[500_000:] + b"x")
            assert body.cancelled
        elif how == "is far too long":
            for _ in range(10):
                body.give(ZIP)
            assert body.cancelled
        elif how == "is cancelled":
            expected = CancelledError
            saving.cancel()
            assert body.cancelled
        else:
            body.end()
        with pytest.raises(expected):
            await saving
        await assert_absent(storage, TOML)
        if before is not None:
            assert backend.keys() == before
    await save(storage, TOML)
    await assert_stored(storage, TOML)


@pytest_twisted.ensureDeferred
async def test_a_save_can_be_cancelled_at_any_moment(backend: Any, storage: Any) -> None:
    for turns in range(12):
        saving = running(storage.save(TOML, INFO, MOD, BytesZip(ZIP)))
        for _ in range(turns):
            await deferLater(reactor, 0, lambda: None)
        saving.cancel()
        try:
            await saving
        except CancelledError:
            pass
        else:
            assert await storage.exists(TOML)
        if backend.raw and backend.atomic:
            await until(lambda: len(backend.keys()) in (0, 3))
        if await storage.exists(TOML):  # the rename was under way
            assert await whole(await storage.zip(TOML)) == ZIP
            await storage.delete(TOML)
    await save(storage, TOML)
    await assert_stored(storage, TOML)


@pytest.mark.parametrize("writers", [2, 5, 20])
@pytest_twisted.ensureDeferred
async def test_of_concurrent_saves_one_is_kept_whole(backend: Any, storage: Any, writers: int) -> None:
    second = storage
    if backend.raw:  # as another process would
        second = backend.storage()
        second.startService()
        await second.ready
    marks = [f"{number:02}" * (1 + number) for number in range(writers)]
    seen: list[bytes] = []
    reading = True

    async def read() -> None:
        while reading:
            try:
                body = await storage.zip(TOML)
                data = await whole(body)
                assert len(data) == body.length
                seen.append(data)
                seen.append(await storage.mod(TOML))
            except NotFound:
                assert not seen or not backend.atomic
                await deferLater(reactor, 0, lambda: None)

    reader = running(read())
    await gatherResults(
        [running(save((storage, second)[number % 2], TOML, mark)) for number, mark in enumerate(marks)],
        consumeErrors=True,
    )
    reading = False
    await reader
    info = await storage.info(TOML)
    winner = next(mark for mark in marks if content(TOML, mark)[0] == info)
    await assert_stored(storage, TOML, winner)
    assert set(seen) <= set(content(TOML, winner))
    if backend.raw:
        await second.stopService()
        assert sorted(backend.keys()) == sorted(backend.files(TOML))


@pytest_twisted.ensureDeferred
async def test_to_save_a_complete_version_again_changes_nothing(storage: Any) -> None:
    await save(storage, TOML)
    body = HandZip(3)
    await storage.save(TOML, b"other", b"other", body)
    assert (body.started.called, body.stopped) == (False, True)
    await assert_stored(storage, TOML)


@on_raw
@pytest.mark.parametrize("kept", [kept for size in (1, 2) for kept in combinations(range(3), size)])
@pytest_twisted.ensureDeferred
async def test_a_partial_version_is_absent_and_gets_healed(backend: Any, storage: Any, kept: tuple[int, ...]) -> None:
    for index in kept:
        backend.put(backend.files(TOML)[index], b"torn")
    await assert_unseen(storage, TOML, atomic=backend.atomic)
    await save(storage, TOML)
    await assert_stored(storage, TOML)
    assert backend.keys() == dict(zip(backend.files(TOML), content(TOML), strict=True))


@on_raw
@pytest.mark.parametrize("kept", [kept for size in (1, 2) for kept in combinations(range(3), size)])
@pytest_twisted.ensureDeferred
async def test_a_partial_version_can_be_deleted(backend: Any, storage: Any, kept: tuple[int, ...]) -> None:
    for index in kept:
        backend.put(backend.files(TOML)[index], b"torn")
    await storage.delete(TOML)
    assert backend.keys() == {}
    await assert_absent(storage, TOML)


@on_raw
@pytest_twisted.ensureDeferred
async def test_concurrent_saves_heal_a_partial_version_without_mixing(backend: Any, storage: Any) -> None:
    other = backend.storage()
    other.startService()
    await other.ready
    for round_ in range(10):
        mv = MV("example.com/x", f"v1.0.{round_}")
        for index in (0, 2):  # info and zip: one file more, and it would look complete
            backend.put(backend.files(mv)[index], b"torn")
        marks = [f"{number}" * (number + 1) for number in range(6)]
        saves = [running(save((storage, other)[number % 2], mv, mark)) for number, mark in enumerate(marks)]
        if not backend.atomic:  # who takes a part for nobody's may take it from one who is at work; he says so then
            done = await DeferredList(saves, consumeErrors=True)
            assert all(good or failure.check(StorageUnavailable) for good, failure in done)
            if not await storage.exists(mv):
                await save(storage, mv, marks[0])
        while not await storage.exists(mv):
            pass
        info = await storage.info(mv)
        mark = next(mark for mark in marks if content(mv, mark)[0] == info)
        await assert_stored(storage, mv, mark)
        if backend.atomic:
            await gatherResults(saves, consumeErrors=True)
        await assert_stored(storage, mv, mark)
    await other.stopService()


# --- Deleting ---


@pytest_twisted.ensureDeferred
async def test_a_deleted_version_is_gone_and_its_neighbours_are_not(storage: Any) -> None:
    others = (
        MV("example.com/x", "v1.0.1"),
        MV("example.com/x", "v1.0.0-pre"),
        MV("example.com/x/y", "v1.0.0"),
        MV("example.com/x/v2", "v2.0.0"),
        MV("example.com", "v1.0.0"),
    )
    gone = MV("example.com/x", "v1.0.0")
    for mv in (*others, gone):
        await save(storage, mv)
    await storage.delete(gone)
    await assert_absent(storage, gone)
    for mv in others:
        await assert_stored(storage, mv)
    assert sorted(await pages(storage, 2), key=str) == sorted(others, key=str)
    await save(storage, gone, "again")
    await assert_stored(storage, gone, "again")


@pytest_twisted.ensureDeferred
async def test_a_version_that_is_not_semver_can_be_deleted(storage: Any) -> None:
    mv = MV("example.com/x", "master")
    await save(storage, mv)
    await storage.delete(mv)
    await assert_absent(storage, mv)


@pytest_twisted.ensureDeferred
async def test_to_delete_what_only_looks_like_a_version_takes_no_module_along(storage: Any) -> None:
    inner = MV("example.com/x/v2", "v2.0.0")
    await save(storage, inner)
    for outer in (MV("example.com/x", "v2"), MV("example.com", "x")):
        with pytest.raises(NotFound):
            await storage.delete(outer)
    await assert_stored(storage, inner)


@pytest_twisted.ensureDeferred
async def test_a_module_whose_path_goes_through_a_version_lives_on(storage: Any) -> None:
    outer, inner = MV("example.com/x", "v1.0.0"), MV("example.com/x/v1.0.0", "v1.2.3")
    await save(storage, inner)
    await save(storage, outer)
    assert sorted(await pages(storage, 1), key=str) == [inner, outer]
    await storage.delete(outer)
    await assert_stored(storage, inner)
    await assert_absent(storage, outer)
    await save(storage, outer)
    await storage.delete(inner)
    await assert_stored(storage, outer)


# --- The catalog ---


@pytest_twisted.ensureDeferred
async def test_catalog_pages_have_everything_once(backend: Any, storage: Any) -> None:
    for mv in NAMES:
        await save(storage, mv)
    if backend.raw:  # what is not ours, and what is not whole
        for number in range(60):
            backend.put(f"github.com/foreign/{number}/readme.txt", b"")
            backend.put(f"example.com/x/{number}.info", b"{}")
        backend.put("top.info", b"{}")
        backend.put("example.com/x/v9.0.0/v9.0.0.info", b"{}")
        backend.put(backend.files(MV("example.com/x", "v9.1.0"))[0], b"{}")
    everything = sorted(set(NAMES), key=str)
    for size in (1, 2, 3, len(everything) - 1, len(everything), len(everything) + 1, 1000):
        assert sorted(await pages(storage, size), key=str) == everything


@on_tokens
@pytest_twisted.ensureDeferred
async def test_a_token_of_athens_goes_on_behind_its_version(backend: Any, storage: Any) -> None:
    for mv in NAMES:
        await save(storage, mv)
    everything = await pages(storage, 1000)
    for index, mv in enumerate(everything):
        page, token = await storage.catalog(backend.token(mv), 1000)
        assert (list(page), token) == (everything[index + 1 :], "")
    page, token = await storage.catalog("", 5)
    assert token == backend.token(page[-1])
    page, _ = await storage.catalog(backend.token(MV("a/b_c", "v0.9.9")), 1)  # deleted meanwhile
    assert list(page) == [MV("a/b_c", "v1.0.0")]


@pytest_twisted.ensureDeferred
async def test_a_token_that_is_none_is_a_bad_request(backend: Any, storage: Any) -> None:
    await save(storage, TOML)
    for token in backend.bad_tokens:
        with pytest.raises(InvalidRequest):
            await storage.catalog(token, 10)


@pytest.mark.parametrize("limit", [0, -1])
@pytest_twisted.ensureDeferred
async def test_a_page_without_entries_is_a_bad_request(storage: Any, limit: int) -> None:
    with pytest.raises(InvalidRequest):
        await storage.catalog("", limit)


def random_tree(chance: random.Random) -> set[MV]:
    elements = ("a", "b", "a-b", "a.b", "A", "a0", "v2", "v1.0.0", "a!b", "é", "z")
    versions = ("v1.0.0", "v1.0.0-pre", "v1.10.0", "v1.2.0", "v2.0.0+incompatible", "a", "z", "master")
    return {
        MV("/".join(chance.choices(elements, k=chance.randint(1, 3))), chance.choice(versions))
        for _ in range(chance.randint(0, 25))
    }


@pytest.mark.parametrize("seed", range(30))
@pytest_twisted.ensureDeferred
async def test_catalog_pages_of_random_trees(backend: Any, storage: Any, seed: int) -> None:
    unspeakable = set(getattr(type(backend), "unspeakable", ""))
    tree = {mv for mv in random_tree(random.Random(seed)) if not unspeakable & set(mv.path)}
    for mv in tree:
        if backend.raw:
            for key, data in zip(backend.files(mv), content(mv), strict=True):
                backend.put(key, data)
        else:
            await save(storage, mv)
    for size in range(1, 6):
        found = await pages(storage, size)
        assert len(found) == len(tree)
        assert set(found) == tree
    for mv in tree:
        assert await storage.exists(mv)


# --- Streams ---


@pytest.mark.parametrize("all_of_it", [True, False])
@pytest_twisted.ensureDeferred
async def test_parts_of_a_zip(storage: Any, all_of_it: bool) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    for start, length in ((0, 1), (0, len(ZIP)), (1000, 600_000), (len(ZIP) - 1, 1), (5, 0), (len(ZIP), 0)):
        part = (await storage.zip(TOML, whole=all_of_it)).part(start, length)
        assert part.length == length
        assert await whole(part) == ZIP[start : start + length]
    inner = (await storage.zip(TOML, whole=all_of_it)).part(1000, 500_000).part(100, 300_000)
    assert await whole(inner) == ZIP[1100:301_100]


@pytest.mark.parametrize("size", [0, 1, len(ZIP)])
@pytest_twisted.ensureDeferred
async def test_a_zip_of_which_little_is_wanted_has_its_length_and_its_bytes(storage: Any, size: int) -> None:
    with pytest.raises(NotFound):
        await storage.zip(TOML, whole=False)
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP[:size]))
    body = await storage.zip(TOML, whole=False)
    assert body.length == size
    body.stopProducing()
    assert await whole(await storage.zip(TOML, whole=False)) == ZIP[:size]  # after all


@pytest_twisted.ensureDeferred
async def test_a_stream_that_is_left_early_leaks_nothing(storage: Any) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    await whole(await storage.zip(TOML))
    before = descriptors()
    for number in range(60):
        body = await storage.zip(TOML)
        if number % 4 == 0:  # the client asked with HEAD
            body.stopProducing()
            body.stopProducing()
            continue
        sink = Mouthful(body)
        produced = body.startProducing(sink)
        if number % 4 == 1:
            await sink.full
        elif number % 4 == 2:  # while the first is read
            await deferLater(reactor, 0, lambda: None)
        if number % 3 == 0:  # the transport is lost, and that ends the handler of the request
            body.stopProducing()
        produced.cancel()
        with pytest.raises(CancelledError):
            await produced
        assert sink.pieces <= 1
    await until(lambda: descriptors() <= before)


@pytest_twisted.ensureDeferred
async def test_a_paused_stream_waits_and_goes_on(storage: Any) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    body = await storage.zip(TOML)
    body.pauseProducing()
    sink = Mouthful(body)
    produced = body.startProducing(sink)
    for _ in range(20):
        await deferLater(reactor, 0, lambda: None)
    assert sink.pieces == 0
    while len(sink.data) < len(ZIP):
        sink.full = Deferred()
        pieces = sink.pieces
        body.resumeProducing()
        await sink.full
        for _ in range(5):
            await deferLater(reactor, 0, lambda: None)
        assert sink.pieces == pieces + 1
    await produced  # to be paused at the end does not keep it from ending
    assert sink.data == ZIP


@pytest_twisted.ensureDeferred
async def test_a_stream_that_was_stopped_does_not_start(storage: Any) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    body = await storage.zip(TOML)
    body.stopProducing()
    sink = MemorySink(len(ZIP))
    with pytest.raises(CancelledError):
        await body.startProducing(sink)
    assert sink.length == 0


@pytest_twisted.ensureDeferred
async def test_a_stream_goes_on_while_its_version_is_deleted_or_is_not_found(storage: Any) -> None:
    await storage.save(TOML, INFO, MOD, BytesZip(ZIP))
    body = await storage.zip(TOML)
    await storage.delete(TOML)
    with suppress(NotFound):
        assert await whole(body) == ZIP


# --- Names that are none ---

EVIL = (
    MV("..", "v1.0.0"),
    MV("../outside", "v1.0.0"),
    MV("a/../../outside", "v1.0.0"),
    MV("a/..", "v1.0.0"),
    MV("/etc", "v1.0.0"),
    MV("a//b", "v1.0.0"),
    MV("a/", "v1.0.0"),
    MV("a/.", "v1.0.0"),
    MV("", "v1.0.0"),
    MV("a", ""),
    MV("a", "."),
    MV("a", ".."),
    MV("a", "../../outside"),
    MV("a", "v1.0.0/../../b"),
    MV("a\0b", "v1.0.0"),
    MV("a", "v1.0.0\0"),
    MV("a\\b", "v1.0.0"),
    MV("a", "v1\\.0.0"),
    MV("a/\udc80", "v1.0.0"),
    MV(".athens-tx-staging/x", "v1.0.0"),
    MV("a", ".athens-tx-staging"),
    MV("x" * 256, "v1.0.0"),
    MV("é" * 128, "v1.0.0"),
    MV("a", "v" * 251),
    MV("a\nb", "v1.0.0"),
    MV("a", "v1.0.0\u202e"),
)


@pytest.mark.parametrize("mv", EVIL, ids=map(str, range(len(EVIL))))
@pytest_twisted.ensureDeferred
async def test_no_name_leaves_the_root(backend: Any, storage: Any, mv: MV) -> None:
    await save(storage, MV("a", "v1.0.0"))
    before = backend.keys() if backend.raw else None
    body = HandZip(3)
    for ask in (storage.info, storage.mod, storage.zip, storage.exists, storage.delete):
        with pytest.raises(InvalidModule):
            await ask(mv)
    with pytest.raises(InvalidModule):
        await storage.save(mv, INFO, MOD, body)
    assert body.stopped
    assert mv.path == "a" or await raises_invalid(storage, mv.path)
    if before is not None:
        assert backend.keys() == before


async def raises_invalid(storage: Any, path: str) -> bool:
    with pytest.raises(InvalidModule):
        await storage.list(path)
    return True


# --- What lies in the store ---


@on_raw
@pytest_twisted.ensureDeferred
async def test_the_keys_are_those_of_athens(backend: Any, storage: Any) -> None:
    for mv in NAMES:
        await save(storage, mv)
    expected = {}
    for mv in NAMES:
        expected.update(zip(backend.files(mv), content(mv), strict=True))
    assert backend.keys() == expected


@on_raw
@pytest_twisted.ensureDeferred
async def test_what_others_have_stored_is_read(backend: Any, storage: Any) -> None:
    for key, data in zip(backend.files(TOML), content(TOML), strict=True):
        backend.put(key, data)
    await assert_stored(storage, TOML)
    assert list(await storage.list(TOML.path)) == [TOML.version]
    assert await pages(storage, 1) == [TOML]
    await storage.delete(TOML)
    assert backend.keys() == {}


@on_raw
@pytest_twisted.ensureDeferred
async def test_a_new_storage_finds_what_an_earlier_one_saved(backend: Any, storage: Any) -> None:
    await save(storage, TOML)
    await storage.stopService()
    again = backend.storage()
    again.startService()
    await again.ready
    await assert_stored(again, TOML)
    await again.stopService()


@on_spoilt
@pytest.mark.parametrize("index", range(3))
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_read_is_not_absent(backend: Any, storage: Any, index: int) -> None:
    await save(storage, TOML)
    backend.spoil(backend.files(TOML)[index])
    asked = (storage.info, storage.mod, storage.zip)
    for ask in (asked[index], storage.exists) if backend.atomic else asked[index : index + 1]:
        with pytest.raises(StorageUnavailable):
            await ask(TOML)
    if not backend.atomic:  # what it lists there is there, though it can't be read: nothing is to be saved
        return
    body = HandZip(3)
    with pytest.raises(StorageUnavailable):
        await storage.save(TOML, INFO, MOD, body)
    assert (body.started.called, body.stopped) == (False, True)


@pytest_twisted.ensureDeferred
async def test_a_working_store_is_ready(storage: Any) -> None:
    for _ in range(2):
        assert await gatherResults([running(storage.check()) for _ in range(5)]) == [None] * 5
