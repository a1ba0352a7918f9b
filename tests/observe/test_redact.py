"""What must not be read is not read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athens_tx.observe.redact import MASK, Redactor, redact


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("https://bot:s3cret@git.example.com/x", "https://git.example.com/x"),
        ("https://bot:p@ss@git.example.com/x", "https://git.example.com/x"),
        ("https://bot:p/ss@git.example.com/x", "https://git.example.com/x"),
        ("https://bot:p?s#s@git.example.com/x", "https://git.example.com/x"),
        ("https://bot:8080@git.example.com/x", "https://git.example.com/x"),
        ("https://ghp_token@github.com", "https://github.com"),
        ("git+ssh://git@github.com/acme/lib", "git+ssh://github.com/acme/lib"),
        ('got "redis://:pw@redis:6379", then mongodb://a:b@m', 'got "redis://redis:6379", then mongodb://m'),
    ],
)
def test_a_url_loses_its_userinfo(text, seen):
    assert redact(text) == seen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "github.com/acme/lib@v1.0.0: not found",
        "https://proxy.example.com/github.com/acme/lib/@v/list",
        "http://localhost:8080/github.com/acme/lib/@v/v1.0.0.info",
        "http://localhost:8080/x@v1.0.0",
        "https://[::1]:3000/x/@v/list",
        "see http://host:80 or write to a@example.com",
        "/catalog?token=github.com/acme/lib|v1.0.0&pagesize=2",
        "authorization is needed",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("https://b.example/x?X-Amz-Signature=abc&y=1", f"https://b.example/x?X-Amz-Signature={MASK}&y=1"),
        ("https://b.example/x?sv=1&sig=a%2Bb", f"https://b.example/x?sv=1&sig={MASK}"),
        ("Authorization: Basic YTpi", f"Authorization: {MASK}"),
        ("{'authorization': 'Bearer abc.def'}", f"{{'authorization': '{MASK}'}}"),
        ("user=adm password=hunter2 x=y", f"user=adm password={MASK} x=y"),
        ('PGPASSWORD="hun ter" AWS_SECRET_ACCESS_KEY=a+b/c', f"PGPASSWORD={MASK} AWS_SECRET_ACCESS_KEY={MASK}"),
        ('{"token": "abc", "a": 1}', f'{{"token": {MASK}, "a": 1}}'),
        ("https://b.example/x?password=p&y=1", f"https://b.example/x?password={MASK}&y=1"),
        ("bad github_pat_11AB_cd, ghp_0123456789 and glpat-abcd-ef", f"bad {MASK}, {MASK} and {MASK}"),
        ("AKIAIOSFODNN7EXAMPLE eyJhbGciOiJI.eyJzdWIi.c2ln", f"{MASK} {MASK}"),
    ],
)
def test_signatures_and_authorizations_are_masked(text, seen):
    assert redact(text) == seen


@pytest.mark.parametrize("form", ["hunter/2", "hunter%2F2"])
def test_a_known_secret_is_masked_in_each_of_its_forms(form):
    assert Redactor(["hunter/2", "", "ab"])(f"login failed: {form}, ab") == f"login failed: {MASK}, ab"


def test_a_secret_within_a_secret_leaves_nothing_of_the_longer_one():
    assert Redactor(["abcd", "abcdefgh"])("abcdefgh abcd") == f"{MASK} {MASK}"


def test_a_secret_with_a_final_newline_is_found_without_it():
    assert Redactor(["token-from-file\n"])("Bearer token-from-file!") == f"Bearer {MASK}!"


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=4), st.text(), st.text())
def test_no_known_secret_survives(secret, before, after):
    if secret not in MASK * 3 and MASK not in secret:
        # What stands around it may make the same letters again out of the mask, but only ones that were there.
        assert Redactor([secret])(secret).strip() in (MASK, redact(MASK))
        assert before + after != before + secret + after


@given(st.text(), st.from_regex(r"[a-z]{1,8}:[A-Za-z0-9.@_-]{1,20}", fullmatch=True))
def test_no_userinfo_survives(before, userinfo):
    text = redact(f"{before} https://{userinfo}@host/x")
    assert userinfo not in text.removeprefix(redact(before))
    assert text.endswith("https://host/x")


@pytest.mark.parametrize(
    "hostile",
    [
        "://a:b" * 10000,
        "://" + "a" * 50000,
        "://a:" * 10000 + "@",
        "a://b:c/" * 10000 + "@",
        "authorization: " * 5000,
        ("://a:b" + "@" * 200) * 200,
        "?sig=" * 10000,
        "authorization" + " " * 50000,
        "://a:" * 60 + "@" + "x" * 1_000_000 + "@",
        "password=" * 100_000,
        "password-" * 100_000,
        'token="' + "x" * 1_000_000,
        "eyJ" * 300_000,
        "eyJaaaaaaaaa." * 70_000,
    ],
)
def test_a_hostile_text_costs_no_more_than_its_length(hostile):
    began = time.process_time()
    redact(hostile)
    assert time.process_time() - began < 1.0
