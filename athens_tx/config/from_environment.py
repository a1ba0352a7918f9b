"""The settings that the environment gives: variables, the files that C{NAME_FILE} names, the credentials of systemd."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from athens_tx.config.declare import Kind, Setting
from athens_tx.config.findings import Findings, Found, Origin, Source
from athens_tx.config.literals import key
from athens_tx.config.names import secret_variables, strange_variable
from athens_tx.config.settings import SETTINGS
from athens_tx.config.values import Unreadable, from_text

#: A file with a secret in it is not longer.
_LONGEST_SECRET = 64 * 1024

Form = tuple[Origin, Callable[[], str]]


def read_environment(environ: Mapping[str, str], cwd: Path, findings: Findings) -> None:
    """Put what the environment says over the findings."""
    _Reader(environ, cwd, findings).all()


class _Reader:
    """One look at one environment."""

    def __init__(self, environ: Mapping[str, str], cwd: Path, findings: Findings) -> None:
        self._environ = environ
        self._cwd = cwd
        self._findings = findings

    def all(self) -> None:
        for setting in SETTINGS:
            form = self._form(setting)
            if form is not None:
                self._take(setting, *form)
        for name in sorted(self._environ):
            hint = strange_variable(name)
            if hint is not None:
                self._findings.doubt(f"{key(name)}: this variable is not a setting and has no effect; {hint}")

    def _form(self, setting: Setting) -> Form | None:
        """The first name that is there wins, but one name must not be there in two forms."""
        for variable in setting.variables:
            forms = list(self._forms(setting, variable))
            if len(forms) > 1:
                self._findings.broken.add(setting.key)
                names = " and ".join(str(origin) for origin, _ in forms)
                self._findings.refuse(f"{setting.key}: is given twice, by {names}; keep one")
                return None
            if forms:
                return forms[0]
        return None

    def _forms(self, setting: Setting, variable: str) -> list[Form]:
        forms: list[Form] = []
        if variable in self._environ and not self._is_of_kubernetes(variable):
            text = self._environ[variable]
            forms.append((Origin(Source.VARIABLE, variable), lambda: text))
        for name in secret_variables(setting.secret, variable):
            if name in self._environ:
                forms.append(self._file(name, self._cwd / self._environ[name] if self._environ[name] else None))
            folder = self._environ.get("CREDENTIALS_DIRECTORY")
            if folder and os.path.exists(self._cwd / folder / variable):
                forms.append(self._file("CREDENTIALS_DIRECTORY", self._cwd / folder / variable))
        return forms

    def _file(self, name: str, path: Path | None) -> Form:
        return Origin(Source.SECRET_FILE, name, path), lambda: _secret(path)

    def _is_of_kubernetes(self, variable: str) -> bool:
        """A Service called C{athens} gives every container of its namespace an C{ATHENS_PORT} that is none of ours."""
        ours = variable.endswith("_PORT") and self._environ[variable].startswith("tcp://")
        if ours:
            self._findings.warn(
                f"{variable} = {self._environ[variable]!r}: is ignored, "
                "Kubernetes sets it for a Service of that name; rename the Service or set enableServiceLinks: false"
            )
        return ours

    def _take(self, setting: Setting, origin: Origin, read: Callable[[], str]) -> None:
        text = ""
        try:
            text = read()
            if setting.kind is Kind.ENV_LIST and not text.strip():
                return
            reading = from_text(setting.kind, text)
        except Unreadable as error:
            self._findings.fault(setting, text, origin, str(error))
            return
        if reading.note:
            self._findings.warn(f"{setting.key} = {text} ({origin}): {reading.note}")
        # What a weaker layer got wrong stays wrong, so the mark of the broken stays too.
        self._findings.values[setting.key] = Found(reading.value, origin)


def _secret(path: Path | None) -> str:
    """@return: the content without the line end that every editor puts behind it."""
    if path is None:
        raise Unreadable("names no file")
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_SECRET + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise Unreadable(f"the file can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Unreadable("the file is not UTF-8") from error
    if len(data) > _LONGEST_SECRET or "\0" in text:
        raise Unreadable("the file is not one with a secret in it: too long, or not a text")
    return text.removesuffix("\n").removesuffix("\r")
