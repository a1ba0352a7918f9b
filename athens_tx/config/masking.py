"""What may be shown of a value: never a password, nor a token, wherever it hides."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

#: What stands in the place of what is hidden.
MASK = "***"

_USERINFO = re.compile(r"://.*@", re.DOTALL)
_QUERY = re.compile(r"(?i)([?&;][^=&;\s]*(?:token|pass|secret|key|sig)[^=&;\s]*=)[^&;\s]+")
_TELLING_NAME = re.compile(r"(?i)token|pass|secret|key|auth|cred")
_TELLING_VALUE = re.compile(r"(?i)authorization|bearer\s|basic\s")


class Secret(Enum):
    """How much of a setting has to be hidden."""

    NO = "no"
    #: The whole value.
    YES = "yes"
    #: A URL that has, or may have, a password in it.
    URL = "url"
    #: Servers, of which somebody may have written a login in front of one.
    SERVERS = "servers"
    #: C{NAME=value} items, of which some are secret.
    ENVIRONMENT = "environment"

    @property
    def hidden(self) -> bool:
        """Whether the value as a whole is a secret, or may be: it may come from a file of its own."""
        return self in (Secret.YES, Secret.URL)


def masked(value: Any, secret: Secret) -> Any:
    """
    @param value: a value of any kind; one of the wrong kind for its setting is safe too.
    @return: the same with all that is secret replaced. An empty value stays empty, so that one sees that it is.
    """
    if secret is Secret.YES and value != "":
        return MASK
    if isinstance(value, str) and secret in (Secret.URL, Secret.SERVERS):
        return mask_login(value)
    if isinstance(value, str):
        # A string where items are expected was not taken apart: nobody can say what of it is secret.
        return MASK if value and secret is Secret.ENVIRONMENT else mask_urls(value)
    if isinstance(value, list | tuple):
        items = secret is Secret.ENVIRONMENT
        return [mask_item(part) if items and isinstance(part, str) else masked(part, secret) for part in value]
    if isinstance(value, dict):
        return {name: MASK if _TELLING_NAME.search(name) else masked(part, secret) for name, part in value.items()}
    return value


def mask_urls(text: str) -> str:
    """
    Hide the user information and the telling query parameters of the URLs in a text.

    Nobody can tell the C{,https://} in a password from that between two URLs of a list: all between the first scheme
    and the last C{@} goes.
    """
    return _QUERY.sub(rf"\g<1>{MASK}", _USERINFO.sub(f"://{MASK}@", text))


def mask_login(text: str) -> str:
    """
    As L{mask_urls}, of a text that is a URL, or was meant for one: a slip in its scheme does not show the password.
    """
    start, scheme, _ = text.partition("://")
    if "@" in (start if scheme else text):
        text = f"{MASK}@{text.rpartition('@')[2]}"
    return mask_urls(text)


def mask_item(item: str) -> str:
    """Hide what is secret in a C{NAME=value} item. One without a C{=} may be the rest of a secret that was cut."""
    name, equals, value = item.partition("=")
    if not equals:
        return MASK if item else item
    if value and (_TELLING_NAME.search(name) or _TELLING_VALUE.search(value)):
        return f"{name}={MASK}"
    return f"{name}={mask_urls(value)}"


def holds_secret(value: Any, secret: Secret) -> bool:
    """@return: whether a file with this value in it has to be kept from others."""
    return bool(masked(value, secret) != value)
