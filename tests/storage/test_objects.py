"""A storage over any object store: what the contract can't see, since it is between two requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from athens_tx.errors import BadUpstream, ConfigError, InvalidRequest, NotFound, StorageUnavailable
from athens_tx.interfaces import ILinks, ObjectPage, StoredObject
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip, MemorySink
from athens_tx.storage.calls import to_the_end
from athens_tx.storage.keys import INFO, ByFolder, ByVersion, Layout
from athens_tx.storage.objects import FRESH, ObjectStorage
from tests.storage.bucket import Bucket, broken

T = TypeVar("T")

ONE = MV("g/a", "v1.0.0")
KEYS = ByVersion().files(ONE)
INFO_KEY, MOD_KEY, ZIP_KEY = KEYS
_case = SynchronousTestCase()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """@return: what it gives, or raises, without anything to wait for."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


def begun(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)


def made(bucket: Bucket | None = None, layout: Layout | None = None) -> tuple[ObjectStorage, Bucket, Clock]:
    bucket, clock = bucket or Bucket(), Clock()
    return ObjectStorage(clock, bucket, layout or ByVersion()), bucket, clock


def save(storage: ObjectStorage, mark: str = "mine") -> Deferred[None]:
    data = mark.encode()
    return begun(storage.save(ONE, b"info " + data, b"mod " + data, BytesZip(b"zip " + data)))


def files(bucket: Bucket) -> list[bytes | None]:
    return [bucket.objects.get(key) for key in KEYS]


WHOLE = [b"info mine", b"mod mine", b"zip mine"]


# --- the catalog


_stored = st.sets(
    st.tuples(
        st.sampled_from(("g/a", "g/a-b", "g/a/v1", "g/a/v1.0.0-a", "g", "z")),
        st.sampled_from(("v1.0.0", "v1.0.0-a", "v1.0.0-a.b", "v1.0.0-a.k", "v1.0.0-a.n", "v1", "h1")),
        st.sampled_from((7, 7, 7, 1, 2, 3, 4, 5, 6)),
    ),
    max_size=25,
)
_FOREIGN = ("lease/g/a@v1.0.0", "parts/g/a/v1.0.0/0", "g/a.info", "a.info", "zz", "g/a/@v/list", "g/a/v1.0.0/x.info")


