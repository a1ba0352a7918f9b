"""Names that are no settings: which one was meant?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from athens_tx.config.masking import Secret
from athens_tx.config.settings import SETTINGS

#: Keys, in lower case, that the documents of Athens name and its program does not know.
DEAD_KEYS: Mapping[str, str] = {
    "storage.mongo.insecure": "it never had one in Athens. InsecureConn turns the check of the server's certificate "
    "off, and only together with CertPath",
    "storage.azureblob.storageresource": "Athens documents it, but reads Storage.AzureBlob.CredentialScope",
    "storage.cdn": "it is in the sample file of Athens, whose program does not read it",
    "downloadredirecturl": "the key is DownloadURL",
    "gonosumpatterns": "the key is NoSumPatterns",
}

#: Variables of the same kind.
DEAD_VARIABLES: Mapping[str, str] = {
    "ATHENS_AZURE_STORAGE_RESOURCE": "Athens documents it, but reads ATHENS_AZURE_CREDENTIAL_SCOPE",
    "ATHENS_SINGLE_FLIGHT TYPE": "Athens documents it, but reads ATHENS_SINGLE_FLIGHT_TYPE",
}

#: The variables that Kubernetes sets for a Service whose name begins with "athens".
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_[0-9]+_|$)")


def _names() -> dict[str, str]:
    keys = [setting.key for setting in SETTINGS]
    tables = [".".join(setting.path[:end]) for setting in SETTINGS for end in range(1, len(setting.path))]
    return {name.casefold(): name for name in [*keys, *tables]}


#: Every key and every table, by its name in lower case.
_NAMES = _names()


def secret_variables(secret: Secret, variable: str) -> tuple[str, ...]:
    """@return: the variables that may name a file with the value of C{variable} in it."""
    return (f"{variable}_FILE",) if secret.hidden else ()


VARIABLES: frozenset[str] = frozenset(
    name
    for setting in SETTINGS
    for variable in setting.variables
    for name in (variable, *secret_variables(setting.secret, variable))
)


def nearest_key(path: tuple[str, ...]) -> str:
    """@return: a hint at the key that was most likely meant by one that does not exist."""
    written, last = ".".join(path).casefold(), path[-1].casefold()
    table = written.removesuffix(last)
    same = [name for name in _NAMES if name.rpartition(".")[2] == last]
    siblings = {name[len(table) :]: name for name in _NAMES if name.startswith(table) and "." not in name[len(table) :]}
    anywhere = {name.rpartition(".")[2]: name for name in _NAMES}
    close = (
        same[:2]
        or [
            names[match]
            for names, likeness in ((siblings, 0.6), (anywhere, 0.75))
            for match in get_close_matches(last, names, 1, likeness)
        ][:1]
    )
    if not close:
        return "no setting has a name like it"
    order = ", which must stand before the first table header" if table and "." not in close[0] else ""
    return f"did you mean {' or '.join(_NAMES[name] for name in close)}{order}?"


def strange_variable(name: str) -> str | None:
    """@return: a hint at the variable that was most likely meant by C{name}; C{None} if it is one, or none of ours."""
    if name in VARIABLES:
        return None
    if name in DEAD_VARIABLES:
        return DEAD_VARIABLES[name]
    if not name.startswith("ATHENS_") or _KUBERNETES.search(name):
        return None
    close = get_close_matches(name, VARIABLES, 1, 0.88)
    return f"did you mean {close[0]}?" if close else None
