"""
What must never be read in a log or in an answer: credentials in URLs, signatures, passwords and tokens of the settings.

Anything may come in, so every pattern is bounded: a hostile text costs no more than its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

#: What stands for a secret.
MASK = "***"

#: A shorter secret is in every other word; masking it would only make lines unreadable (and give the secret away).
MIN_SECRET = 4

# The first branch is user:password@ where the password may hold slashes: a colon that no port number follows.
# The second is all that can be userinfo; it ends at a slash, because https://host/path@v1.0.0 has none.
_USERINFO = re.compile(
    r"""://(?:[^\s/@:\["'<>]{1,128}:(?!\d{0,5}(?:[/?\#\s]|$))[^\s"'<>]{0,256}?@(?=[^@\s]{0,300}(?:[\s/]|$))
                          |[^\s/"'<>]{1,512}@)""",
    re.VERBOSE,
)
_SIGNATURE = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|sig|signature|access_token)=)"
    r"[^&\s\"'<>]+",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"""(authorization["']?\s{0,4}[:=]\s{0,4}(?:\[?b?["'])?)(?:(?:basic|bearer|token|negotiate|digest)\s{1,4})?[^\s"',]+""",
    re.IGNORECASE,
)
# What is a token by its looks: those of GitHub, GitLab, Slack and Amazon, and signed ones of any server (JWT).
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[oprsu]_\w{4,}|github_pat_\w{4,}|glpat-[\w-]{4,}|xox[abeprs]-[\w-]{8,}|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|eyJ[\w-]{8,2000}+\.[\w-]{4,4000}+\.[\w-]*)"
)
_TOKEN_SIGNS = ("gh", "github_pat_", "glpat-", "xox", "AKIA", "ASIA", "eyJ")
# key=value and "key": "value". Not the ?token= of a page of the catalog, which is a module path.
_NAMED = re.compile(
    r"""((?:passw(?:or)?d|passphrase|secret|(?<![?&])token|(?:api|access|private)[_-]?key|\bpwd)[\w-]{0,40}+
         (?:\s?=\s?|["']\s{0,4}:\s{0,4}))
        (?:"[^"]{0,512}+"|'[^']{0,512}+'|["']?[^\s"'&]+)""",
    re.IGNORECASE | re.VERBOSE,
)


def redact(text: str) -> str:
    """
    Take out of C{text} what looks like a credential: C{scheme://user:password@host} becomes C{scheme://host}, the value
    of a signature in a query, of an C{Authorization} header and of C{password=}, and a token by its looks, become
    L{MASK}.

    >>> redact("clone of https://bot:s3cret@git.example.com/x failed")
    'clone of https://git.example.com/x failed'
    """
    if "://" in text and "@" in text:
        text = _USERINFO.sub("://", text)
    if "=" in text and ("?" in text or "&" in text):
        text = _SIGNATURE.sub(r"\1" + MASK, text)
    if "uthorization" in text or "AUTHORIZATION" in text:
        text = _AUTHORIZATION.sub(r"\1" + MASK, text)
    if any(sign in text for sign in _TOKEN_SIGNS):
        text = _TOKEN.sub(MASK, text)
    if "=" in text or '":' in text or "':" in text or '" :' in text:
        text = _NAMED.sub(r"\1" + MASK, text)
    return text


class Redactor:
    """
    L{redact}, and the secrets that are known: the passwords and tokens of the settings.

    A secret is found as it is, percent-encoded and as a JSON string writes it. Called for each text that is logged.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """@param secrets: those shorter than L{MIN_SECRET} are left alone."""
        forms: set[str] = set()
        for secret in secrets:
            for form in (secret, secret.strip()):
                if len(form) >= MIN_SECRET:
                    forms |= {form, quote(form, safe=""), quote(form), quote_plus(form), json.dumps(form)[1:-1]}
        # The longest first, so that a secret that begins with another one goes as a whole.
        pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        self._secrets = re.compile(pattern) if pattern else None

    def __call__(self, text: str) -> str:
        """@return: C{text} without what must not be read."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return redact(text)
