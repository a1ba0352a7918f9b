"""No secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.config.masking import MASK, Secret, holds_secret, mask_item, mask_urls, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain, text | with @ signs", "plain, text | with @ signs"),
        ("https://proxy.example/path/@v/list", f"https://{MASK}@v/list"),  # rather too much than too little
        ("https://user:hush@host/path", f"https://{MASK}@host/path"),
        ("https://hush@host", f"https://{MASK}@host"),
        ("redis://:hush@h:6379/0", f"redis://{MASK}@h:6379/0"),
        ("redis://u:hu@sh@h", f"redis://{MASK}@h"),
        ("mongodb://u:hu,sh@a:1,b:2/db?authSource=admin", f"mongodb://{MASK}@a:1,b:2/db?authSource=admin"),
        ("mongodb://u:hu/sh@a", f"mongodb://{MASK}@a"),
        ("https://a:hush@one|https://b:hush@two,direct", f"https://{MASK}@two,direct"),
        ("https://one,https://b:hu,sh@two", f"https://{MASK}@two"),
        ("name https://u:hush@h", f"name https://{MASK}@h"),
        ("https://h/?access_token=hush&x=1", f"https://h/?access_token={MASK}&x=1"),
        ("https://h/?x=1;PASSWORD=hush", f"https://h/?x=1;PASSWORD={MASK}"),
        ("https://blob/?sv=1&sig=hush", f"https://blob/?sv=1&sig={MASK}"),
        ("rediss://h:1", "rediss://h:1"),
    ],
)
def test_urls(text, shown):
    assert mask_urls(text) == shown
    assert masked(text, Secret.NO) == shown
    assert masked(text, Secret.URL) == (shown if "://" in text or "@" not in text else f"{MASK}@ signs")


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("GOPROXY=direct", "GOPROXY=direct"),
        ("GOPROXY=https://u:hush@h,direct", f"GOPROXY=https://{MASK}@h,direct"),
        ("GOFLAGS=-mod=mod", "GOFLAGS=-mod=mod"),
        ("GITHUB_TOKEN=hush", f"GITHUB_TOKEN={MASK}"),
        ("my_password=hush=hush", f"my_password={MASK}"),
        ("AWS_SECRET=hush", f"AWS_SECRET={MASK}"),
        ("API_KEY=hush", f"API_KEY={MASK}"),
        ("API_KEY=", "API_KEY="),
        ("MY_CREDS=hush", f"MY_CREDS={MASK}"),
        ("GOAUTH=hush", f"GOAUTH={MASK}"),
        ("GIT_CONFIG_VALUE_0=Authorization: hush", f"GIT_CONFIG_VALUE_0={MASK}"),
        ("X=Bearer hush", f"X={MASK}"),
        ("hush", MASK),
        ("", ""),
    ],
)
def test_items_of_an_environment(item, shown):
    assert mask_item(item) == shown
    assert masked([item], Secret.ENVIRONMENT) == [shown]


def test_a_secret_is_hidden_whatever_its_type():
    for value in ("hush", 1234, ["hush"], {"a": "hush"}, True):
        assert masked(value, Secret.YES) == MASK
    assert masked("", Secret.YES) == ""


def test_items_that_were_not_taken_apart_are_hidden_as_a_whole():
    assert masked("A=b;TOKEN=hush", Secret.ENVIRONMENT) == MASK
    assert masked("", Secret.ENVIRONMENT) == ""
    assert masked([7, ["https://a:hush@h"]], Secret.ENVIRONMENT) == [7, [MASK]]


def test_tables_and_numbers():
    assert masked({"timeout": "30s", "password": "hush", "u": "x://a:hush@h"}, Secret.NO) == {
        "timeout": "30s",
        "password": MASK,
        "u": f"x://{MASK}@h",
    }
    assert masked(7, Secret.NO) == 7


@pytest.mark.parametrize(
    "text",
    [
        "user:HUSH@h:1",
        ":HUSH@h:1",
        "redis:/:HUSH@h:1",
        "rediss//:HUSH@h:1",
        "redis://u:HUSH@h:1",
        "u:HUSH@g,redis://h:1",
        "redis://g,u:HUSH@h:1",
        "u:HU@HUSH@h:1",
    ],
)
def test_a_slip_in_a_url_shows_no_password(text):
    shown = masked(text, Secret.URL)
    assert "HUSH" not in shown
    assert shown.endswith("h:1")
    assert masked([text], Secret.SERVERS) == [shown]


def test_what_a_file_has_to_be_kept_for():
    assert holds_secret("hush", Secret.YES)
    assert holds_secret(["GOPROXY=https://a:b@h"], Secret.ENVIRONMENT)
    assert not holds_secret("", Secret.YES)
    assert not holds_secret("redis://h", Secret.URL)


@given(st.text("abc/@:,|? ", min_size=1), st.sampled_from(["https", "mongodb", "redis"]))
def test_no_password_gets_through(noise, scheme):
    password = f"{noise}HUSH{noise}"
    assert "HUSH" not in mask_urls(f"{scheme}://user:{password}@host/")


@pytest.mark.parametrize("noise", [",://", ",https://", "@h,https://x@", "|a://"])
def test_no_password_passes_for_a_list(noise):
    assert "HUSH" not in mask_urls(f"https://user:{noise}HUSH{noise}@host/")
