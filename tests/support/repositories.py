"""
Local git repositories that the go command takes for ones on github.com.

Each is made by one C{git fast-import} with fixed dates and a fixed author, so a commit, and with it a pseudo-version,
has the same hash on every machine. A C{.gitconfig} in a home directory of the test's own sends C{https://github.com/}
to them.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

#: When the first commit of every repository was made; each later one is an hour younger.
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)

WHO = b"Gopher <gopher@example.test>"


@attrs.frozen
class Commit:
    """
    One commit to make.

    @ivar files: what changes, by path; C{None} removes a file.
    @ivar tags: tags that point to it.
    @ivar branch: where it goes; a new branch begins at C{base}.
    @ivar base: a branch or tag.
    """

    files: Mapping[str, str | bytes | None]
    tags: Sequence[str] = ()
    branch: str = "main"
    base: str = ""


@attrs.frozen
class Made:
    """A commit that was made."""

    hash: str
    time: datetime

    def pseudo(self, after: str = "") -> str:
        """
        @param after: the newest tag among its ancestors, if there is one; C{v2.0.0-0} forms are not needed here.
        @return: the pseudo-version of this commit.
        """
        stamp = f"{self.time:%Y%m%d%H%M%S}-{self.hash[:12]}"
        if not after:
            return f"v0.0.0-{stamp}"
        release, _, suffix = after.partition("+")
        suffix = f"+{suffix}" if suffix else ""
        if "-" in release:
            return f"{release}.0.{stamp}{suffix}"
        major, minor, patch = release.split(".")
        return f"{major}.{minor}.{int(patch) + 1}-0.{stamp}{suffix}"


@attrs.define
class Repository:
    """One bare repository. C{commits} has what was made, oldest first."""

    directory: Path
    commits: list[Made] = attrs.Factory(list)
    _tips: dict[str, str] = attrs.Factory(dict)

    def add(self, *commits: Commit) -> list[Made]:
        """Make C{commits}, all in one process; return them."""
        first = len(self.commits)
        stream, tips = [], dict(self._tips)
        for mark, commit in enumerate(commits, first + 1):
            parent = tips.get(commit.branch) or tips.get(commit.base, "")
            stream.append(_stream(commit, mark, parent))
            tips.update(dict.fromkeys([commit.branch, *commit.tags], f":{mark}"))
        marks = self.directory / "marks"
        git("fast-import", "--quiet", "--force", f"--export-marks={marks}", cwd=self.directory, input=b"".join(stream))
        by_mark = dict(line.split() for line in marks.read_text().splitlines())
        self._tips = {name: by_mark.get(tip, tip) for name, tip in tips.items()}
        made = [Made(by_mark[f":{mark}"], _time(mark)) for mark in range(first + 1, first + 1 + len(commits))]
        self.commits.extend(made)
        return made


def _time(mark: int) -> datetime:
    """@return: when the commit with this number, from 1, was made."""
    return EPOCH + timedelta(hours=mark - 1)


def _stream(commit: Commit, mark: int, parent: str) -> bytes:
    """@return: the C{git fast-import} commands of one commit."""
    message = f"commit {mark}".encode()
    parts = [
        b"commit refs/heads/%s\nmark :%d\n" % (commit.branch.encode(), mark),
        b"committer %s %d +0000\n" % (WHO, int(_time(mark).timestamp())),
        b"data %d\n%s\n" % (len(message), message),
    ]
    if parent:
        parts.append(b"from %s\n" % parent.encode())
    for name, content in sorted(commit.files.items()):
        if content is None:
            parts.append(b"D %s\n" % name.encode())
            continue
        data = content.encode() if isinstance(content, str) else content
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))
    parts.append(b"\n")
    parts.extend(b"reset refs/tags/%s\nfrom :%d\n\n" % (tag.encode(), mark) for tag in commit.tags)
    return b"".join(parts)


@attrs.define
class Repositories:
    """
    A folder of repositories and the home directory whose git settings lead to them.

    @ivar root: everything is below it: C{repos/OWNER/NAME} and C{home}.
    """

    root: Path
    found: dict[str, Repository] = attrs.Factory(dict)
    _redirects: list[tuple[str, str]] = attrs.Factory(list)
    _settings: dict[str, str] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.repos.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        self._redirects.append((f"file://{self.repos}/", "https://github.com/"))
        self._write_config()

    @property
    def repos(self) -> Path:
        """The folder that stands for C{https://github.com/}."""
        return self.root / "repos"

    @property
    def home(self) -> Path:
        """A home directory with a C{.gitconfig}."""
        return self.root / "home"

    def redirect(self, base: str, instead_of: str, **settings: str) -> None:
        """
        Have git go to C{base} instead of C{instead_of}.

        @param settings: more settings of git, C{http_sslCAInfo} for C{http.sslCAInfo}.
        """
        self._redirects.append((base, instead_of))
        self._settings.update({key.replace("_", "."): value for key, value in settings.items()})
        self._write_config()

    def _write_config(self) -> None:
        lines = []
        for base, instead_of in self._redirects:
            lines.append(f'[url "{base}"]\n\tinsteadOf = {instead_of}\n')
        for key, value in self._settings.items():
            section, _, name = key.partition(".")
            lines.append(f"[{section}]\n\t{name} = {value}\n")
        (self.home / ".gitconfig").write_text("".join(lines))

    def repository(self, path: str, *commits: Commit) -> Repository:
        """
        Make a repository.

        @param path: as go sees it: C{github.com/acme/lib}.
        """
        directory = self.repos / path.removeprefix("github.com/")
        directory.mkdir(parents=True)
        git("init", "--quiet", "--bare", "--initial-branch=main", ".", cwd=directory)
        repository = Repository(directory)
        if commits:
            repository.add(*commits)
        self.found[path] = repository
        return repository

    def __getitem__(self, path: str) -> Repository:
        return self.found[path]

    def move_away(self) -> None:
        """Take every repository off the net."""
        self.repos.rename(self.root / "repos.away")

    def come_back(self) -> None:
        """Undo L{move_away}."""
        (self.root / "repos.away").rename(self.repos)


def git(*args: str, cwd: Path, input: bytes | None = None) -> bytes:
    """Run git without anybody's settings; return what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *args], cwd=cwd, input=input, env=environment, check=True, capture_output=True).stdout


def module(path: str, requires: Mapping[str, str] | None = None, body: str = "", extra: str = "") -> dict[str, str]:
    """
    @param requires: versions by module path; the package imports each and calls its C{Name}.
    @param body: go code put at the end of the only file.
    @param extra: put at the end of the go.mod.
    @return: the files of a module with one package, whose C{Name()} gives its path and those of what it requires.
    """
    requires = requires or {}
    package = _package(path)
    imports = "".join(f'\tm{i} "{name}"\n' for i, name in enumerate(requires))
    calls = "".join(f' + " " + m{i}.Name()' for i in range(len(requires)))
    required = "".join(f"require {name} {version}\n" for name, version in requires.items())
    code = f"package {package}\n\n"
    if imports:
        code += f"import (\n{imports})\n\n"
    code += f'// Name says who this is.\nfunc Name() string {{ return "{path}"{calls} }}\n{body}'
    return {"go.mod": f"module {path}\n\ngo 1.21\n\n{required}{extra}", f"{package}.go": code}


def _package(path: str) -> str:
    """@return: a package name for a module path: its last element that is no major version."""
    last = [part for part in path.split("/") if not (part[0] == "v" and part[1:].isdigit())][-1]
    return last.lower().replace("-", "").replace(".", "")


def noise(mebibytes: float, seed: int = 1, files: int = 4) -> dict[str, bytes]:
    """@return: files that don't compress, C{mebibytes} together."""
    source = random.Random(seed)
    size = int(mebibytes * 1024 * 1024) // files
    return {f"noise/{i}.bin": source.randbytes(size) for i in range(files)}


def versions(path: str, tags: Iterable[str]) -> list[Commit]:
    """@return: a commit for each of C{tags}, each with other code."""
    first = module(path)
    return [
        Commit(
            {**first, "version.go": f'package {_package(path)}\n\n// Version is the tag.\nconst Version = "{tag}"\n'},
            [tag],
        )
        for tag in tags
    ]


def standard(root: Path) -> Repositories:
    """
    The repositories that most end-to-end tests use, one for each way a version can look.

    The programs to build are made of C{github.com/acme/app}, which needs five modules, directly or through others.
    """
    repos = Repositories(root)
    _plain(repos)
    _odd(repos)
    graph = {
        "github.com/acme/base": {},
        "github.com/acme/left": {"github.com/acme/base": "v1.0.0"},
        "github.com/acme/right": {"github.com/acme/base": "v1.1.0", "github.com/acme/lib": "v1.0.0"},
        "github.com/Acme/Top": {"github.com/acme/left": "v1.0.0", "github.com/acme/right": "v1.0.0"},
        "github.com/acme/app": {"github.com/Acme/Top": "v1.0.0", "github.com/acme/major/v2": "v2.1.0"},
    }
    for path, requires in graph.items():
        tags = ["v1.0.0"] if path != "github.com/acme/base" else ["v1.0.0", "v1.1.0"]
        repos.repository(path, *[Commit({**module(path, requires), "TAG": tag}, [tag]) for tag in tags])
    return repos


def _plain(repos: Repositories) -> None:
    """Tags, branches, commits without a tag."""
    lib = "github.com/acme/lib"
    repos.repository(
        lib,
        Commit(module(lib), ["v0.9.0"]),
        Commit({"one.go": "package lib\n\n// One is one.\nconst One = 1\n"}, ["v1.0.0"]),
        Commit({"two.go": "package lib\n\n// Two is two.\nconst Two = 2\n"}, ["v1.1.0-beta.1"]),
        Commit({"three.go": "package lib\n\n// Three is three.\nconst Three = 3\n"}),
        Commit(
            {"branch.go": "package lib\n\n// Branch is here.\nconst Branch = 1\n"},
            branch="feature",
            base="v1.0.0",
        ),
    )
    repos.repository("github.com/acme/untagged", Commit(module("github.com/acme/untagged")))
    twenty = "github.com/acme/twenty"
    repos.repository(twenty, *versions(twenty, [f"v1.{minor}.0" for minor in range(20)]))


def _odd(repos: Repositories) -> None:
    """Major versions, no go.mod, several modules in a repository, retracted versions."""
    code = "package old\n\n// Name says who this is.\nfunc Name() string { return `old` }\n"
    repos.repository(
        "github.com/acme/old",
        Commit({"old.go": code}, ["v1.0.0"]),
        Commit({"more.go": "package old\n"}, ["v2.0.0"]),
        Commit({"most.go": "package old\n"}, ["v3.0.0"]),
    )
    major = "github.com/acme/major"
    repos.repository(
        major,
        Commit(module(major), ["v1.0.0"]),
        Commit(module(f"{major}/v2"), ["v2.0.0"]),
        Commit({"more.go": "package major\n\n// More is more.\nconst More = 1\n"}, ["v2.1.0"]),
    )
    mono = "github.com/acme/mono"
    nested = {f"sub/{name}": text for name, text in module(f"{mono}/sub").items()}
    repos.repository(
        mono,
        Commit({**module(mono), **nested}, ["v1.0.0", "sub/v1.0.0"]),
        Commit({"sub/more.go": "package sub\n\n// More is more.\nconst More = 1\n"}, ["sub/v1.2.0"]),
    )
    retracted = "github.com/acme/retracted"
    repos.repository(
        retracted,
        Commit(module(retracted), ["v1.0.0"]),
        Commit({"bad.go": "package retracted\n\n// Bad is bad.\nconst Bad = 1\n"}, ["v1.1.0"]),
        Commit({"bad.go": None, **module(retracted, extra="retract v1.1.0 // it is bad\n")}, ["v1.2.0"]),
    )