@example((ByFolder(), True), {("g/a", "v1", 7), ("g/a/v1", "v1.0.0", 7)}, 1, 1)
@example((ByVersion(), False), {("g/a", "v1.0.0-a", 7), ("g/a", "v1.0.0-a.k", 7)}, 1, 9)
@given(
    st.sampled_from([(ByVersion(), True), (ByFolder(), True), (ByVersion(), False)]),
    _stored,
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_pages_of_any_size_give_every_complete_version_once(
    kind: tuple[Layout, bool], stored: set[tuple[str, str, int]], limit: int, largest: int
) -> None:
    layout, keyed = kind
    # What comes in pages of the store's own never fits on less than a page.
    bucket = Bucket(keyed=keyed, largest_page=largest if keyed else largest + 3)
    for key in _FOREIGN:
        bucket.lay(key, b"x")
    whole = set()
    for path, version, present in sorted(stored):
        mv = MV(path, version)
        for index, key in enumerate(layout.files(mv)):
            if present >> index & 1:
                bucket.lay(key, b"x")
        if all(key in bucket.objects for key in layout.files(mv)):
            whole.add(mv)
    storage = ObjectStorage(Clock(), bucket, layout)
    found: list[MV] = []
    token = ""
    for _ in range(200):
        page, token = run(storage.catalog(token, limit))
        assert len(page) <= limit
        found += page
        if not token:
            break
    assert not token
    assert sorted(map(str, found)) == sorted(map(str, whole))
    listed = {path: set(run(storage.list(path))) for path in {mv.path for mv in whole}}
    assert all(mv.version in listed[mv.path] for mv in whole if mv.version.count(".") >= 2 and mv.version[0] == "v")
    assert all(MV(path, version) in whole for path, versions in listed.items() for version in versions)
    assert not whole & set(run(storage.incomplete()))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_has_at_least_one_entry(limit: int) -> None:
    with pytest.raises(InvalidRequest):
        run(made()[0].catalog("", limit))


def test_a_token_of_ours_is_one_of_the_layout() -> None:
    with pytest.raises(InvalidRequest):
        run(made()[0].catalog("nonsense", 10))


def test_an_empty_info_makes_no_version() -> None:
    storage, bucket, _ = made()
    for key in KEYS:
        bucket.lay(key, b"x")
    bucket.lay(INFO_KEY, b"")
    assert not run(storage.exists(ONE))
    assert run(storage.list(ONE.path)) == []
    assert run(storage.incomplete()) == [ONE]
    with pytest.raises(NotFound):
        run(storage.info(ONE))


def test_to_look_at_a_version_among_a_thousand_others_that_begin_like_it() -> None:
    storage, bucket, _ = made(Bucket(largest_page=1000))
    for number in range(1100):
        bucket.lay(f"g/a/@v/v1.0.0.a{number}.info", b"x")
    for key in KEYS:
        bucket.lay(key, b"x")
    assert run(storage.exists(ONE))
    assert bucket.calls == ["page g/a/@v/v1.0.0."] * 2


# --- saving


def test_a_save_writes_the_info_last() -> None:
    storage, bucket, _ = made()
    _case.successResultOf(save(storage))
    assert bucket.calls == [f"page {INFO_KEY[:-4]}", f"upload {ZIP_KEY}", f"upload {MOD_KEY}", f"upload {INFO_KEY}"]
    assert files(bucket) == WHOLE


@pytest.mark.parametrize("at", ["page", f"upload {ZIP_KEY}", f"upload {MOD_KEY}", f"upload {INFO_KEY}"])
def test_a_save_that_fails_anywhere_shows_nothing_and_the_next_one_succeeds(at: str) -> None:
    storage, bucket, clock = made()
    bucket.trouble = broken(at)
    _case.failureResultOf(save(storage, "first"), StorageUnavailable)
    bucket.trouble = lambda call: None
    assert not run(storage.exists(ONE))
    assert INFO_KEY not in bucket.objects
    again = save(storage)
    clock.pump([0.1] * 40)  # what was left could be somebody's who is at work
    _case.successResultOf(again)
    assert files(bucket) == WHOLE


def test_an_old_part_of_a_version_is_nobodys_and_healed_at_once() -> None:
    for present in range(1, 7):
        storage, bucket, _ = made()
        for index, key in enumerate(KEYS):
            if present >> index & 1:
                bucket.lay(key, b"old", FRESH)
        _case.successResultOf(save(storage))
        assert files(bucket) == WHOLE
        info = [call for call in bucket.calls if call == f"remove {INFO_KEY}"]
        assert len(info) == (present & 1)  # it would show the new zip before its go.mod


def test_the_info_of_a_leftover_stays_if_it_is_another_one_by_now() -> None:
    storage, bucket, _ = made()
    bucket.lay(INFO_KEY, b"old", FRESH)

    def somebody_saves(call: str) -> None:
        if call.startswith("remove"):
            bucket.trouble = lambda call: None
            for key, data in zip(KEYS, WHOLE, strict=True):
                bucket.lay(key, data)

    bucket.trouble = somebody_saves
    _case.successResultOf(save(storage, "late"))
    assert files(bucket) == WHOLE


def test_a_save_waits_for_the_one_of_somebody_else_while_that_goes_on() -> None:
    storage, bucket, clock = made()
    bucket.lay(ZIP_KEY, b"zip mine")
    waiting = save(storage, "late")
    clock.pump([0.1] * 25)
    bucket.lay(MOD_KEY, b"mod mine")
    clock.pump([0.1] * 25)
    _case.assertNoResult(waiting)
    bucket.lay(INFO_KEY, b"info mine")
    clock.advance(0.1)
    _case.successResultOf(waiting)
    assert files(bucket) == WHOLE
    assert not [call for call in bucket.calls if not call.startswith("page")]


@pytest.mark.parametrize("at", [MOD_KEY, INFO_KEY])
def test_who_stalls_so_long_that_another_takes_over_mixes_nothing(at: str) -> None:
    slow, bucket, clock = made()
    quick = ObjectStorage(clock, bucket, ByVersion())
    stalled: Deferred[None] = Deferred()
    bucket.trouble = lambda call: stalled if call == f"upload {at}" else None
    slowly = save(slow, "slow")
    bucket.trouble = lambda call: None
    quickly = save(quick)
    clock.pump([0.1] * 40)
    _case.successResultOf(quickly)
    assert files(bucket) == WHOLE
    stalled.callback(None)
    clock.pump([0.1] * 40)
    _case.successResultOf(slowly)
    assert files(bucket) == WHOLE


def test_athens_is_given_time_for_a_zip_whose_info_is_there_already() -> None:
    storage, bucket, clock = made()
    bucket.lay(INFO_KEY, b"info mine")
    bucket.lay(MOD_KEY, b"mod mine")
    waiting = save(storage, "late")
    clock.pump([0.1] * 500)
    _case.assertNoResult(waiting)
    assert not [call for call in bucket.calls if not call.startswith("page")]
    bucket.lay(ZIP_KEY, b"zip mine")
    clock.advance(0.1)
    _case.successResultOf(waiting)
    assert files(bucket) == WHOLE


def test_a_delete_leaves_what_was_saved_meanwhile() -> None:
    storage, bucket, _ = made()
    _case.successResultOf(save(storage, "old"))

    def somebody_saves(call: str) -> None:
        if call == f"remove {MOD_KEY}":
            for key, data in zip(KEYS, WHOLE, strict=True):
                bucket.lay(key, data)

    bucket.trouble = somebody_saves
    run(storage.delete(ONE))
    assert files(bucket) == WHOLE


def test_a_store_that_does_not_know_its_own_cursor_is_no_fault_of_a_client() -> None:
    storage, bucket, _ = made(Bucket(largest_page=1))
    _case.successResultOf(save(storage))

    def refuse(call: str) -> None:
        if bucket.calls.count(call) == 2:
            raise InvalidRequest("no such token")

    bucket.trouble = refuse
    with pytest.raises(StorageUnavailable):
        run(storage.list(ONE.path))


@pytest.mark.parametrize("keyed", [True, False])
def test_no_listing_goes_on_for_ever(keyed: bool) -> None:
    storage, bucket, _ = made(Bucket(keyed=keyed))
    page = StoredObject("g/a/@v/v1.0.0.info", "tag", 1, 0.0)
    token = "g/a/@v/v1.0.0.info"
    for pages in (
        [ObjectPage([page], token)],
        [ObjectPage([], token if not keyed else f"{token}{number}") for number in range(2)],
    ):
        asked = itertools.count()

        async def stuck(prefix: str, cursor: str, limit: int, pages: Any = pages, asked: Any = asked) -> ObjectPage:
            return pages[next(asked) % len(pages)]

        bucket.page = stuck  # type: ignore[method-assign]
        for walk in (storage.list("g/a"), storage.exists(MV("g/a", "v1.0.0")), storage.catalog("", 10)):
            with pytest.raises(StorageUnavailable, match="circles"):
                run(walk)


def test_looks_that_find_nothing_make_no_listing_endless() -> None:
    storage, bucket, _ = made(Bucket(keyed=False))
    for _ in range(1001):
        assert not run(storage.exists(ONE))
    empty, last = ObjectPage([], "token 1"), ObjectPage([], "")

    async def skips(prefix: str, cursor: str, limit: int) -> ObjectPage:
        return last if cursor else empty

    bucket.page = skips  # type: ignore[method-assign]
    assert run(storage.list(ONE.path)) == []
    assert run(storage.catalog("", 10)) == ([], "")


def test_the_slower_one_of_two_waits_for_the_faster_one_and_tells_if_that_gives_up() -> None:
    storage, bucket, clock = made()

    def faster(call: str) -> None:
        if call.startswith("upload"):
            bucket.lay(ZIP_KEY, b"zip mine")

    bucket.trouble = faster
    waiting = save(storage, "late")
    _case.assertNoResult(waiting)
    for key, data in zip(KEYS, WHOLE, strict=True):
        bucket.lay(key, data)
    clock.advance(0.1)
    _case.successResultOf(waiting)
    assert files(bucket) == WHOLE

    storage, bucket, clock = made()
    bucket.trouble = faster
    waiting = save(storage, "late")
    clock.pump([0.1] * 40)
    error = _case.failureResultOf(waiting, StorageUnavailable).value
    assert "somebody else began to save it" in str(error)
    assert error.retry_after == 5


@pytest.mark.parametrize(("info", "mod"), [(b"", b"mod"), (b"i" * ((1 << 20) + 1), b"mod"), (b"i", b"m" * (17 << 20))])
def test_what_no_version_can_have_stops_the_zip_and_asks_for_nothing(info: bytes, mod: bytes) -> None:
    storage, bucket, _ = made()
    zipped = BytesZip(b"zip")
    with pytest.raises(BadUpstream):
        run(storage.save(ONE, info, mod, zipped))
    assert bucket.calls == []
    with pytest.raises(CancelledError):
        run(_started(zipped))


async def _started(body: BytesZip) -> None:
    await body.startProducing(MemorySink(100))


# --- who gives up


class Deaf(Bucket):
    """One whose uploads are not to be stopped any more, once they wait for C{answer}."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Deferred[None] = Deferred()

    async def upload(self, key: str, body: Any, content_type: str, replacing: str) -> bool:
        answer, whole = self.answer, super().upload

        async def slow() -> bool:
            await answer
            return await whole(key, body, content_type, replacing)

        return await to_the_end(slow())


def test_an_upload_that_can_not_be_stopped_any_more_is_waited_for_by_the_next_save() -> None:
    bucket = Deaf()
    storage, _, clock = made(bucket)
    first = save(storage, "first")
    first.cancel()
    _case.failureResultOf(first, CancelledError)
    answer, bucket.answer = bucket.answer, Deferred()
    bucket.answer.callback(None)
    second = save(storage)
    third = save(storage, "third")
    _case.assertNoResult(second)
    assert len(bucket.calls) == 1  # the look of the first one
    answer.callback(None)
    clock.pump([0.1] * 80)  # the zip of the first one is there, and nobody goes on with it
    _case.successResultOf(second)
    _case.successResultOf(third)
    assert files(bucket) in (WHOLE, [b"info third", b"mod third", b"zip third"])


def test_stopping_waits_for_an_upload_that_can_not_be_stopped_any_more() -> None:
    bucket = Deaf()
    storage, _, _ = made(bucket)
    first = save(storage)
    first.cancel()
    _case.failureResultOf(first, CancelledError)
    stopped = storage.stopService()
    _case.assertNoResult(stopped)
    bucket.answer.errback(StorageUnavailable("the end of it"))
    _case.successResultOf(stopped)
    assert bucket.calls[-1] == "close"


@pytest.mark.parametrize("at", [MOD_KEY, INFO_KEY])
def test_once_the_zip_is_there_whoever_gives_up_the_version_is_completed(at: str) -> None:
    storage, bucket, _ = made()
    go_on: Deferred[None] = Deferred()
    bucket.trouble = lambda call: go_on if call == f"upload {at}" else None
    saving = save(storage)
    saving.cancel()
    _case.failureResultOf(saving, CancelledError)
    stopped = storage.stopService()
    _case.assertNoResult(stopped)
    go_on.callback(None)
    _case.successResultOf(stopped)
    assert files(bucket) == WHOLE


def test_completing_a_version_for_somebody_who_left_may_fail() -> None:
    storage, bucket, _ = made()
    go_on: Deferred[None] = Deferred()
    bucket.trouble = lambda call: go_on if call == f"upload {MOD_KEY}" else None
    saving = save(storage)
    saving.cancel()
    _case.failureResultOf(saving, CancelledError)
    go_on.errback(StorageUnavailable("gone"))
    assert not run(storage.exists(ONE))


# --- the service


def test_a_start_that_fails_says_so_and_can_be_stopped() -> None:
    storage, bucket, _ = made()

    def refuse(call: str) -> None:
        if call == "connect":
            raise ConfigError(["Storage.S3.Bucket: there is none"])

    bucket.trouble = refuse
    storage.startService()
    _case.failureResultOf(storage.ready, ConfigError)
    _case.successResultOf(storage.stopService())
    assert bucket.calls == ["connect", "close"]


def test_a_start_is_stopped_before_it_is_done() -> None:
    storage, bucket, _ = made()
    bucket.trouble = lambda call: Deferred() if call == "connect" else None
    storage.startService()
    _case.successResultOf(storage.stopService())
    _case.failureResultOf(storage.ready, CancelledError)
    assert bucket.calls == ["connect", "close"]


def test_a_sweep_that_may_not_be_made_is_told_and_nothing_else(logged: list[dict[str, Any]]) -> None:
    storage, bucket, _ = made()
    bucket.trouble = broken("sweep")
    storage.startService()
    _case.successResultOf(storage.ready)
    assert [event["reason"] for event in logged if "leftovers" in event["log_format"]] == ["sweep: broken"]
    _case.successResultOf(storage.stopService())


def test_a_sweep_under_way_does_not_hold_up_the_start_nor_the_stop() -> None:
    storage, bucket, _ = made()
    bucket.trouble = lambda call: Deferred() if call == "sweep" else None
    storage.startService()
    _case.successResultOf(storage.ready)
    _case.successResultOf(storage.stopService())


def test_the_check_asks_for_one_object() -> None:
    storage, bucket, _ = made()
    run(storage.check())
    assert bucket.calls == ["page "]
    bucket.trouble = broken("page")
    with pytest.raises(StorageUnavailable):
        run(storage.check())


def test_links_are_offered_where_they_are_wanted_and_only_to_what_is_there() -> None:
    assert not ILinks.providedBy(made()[0])
    bucket = Bucket()
    storage = ObjectStorage(Clock(), bucket, ByVersion(), links=True)
    assert ILinks.providedBy(storage)
    with pytest.raises(NotFound):
        run(storage.link(ONE))
    for key in KEYS:
        bucket.lay(key, b"x")
    assert run(storage.link(ONE)) == f"link to {ZIP_KEY}"


@pytest.mark.parametrize(
    ("operation", "requests"),
    [
        (lambda storage: storage.exists(ONE), 1),
        (lambda storage: storage.info(ONE), 1),
        (lambda storage: storage.mod(ONE), 1),
        (lambda storage: storage.zip(ONE), 1),
        (lambda storage: storage.list(ONE.path), 1),
        (lambda storage: storage.catalog("", 10), 1),
        (lambda storage: storage.delete(ONE), 4),
    ],
)
def test_what_each_operation_asks_for(operation: Callable[[ObjectStorage], Any], requests: int) -> None:
    storage, bucket, _ = made()
    for key in KEYS:
        bucket.lay(key, b"x")
    run(operation(storage))
    assert len(bucket.calls) == requests


def test_a_delete_takes_the_info_first() -> None:
    storage, bucket, _ = made()
    for key in KEYS:
        bucket.lay(key, b"x")
    run(storage.delete(ONE))
    assert bucket.calls[1:] == [f"remove {key}" for key in KEYS]
    assert KEYS[INFO] == INFO_KEY
    with pytest.raises(NotFound):
        run(storage.delete(ONE))


def test_the_end_does_not_wait_for_ever_for_what_is_nearly_written() -> None:
    storage, bucket, clock = made()
    bucket.trouble = lambda call: Deferred() if call == f"upload {MOD_KEY}" else None
    saving = save(storage)
    saving.cancel()
    _case.failureResultOf(saving, CancelledError)
    stopped = storage.stopService()
    clock.advance(4.9)
    _case.assertNoResult(stopped)
    clock.advance(0.1)
    _case.successResultOf(stopped)
    assert bucket.calls[-1] == "close"
