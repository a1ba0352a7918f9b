"""What S3 servers may answer to a save or a read, shown with a real server behind a proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from athens_tx.errors import NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from athens_tx.storage.body import BytesZip
from athens_tx.storage.s3 import PART
from tests.contract.zips import whole
from tests.storage.s3_world import (
    BEGIN,
    END,
    INFO,
    INFO_PUT,
    LARGE,
    MOD,
    MOD_PUT,
    ONE,
    PIECE,
    SMALL,
    ZIP,
    World,
    a_world,
    assert_whole,
    error,
    failing,
    save,
    told,
)

world = pytest_twisted.async_yield_fixture(a_world)


# --- how much is asked


@pytest_twisted.ensureDeferred
async def test_reading_takes_one_request_and_saving_four(world: World) -> None:
    storage = await world.storage()
    await save(storage)
    assert [request.method for request in world.proxy.requests] == ["GET", "PUT", "PUT", "PUT"]
    assert [world.proxy.count(match) for match in (ZIP, MOD_PUT, INFO_PUT)] == [1, 1, 1]

    async def zipped() -> None:
        await whole(await storage.zip(ONE))

    async def listed() -> None:
        assert await storage.list(ONE.path) == [ONE.version]

    async def catalogued() -> None:
        assert await storage.catalog("", 10) == ([ONE], "")

    for ask in (lambda: storage.exists(ONE), lambda: storage.info(ONE), lambda: storage.mod(ONE), zipped, listed):
        world.proxy.requests.clear()
        await ask()
        assert len(world.proxy.requests) == 1
    for ask in (catalogued, storage.check):
        world.proxy.requests.clear()
        await ask()
        assert len(world.proxy.requests) == 1
    world.proxy.requests.clear()
    await save(storage)  # it is there
    assert len(world.proxy.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_large_zip_is_saved_in_parts(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    assert [world.proxy.count(match) for match in (BEGIN, PIECE, END)] == [1, 3, 1]
    assert len(world.proxy.requests) == 8
    assert world.bucket.get(world.files()[2]) == LARGE
    assert world.bucket.unfinished() == []
    await assert_whole(storage, LARGE)


@pytest.mark.parametrize("length", [0, 1, PART, PART + 1])
@pytest_twisted.ensureDeferred
async def test_zips_at_the_edge_between_one_put_and_parts(world: World, length: int) -> None:
    storage = await world.storage()
    await save(storage, LARGE[:length])
    assert world.proxy.count(BEGIN) == (length > PART)
    await assert_whole(storage, LARGE[:length])


@pytest_twisted.ensureDeferred
async def test_objects_have_the_content_types_of_athens(world: World) -> None:
    storage = await world.storage()
    await save(storage)
    types = [world.bucket.headers(key)["content-type"] for key in world.files()]
    assert types == ["application/json", "text/plain", "application/octet-stream"]
    other = MV("a/large", "v1.0.0")
    await save(storage, LARGE, other)
    assert world.bucket.headers(world.files(other)[2])["content-type"] == "application/octet-stream"


# --- trouble that passes


@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize("match", [r"GET .*list", ZIP, MOD_PUT, INFO_PUT])
@pytest_twisted.ensureDeferred
async def test_a_save_survives_a_server_that_wants_patience(world: World, match: str, status: int) -> None:
    storage = await world.storage()
    world.proxy.answer(status, match=match, body=error("SlowDown"))
    await save(storage)
    assert world.proxy.count(match) == 2
    await assert_whole(storage)


@pytest.mark.parametrize("match", [ZIP, MOD_PUT, INFO_PUT])
@pytest_twisted.ensureDeferred
async def test_a_put_that_was_done_though_its_answer_was_lost(world: World, match: str) -> None:
    """The second try is refused: something is there. It is ours."""
    storage = await world.storage()
    world.proxy.lose_answer(match=match)
    await save(storage)
    assert world.proxy.count(match) == 2
    assert world.proxy.count("HEAD") == 1
    await assert_whole(storage)


@pytest.mark.parametrize("match", [BEGIN, PIECE, END])
@pytest.mark.parametrize("lost", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_upload_in_parts_survives_lost_answers_and_cut_requests(world: World, match: str, lost: bool) -> None:
    storage = await world.storage()
    if lost:
        world.proxy.lose_answer(match=match)
    else:
        world.proxy.cut_request(0 if match == BEGIN else 100, match=match)
    await save(storage, LARGE)
    await assert_whole(storage, LARGE)
    assert world.proxy.count(match) == (2 if match != PIECE else 4)


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_gone_because_it_was_ended_before(world: World) -> None:
    storage = await world.storage()
    world.proxy.lose_answer(match=END)
    world.proxy.answer(404, match=END, body=error("NoSuchUpload"))
    await save(storage, LARGE)
    assert world.proxy.count("HEAD") == 1
    await assert_whole(storage, LARGE)


@pytest_twisted.ensureDeferred
async def test_the_end_of_an_upload_fails_though_it_says_200(world: World) -> None:
    storage = await world.storage()
    world.proxy.answer(200, match=END, body=error("InternalError"))
    await save(storage, LARGE)
    assert world.proxy.count(END) == 2
    await assert_whole(storage, LARGE)


@pytest_twisted.ensureDeferred
async def test_the_end_of_an_upload_fails_for_good_though_it_says_200(world: World) -> None:
    storage = await world.storage()
    world.proxy.answer(200, times=5, match=END, body=error("InternalError"))
    failed = await failing(storage, LARGE)
    assert str(failed) == f"s3 storage: end upload of {world.files()[2]}: status 200"
    assert failed.detail == "InternalError a reason"
    await world.quiet()
    assert world.bucket.unfinished() == []
    await save(storage, LARGE)
    await assert_whole(storage, LARGE)


@pytest.mark.parametrize("code", ["NoSuchUpload", "NoSuchBucket"])
@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_gone_and_left_no_zip(world: World, code: str) -> None:
    storage = await world.storage()
    world.proxy.answer(404, match=END, body=error(code))
    failed = await failing(storage, LARGE)
    assert code in str(failed) or "somebody else began" in str(failed)
    await world.quiet()
    assert world.bucket.unfinished() == []


@pytest_twisted.ensureDeferred
async def test_a_read_survives_cuts_and_patience(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    world.proxy.truncate(10, match=r"GET .*\.info")
    world.proxy.answer(503, match=r"GET .*\.mod")
    world.proxy.truncate(5_000_000, match=r"GET .*\.zip")
    world.proxy.truncate(5_000_000, match=r"GET .*\.zip")
    await assert_whole(storage, LARGE)
    await assert_whole(storage, LARGE)
    ranges = [request.headers.get("range") for request in world.proxy.requests if request.headers.get("range")]
    assert ranges[-1] == f"bytes=10000000-{len(LARGE) - 1}"


@pytest.mark.parametrize("by", [5, -5])
@pytest_twisted.ensureDeferred
async def test_a_zip_of_the_wrong_length_is_told(world: World, by: int) -> None:
    storage = await world.storage()
    await save(storage)
    world.proxy.wrong_length(by, match=r"GET .*\.zip")
    body = await storage.zip(ONE)
    if by > 0:
        with pytest.raises(StorageUnavailable):
            await whole(body)
    else:  # nobody could know
        assert await whole(body) == SMALL[:by]


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_another_one_meanwhile_is_not_mixed_with_it(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    world.proxy.truncate(5_000_000, match=r"GET .*\.zip")
    body = await storage.zip(ONE)
    world.bucket.put(world.files()[2], bytes(len(LARGE)))
    with pytest.raises(NotFound, match="deleted meanwhile"):
        await whole(body)


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest_twisted.ensureDeferred
async def test_where_head_has_no_words_get_says_why(world: World, status: int) -> None:
    storage = await world.storage()
    await save(storage)
    world.proxy.answer(status, match="HEAD")
    body = await storage.zip(ONE, whole=False)
    assert body.length == len(SMALL)
    body.stopProducing()
    assert [request.method for request in world.proxy.requests][-2:] == ["HEAD", "GET"]
    world.proxy.answer(status, match="HEAD")
    world.proxy.answer(403, match="GET", body=error("AccessDenied"))
    with pytest.raises(StorageUnavailable, match="status 403") as raised:
        await storage.zip(ONE, whole=False)
    assert "AccessDenied" in raised.value.detail


@pytest_twisted.ensureDeferred
async def test_a_part_of_what_is_another_zip_since_head_is_refused(world: World) -> None:
    storage = await world.storage()
    await save(storage)
    body = await storage.zip(ONE, whole=False)
    world.bucket.put(world.files()[2], bytes(len(SMALL)))
    with pytest.raises(NotFound, match="deleted meanwhile"):
        await whole(body.part(10, 10))


@pytest_twisted.ensureDeferred
async def test_a_zip_that_has_no_tag_is_not_gone_on_with_where_it_broke_off(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    world.proxy.answer(200, match=r"GET .*\.zip", body=LARGE[:5_000_000], length=len(LARGE))
    body = await storage.zip(ONE)
    world.bucket.put(world.files()[2], bytes(len(LARGE)))
    with pytest.raises(StorageUnavailable, match="can't be read"):
        await whole(body)
    assert world.proxy.count(r"GET .*\.zip") == 1


@pytest_twisted.ensureDeferred
async def test_a_zip_that_is_deleted_meanwhile(world: World) -> None:
    storage = await world.storage()
    await save(storage, LARGE)
    world.proxy.truncate(5_000_000, match=r"GET .*\.zip")
    body = await storage.zip(ONE)
    world.bucket.drop(world.files()[2])
    with pytest.raises(NotFound):
        await whole(body)


@pytest_twisted.ensureDeferred
async def test_a_zip_whose_server_does_not_say_how_long_it_is_is_refused(world: World) -> None:
    storage = await world.storage()
    await save(storage)

    async def open_(*_: Any) -> Any:
        answer = await opened(*_)
        answer.length = None
        return answer

    bucket: Any = storage._objects
    opened, bucket._bucket.open = bucket._bucket.open, open_
    with pytest.raises(StorageUnavailable, match="without a length"):
        await storage.zip(ONE)


# --- trouble that does not pass


@pytest.mark.parametrize(("match", "zip"), [(ZIP, SMALL), (MOD_PUT, SMALL), (INFO_PUT, SMALL), (END, LARGE)])
@pytest_twisted.ensureDeferred
async def test_what_is_refused_fails_the_save_and_says_what_to_look_at(world: World, match: str, zip: bytes) -> None:
    storage = await world.storage()
    world.proxy.answer(403, match=match, body=error("AccessDenied"))
    failed = await failing(storage, zip)
    assert str(failed).startswith("s3 storage: ")
    assert str(failed).endswith(": status 403")
    assert failed.detail.startswith("AccessDenied a reason look at the credentials")
    assert failed.retry_after is None
    await save(storage, zip)
    await assert_whole(storage, zip)


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
@pytest.mark.parametrize(("match", "zip"), [(ZIP, SMALL), (END, LARGE)])
@pytest_twisted.ensureDeferred
async def test_somebody_who_was_faster_with_other_bytes_is_waited_for(
    world: World, status: int, code: str, match: str, zip: bytes
) -> None:
    storage = await world.storage()
    world.bucket.put(world.files()[2] + "x", b"")  # begins like it, and is none of it
    world.proxy.answer(status, match=match, body=error(code))
    saving = Deferred.fromCoroutine(save(storage, zip))
    for _ in range(500):
        if world.proxy.count("HEAD"):
            break
        await deferLater(reactor, 0.01, lambda: None)
    for key, data in zip_of_somebody_else(world):
        world.bucket.put(key, data)
    await saving
    assert await whole(await storage.zip(ONE)) == b"theirs"
    await world.quiet()
    assert world.bucket.unfinished() == []


def zip_of_somebody_else(world: World) -> list[tuple[str, bytes]]:
    info, mod, zipped = world.files()
    return [(zipped, b"theirs"), (mod, MOD), (info, INFO)]


@pytest.mark.parametrize("zip", [SMALL, LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_knows_no_conditions_is_asked_without(world: World, zip: bytes) -> None:
    storage = await world.storage()
    world.proxy.answer(501, match=ZIP if zip is SMALL else END, body=error("NotImplemented"))
    await save(storage, zip)
    await assert_whole(storage, zip)
    sent = [request for request in world.proxy.requests if request.method in ("PUT", "POST")]
    assert sum("if-none-match" in request.headers for request in sent) == 1
    world.proxy.requests.clear()
    await save(storage, zip, MV("a/b", "v1.0.0"))
    assert not [request for request in world.proxy.requests if "if-none-match" in request.headers]
    await storage.delete(ONE)
    assert not [request for request in world.proxy.requests if "if-match" in request.headers]


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_know_the_request_at_all(world: World) -> None:
    storage = await world.storage()
    world.proxy.answer(501, times=2, match=ZIP, body=error("NotImplemented"))
    failed = await failing(storage)
    assert str(failed) == f"s3 storage: put {world.files()[2]}: status 501 NotImplemented"


@pytest_twisted.ensureDeferred
async def test_a_leftover_is_replaced_only_while_it_is_the_one_that_was_seen(world: World) -> None:
    world.bucket.put(world.files()[2], b"left")
    storage = await world.storage()
    await save(storage)
    await assert_whole(storage)
    (written,) = [request for request in world.proxy.requests if request.method == "PUT" and ".zip" in request.target]
    assert written.headers["if-match"]


@pytest.mark.parametrize("known", [True, False])
@pytest_twisted.ensureDeferred
async def test_the_info_of_a_leftover_goes_before_the_new_zip_comes(world: World, known: bool) -> None:
    world.bucket.put(world.files()[0], b"left")
    storage = await world.storage()
    if not known:
        world.proxy.answer(501, match="DELETE", body=error("NotImplemented"))
    await save(storage)
    await assert_whole(storage)
    methods = [request.method for request in world.proxy.requests]
    assert methods.index("DELETE") < methods.index("PUT")
    assert world.proxy.count("DELETE") == (1 if known else 2)


@pytest_twisted.ensureDeferred
async def test_the_bucket_disappears_later(world: World, logged: list[dict[str, Any]]) -> None:
    storage = await world.storage()
    world.bucket.client.delete_bucket(Bucket=world.bucket.name)
    asks: tuple[Callable[[], Any], ...] = (
        lambda: storage.info(ONE),
        lambda: storage.zip(ONE),
        lambda: storage.exists(ONE),
        lambda: storage.list(ONE.path),
        lambda: storage.catalog("", 5),
        lambda: storage.delete(ONE),
        lambda: save(storage),
        storage.check,
    )
    for ask in asks:
        with pytest.raises(StorageUnavailable) as raised:
            await ask()
        assert "NoSuchBucket" in raised.value.detail or "Storage.S3.Bucket" in raised.value.detail
    assert (told(logged, "storage refuses"), told(logged, "is in trouble")) == (1, 0)
    world.bucket.client.create_bucket(Bucket=world.bucket.name)
    await save(storage)
    await assert_whole(storage)
    assert told(logged, "works again") == 0  # it answered all the time


@pytest_twisted.ensureDeferred
async def test_an_answer_of_something_else_is_no_empty_list(world: World) -> None:
    storage = await world.storage()
    for body, headers in ((b"<html>", {}), (b"", {}), (b"<ListBucketResult/>", {"Date": "whenever"})):
        world.proxy.answer(200, match="GET .*list-type", body=body, headers=headers)
        with pytest.raises(StorageUnavailable, match="s3 storage: list: not the answer of an S3 server"):
            await storage.list(ONE.path)
    world.proxy.answer(200, match=BEGIN, body=b"<html>")
    failed = await failing(storage, LARGE)
    assert str(failed) == "s3 storage: not the answer of an S3 server"


@pytest_twisted.ensureDeferred
async def test_a_save_that_breaks_off_is_seen_by_nobody(world: World) -> None:
    storage = await world.storage()
    world.proxy.cut_request(5, match=INFO_PUT, times=None)
    with pytest.raises(StorageUnavailable):
        await save(storage)
    world.proxy.heal()
    assert not await storage.exists(ONE)
    assert await storage.list(ONE.path) == []
    assert await storage.catalog("", 10) == ([], "")
    await storage.save(ONE, INFO, MOD, BytesZip(SMALL))
    await assert_whole(storage)
