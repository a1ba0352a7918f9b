"""
The environment that go runs in, built from nothing, and what go says of its own settings.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from athens_tx.errors import ConfigError, FetchFailed, FetchTimeout
from athens_tx.fetch.process import ProcessRunner
from athens_tx.fetch.workdir import WorkDirectory
from athens_tx.http_client import masked
from athens_tx.module.pattern import split_patterns

#: What go inherits from the daemon, if it is set there. The certificates are an addition to what Athens passes.
INHERITED = (
    "PATH",
    "HOME",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "GOROOT",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_ASKED = ("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOVERSION", "GOVCS")
_OLDEST = (1, 21)
_START_LIMIT = 30.0


@attrs.frozen
class Proxy:
    """One entry of C{GOPROXY}: a URL, C{direct} or C{off}; C{any_error}: whether C{|} and not C{,} follows it."""

    url: str = attrs.field(repr=masked)
    any_error: bool = False


@attrs.frozen
class UpstreamRules:
    """
    Where modules come from, as the go command would have it.

    @ivar proxies: the C{GOPROXY} list, at least one; nothing follows C{direct} or C{off}.
    @ivar no_proxy: patterns of modules that are fetched directly.
    @ivar no_sumdb: patterns of modules that the checksum database is not asked for.
    @ivar sumdb: C{GOSUMDB}: a name, perhaps with a key and a URL; C{off}.
    """

    proxies: Sequence[Proxy]
    no_proxy: Sequence[str] = ()
    no_sumdb: Sequence[str] = ()
    sumdb: str = "off"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> UpstreamRules:
        """
        @param env: what C{go env -json} says.
        @raise ConfigError: C{GOPROXY} is none that go would take.
        """
        return cls(
            proxies=parse_goproxy(env.get("GOPROXY", "")),
            no_proxy=split_patterns(env.get("GONOPROXY") or env.get("GOPRIVATE") or ""),
            no_sumdb=split_patterns(env.get("GONOSUMDB") or env.get("GOPRIVATE") or ""),
            sumdb=env.get("GOSUMDB") or "off",
        )


def parse_goproxy(text: str) -> Sequence[Proxy]:
    """@raise ConfigError: there is no entry, or one is neither a URL of http, https or file, nor a word go knows."""
    proxies: list[Proxy] = []
    for entry, separator in re.findall(r"([^,|]*)([,|]|\Z)", text):
        url = entry.strip()
        if not url:
            continue
        if url not in ("direct", "off"):
            url = _complete(url)
        proxies.append(Proxy(url, separator == "|"))
        if url in ("direct", "off"):
            break
    if not proxies:
        raise ConfigError(["GoBinaryEnvVars: GOPROXY has no entries"])
    return tuple(proxies)


def _complete(url: str) -> str:
    if any(c in url for c in ".:/") and ":/" not in url and not url.startswith("/"):
        url = f"https://{url}"
    if not re.match(r"(?:https?://[^/?#\s]|file:///)\S*\Z", url):
        raise ConfigError([f"GoBinaryEnvVars: GOPROXY: {masked(url)!r} is no http, https or file URL, direct or off"])
    return url


class GoEnvironment:
    """Builds the environment of one run of go."""

    def __init__(
        self,
        environ: Mapping[str, str],
        configured: Sequence[str],
        no_sum_patterns: Sequence[str],
        work: WorkDirectory,
        home: Callable[[], str | None],
    ) -> None:
        """
        @param environ: the environment of the daemon, of which only L{INHERITED} is passed on.
        @param configured: C{GoBinaryEnvVars}, each C{NAME=value}: the last word.
        @param no_sum_patterns: C{NoSumPatterns}, given as C{GONOSUMDB} where C{configured} has none.
        @param home: gives the directory that stands for C{HOME}; C{None} where the real one does.
        """
        self._environ = environ
        self._configured = [item.partition("=")[::2] for item in configured]
        self._no_sum_patterns = no_sum_patterns
        self._work = work
        self._home = home

    def build(self, temporary: Path, **override: str) -> dict[str, str]:
        """
        @param temporary: where this run may put its temporary files.
        @param override: what a run has otherwise than C{GoBinaryEnvVars} says.
        """
        work = self._work.path
        env = {
            "GOPATH": str(work / "gopath"),
            "GOCACHE": str(work / "gocache"),
            "GOMODCACHE": str(self._work.modcache),
            "GOTMPDIR": str(temporary),
            "TMPDIR": str(temporary),
            "CGO_ENABLED": "0",
            "GO111MODULE": "on",
            "GOENV": "off",
            "GOFLAGS": "-modcacherw",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GIT_TERMINAL_PROMPT": "0",
            # A git that tidies up behind our back would have a process group of its own, and outlive its time limit.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "gc.autoDetach",
            "GIT_CONFIG_VALUE_0": "false",
            "GIT_CONFIG_KEY_1": "maintenance.autoDetach",
            "GIT_CONFIG_VALUE_1": "false",
        }
        env.update({name: self._environ[name] for name in INHERITED if name in self._environ})
        env.update(self._configured)
        home = self._home()
        if home is not None:  # it has links to what is in the other one
            env["HOME"] = home
        if not any(name == "GONOSUMDB" for name, _ in self._configured):
            env["GONOSUMDB"] = ",".join(self._no_sum_patterns)
        agent = self._environ.get("SSH_AUTH_SOCK", "")
        if agent and _is_socket(agent):
            env["SSH_AUTH_SOCK"] = agent
        env.update(override)
        return env


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def find_go(binary: str, environ: Mapping[str, str]) -> str:
    """
    @param binary: C{GoBinary}: a path, or a name to look up in C{PATH} and beside our own Python, where the extra
        C{[go]} puts it.
    @return: its absolute path.
    @raise ConfigError: there is none.
    """
    beside = os.path.dirname(sys.executable)
    search = os.pathsep.join((environ.get("PATH", os.defpath), beside))
    found = shutil.which(os.path.abspath(binary) if "/" in binary else binary, path=search)
    if found is None:
        raise ConfigError(
            [
                f"GoBinary: {binary!r} is no command that can be run; install Go {_OLDEST[0]}.{_OLDEST[1]} or newer, "
                "set GoBinary (GO_BINARY_PATH) to its path, or bring it by pip install 'athens-tx[go]'"
            ]
        )
    return os.path.abspath(found)


@attrs.frozen
class GoFacts:
    """What go said at start: its version as it prints it, and its effective settings."""

    version: str
    env: Mapping[str, str]


async def ask_go(
    runner: ProcessRunner, program: str, environment: GoEnvironment, folder: Path, *, limit: float = _START_LIMIT
) -> GoFacts:
    """
    Run go once, so that one that is not fit is an error at start.

    @param program: absolute path.
    @param folder: an empty directory to run in.
    @raise ConfigError: it does not answer, or is older than 1.21.
    """
    env = environment.build(folder)

    async def ask(*arguments: str) -> str:
        try:
            got = await runner.run([program, *arguments], env, limit_seconds=limit, cwd=folder, stdout_limit=1 << 20)
        except FetchTimeout:
            raise ConfigError([f"GoBinary: {program} gave no answer within {limit:g} s"]) from None
        except FetchFailed as error:
            raise ConfigError([f"GoBinary: {program} can't be run: {error}"]) from error
        if got.status != 0:
            said = masked(got.stderr.strip())[:500]
            raise ConfigError([f"GoBinary: `{program} {' '.join(arguments)}` ended with status {got.status}: {said}"])
        return got.stdout.decode("utf-8", "replace")

    version = (await ask("version")).strip()
    number = re.search(r"\bgo(\d+)\.(\d+)", version)
    if number is not None and (int(number[1]), int(number[2])) < _OLDEST:
        raise ConfigError([f"GoBinary: {program} is {number[0]}; Go {_OLDEST[0]}.{_OLDEST[1]} or newer is needed"])
    try:
        settings = json.loads(await ask("env", "-json", *_ASKED))
        return GoFacts(version, {str(name): str(value) for name, value in settings.items()})
    except (ValueError, AttributeError):
        raise ConfigError([f"GoBinary: {program} is no go command: `go env -json` gave no JSON object"]) from None
