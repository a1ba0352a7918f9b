"""What the options of a URL say of TLS to its server; L{athens_tx.client_tls} reads the files that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class TlsOptions:
    """
    Empty where the URL says nothing.

    @ivar ca_file: the authorities that are believed instead of those of the platform.
    @ivar cert_file: our own certificate, with those that vouch for it.
    @ivar key_file: its key, if that is in a file of its own.
    @ivar server_name: the name that the server's certificate has to have, instead of the one in the URL.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""

    @classmethod
    def of(cls, query: Mapping[str, Sequence[str]]) -> TlsOptions:
        """@param query: the options of a URL; those that are not of TLS are left alone."""
        return cls(**{name: query[name][-1] for name in TLS_OPTIONS if name in query})

    @property
    def problem(self) -> str:
        """What is wrong with them by themselves; empty if nothing."""
        return "key_file needs cert_file" if self.key_file and not self.cert_file else ""


#: The names of the options.
TLS_OPTIONS = tuple(field.name for field in attrs.fields(TlsOptions))
