"""What to do with a version that is not stored: one mode for all modules, or a file of modes by pattern."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from zope.interface import implementer

from athens_tx.errors import ConfigError
from athens_tx.interfaces import DownloadRule, IDownloadModes
from athens_tx.module.pattern import matches
from athens_tx.policy.hcl import Argument, Block, HCLError
from athens_tx.policy.hcl import read as read_hcl

MODES = ("sync", "async", "none", "redirect", "async_redirect")
_REDIRECTS = ("redirect", "async_redirect")
_ARGUMENTS = ("mode", "downloadURL")


def is_web_url(url: str) -> bool:
    """@return: whether C{url} is an absolute http or https URL that clients can be sent to."""
    if any(character <= " " or character == "\x7f" for character in url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, an IPv6 address that is not closed
        return False


@attrs.frozen
class _ForPattern:
    pattern: str
    rule: DownloadRule


@implementer(IDownloadModes)
class DownloadModes:
    """
    The first pattern that matches decides both mode and URL.

    @ivar default: for modules that no pattern matches.
    """

    def __init__(self, default: DownloadRule, patterns: tuple[tuple[str, DownloadRule], ...] = ()) -> None:
        self.default = default
        self._patterns = tuple(_ForPattern(pattern, rule) for pattern, rule in patterns)

    @classmethod
    def parse(cls, setting: str, download_url: str, *, read: Callable[[Path], str]) -> DownloadModes:
        """
        @param setting: C{DownloadMode}: a mode, C{file:PATH} or C{custom:} and HCL in base64.
        @param download_url: C{DownloadURL}; means nothing to the two forms with HCL, which bring their own.
        @param read: gives the text of a file, or raises C{OSError} or C{UnicodeDecodeError}.
        @raise ConfigError: with all problems, one line each; those of a file name its line.
        """
        kind, colon, rest = setting.partition(":")
        if colon and kind == "file":
            return cls._from_hcl(_read_file(rest, read), f"DownloadMode file {rest}")
        if colon and kind == "custom":
            return cls._from_hcl(_decode(rest), "DownloadMode custom")
        if setting not in MODES:
            raise ConfigError([f"DownloadMode is {setting!r}, but must be {_allowed()}, file:PATH or custom:BASE64"])
        if setting in _REDIRECTS and not is_web_url(download_url):
            raise ConfigError([f"DownloadURL is {download_url!r}, but DownloadMode {setting} needs an http(s) URL"])
        return cls(_rule(setting, download_url))

    @classmethod
    def _from_hcl(cls, text: str, where: str) -> DownloadModes:
        try:
            body = read_hcl(text)
        except HCLError as error:
            raise ConfigError([f"{where}: {_line(error.line)}{error}"]) from error
        reader = _Reader(where)
        modes = reader.modes(body)
        if reader.problems:
            raise ConfigError(reader.problems)
        return cls(modes[0], modes[1])

    def rule(self, path: str) -> DownloadRule:
        """@return: the mode for a module, with a URL if it is a redirect."""
        return next((entry.rule for entry in self._patterns if matches(entry.pattern, path)), self.default)


class _Reader:
    """Turns HCL into rules and collects what is wrong with it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.problems: list[str] = []

    def modes(self, body: Block) -> tuple[DownloadRule, tuple[tuple[str, DownloadRule], ...]]:
        top = self._arguments(body, "the top level")
        for name in _ARGUMENTS:
            if name not in {argument.name for argument in body.arguments}:
                self._problem(0, f'{name} is missing at the top level (it may be "", but must be there)')
        url = top.get("downloadURL", "")
        default = self._checked(body, top, url, "the top level")
        patterns = []
        for block in body.blocks:
            if block.kind != "download":
                self._problem(block.line, f"unknown block {block.kind}; only download is known")
            elif (pattern := self._pattern(block)) is not None:
                patterns.append((pattern, self._for_pattern(block, pattern, url)))
        return default, tuple(patterns)

    def _pattern(self, block: Block) -> str | None:
        if len(block.labels) != 1 or not block.labels[0]:
            self._problem(block.line, 'download wants one pattern: download "github.com/acme/*" { ... }')
            return None
        return block.labels[0]

    def _for_pattern(self, block: Block, pattern: str, fallback: str) -> DownloadRule:
        name = f'download "{pattern}"'
        for inner in block.blocks:
            self._problem(inner.line, f"unknown block {inner.kind} in {name}")
        arguments = self._arguments(block, name)
        if "mode" not in {argument.name for argument in block.arguments}:
            self._problem(block.line, f"mode is missing in {name}")
        return self._checked(block, arguments, arguments.get("downloadURL") or fallback, name)

    def _arguments(self, block: Block, name: str) -> dict[str, str]:
        values: dict[str, str] = {}
        seen: set[str] = set()
        for argument in block.arguments:
            if argument.name not in _ARGUMENTS:
                self._problem(argument.line, f"unknown argument {argument.name} in {name}; {_known(argument)}")
            elif argument.name in seen:
                self._problem(argument.line, f"{argument.name} is given twice in {name}")
            elif argument.value is None:
                self._problem(argument.line, f"{argument.name} in {name} must be a constant string in quotes")
            else:
                values[argument.name] = argument.value
            seen.add(argument.name)
        return values

    def _checked(self, block: Block, arguments: dict[str, str], url: str, name: str) -> DownloadRule:
        mode = arguments.get("mode")
        if mode is None or (mode == "" and not block.kind):
            # Missing is reported elsewhere. Empty at the top level is for a file whose patterns say it all: a module
            # beyond them is not fetched (Athens answers it with an empty body, which no client can read).
            return DownloadRule("none", "")
        line = next(argument.line for argument in block.arguments if argument.name == "mode")
        if mode not in MODES:
            self._problem(line, f"mode {mode!r} in {name} must be {_allowed()}")
        elif mode in _REDIRECTS and not url:
            self._problem(line, f"mode {mode} in {name} needs a downloadURL, there or at the top level")
        elif mode in _REDIRECTS and not is_web_url(url):
            self._problem(line, f"mode {mode} in {name}: downloadURL {url!r} is not an http(s) URL")
        return _rule(mode, url)

    def _problem(self, line: int, text: str) -> None:
        self.problems.append(f"{self._where}: {_line(line)}{text}")


def _read_file(path: str, read: Callable[[Path], str]) -> str:
    try:
        return read(Path(path))
    except OSError as error:
        raise ConfigError([f"DownloadMode file {path}: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"DownloadMode file {path}: not UTF-8 at byte {error.start}"]) from error


def _decode(encoded: str) -> str:
    try:
        # Athens' decoder skips line ends, so a value wrapped by base64(1) is fine.
        return base64.b64decode(encoded.replace("\n", "").replace("\r", ""), validate=True).decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"DownloadMode custom: not UTF-8 at byte {error.start}"]) from error
    except ValueError as error:
        raise ConfigError([f"DownloadMode custom: not base64: {error}"]) from error


def _rule(mode: str, url: str) -> DownloadRule:
    return DownloadRule(mode, url if mode in _REDIRECTS else "")


def _line(line: int) -> str:
    return f"line {line}: " if line else ""


def _allowed() -> str:
    return ", ".join(MODES)


def _known(argument: Argument) -> str:
    hint = " (did you mean downloadURL?)" if "url" in argument.name.lower() else ""
    return f"only mode and downloadURL are known{hint}"
