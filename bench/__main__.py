"""
How many warm requests a second a proxy answers: C{python -m bench [URL...]}.

Without a URL an athens-tx is started over made modules, beside a bare Twisted protocol that answers a constant. With
URLs those proxies are measured in turn (A B A B), so that a machine that is busy for a while is so for all of them.
C{python -m bench remote} measures stores with many versions instead, see L{bench.remote}.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import remote
from bench.load import WITHOUT_WRK, LoadError, has_wrk, measure
from bench.modules import MODULE, TARGETS, fill
from bench.report import Report
from bench.servers import ServerError, daemon, reference

#: Seconds of load on each target before anything is measured, so that caches are warm.
WARM_UP = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["remote"]:
        return remote.main(given[1:])
    options = _parser().parse_args(given)
    if options.fill is not None:
        fill(options.fill)
        print(f"{MODULE} is in {options.fill}")
        return 0
    wrk = has_wrk() and not options.built_in
    if not has_wrk():
        print(WITHOUT_WRK, file=sys.stderr)
    names = options.target or [name for name, _ in TARGETS]
    try:
        with _servers(options.urls) as servers:
            report = Report(
                list(servers), "wrk" if wrk else "the built-in client", options.connections, options.seconds
            )
            _run(report, servers, [target for target in TARGETS if target[0] in names], options.rounds, wrk)
    except (LoadError, ServerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.data(), indent=2) if options.json else report.table())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split(":")[0] if __doc__ else None)
    parser.add_argument("urls", nargs="*", metavar="URL", help="a proxy over a storage that --fill has filled")
    parser.add_argument("--fill", type=Path, metavar="DIR", help="only write the made modules into a disk storage")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure [5]")
    parser.add_argument("--rounds", type=int, default=3, help="figures for each target and proxy [3]")
    parser.add_argument("--connections", type=int, default=64, help="kept alive, at the same time [64]")
    parser.add_argument("--target", action="append", choices=[name for name, _ in TARGETS], help="only this [all]")
    parser.add_argument("--built-in", action="store_true", help="make the load by ourselves even where wrk is there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@contextmanager
def _servers(urls: Sequence[str]) -> Iterator[dict[str, str]]:
    """Give the URLs by names; without any, those of our own servers, which live as long as the context does."""
    if urls:
        yield {_name(urls, number): url.rstrip("/") for number, url in enumerate(urls)}
        return
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="athens-bench-")))
        storage = work / "storage"
        fill(storage)
        yield {
            "athens-tx": stack.enter_context(daemon(storage, work)),
            "bare Twisted": stack.enter_context(reference(storage, work)),
        }


def _name(urls: Sequence[str], number: int) -> str:
    """@return: a URL as the name of a proxy; one that comes again (what is the noise?) is told apart."""
    before = urls[:number].count(urls[number])
    return urls[number].rstrip("/") + (f" ({before + 1})" if before else "")


def _run(report: Report, servers: dict[str, str], targets: Sequence[tuple[str, str]], rounds: int, wrk: bool) -> None:
    for name, path in targets:
        _check(servers, path)
        for url in servers.values():
            measure(url + path, connections=report.connections, seconds=min(WARM_UP, report.seconds), wrk=wrk)
        for turn in range(rounds):
            for server, url in servers.items():
                figure = measure(url + path, connections=report.connections, seconds=report.seconds, wrk=wrk)
                report.add(name, server, figure)
                print(f"{name} round {turn + 1}: {server} {figure.rate:.0f}/s", file=sys.stderr)


def _check(servers: dict[str, str], path: str) -> None:
    """Make sure that all servers answer, and answer the same; else there is nothing to compare."""
    bodies: dict[str, bytes] = {}
    for url in servers.values():
        try:
            with urllib.request.urlopen(url + path, timeout=30) as response:
                bodies[url] = bytes(response.read())
        except (OSError, urllib.error.URLError) as error:
            raise LoadError(f"{url}{path}: {error}; is its storage filled by --fill?") from error
    lines = {url: sorted(body.split(b"\n")) if path.endswith("/list") else [body] for url, body in bodies.items()}
    if len({tuple(each) for each in lines.values()}) > 1:
        raise LoadError(
            f"{path}: the servers do not answer the same, in bytes: {[len(body) for body in bodies.values()]}"
        )


if __name__ == "__main__":
    sys.exit(main())
