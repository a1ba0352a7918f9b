"""The download mode: one for all, or a file of them by pattern."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from zope.interface.verify import verifyObject

from athens_tx.errors import ConfigError
from athens_tx.interfaces import DownloadRule, IDownloadModes
from athens_tx.policy.download_mode import DownloadModes, is_web_url

SPEC = """
// what the specification shows
mode = "none" # nothing else
downloadURL = "https://def"
/* two
   lines */
download "github.com/acme/*" {
  mode        = "redirect"
  downloadURL = "https://one/p"
}
download "github.com/*" { mode = "redirect" }
"""


def given(text: str) -> Callable[[Path], str]:
    def read(path: Path) -> str:
        assert path == Path("etc/modes.hcl")
        return text

    return read


def unread(path: Path) -> str:
    raise AssertionError(f"{path} was read")


def of_hcl(text: str) -> DownloadModes:
    return DownloadModes.parse("file:etc/modes.hcl", "https://ignored", read=given(text))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        of_hcl(text)
    assert all(problem.startswith("DownloadMode file etc/modes.hcl: ") for problem in caught.value.problems)
    assert not any("\n" in problem for problem in caught.value.problems)
    return [problem.removeprefix("DownloadMode file etc/modes.hcl: ") for problem in caught.value.problems]


def test_it_keeps_to_the_interface() -> None:
    assert verifyObject(IDownloadModes, DownloadModes(DownloadRule("sync", "")))


@pytest.mark.parametrize("mode", ["sync", "async", "none"])
def test_a_plain_mode_is_for_all_and_needs_no_url(mode: str) -> None:
    modes = DownloadModes.parse(mode, "not a url, and not used", read=unread)
    assert modes.rule("github.com/any/thing") == DownloadRule(mode, "")


@pytest.mark.parametrize("mode", ["redirect", "async_redirect"])
def test_a_redirect_has_the_url_of_the_settings(mode: str) -> None:
    modes = DownloadModes.parse(mode, "https://up/base/?x=1", read=unread)
    assert modes.rule("github.com/any/thing") == DownloadRule(mode, "https://up/base/?x=1")


@pytest.mark.parametrize("mode", ["redirect", "async_redirect"])
@pytest.mark.parametrize(
    "url", ["", "up/base", "ftp://up", "https://", "https://up:x/", "https://[::1", "https://a b/"]
)
def test_a_redirect_without_a_usable_url_is_refused(mode: str, url: str) -> None:
    with pytest.raises(ConfigError, match="DownloadURL"):
        DownloadModes.parse(mode, url, read=unread)


@pytest.mark.parametrize("mode", ["", "Sync", "sync ", "files:x", "redirect:https://x", "file"])
def test_any_other_mode_is_refused_and_the_right_ones_are_named(mode: str) -> None:
    with pytest.raises(ConfigError, match="must be sync, async, none, redirect, async_redirect, file:PATH or custom"):
        DownloadModes.parse(mode, "", read=unread)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://a", True),
        ("https://a:1/b?c=d", True),
        ("https://[::1]:3000/", True),
        ("HTTPS://A/", True),
        ("https://a:0/", False),
        ("https://a b/", False),
        ("https://a\n", False),
        ("https://a/\x7f", False),
        ("//a", False),
    ],
)
def test_what_clients_can_be_sent_to(url: str, good: bool) -> None:
    assert is_web_url(url) is good


@pytest.mark.parametrize(
    ("module", "rule"),
    [
        ("github.com/acme/lib", DownloadRule("redirect", "https://one/p")),
        ("github.com/acme/lib/v2/x", DownloadRule("redirect", "https://one/p")),
        ("github.com/acme", DownloadRule("redirect", "https://def")),
        ("github.com/Acme/lib", DownloadRule("redirect", "https://def")),
        ("bitbucket.org/a/b", DownloadRule("none", "")),
    ],
)
def test_the_first_pattern_that_matches_decides(module: str, rule: DownloadRule) -> None:
    assert of_hcl(SPEC).rule(module) == rule


def test_mode_and_url_come_from_one_block() -> None:
    modes = of_hcl(
        'mode = "sync"\ndownloadURL = "https://top"\n'
        'download "github.com/acme/*" { mode = "redirect" }\n'
        'download "github.com/acme/lib" {\n mode = "sync"\n downloadURL = "https://second"\n}\n'
    )
    assert modes.rule("github.com/acme/lib") == DownloadRule("redirect", "https://top")


def test_an_empty_url_of_a_block_is_no_url() -> None:
    modes = of_hcl(
        'mode = "sync"\ndownloadURL = "https://top"\ndownload "a" {\n mode = "async_redirect"\n downloadURL = ""\n}\n'
    )
    assert modes.rule("a/b") == DownloadRule("async_redirect", "https://top")


def test_an_empty_top_level_mode_means_that_the_patterns_say_it_all() -> None:
    modes = of_hcl('mode = ""\ndownloadURL = ""\ndownload "a.b/*" { mode = "sync" }\n')
    assert modes.rule("a.b/c") == DownloadRule("sync", "")
    assert modes.rule("c.d/e") == DownloadRule("none", "")


def test_custom_is_the_same_in_base64_wrapped_or_not() -> None:
    encoded = base64.encodebytes(SPEC.encode()).decode()
    modes = DownloadModes.parse(f"custom:{encoded}", "", read=unread)
    assert modes.rule("github.com/acme/lib") == DownloadRule("redirect", "https://one/p")


@pytest.mark.parametrize(
    ("value", "says"), [("%%%", "not base64"), ("bW9kZQ", "not base64"), ("ä", "not base64"), ("/w==", "not UTF-8")]
)
def test_custom_that_does_not_decode(value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"DownloadMode custom: {says}"):
        DownloadModes.parse(f"custom:{value}", "", read=unread)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        DownloadModes.parse(f"file:{tmp_path}/absent", "", read=Path.read_text)
    (tmp_path / "latin").write_bytes(b'mode = "\xe4"')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 8"):
        DownloadModes.parse(f"file:{tmp_path}/latin", "", read=lambda path: path.read_text("utf-8"))


def test_all_problems_of_a_file_are_reported_with_their_lines() -> None:
    assert problems(
        "\n".join(
            [
                'mode = "sometimes"',
                'url = "https://x"',
                'download "a" {',
                "  mode = redirect",
                "}",
                'download "b" { mode = "redirect" }',
                'download "c" "d" { mode = "sync" }',
                'upload "e" { mode = "sync" }',
                'download "f" { downloadURL = "https://x" }',
                'download "g" {',
                '  mode = "sync"',
                '  mode = "none"',
                "  deeper { }",
                "}",
                'download "h" {',
                '  mode = "redirect"',
                '  downloadURL = "x"',
                "}",
                'download "" { mode = "sync" }',
                'download "i" { mode = "never" }',
                'download "${j}" { mode = "sync" }',
            ]
        )
    ) == [
        "line 2: unknown argument url in the top level; "
        "only mode and downloadURL are known (did you mean downloadURL?)",
        'downloadURL is missing at the top level (it may be "", but must be there)',
        "line 1: mode 'sometimes' in the top level must be sync, async, none, redirect, async_redirect",
        'line 4: mode in download "a" must be a constant string in quotes',
        'line 6: mode redirect in download "b" needs a downloadURL, there or at the top level',
        'line 7: download wants one pattern: download "github.com/acme/*" { ... }',
        "line 8: unknown block upload; only download is known",
        'line 9: mode is missing in download "f"',
        'line 13: unknown block deeper in download "g"',
        'line 12: mode is given twice in download "g"',
        "line 16: mode redirect in download \"h\": downloadURL 'x' is not an http(s) URL",
        'line 19: download wants one pattern: download "github.com/acme/*" { ... }',
        "line 20: mode 'never' in download \"i\" must be sync, async, none, redirect, async_redirect",
        'line 21: download wants one pattern: download "github.com/acme/*" { ... }',
    ]


def test_the_top_level_is_required() -> None:
    assert problems('download "a" { mode = "sync" }') == [
        'mode is missing at the top level (it may be "", but must be there)',
        'downloadURL is missing at the top level (it may be "", but must be there)',
    ]


def test_a_file_that_is_no_hcl_names_the_line() -> None:
    assert problems('mode = "sync"\n}\n') == ["line 2: not HCL, at '}'"]
