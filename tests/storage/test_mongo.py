"""The documents of the MongoDB storage, field by field, and what it makes of those of others."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
import pytest_twisted
from bson.raw_bson import RawBSONDocument
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from athens_tx.errors import BadUpstream, NotFound, StorageUnavailable
from athens_tx.module.version import ModuleVersion
from athens_tx.storage.body import BytesZip
from athens_tx.storage.gridfs import CHUNK_SIZE
from tests.contract.zips import HandZip, whole
from tests.storage.mongos import INFO, MOD, MV, NAME, ZIP, events, opened, running, save, turns, until
from tests.support import servers
from tests.support.mongo_front import MongoFront

#: BSON's types of the fields.
STRING, DOCUMENT, BINARY, OBJECT_ID, DATE, INT32, INT64 = 2, 3, 5, 7, 9, 16, 18


@pytest.fixture
def bucket() -> Any:
    bucket = servers.mongo().bucket()
    yield bucket
    bucket.drop()


@pytest_twisted.async_yield_fixture
async def storage(bucket: Any) -> AsyncIterator[Any]:
    async with opened(bucket.server.endpoint, bucket.name, limit=20.0) as storage:
        yield storage


def types(document: RawBSONDocument) -> dict[str, int]:
    """@return: the BSON types of the fields, in their order; binary data must be of subtype 0."""
    raw, found, place = document.raw, {}, 4
    sizes = {DATE: 8, OBJECT_ID: 12, INT32: 4, INT64: 8}
    while raw[place]:
        kind, end = raw[place], raw.index(0, place + 1)
        name = raw[place + 1 : end].decode()
        found[name] = kind
        length = int.from_bytes(raw[end + 1 : end + 5], "little")
        place = end + 1 + sizes.get(kind, {STRING: 4, DOCUMENT: 0, BINARY: 5}.get(kind, 0) + length)
        if kind == BINARY:
            assert raw[end + 5] == 0
    return found


def raw(collection: Any) -> list[RawBSONDocument]:
    options = bson.codec_options.CodecOptions(document_class=RawBSONDocument)
    return list(collection.with_options(options).find())


def athens(bucket: Any, mv: ModuleVersion, zipped: bytes | None = b"zip", **more: Any) -> Any:
    """Lay a version there as Athens does. @return: the C{_id} of its document."""
    if zipped is not None:
        name = f"{mv.path.replace('/', '_')}_{mv.version}.zip"
        bucket.files().put(zipped, filename=name, chunk_size=CHUNK_SIZE)
    document = {"module": mv.path, "version": mv.version, "mod": b"mod", "info": b"info", **more}
    return bucket.database.modules.insert_one(document).inserted_id


# --- What is written ---


@pytest_twisted.ensureDeferred
async def test_the_documents_are_those_of_athens(bucket: Any, storage: Any) -> None:
    begun = datetime.now(UTC).replace(tzinfo=None)
    await save(storage)
    (document,) = raw(bucket.database.modules)
    assert types(document) == {"_id": OBJECT_ID, "module": STRING, "version": STRING, "mod": BINARY, "info": BINARY}
    assert (document["module"], document["version"]) == ("github.com/BurntSushi/toml", "v1.4.0")
    assert (document["mod"], document["info"]) == (MOD, INFO)
    (file,) = raw(bucket.database.fs.files)
    assert types(file) == {
        "_id": OBJECT_ID,
        "length": INT64,
        "chunkSize": INT32,
        "uploadDate": DATE,
        "filename": STRING,
        "metadata": DOCUMENT,
    }
    assert (file["length"], file["chunkSize"], file["filename"]) == (len(ZIP), 261120, NAME)
    assert dict(file["metadata"]) == {"module": MV.path, "version": MV.version}
    assert abs(file["uploadDate"] - begun) < timedelta(seconds=20)
    assert document["_id"] == file["_id"]
    chunks = raw(bucket.database.fs.chunks)
    for number, chunk in enumerate(chunks):
        assert types(chunk) == {"_id": OBJECT_ID, "files_id": OBJECT_ID, "n": INT32, "data": BINARY}
        assert (chunk["files_id"], chunk["n"]) == (file["_id"], number)
    assert [len(chunk["data"]) for chunk in chunks] == [261120, 261120, len(ZIP) - 2 * 261120]
    assert b"".join(chunk["data"] for chunk in chunks) == ZIP


@pytest_twisted.ensureDeferred
async def test_the_indexes_are_those_of_athens_and_the_drivers_and_one_more(bucket: Any, storage: Any) -> None:
    modules = bucket.database.modules.index_information()
    unique = modules["base_url_1_module_1_version_1"]
    assert unique["key"] == [("base_url", 1), ("module", 1), ("version", 1)]
    assert (unique["unique"], unique["sparse"]) == (True, True)
    assert modules["module_1_version_1"]["key"] == [("module", 1), ("version", 1)]
    assert not modules["module_1_version_1"].get("unique")
    assert "filename_1_uploadDate_1" in bucket.database.fs.files.index_information()
    assert bucket.database.fs.chunks.index_information()["files_id_1_n_1"]["unique"]


@pytest_twisted.ensureDeferred
async def test_database_and_collection_are_as_the_settings_say(bucket: Any) -> None:
    async with opened(bucket.server.endpoint, bucket.name, collection="other") as storage:
        await save(storage)
    assert bucket.database.other.count_documents({}) == 1
    assert "modules" not in bucket.database.list_collection_names()


@pytest_twisted.ensureDeferred
async def test_files_that_do_not_fit_into_a_document_are_refused_before_the_zip(bucket: Any, storage: Any) -> None:
    body = HandZip(3)
    with pytest.raises(BadUpstream):
        await storage.save(MV, b"i" * (1 << 20), b"m" * (15 << 20), body)
    assert (body.started.called, body.stopped) == (False, True)
    await storage.save(MV, b"i", b"m" * ((16 << 20) - (64 << 10) - 1), BytesZip(b"zip"))
    assert len(await storage.mod(MV)) == (16 << 20) - (64 << 10) - 1


# --- What Athens has left ---


@pytest_twisted.ensureDeferred
async def test_what_athens_wrote_is_read_listed_and_deleted(bucket: Any, storage: Any) -> None:
    athens(bucket, MV, ZIP)
    assert (await storage.info(MV), await storage.mod(MV)) == (b"info", b"mod")
    assert await whole(await storage.zip(MV)) == ZIP
    assert list(await storage.list(MV.path)) == [MV.version]
    assert await storage.catalog("", 5) == ([MV], "")
    await save(storage)  # harmless
    assert await storage.info(MV) == b"info"
    await storage.delete(MV)
    assert [bucket.database[name].count_documents({}) for name in ("modules", "fs.files", "fs.chunks")] == [0, 0, 0]


@pytest.mark.parametrize("chunk", [0, 1, 2])
@pytest_twisted.ensureDeferred
async def test_a_zip_of_athens_without_all_its_chunks_is_absent_and_healed(
    bucket: Any, storage: Any, chunk: int
) -> None:
    athens(bucket, MV, ZIP)
    bucket.database.fs.chunks.delete_one({"n": chunk})
    assert not await storage.exists(MV)
    assert list(await storage.list(MV.path)) == []
    assert await storage.catalog("", 5) == ([], "")
    assert list(await storage.incomplete()) == [MV]
    with pytest.raises(NotFound):
        await storage.info(MV)
    await save(storage)
    assert await whole(await storage.zip(MV)) == ZIP
    assert await storage.info(MV) == INFO
    assert bucket.database.fs.files.count_documents({}) == 1
    assert bucket.database.fs.chunks.count_documents({}) == 3
    assert list(await storage.incomplete()) == []


@pytest_twisted.ensureDeferred
async def test_the_size_is_that_of_the_file_that_is_read(bucket: Any, storage: Any) -> None:
    """Athens takes the size of the first file of a name, and the bytes of the newest."""
    bucket.files().put(b"older and longer", filename=NAME, chunk_size=CHUNK_SIZE)
    athens(bucket, MV, b"newest")
    bucket.database.fs.files.update_one({"length": 16}, {"$set": {"uploadDate": datetime(2020, 1, 1)}})
    body = await storage.zip(MV)
    assert (body.length, await whole(body)) == (6, b"newest")


@pytest_twisted.ensureDeferred
async def test_a_file_that_says_whose_it_is_goes_before_a_newer_one(bucket: Any, storage: Any) -> None:
    metadata = {"module": MV.path, "version": MV.version}
    bucket.files().put(b"right", filename=NAME, metadata=metadata)
    other = {"module": "github.com_BurntSushi/toml", "version": MV.version}
    athens(bucket, MV, b"somebody's")
    bucket.files().put(b"another's", filename=NAME, metadata=other)
    assert await whole(await storage.zip(MV)) == b"right"


@pytest_twisted.ensureDeferred
async def test_names_that_athens_takes_for_one_another(bucket: Any, storage: Any) -> None:
    first, second = ModuleVersion("a/b_c", "v1.0.0"), ModuleVersion("a_b/c", "v1.0.0")
    for mv, zipped in ((first, b"first"), (second, b"second")):
        await storage.save(mv, INFO, MOD, BytesZip(zipped))
    assert await whole(await storage.zip(first)) == b"first"
    assert await whole(await storage.zip(second)) == b"second"
    await storage.delete(first)
    assert await whole(await storage.zip(second)) == b"second"
    assert not await storage.exists(first)


@pytest_twisted.ensureDeferred
async def test_the_file_that_another_module_of_athens_needs_is_not_deleted(bucket: Any, storage: Any) -> None:
    first, second = ModuleVersion("a/b_c", "v1.0.0"), ModuleVersion("a_b/c", "v1.0.0")
    athens(bucket, first, b"one for both")
    athens(bucket, second, None)
    await storage.delete(first)
    assert await whole(await storage.zip(second)) == b"one for both"
    with pytest.raises(NotFound):
        await storage.delete(first)
    await storage.save(first, INFO, MOD, BytesZip(b"mine"))
    assert await whole(await storage.zip(first)) == b"mine"
    assert await whole(await storage.zip(second)) == b"one for both"
    await storage.delete(second)
    assert bucket.database.fs.files.count_documents({}) == 1
    assert await whole(await storage.zip(first)) == b"mine"


@pytest_twisted.ensureDeferred
async def test_what_is_no_version_is_passed_over(bucket: Any, storage: Any, logged: Any) -> None:
    await save(storage)
    good = {"mod": b"mod", "info": b"info"}
    for document in (
        {"module": 5, "version": "v1.0.0", **good},
        {"module": MV.path, "version": 7, **good},
        {"module": MV.path, **good},
        {"module": [MV.path], "version": "v1.8.0", **good},
        {"version": "v1.0.0", **good},
        {"module": "../x", "version": "v1.0.0", **good},
        {"module": MV.path, "version": "v1.0.1", "mod": "text", "info": b"info"},
        {"other": "document"},
    ):
        bucket.database.modules.insert_one(document)
    spoilt = ModuleVersion(MV.path, "v1.9.0")
    athens(bucket, spoilt)
    bucket.database.fs.files.update_one({"filename": NAME.replace("1.4", "1.9")}, {"$set": {"length": "three"}})
    assert list(await storage.list(MV.path)) == [MV.version]
    assert await storage.catalog("", 50) == ([MV], "")
    assert sorted(await storage.incomplete(), key=str) == [ModuleVersion(MV.path, "v1.0.1"), spoilt]
    assert events(logged, "is left out")
    with pytest.raises(StorageUnavailable, match="length of a stored zip"):
        await storage.exists(spoilt)


@pytest.mark.parametrize("empty", ["info", "mod"])
@pytest_twisted.ensureDeferred
async def test_an_empty_file_is_none(bucket: Any, storage: Any, empty: str) -> None:
    athens(bucket, MV, **{empty: b""})
    assert not await storage.exists(MV)
    assert list(await storage.list(MV.path)) == []
    assert await storage.catalog("", 5) == ([], "")
    assert list(await storage.incomplete()) == [MV]
    await save(storage)
    assert (await storage.info(MV), await storage.mod(MV)) == (INFO, MOD)


@pytest_twisted.ensureDeferred
async def test_two_documents_of_one_version_are_one_version(bucket: Any) -> None:
    for _ in range(2):
        athens(bucket, MV)
    async with opened(bucket.server.endpoint, bucket.name) as storage:  # no unique index is possible any more
        assert list(await storage.list(MV.path)) == [MV.version]
        assert await storage.catalog("", 5) == ([MV], "")
        await storage.delete(MV)
        assert not await storage.exists(MV)


@pytest_twisted.ensureDeferred
async def test_a_number_of_the_shell_is_a_length(bucket: Any, storage: Any) -> None:
    athens(bucket, MV, b"zip")
    bucket.database.fs.files.update_one({}, {"$set": {"length": 3.0}})
    assert await whole(await storage.zip(MV)) == b"zip"


# --- The catalog ---


@pytest_twisted.ensureDeferred
async def test_the_token_is_that_of_athens_and_no_page_is_empty(bucket: Any, storage: Any) -> None:
    versions = [ModuleVersion("example.com/x", f"v1.0.{patch}") for patch in range(7)]
    ids = [athens(bucket, mv, None if patch in (0, 3, 6) else b"zip") for patch, mv in enumerate(versions)]
    complete = [versions[patch] for patch in (1, 2, 4, 5)]
    assert await storage.catalog("", 2) == (complete[:2], str(ids[2]))
    assert await storage.catalog(str(ids[2]), 2) == (complete[2:], "")
    assert await storage.catalog(str(ids[3]).upper(), 2) == (complete[2:], "")
    assert await storage.catalog("", 4) == (complete, "")
    assert await storage.catalog("f" * 24, 4) == ([], "")
    for size in range(1, 6):
        found, token = await storage.catalog("", size)
        pages = [found]
        while token:
            found, token = await storage.catalog(token, size)
            pages.append(found)
        assert [mv for page in pages for mv in page] == complete
        assert all(pages)


@pytest_twisted.ensureDeferred
async def test_a_thousand_versions_and_more(bucket: Any, storage: Any) -> None:
    versions = [ModuleVersion("example.com/x", f"v1.0.{patch}") for patch in range(1203)]
    for mv in versions:
        athens(bucket, mv, b"")
    assert set(await storage.list("example.com/x")) == {mv.version for mv in versions}
    found, token = await storage.catalog("", 1100)
    rest, end = await storage.catalog(token, 1100)
    assert [*found, *rest] == versions
    assert (len(found), end) == (1100, "")
    assert (await storage.catalog("", 5000))[0] == versions


# --- How often the server is asked ---


@pytest_twisted.ensureDeferred
async def test_one_round_trip_is_enough(bucket: Any) -> None:
    """The queries that go at the same time are all sent before the first is answered."""
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            await save(storage)
            old = ModuleVersion("example.com/old", "v1.0.0")
            athens(bucket, old, _id=bson.ObjectId.from_datetime(datetime(2024, 1, 1, tzinfo=UTC)))
            await storage.exists(old)  # the first look at a file of Athens counts its chunks
            for mv in (MV, old):
                for ask in (storage.exists, storage.info, storage.mod, storage.zip):
                    front.seen.clear()
                    await ask(mv)
                    assert sorted(command.get("find", "") for command in front.seen) == ["fs.files", "modules"]
            front.seen.clear()
            await storage.list(MV.path)
            await storage.catalog("", 10)
            assert [command["find"] for command in front.seen] == ["modules", "fs.files"] * 2
            front.seen.clear()
            await storage.check()
            assert front.names() == ["find"]
    finally:
        await front.stop()


# --- Saving and others at the same time ---


@pytest_twisted.ensureDeferred
async def test_a_version_that_is_saved_between_two_queries_is_seen_whole(bucket: Any) -> None:
    """The file was looked for before it was there, and the document after."""
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            await save(storage)
            rival = {
                "_id": bson.ObjectId(),
                "length": 3,
                "chunkSize": 3,
                "uploadDate": datetime.now(),
                "filename": NAME,
            }
            for others in ([], [rival], [{**rival, "metadata": {"module": MV.path, "version": MV.version}}]):
                left = [{"ok": 1.0, "cursor": {"id": 0, "ns": "", "firstBatch": others}}]

                def watch(command: Any, left: Any = left) -> None:
                    if left and command.get("find") == "fs.files":
                        front.answers.append(("find", left.pop()))

                front.watch = watch
                assert await whole(await storage.zip(MV)) == ZIP
                assert not left
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_a_save_whose_version_athens_completes_meanwhile_yields(bucket: Any, storage: Any) -> None:
    body = HandZip(3)
    saving = running(storage.save(MV, INFO, MOD, body))
    await body.started
    athens(bucket, MV, b"theirs")
    body.give(b"our")
    body.end()
    await saving
    assert await storage.info(MV) == b"info"
    assert await whole(await storage.zip(MV)) == b"theirs"
    assert bucket.database.fs.files.count_documents({}) == 1


@pytest_twisted.ensureDeferred
async def test_a_save_takes_the_place_of_a_document_that_athens_leaves_meanwhile(bucket: Any, storage: Any) -> None:
    body = HandZip(3)
    saving = running(storage.save(MV, INFO, MOD, body))
    await body.started
    athens(bucket, MV, None)
    body.give(b"our")
    body.end()
    await saving
    assert await storage.info(MV) == INFO
    assert await whole(await storage.zip(MV)) == b"our"


@pytest.mark.parametrize("cancelled", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_zip_is_stopped_where_the_way_can_not_be_cleared_for_it(bucket: Any, cancelled: bool) -> None:
    athens(bucket, MV, None)
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            body = HandZip(3)
            saving = running(storage.save(MV, INFO, MOD, body))
            if cancelled:
                front.watch = lambda command: command.get("delete") == "modules" and saving.cancel()
            else:
                front.answers.append(("delete", {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "no"}))
            with pytest.raises(CancelledError if cancelled else StorageUnavailable):
                await saving
            assert (body.started.called, body.stopped) == (False, True)
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_a_save_that_is_cancelled_while_it_is_published_is_published(bucket: Any) -> None:
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            saving = running(save(storage))
            front.watch = lambda command: command.get("insert") == "modules" and saving.cancel()
            with pytest.raises(CancelledError):
                await saving
            await until(lambda: bucket.database.modules.count_documents({}) == 1)
            assert await whole(await storage.zip(MV)) == ZIP
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_a_save_whose_file_is_deleted_before_it_is_over_fails_and_leaves_nothing(bucket: Any) -> None:
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:

            def watch(command: Any) -> None:
                if command.get("insert") == "modules":
                    bucket.database.fs.files.delete_many({})

            front.watch = watch
            with pytest.raises(StorageUnavailable, match="deleted at the same time"):
                await save(storage)
            await until(lambda: bucket.database.fs.chunks.count_documents({}) == 0)
            assert bucket.database.modules.count_documents({}) == 0
            front.watch = lambda command: None
            await save(storage)
            assert await storage.exists(MV)
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_a_save_that_never_has_its_turn_fails_and_leaves_nothing(bucket: Any) -> None:
    front = MongoFront(reactor, bucket.server.port)
    try:
        async with opened(f"mongodb://127.0.0.1:{front.port}", bucket.name) as storage:
            front.watch = lambda command: command.get("insert") == "modules" and athens(bucket, MV, None)
            with pytest.raises(StorageUnavailable, match="others write it at the same time"):
                await save(storage)
            await until(lambda: bucket.database.fs.files.count_documents({}) == 0)
            assert bucket.database.fs.chunks.count_documents({}) == 0
    finally:
        await front.stop()


@pytest_twisted.ensureDeferred
async def test_to_delete_takes_no_file_that_somebody_is_saving(bucket: Any, storage: Any) -> None:
    metadata = {"module": MV.path, "version": MV.version}
    fresh = bucket.files().put(b"zip", filename=NAME, metadata=metadata)
    old = bson.ObjectId.from_datetime(datetime.now(UTC) - timedelta(hours=2))
    bucket.files().put(b"zip", _id=old, filename=NAME, metadata=metadata)
    await storage.delete(MV)
    with pytest.raises(NotFound):
        await storage.delete(MV)
    assert [file["_id"] for file in bucket.database.fs.files.find()] == [fresh]
    athens(bucket, MV, None)  # now it is the file of a version
    await storage.delete(MV)
    assert bucket.database.fs.files.count_documents({}) == 0


@pytest_twisted.ensureDeferred
async def test_many_saves_at_once_hold_little(bucket: Any, storage: Any) -> None:
    """With everything given and nothing taken, a save holds its part and no more."""
    bodies = [HandZip(30 << 20) for _ in range(20)]
    saves = [
        running(storage.save(ModuleVersion("example.com/x", f"v1.0.{number}"), INFO, MOD, body))
        for number, body in enumerate(bodies)
    ]
    await gatherResults([body.started for body in bodies])
    given = 0
    for body in bodies:
        while not body.paused:
            body.give(bytes(64 * 1024))
            given += 64 * 1024
            assert given < 20 << 20
    assert given < 13 << 20
    for one in saves:
        one.cancel()
        with pytest.raises(CancelledError):
            await one
    assert bucket.database.fs.chunks.count_documents({}) == 0


# --- What interrupted saves leave ---


def orphan(bucket: Any, age: timedelta) -> bson.ObjectId:
    """Lay chunks there of a file that was never finished."""
    made = bson.ObjectId.from_datetime(datetime.now(UTC) - age)
    id = bson.ObjectId(made.binary[:4] + random.Random(str(age)).randbytes(8))
    chunks = [{"files_id": id, "n": n, "data": b"x"} for n in range(3)]
    bucket.database.fs.chunks.insert_many(chunks)
    return id


@pytest_twisted.ensureDeferred
async def test_orphans_are_removed_at_start_when_they_are_old_and_not_too_old(bucket: Any, logged: Any) -> None:
    ages = {name: timedelta(hours=hours) for name, hours in (("new", 0.5), ("a", 1.1), ("b", 700), ("old", 800))}
    ids = {name: orphan(bucket, age) for name, age in ages.items()}
    athens(bucket, MV, ZIP)
    mine = orphan(bucket, timedelta(hours=5))
    metadata = {"module": "example.com/x", "version": "v1.0.0"}
    file = {
        "_id": mine,
        "length": 3,
        "chunkSize": 1,
        "uploadDate": datetime.now(),
        "filename": "x",
        "metadata": metadata,
    }
    bucket.database.fs.files.insert_one(file)
    async with opened(bucket.server.endpoint, bucket.name) as storage:
        await until(lambda: events(logged, "interrupted saves have left"))
        assert await whole(await storage.zip(MV)) == ZIP
    left = {chunk["files_id"] for chunk in bucket.database.fs.chunks.find()}
    assert ids["new"] in left
    assert ids["old"] in left
    assert not {ids["a"], ids["b"], mine} & left
    (event,) = events(logged, "interrupted saves have left")
    assert (event["files"], event["chunks"]) == (1, 2)


@pytest_twisted.ensureDeferred
async def test_a_file_of_ours_goes_if_its_version_has_another_and_stays_if_not(bucket: Any, logged: Any) -> None:
    old = datetime.now(UTC) - timedelta(hours=5)
    metadata = {"module": MV.path, "version": MV.version}
    ids = [bson.ObjectId.from_datetime(old - timedelta(seconds=number)) for number in range(3)]
    for id in ids[:2]:
        bucket.files().put(b"zip", _id=id, filename=NAME, metadata=metadata)
    bucket.files().put(
        b"zip",
        _id=ids[2],
        filename="example.com_x_v1.0.0.zip",
        metadata={"module": "example.com/x", "version": "v1.0.0"},
    )
    athens(bucket, MV, None, _id=ids[0])
    athens(bucket, ModuleVersion("example.com/x", "v1.0.0"), None)
    async with opened(bucket.server.endpoint, bucket.name) as storage:
        await until(lambda: events(logged, "interrupted saves have left"))
        assert await storage.exists(MV)
        assert await storage.exists(ModuleVersion("example.com/x", "v1.0.0"))
    assert {file["_id"] for file in bucket.database.fs.files.find()} == {ids[0], ids[2]}


@pytest_twisted.ensureDeferred
async def test_incomplete_versions_are_found(bucket: Any, storage: Any) -> None:
    await save(storage)
    documentless = ModuleVersion("example.com/x", "v1.0.0")
    await storage.save(documentless, INFO, MOD, BytesZip(b"zip"))
    bucket.database.modules.delete_one({"module": "example.com/x"})
    fileless = ModuleVersion("example.com/y", "v1.0.0")
    athens(bucket, fileless, None)
    infoless = ModuleVersion("example.com/z", "v1.0.0")
    athens(bucket, infoless, info=b"")
    assert list(await storage.incomplete()) == [documentless, fileless, infoless]
    await turns()
