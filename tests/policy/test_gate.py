"""The gate, and policy that is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.logger import formatEvent
from zope.interface.verify import verifyObject

from athens_tx.errors import ConfigError, Elsewhere, Refused
from athens_tx.interfaces import DownloadRule, IDownloadModes, IGate
from athens_tx.policy.download_mode import DownloadModes
from athens_tx.policy.filter import Filter
from athens_tx.policy.gate import Gate, ReloadableModes, load_filter


class AskedHook:
    def __init__(self, refuses: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self._refuses = refuses

    async def check(self, path: str, version: str) -> None:
        self.asked.append((path, version))
        if version == self._refuses:
            raise Refused("no")


def gate(text: str = "", **options: Any) -> Gate:
    return Gate(reactor, lambda: Filter.parse(text), **options)


def read(path: Path) -> str:
    return path.read_text("utf-8")


def texts(logged: list[dict[str, Any]]) -> list[str]:
    return [formatEvent(event) for event in logged]


def test_it_keeps_to_the_interface() -> None:
    assert verifyObject(IGate, gate())
    assert verifyObject(IDownloadModes, ReloadableModes(reactor, lambda: DownloadModes(DownloadRule("sync", ""))))


@pytest_twisted.ensureDeferred
async def test_what_is_excluded_is_refused_and_the_hook_is_not_asked() -> None:
    hook = AskedHook()
    ours = gate("- a.b/c v1\n- d.e\n", hook=hook)
    with pytest.raises(Refused, match=r"excludes a.b/c@v1\.0\.0"):
        await ours.admit("a.b/c", "v1.0.0")
    with pytest.raises(Refused, match=r"excludes d.e/f$"):
        await ours.admit("d.e/f", None)
    assert hook.asked == []


@pytest_twisted.ensureDeferred
async def test_a_direct_rule_sends_to_the_global_endpoint() -> None:
    with pytest.raises(Elsewhere) as caught:
        await gate("D a.b\n", global_endpoint="https://up/base/").admit("a.b/c", None)
    assert (caught.value.base, caught.value.status) == ("https://up/base", 303)


@pytest_twisted.ensureDeferred
async def test_the_hook_is_asked_only_about_versions() -> None:
    hook = AskedHook(refuses="v2.0.0")
    ours = gate(hook=hook)
    await ours.admit("a.b/c", None)
    await ours.admit("a.b/c", "v1.0.0")
    with pytest.raises(Refused):
        await ours.admit("a.b/c", "v2.0.0")
    assert hook.asked == [("a.b/c", "v1.0.0"), ("a.b/c", "v2.0.0")]
    assert (ours.asks, gate().asks) == (True, False)


@pytest_twisted.ensureDeferred
async def test_without_a_hook_a_version_passes() -> None:
    await gate().admit("a.b/c", "v1.0.0")


def test_lists_are_thinned_only_on_request() -> None:
    text = "-\n+ a.b/c v1\nD x.y\n"
    for filtered, listed in ((False, [True, True, True]), (True, [True, False, True])):
        ours = gate(text, filter_lists=filtered)
        seen = [ours.listed("a.b/c", "v1.0.0"), ours.listed("a.b/c", "v2.0.0"), ours.listed("x.y/z", "v1.0.0")]
        assert seen == listed


@pytest_twisted.ensureDeferred
async def test_a_list_that_is_thinned_is_refused_only_with_all_its_versions() -> None:
    text = "- a.b/some v1.1.0\n- a.b/all\n- a.b/all/inner v1\n+ a.b/all/kept v1\n"
    for thinned, refused in ((False, ["some", "all", "all/inner"]), (True, ["all", "all/inner"])):
        ours = gate(text, filter_lists=thinned)
        found = []
        for name in ("some", "all", "all/inner", "all/kept", "other"):
            try:
                await ours.admit(f"a.b/{name}", None)
            except Refused:
                found.append(name)
        assert found == refused
    with pytest.raises(Refused):
        await ours.admit("a.b/some", "v1.1.0")
    assert (ours.listed("a.b/some", "v1.1.0"), ours.listed("a.b/some", "v1.0.0")) == (False, True)


@pytest_twisted.ensureDeferred
async def test_a_good_new_filter_is_taken_and_a_bad_one_is_not(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    file = tmp_path / "filter"
    file.write_text("- a.b/c\n")
    ours = Gate(reactor, lambda: load_filter(str(file), "", exact=False, read=read))
    with pytest.raises(Refused):
        await ours.admit("a.b/c", None)

    file.write_text("- d.e\n")
    assert await ours.reload()
    assert ours.generation == 1
    await ours.admit("a.b/c", None)

    file.write_text("- a.b/c\n*\nnonsense\n")
    assert not await ours.reload()
    assert ours.generation == 1
    await ours.admit("a.b/c", None)
    assert texts(logged) == [
        "keeping the old filter file: FilterFile line 2: a line begins with +, - or D, not with '*'",
        "keeping the old filter file: FilterFile line 3: a line begins with +, - or D, not with 'nonsense'",
    ]


@pytest_twisted.ensureDeferred
async def test_a_bad_new_file_of_modes_is_refused(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    file = tmp_path / "modes"
    file.write_text('mode = "none"\ndownloadURL = ""\n')
    ours = ReloadableModes(reactor, lambda: DownloadModes.parse(f"file:{file}", "", read=read))
    assert ours.rule("a.b/c").mode == "none"

    file.write_text('mode = "async"\ndownloadURL = ""\n')
    assert await ours.reload()
    assert ours.rule("a.b/c").mode == "async"

    file.write_text('mode = "now"\ndownloadURL = ""\n')
    assert not await ours.reload()
    assert ours.rule("a.b/c").mode == "async"
    assert len(texts(logged)) == 1
    assert texts(logged)[0].startswith("keeping the old download modes: DownloadMode file")


def test_no_filter_file_includes_everything() -> None:
    rules = load_filter("", "", exact=False, read=read)
    assert rules.rule("a.b/c", None).value == "+"


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"- a\xff", "not UTF-8 at byte 3"), (b"+ x\nD a.b", "line 2: D needs a GlobalEndpoint")],
)
def test_a_filter_file_that_can_not_be_used(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "filter"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_filter(str(file), "", exact=False, read=read)


def test_direct_with_an_endpoint_and_warnings_logged(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    file = tmp_path / "filter"
    file.write_text("D a.b\n- a.b {v}\n")
    load_filter(str(file), "https://up", exact=True, read=read)
    assert texts(logged) == [
        "FilterFile line 2: {v} never matches a version (they begin with v; ~ ^ < need three numbers)",
        "FilterFile line 2: replaces the rule of line 1 for a.b",
    ]
