"""Lists by network mode, files by download mode, and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from athens_tx.errors import (
    AthensError,
    Elsewhere,
    FetchFailed,
    NotFound,
    Refused,
    RepositoryGone,
    StorageUnavailable,
    UpstreamForbidden,
    UpstreamUnreachable,
)
from athens_tx.index.memory import NoIndex
from athens_tx.interfaces import DownloadRule, FetchedVersion, ILinks, IProtocol, Listing, VersionFiles, ZipLink
from athens_tx.module.version import ModuleVersion
from athens_tx.protocol import Protocol, best
from athens_tx.singleflight.memory import MemorySingleFlight
from athens_tx.stash import Stash
from athens_tx.storage.body import BytesZip
from athens_tx.storage.memory import MemoryStorage

PATH = "example.com/a"
PSEUDO = "v0.0.0-20200101000000-abcdefabcdef"

check = SynchronousTestCase()


def info(version: str) -> bytes:
    return json.dumps({"Version": version, "Time": "2020-01-02T03:04:05Z"}).encode()


@implementer(ILinks)
class LinkingStorage(MemoryStorage):
    """Gives links that name the version, in one look."""

    async def link(self, mv: ModuleVersion) -> str:
        if not await self.exists(mv):
            raise NotFound(f"{mv} is not stored")
        return f"https://store.test/{mv}?X-Amz-Signature=s3cret"


class World:
    """
    The protocol over memory storage, a lister and a fetcher whose answers are set.

    @param links: whether clients are sent to the store for zips.
    """

    def __init__(
        self,
        network_mode: str = "strict",
        rule: DownloadRule = DownloadRule("sync", ""),  # noqa: B008
        links: bool = False,
    ) -> None:
        self.clock, self.storage = Clock(), LinkingStorage(1 << 20)
        self.listing: Listing | Exception = NotFound("no such module")
        self.fetched: str | Exception = NotFound("no such version")
        self.asked: list[str] = []
        self.looked_up: list[tuple[str, bool]] = []
        self.hidden: set[str] = set()
        self.refused: dict[str | None, Exception] = {}
        self.rule_ = rule
        stash = Stash(
            fetcher=self,
            storage=self.storage,
            single_flight=MemorySingleFlight(),
            index=NoIndex(),
            clock=self.clock,
            admit=self.admit,
            zip_body=lambda fetched: BytesZip(b"PK"),
            limit=5.0,
        )
        self.protocol = Protocol(
            storage=self.storage,
            stash=stash,
            lister=self,
            modes=self,
            clock=self.clock,
            network_mode=network_mode,
            listed=lambda path, version: version not in self.hidden,
            admit=self.admit,
            not_found_ttl=10.0,
            query_ttl=60.0,
            links=self.storage if links else None,
            looked_up=lambda kind, hit: self.looked_up.append((kind, hit)),
        )

    async def admit(self, path: str, version: str | None) -> None:
        if version in self.refused:
            raise self.refused[version]

    def rule(self, path: str) -> DownloadRule:
        return self.rule_

    async def listing_(self, path: str) -> Listing:
        self.asked.append(path)
        if isinstance(self.listing, Exception):
            raise self.listing
        return self.listing

    async def fetch(self, mv: ModuleVersion, known: Callable[[VersionFiles], None]) -> FetchedVersion:
        self.asked.append(str(mv))
        if isinstance(self.fetched, Exception):
            raise self.fetched

        async def discard() -> None:
            pass

        found = ModuleVersion(mv.path, self.fetched)
        return FetchedVersion(found, info(self.fetched), b"module example.com/a\n", Path("z"), "go", discard)

    def store(self, *versions: str) -> None:
        for version in versions:
            saving = self.storage.save(ModuleVersion(PATH, version), info(version), b"module x\n", BytesZip(b"PK"))
            check.successResultOf(Deferred.fromCoroutine(saving))

    def upstream(self, *versions: str, latest: str = "") -> None:
        self.listing = Listing(versions, latest or versions[-1], "2021-01-01T00:00:00Z", "go")

    def ask(self, question: str, *arguments: Any, **options: Any) -> Any:
        answer = Deferred.fromCoroutine(getattr(self.protocol, question)(*arguments, **options))
        return check.successResultOf(answer)

    def fails(self, kind: type[Exception], question: str, *arguments: Any, **options: Any) -> Any:
        answer = Deferred.fromCoroutine(getattr(self.protocol, question)(*arguments, **options))
        return check.failureResultOf(answer, kind).value

    def list(self) -> str | type[Exception]:
        """The list in one line, or the class of the failure."""
        answer = Deferred.fromCoroutine(self.protocol.list(PATH))
        answer.addCallbacks(lambda answer: answer.body.decode().replace("\n", " "), lambda failure: failure.type)
        return check.successResultOf(answer)


# World is its own lister; a method and an attribute can't share a name, so the lister is this view of it.
class _Lister:
    def __init__(self, world: World) -> None:
        self.listing = world.listing_


def make(network_mode: str = "strict", rule: DownloadRule | None = None, *, links: bool = False) -> World:
    world = World(network_mode, rule or DownloadRule("sync", ""), links)
    world.protocol._lister = _Lister(world)
    return world


def test_keeps_to_the_interface() -> None:
    assert verifyObject(IProtocol, make().protocol)


GONE = RepositoryGone("remote: Repository not found")
OTHER = UpstreamUnreachable("network down")

# The table of spec 2.3: what is stored, what upstream says, and the answers of strict, fallback, offline.
LISTS: list[tuple[str, str | AthensError, Any, Any, str]] = [
    (f"v0.1.0 v1.0.0 {PSEUDO}", "v0.9.0 v1.0.0 v1.1.0-beta.1", "v0.9.0 v1.0.0 v1.1.0-beta.1 v0.1.0",
     "v0.9.0 v1.0.0 v1.1.0-beta.1 v0.1.0", f"{PSEUDO} v0.1.0 v1.0.0"),
    (f"v0.1.0 v1.0.0 {PSEUDO}", OTHER, UpstreamUnreachable, f"{PSEUDO} v0.1.0 v1.0.0", f"{PSEUDO} v0.1.0 v1.0.0"),
    (PSEUDO, GONE, PSEUDO, PSEUDO, PSEUDO),
    (f"v0.1.0 {PSEUDO}", GONE, "v0.1.0", "v0.1.0", f"{PSEUDO} v0.1.0"),
    ("", GONE, RepositoryGone, RepositoryGone, ""),
    ("", OTHER, UpstreamUnreachable, "", ""),
    ("", "", "", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "upstream", "strict", "fallback", "offline"), LISTS)
@pytest.mark.parametrize("mode", ["strict", "fallback", "offline"])
def test_lists(mode: str, stored: str, upstream: Any, strict: Any, fallback: Any, offline: str) -> None:
    world = make(mode)
    world.store(*stored.split())
    if isinstance(upstream, str):
        world.upstream(*upstream.split(), latest="v1.0.0")
    else:
        world.listing = upstream
    assert world.list() == {"strict": strict, "fallback": fallback, "offline": offline}[mode]
    assert bool(world.asked) == (mode != "offline")


def test_a_list_without_fetching_comes_from_storage_alone() -> None:
    world = make()
    world.store("v1.0.0", "v1.10.0", "v1.2.0")
    assert world.ask("list", PATH, fetch=False).body == b"v1.0.0\nv1.2.0\nv1.10.0"
    assert world.asked == []


def test_a_storage_in_trouble_fails_the_list_and_leaves_nobody_waiting() -> None:
    world = make()

    async def broken(path: str) -> Any:
        raise StorageUnavailable("disk")

    world.storage.list = broken  # type: ignore[method-assign]
    assert world.list() is StorageUnavailable
    left: list[object] = []
    slow: Deferred[Listing] = Deferred(left.append)

    async def wait(path: str) -> Listing:
        return await slow

    world.protocol._lister.listing = wait
    assert world.list() is StorageUnavailable
    assert left == [slow]  # our wait was cancelled


def test_lists_say_where_they_come_from() -> None:
    world = make()
    world.upstream("v1.0.0")
    assert [world.ask("list", PATH).source, world.ask("latest", PATH).source] == ["go", "go"]
    world.store("v1.0.0")
    assert world.ask("list", PATH, fetch=False).source == "storage"


def test_the_filter_thins_lists_and_latest() -> None:
    world = make()
    world.upstream("v1.0.0", "v1.1.0")
    world.hidden = {"v1.1.0"}
    world.store("v1.0.0")
    assert world.list() == "v1.0.0"
    assert json.loads(world.ask("latest", PATH).body)["Version"] == "v1.0.0"
    world.hidden = {"v1.1.0", "v1.0.0"}
    world.fails(NotFound, "latest", PATH)


# -- latest


def test_latest_has_athens_form() -> None:
    world = make()
    world.upstream("v1.0.0")
    assert world.ask("latest", PATH).body == (
        b'{"Origin":null,"Name":"","Short":"","Version":"v1.0.0","Time":"2021-01-01T00:00:00Z","Tags":null}\n'
    )


@pytest.mark.parametrize(("mode", "fetch"), [("offline", True), ("strict", False), ("fallback", True)])
def test_latest_from_storage_when_upstream_is_not_asked_or_down(mode: str, fetch: bool) -> None:
    world = make(mode)
    world.listing = OTHER
    world.store("v1.0.0", "v1.1.0-beta.1", PSEUDO)
    answer = json.loads(world.ask("latest", PATH, fetch=fetch).body)
    assert (answer["Version"], answer["Time"]) == ("v1.0.0", "2020-01-02T03:04:05Z")


@pytest.mark.parametrize(("mode", "error"), [("offline", NotFound), ("fallback", UpstreamUnreachable)])
def test_latest_of_what_is_nowhere(mode: str, error: type[Exception]) -> None:
    world = make(mode)
    world.listing = OTHER
    world.fails(error, "latest", PATH)


def test_latest_is_strict_by_default() -> None:
    world = make()
    world.listing = OTHER
    world.store("v1.0.0")
    world.fails(UpstreamUnreachable, "latest", PATH)


def test_a_stored_info_without_a_time_still_gives_a_latest() -> None:
    world = make("offline")
    saving = world.storage.save(ModuleVersion(PATH, "v1.0.0"), b"[]", b"module m\n", BytesZip(b""))
    check.successResultOf(Deferred.fromCoroutine(saving))
    assert json.loads(world.ask("latest", PATH).body)["Time"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ("v1.0.0 v1.10.0 v1.9.0", "v1.10.0"),
        ("v1.0.0 v2.0.0-rc.1", "v1.0.0"),
        ("v2.0.0-rc.1 v2.0.0-rc.2", "v2.0.0-rc.2"),
        (f"{PSEUDO} v0.0.0-0.rc", "v0.0.0-0.rc"),
        ("", None),
    ],
)
def test_best(versions: str, expected: str | None) -> None:
    assert best(versions.split()) == expected


# -- files


MV = ModuleVersion(PATH, "v1.0.0")
QUESTIONS = ("info", "mod", "zip")


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_stored_is_served_and_nobody_is_asked(question: str) -> None:
    world = make("strict", DownloadRule("none", ""))
    world.store("v1.0.0")
    assert world.ask(question, MV).source == "storage"
    assert world.asked == []
    assert world.looked_up == [("gomod" if question == "mod" else question, True)]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_miss_is_fetched_and_stored(question: str) -> None:
    world = make()
    world.fetched = "v1.0.0"
    assert world.ask(question, MV).source == "go"
    assert world.ask(question, MV).source == "storage"
    assert world.asked == ["example.com/a@v1.0.0"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(("mode", "fetch"), [("offline", True), ("strict", False)])
def test_a_miss_is_not_found_where_nothing_may_be_fetched(question: str, mode: str, fetch: bool) -> None:
    world = make(mode, DownloadRule("async_redirect", "https://up"))
    world.fails(NotFound, question, MV, fetch=fetch)
    assert world.asked == []


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    ("mode", "error", "stored"),
    [
        ("none", NotFound, False),
        ("redirect", Elsewhere, False),
        ("async", NotFound, True),
        ("async_redirect", Elsewhere, True),
    ],
)
def test_download_modes(question: str, mode: str, error: type[Exception], stored: bool) -> None:
    world = make("strict", DownloadRule(mode, "https://up/base"))
    world.fetched = "v1.0.0"
    failure = world.fails(error, question, MV)
    if isinstance(failure, Elsewhere):
        assert (failure.base, failure.status) == ("https://up/base", 301)
    assert bool(world.asked) == stored
    if stored:
        assert world.ask(question, MV).source == "storage"


@pytest.mark.parametrize("error", [NotFound("no"), UpstreamForbidden("no")])
def test_a_version_that_is_not_there_is_not_looked_for_again_at_once(error: AthensError) -> None:
    world = make()
    world.fetched = error
    world.fails(type(error), "info", MV)
    world.fails(type(error), "zip", MV)
    assert len(world.asked) == 1
    world.clock.advance(10)
    world.fails(type(error), "mod", MV)
    assert len(world.asked) == 2


def test_another_failure_is_not_remembered() -> None:
    world = make()
    world.fetched = FetchFailed("broken")
    for _ in range(2):
        world.fails(FetchFailed, "info", MV)
    assert len(world.asked) == 2


def test_a_branch_is_remembered_for_a_while() -> None:
    world = make()
    world.fetched = "v1.0.0"
    branch = ModuleVersion(PATH, "main")
    assert [world.ask(question, branch).source for question in QUESTIONS] == ["go", "storage", "storage"]
    world.clock.advance(60)
    assert world.ask("info", branch).source == "go"


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("refusal", [Refused("the filter excludes it"), Elsewhere("https://up", 303)])
def test_what_a_query_means_must_be_admitted_too(question: str, refusal: Exception) -> None:
    world = make()
    world.fetched, world.refused = "v1.0.0", {"v1.0.0": refusal}
    branch = ModuleVersion(PATH, "main")
    for _ in range(2):
        world.fails(type(refusal), question, branch)
    assert len(world.asked) == 1  # what the branch means is remembered, and nothing of it fetched again
    assert not check.successResultOf(Deferred.fromCoroutine(world.storage.list(PATH)))
    world.refused.clear()
    world.ask(question, branch)
    world.refused["v1.0.0"] = refusal
    world.fails(type(refusal), question, branch)  # stored and remembered, and refused since


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_version_of_another_spelling_must_be_admitted_too(question: str) -> None:
    world = make()
    world.fetched, world.refused = "v2.0.0+incompatible", {"v2.0.0+incompatible": Refused("no")}
    world.fails(Refused, question, ModuleVersion(PATH, "v2.0.0"))
    assert not check.successResultOf(Deferred.fromCoroutine(world.storage.list(PATH)))


def test_a_remembered_branch_whose_version_was_deleted_is_fetched_again() -> None:
    world = make()
    world.fetched = "v1.0.0"
    branch = ModuleVersion(PATH, "main")
    world.ask("info", branch)
    check.successResultOf(Deferred.fromCoroutine(world.storage.delete(MV)))
    assert world.ask("info", branch).source == "go"


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_storage_in_trouble_starts_no_fetch(question: str) -> None:
    world = make()

    async def broken(mv: ModuleVersion, **named: Any) -> Any:
        raise StorageUnavailable("disk")

    setattr(world.storage, question, broken)
    world.fails(StorageUnavailable, question, MV)
    assert world.asked == []


def test_storage_is_told_where_only_a_part_of_a_zip_is_wanted() -> None:
    world = make()
    world.store("v1.0.0")
    told: list[bool] = []
    original = world.storage.zip

    async def zip(mv: ModuleVersion, *, whole: bool) -> Any:
        told.append(whole)
        return await original(mv)

    world.storage.zip = zip  # type: ignore[method-assign,assignment]
    world.ask("zip", MV)
    world.ask("zip", MV, whole=False)
    assert told == [True, False]


# -- links to zips


def test_a_zip_is_linked_to_where_the_client_can_be_sent_there() -> None:
    world = make(links=True)
    world.store("v1.0.0")
    answer = world.ask("zip", MV, link=True)
    assert answer == ZipLink(f"https://store.test/{MV}?X-Amz-Signature=s3cret", "storage")
    assert "s3cret" not in repr(answer)
    assert world.looked_up == [("zip", True)]
    assert world.ask("zip", MV).body.length == 2
    without = make()
    without.store("v1.0.0")
    assert without.ask("zip", MV, link=True).body.length == 2


@pytest.mark.parametrize("version", ["v1.0.0", "main"])
def test_a_zip_that_had_to_be_fetched_is_linked_to_as_well(version: str) -> None:
    world = make(links=True)
    world.fetched = "v1.0.0"
    wanted = ModuleVersion(PATH, version)
    for source in ("go", "storage"):
        answer = world.ask("zip", wanted, link=True)
        assert (answer.url.partition("?")[0], answer.source) == (f"https://store.test/{MV}", source)
    assert len(world.asked) == 1


def test_what_a_query_means_must_be_admitted_before_it_is_linked_to() -> None:
    world = make(links=True)
    world.store("v1.0.0")
    world.fetched, world.refused = "v1.0.0", {"v1.0.0": Refused("no")}
    for _ in range(2):
        world.fails(Refused, "zip", ModuleVersion(PATH, "main"), link=True)


def test_a_storage_that_can_not_look_for_a_link_starts_no_fetch() -> None:
    world = make(links=True)

    async def broken(mv: ModuleVersion) -> str:
        raise StorageUnavailable("s3: head failed")

    world.storage.link = broken  # type: ignore[method-assign]
    world.fails(StorageUnavailable, "zip", MV, link=True)
    assert world.asked == []
