"""Lists and links of S3 servers, of odd names too."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor

from athens_tx.errors import StorageUnavailable
from athens_tx.module.version import ModuleVersion as MV
from tests.storage.s3_world import (
    ONE,
    SMALL,
    World,
    a_world,
    assert_whole,
    save,
)
from tests.support import servers
from tests.support.http import request

world = pytest_twisted.async_yield_fixture(a_world)


# --- lists


CUT = "<ListBucketResult><IsTruncated>true</IsTruncated>{}</ListBucketResult>"


@pytest_twisted.ensureDeferred
async def test_a_page_without_objects_need_not_be_the_last(world: World) -> None:
    storage = await world.storage()
    await save(storage)
    token = "<NextContinuationToken>{}</NextContinuationToken>"
    world.proxy.answer(200, match="GET .*list-type", body=CUT.format(token.format("one two")).encode())
    world.proxy.answer(200, match="GET .*continuation-token=one%20two", body=CUT.format(token.format("3")).encode())
    world.proxy.requests.clear()
    page = (
        b"<ListBucketResult><Contents><Key>%s</Key><Size>1</Size><LastModified>2024-01-01T00:00:00Z</LastModified>"
        b"</Contents></ListBucketResult>"
    )
    world.proxy.answer(200, match="GET .*continuation-token=3", body=page % world.files()[0].encode())
    assert await storage.list(ONE.path) == []
    assert len(world.proxy.requests) == 3


@pytest.mark.parametrize("said", ["", "<NextContinuationToken>same</NextContinuationToken>"])
@pytest_twisted.ensureDeferred
async def test_pages_without_objects_do_not_go_on_for_ever(world: World, said: str) -> None:
    storage = await world.storage()
    world.proxy.answer(200, times=None, match="GET .*list-type", body=CUT.format(said).encode())
    with pytest.raises(StorageUnavailable):
        await storage.list(ONE.path)
    assert len(world.proxy.requests) <= 2


ODD = ("a+b", "~a", "a!b", "é", "a=b&c?d#e", "per%2Fcent", "q'uo\"te", "(a)*$,;:@[]")


@pytest.mark.parametrize("server", ["s3", "minio"])
@pytest_twisted.ensureDeferred
async def test_odd_names_are_the_same_to_everybody(server: str) -> None:
    world = World(getattr(servers, server)())
    storage = await world.storage(presigned_redirect=True)
    names = [MV(f"x/{odd}/y", f"v1.0.0-{odd.replace('/', '')}") for odd in ODD]
    for mv in names:
        await save(storage, str(mv).encode(), mv)
    assert world.bucket.names() == sorted(key for mv in names for key in world.files(mv))
    found: list[MV] = []
    token = ""
    while True:
        page, token = await storage.catalog(token, 3)
        found += page
        if not token:
            break
    assert sorted(map(str, found)) == sorted(map(str, names))
    for mv in names:
        await assert_whole(storage, str(mv).encode(), mv)
        link = await storage.link(mv)
        assert (await request(reactor, link)).body == str(mv).encode()
        await storage.delete(mv)
    assert world.bucket.names() == []
    await world.stop()


@pytest.mark.parametrize("server", ["s3", "minio"])
@pytest_twisted.ensureDeferred
async def test_a_link_gives_the_zip_to_anybody_and_nothing_else(server: str) -> None:
    world = World(getattr(servers, server)())
    storage = await world.storage(presigned_redirect=True)
    await save(storage)
    link = await storage.link(ONE)
    assert (await request(reactor, link)).body == SMALL
    assert (await request(reactor, link, method="HEAD")).status == 403
    assert (await request(reactor, link, method="DELETE")).status == 403
    for was, now in ((".zip", ".mod"), ("Expires=900", "Expires=9000"), ("Signature=", "Signature=0")):
        assert was in link
        assert (await request(reactor, link.replace(was, now))).status in (400, 403)
    assert (await request(reactor, link.partition("?")[0])).status == 403
    assert world.server.secret_key not in link
    await world.stop()
