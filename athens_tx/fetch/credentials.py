"""
What git, hg and go may log in with: C{NETRCPath}, C{GithubToken} and C{HGRCPath}, in a home directory of their own.

The private home has links to all that the real one holds but for the files it replaces, so that C{~/.gitconfig},
C{~/.ssh} and the like go on working. Without any of the settings there is none, and C{HOME} is passed as it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from twisted.logger import Logger

from athens_tx.errors import ConfigError
from athens_tx.fetch.workdir import remove_tree

_MAX_FILE = 1024 * 1024


@attrs.frozen
class Login:
    """One entry of a C{.netrc}; C{machine} is empty for C{default}."""

    machine: str
    login: str
    password: str = attrs.field(repr=False)


def parse_netrc(text: str) -> Sequence[Login]:
    """@return: the entries that have a login, in order; C{default} ends them. Macros and other words are skipped."""
    entries: list[Login] = []
    current: dict[str, str] | None = None
    words = _netrc_words(text)
    for word in words:
        if word in ("machine", "default"):
            _keep(entries, current)
            if current is not None and current["machine"] == "":
                return entries
            current = {"machine": next(words, "") if word == "machine" else ""}
        elif word in ("login", "password", "account") and current is not None:
            current[word] = next(words, "")
    _keep(entries, current)
    return entries


def _keep(entries: list[Login], found: Mapping[str, str] | None) -> None:
    if found is not None and found.get("login"):
        entries.append(Login(found["machine"], found["login"], found.get("password", "")))


def _netrc_words(text: str) -> Iterator[str]:
    macro = False
    for line in text.splitlines():
        if macro:
            macro = bool(line.strip())
            continue
        for word in line.split():
            if word == "macdef":
                macro = True
                break
            yield word


class Credentials:
    """
    The private home, and the logins for upstream proxies.

    All of it blocks a little: call it before the reactor runs, or in a thread.
    """

    log = Logger()

    def __init__(
        self,
        environ: Mapping[str, str],
        home: Callable[[], Path],
        *,
        netrc_path: str = "",
        github_token: str = "",
        hgrc_path: str = "",
        netrc_variable: str = "",
    ) -> None:
        """
        @param environ: the environment of the daemon, for C{HOME}.
        @param home: gives where the private home is made, once that is known: below a directory that is ours alone.
        @param netrc_variable: C{NETRC} of C{GoBinaryEnvVars}, which go reads in place of C{~/.netrc}.
        @raise ConfigError: both C{NETRCPath} and C{GithubToken} are set.
        """
        if netrc_path and github_token:
            raise ConfigError(["GithubToken and NETRCPath: only one of them can be set, both are for .netrc"])
        self._real = environ.get("HOME", "")
        self._home = home
        self._netrc_path = netrc_path
        self._github_token = github_token
        self._hgrc_path = hgrc_path
        self._netrc_variable = netrc_variable
        self._logins: Sequence[Login] = ()

    @property
    def _private(self) -> Path:
        return self._home()

    @property
    def home(self) -> str | None:
        """The private home; C{None} if nothing asks for one."""
        wanted = self._netrc_path or self._github_token or self._hgrc_path
        return str(self._private) if wanted else None

    def load(self) -> None:
        """
        Read the files anew and put them in place, each at once; at start and when they may have changed.

        @raise ConfigError: a file can't be read; what was there stays.
        """
        files = self._files()
        if self.home is not None:
            self._private.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._private.chmod(0o700)
            for name, content in files.items():
                self._write(self._private / name, content)
            self._link(set(files))
        self._logins = parse_netrc(self._netrc(files).decode("utf-8", "replace"))

    def close(self) -> None:
        """Remove the private home."""
        if self.home is not None:
            remove_tree(self._private)

    def secrets(self) -> Sequence[str]:
        """@return: what must not appear in a text that leaves the program."""
        found = {self._github_token, *(entry.password for entry in self._logins)}
        return [secret for secret in found if len(secret) > 3]

    def authorization(self, url: str) -> bytes | None:
        """
        The rule of the go command: C{.netrc} counts for https only, a machine may have a port and the beginning of a
        path, the first entry that fits is taken, and C{default} is for nobody.

        @return: the value of an C{Authorization} header, if there is a login for C{url}.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            return None
        place = (parts.netloc.rpartition("@")[2] + parts.path).rstrip("/")
        while place:
            for entry in self._logins:
                if entry.machine == place and entry.password:
                    return b"Basic " + base64.b64encode(f"{entry.login}:{entry.password}".encode())
            place = place.rpartition("/")[0]
        return None

    def _files(self) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        problems: list[str] = []
        for setting, path, usual in (
            ("NETRCPath", self._netrc_path, ".netrc"),
            ("HGRCPath", self._hgrc_path, ".hgrc"),
        ):
            if not path:
                continue
            name = os.path.basename(path)
            if setting == "NETRCPath" and name.lstrip("._") == "netrc":
                name = usual
            if name != usual:
                self.log.warn("{setting}: a file called {name} has no effect", setting=setting, name=name)
            try:
                files[name] = _read(path)
            except OSError as error:
                problems.append(f"{setting}: {path} can't be read: {error.strerror}")
        if problems:
            raise ConfigError(problems)
        if self._github_token:
            files[".netrc"] = f"machine github.com login {self._github_token}\n".encode()
        return files

    def _netrc(self, files: Mapping[str, bytes]) -> bytes:
        """@return: what go would read as its C{.netrc}; one of ours wins over that of the real home."""
        if not self._netrc_variable and ".netrc" in files:
            return files[".netrc"]
        path = self._netrc_variable or os.path.join(self._real, ".netrc")
        if self._netrc_variable or self._real:
            with suppress(OSError):
                return _read(path)
        return b""

    def _write(self, path: Path, content: bytes) -> None:
        new = path.with_name(path.name + ".new")
        remove_tree(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        new.rename(path)

    def _link(self, replaced: set[str]) -> None:
        """Link to what is in the real home now, and no longer to what has gone from it."""
        try:
            wanted = set(os.listdir(self._real)) if self._real else set()
        except OSError:
            wanted = set()
        for entry in self._private.iterdir():
            if entry.is_symlink() and entry.name not in wanted:
                entry.unlink()
        for name in wanted - replaced:
            with suppress(FileExistsError):
                (self._private / name).symlink_to(os.path.join(os.path.abspath(self._real), name))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_FILE)
