"""The C{athens-tx} command."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from athens_tx import __version__
from athens_tx.errors import AthensError, ConfigError

if TYPE_CHECKING:
    from athens_tx.config import Config
    from athens_tx.module.version import ModuleVersion

#: Exit codes: 0 all is well; 1 something failed or is broken; 2 the command line is wrong (click's own). C{verify} has
#: one more, and a signal gives 128 and its number.
FAILED = 1
USAGE = 2

#: What a command does on the reactor, to give its exit status; and what is done after it.
Work = Callable[[], Awaitable[int]]
Clean = Callable[[], Awaitable[None]]

config_option = click.option(
    "-c",
    "--config",
    "-config_file",
    "--config_file",
    "file",
    type=click.Path(dir_okay=False),
    default="",
    metavar="FILE",
    help="The TOML file with the settings [default: athens.toml in the working directory, if it is there].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-version", message="athens-tx %(version)s")
def main() -> None:
    """A Go module proxy: a drop-in for Athens."""


@main.command()
@config_option
@click.option("--strict", is_flag=True, help="Refuse to start for what is only worth a warning.")
def serve(file: str, strict: bool) -> None:
    """Run the proxy in the foreground, until SIGTERM or SIGINT. SIGHUP reloads files and log level."""
    from twisted.scripts import twistd

    if file and not Path(file).is_file():
        raise click.ClickException(f"--config {file}: there is no such file")
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "athens", "--announce"]
    sys.argv += [f"--config={file}"] if file else []
    sys.argv += ["--strict"] if strict else []
    twistd.run()


@main.command("check-config")
@click.argument("file", default="", type=click.Path(dir_okay=False))
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@json_option
def check_config(file: str, strict: bool, as_json: bool) -> None:
    """
    Check the settings, and the files they name, and print what is in effect, each value with its origin.

    Secrets are masked; nobody is asked over the network.
    """
    from athens_tx.config import as_json as in_json
    from athens_tx.config import as_toml
    from athens_tx.preflight import local_problems
    from athens_tx.twistd import read_settings

    try:
        loaded = read_settings(file, os.environ, strict=strict)
    except ConfigError as error:
        _fail_with(error.problems, as_json)
    problems, doubts = local_problems(loaded.config, os.environ)
    warnings = [*loaded.warnings, *doubts]
    if problems or (strict and doubts):
        _fail_with([*problems, *(f"warning: {warning}" for warning in warnings)], as_json)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(in_json(loaded) if as_json else as_toml(loaded), nl=False)


@main.command()
@click.argument("versions", nargs=-1, required=True, metavar="MODULE@VERSION...")
@config_option
@json_option
def fetch(versions: tuple[str, ...], file: str, as_json: bool) -> None:
    """
    Fetch versions into the configured storage.

    The filter file and the validator hook have their say as for a client's request. The download mode has not: who
    types this wants it fetched now. Nothing is fetched with NetworkMode offline, nor into a storage in memory, of which
    nothing would remain.

    Exit status: 0 if all of them are stored now, 1 if one is not, 2 if the command line is wrong.
    """
    from athens_tx.commands import fetch_versions, why_not_fetch

    wanted = _parse(versions, as_json)
    _run(file, as_json, lambda assembly: fetch_versions(assembly, wanted, as_json), refuse=why_not_fetch)


@main.command()
@config_option
@json_option
def catalog(file: str, as_json: bool) -> None:
    """List all that is stored, one module@version a line."""
    from athens_tx.commands import print_catalog

    _run(file, as_json, lambda assembly: print_catalog(assembly, as_json), fetching=False)


@main.command()
@click.argument("versions", nargs=-1, metavar="[MODULE@VERSION...]")
@click.option("--checksums", is_flag=True, help="Compare with the checksum database of GOSUMDB too (asks the network).")
@config_option
@json_option
def verify(versions: tuple[str, ...], checksums: bool, file: str, as_json: bool) -> None:
    """
    Hash what is stored again (all of it, or some versions) and report what is broken.

    Without versions, also those are reported of which only a part is stored (on disk), such as one that is being saved
    at this moment. With --checksums, versions that GONOSUMDB, GOPRIVATE or NoSumPatterns keep from the checksum
    database, and those it does not know, are counted as not compared.

    \b
    Exit status:
      0  nothing is broken
      1  something is broken, incomplete or absent
      2  the command line is wrong
      3  nothing is known to be broken, but the checksum database could not be asked about something
    """
    from athens_tx.verify import verify_versions

    wanted = _parse(versions, as_json)
    work = partial(verify_versions, versions=wanted, checksums=checksums, as_json=as_json)
    _run(file, as_json, work, fetching=checksums)


@main.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--parallel", type=click.IntRange(1, 200), default=8, show_default=True, help="Versions at once.")
@click.option("--verify", is_flag=True, help="Check each version at FROM, read it back from TO and compare the hashes.")
@click.option("--dry-run", is_flag=True, help="Only count what is to be copied.")
@config_option
@json_option
def copy(source: str, target: str, parallel: int, verify: bool, dry_run: bool, file: str, as_json: bool) -> None:
    """
    Copy all that is stored in one place to another, whatever kind of store each is.

    FROM and TO are each a kind of store (disk, s3, gcp, azureblob, minio, mongo, external), whose table in the settings
    says where it is, or the path of a file of settings, whose StorageType is meant. Variables of the environment count
    as for the other commands.

    What is at TO already stays as it is, so a copy that was interrupted goes on when it is started again.

    \b
    Exit status:
      0  all of FROM is at TO now
      1  something could not be copied, or the copy had to stop
      2  the command line is wrong
    """
    from athens_tx.backends import Backends
    from athens_tx.copying.command import Wishes, copy_store
    from athens_tx.copying.ends import read_ends, wrong_names

    if problems := wrong_names(source, target):
        _fail_with(problems, as_json, USAGE)
    try:
        ends = read_ends(source, target, file, os.environ)
    except ConfigError as error:
        _fail_with(error.problems, as_json)
    wishes = Wishes(parallel, verify, dry_run, as_json)

    def prepare(reactor: Any) -> tuple[Work, Clean]:
        backends = Backends(reactor, dict(os.environ))
        return lambda: copy_store(reactor, backends, ends, wishes), backends.close

    _on_the_reactor(prepare, as_json)


@main.group()
def index() -> None:
    """Look after the index of what was stored when (IndexType)."""


@index.command()
@config_option
@json_option
def rebuild(file: str, as_json: bool) -> None:
    """
    Add what is stored and not in the index.

    Versions that are in the index keep their time. Those that are not get the present one, and not that of their .info:
    who follows the index by since= sees them as new. An index that was lost has them in the order of the catalog, then.

    The daemon may run meanwhile. What was added stays: one that was interrupted goes on when it is started again.

    \b
    Exit status:
      0  all that is stored is in the index now
      1  something could not be added, or the rebuild had to stop
      2  the command line is wrong
    """
    from athens_tx.index.rebuild import rebuild_index, why_not_rebuild

    work = partial(rebuild_index, as_json=as_json)
    _run(file, as_json, work, fetching=False, refuse=why_not_rebuild)


@main.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    click.echo(json.dumps({"version": __version__}) if as_json else f"athens-tx {__version__}")


def _parse(arguments: tuple[str, ...], as_json: bool) -> list[ModuleVersion]:
    from athens_tx.commands import parse_versions

    versions, problems = parse_versions(arguments)
    if problems:
        _fail_with(problems, as_json, USAGE)
    return versions


def _run(
    file: str,
    as_json: bool,
    work: Callable[[Any], Awaitable[int]],
    *,
    fetching: bool = True,
    refuse: Callable[[Config], list[str]] = lambda config: [],
) -> None:
    """
    Plug the rooms together without the web, run C{work} on the reactor, exit with what it returns.

    @param fetching: whether it asks the network; if not, no go command is needed.
    @param refuse: what speaks against it, by the settings alone.
    """
    from athens_tx.service import assemble
    from athens_tx.twistd import read_settings

    try:
        loaded = read_settings(file, os.environ)
    except ConfigError as error:
        _fail_with(error.problems, as_json)
    if problems := refuse(loaded.config):
        _fail_with(problems, as_json)

    def prepare(reactor: Any) -> tuple[Work, Clean]:
        assembly = assemble(reactor, loaded.config, dict(os.environ))

        async def start_and_work() -> int:
            await assembly.start(serving=False, fetching=fetching)
            return await work(assembly)

        return start_and_work, assembly.stop

    _on_the_reactor(prepare, as_json)


def _on_the_reactor(prepare: Callable[[Any], tuple[Work, Clean]], as_json: bool) -> None:
    """Run what C{prepare} gives for the reactor, clean up after it, however it ended, and exit with its status."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    from athens_tx.interrupt import interruptible

    work, clean = prepare(reactor)

    async def attempt() -> int:
        try:
            return await work()
        except ConfigError as error:
            _tell_problems(error.problems, as_json)
        except AthensError as error:
            _tell_problems([f"{error}{': ' + error.detail if error.detail else ''}"], as_json)
        except BrokenPipeError:  # as in catalog | head: enough was read, and nothing is to be said
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        return FAILED

    async def run() -> None:
        status = await interruptible(reactor, attempt, clean)
        if status:
            raise SystemExit(status)

    react(lambda _: Deferred.fromCoroutine(run()))


def _fail_with(problems: list[str], as_json: bool, status: int = FAILED) -> NoReturn:
    _tell_problems(problems, as_json)
    raise SystemExit(status)


def _tell_problems(problems: list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"problems": problems}, indent=2))
    else:
        for problem in problems:
            click.echo(f"athens-tx: {problem}", err=True)
