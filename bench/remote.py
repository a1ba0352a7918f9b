"""
What a store with many versions costs: C{python -m bench remote}.

Starts the object stores that the tests use, plants versions, and counts requests, seconds and memory of a list of one
module and of a walk through the catalog. Then C{athens-tx copy} moves versions from a disk to S3, and on to GCS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.modules import fill_many
from tests.support.servers import SERVERS

REPOSITORY = Path(__file__).parent.parent

#: Versions of each module of the catalog.
EACH = 1000
#: What is walked through the catalog with.
PAGES = (100, 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    options = _parser().parse_args(arguments)
    wanted = options.what or ["listing", "copy"]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="athens-bench-") as name:
        work = Path(name)
        if "listing" in wanted:
            for server in ("s3", "minio"):
                with _s3(server, work / server) as settings:
                    figures[server] = _listing(settings, options.versions)
                    print(f"{server}: {json.dumps(figures[server])}", file=sys.stderr)
        if "copy" in wanted:
            figures["copy"] = list(_copies(work, options.copied, options.kib, options.parallel))
    print(json.dumps(figures, indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench remote", description="A store with many versions.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help="listing or copy [both]")
    parser.add_argument("--versions", type=int, default=10_000, help="in the catalog [10000]")
    parser.add_argument("--copied", type=int, default=1000, help="versions that are copied [1000]")
    parser.add_argument("--kib", type=int, action="append", help="KiB of each zip that is copied [20 and 1024]")
    parser.add_argument("--parallel", type=int, default=8, help="copied at once [8]")
    return parser


@contextmanager
def _running(name: str, directory: Path) -> Iterator[Any]:
    server = SERVERS[name](directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _settings(server: Any) -> dict[str, str]:
    return {
        "ATHENS_STORAGE_TYPE": "s3",
        "AWS_ENDPOINT": server.endpoint,
        "AWS_REGION": server.region,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_FORCE_PATH_STYLE": "true",
        "ATHENS_S3_BUCKET_NAME": server.bucket().name,
    }


@contextmanager
def _s3(name: str, directory: Path) -> Iterator[dict[str, str]]:
    with _running(name, directory) as server:
        yield _settings(server)


def _listing(settings: Mapping[str, str], versions: int) -> Mapping[str, Any]:
    """@return: what L{bench.listing} has measured, in a process of its own for each figure."""
    steps = [["plant", str(versions), str(EACH)], ["list"], *(["catalog", str(size)] for size in PAGES)]
    return {" ".join(step): _child(settings, step) for step in steps}


def _child(settings: Mapping[str, str], step: Sequence[str]) -> Any:
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, **settings}
        command = [sys.executable, "-m", "bench.listing", *step]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _copies(work: Path, count: int, sizes: Sequence[int] | None, parallel: int) -> Iterator[Mapping[str, Any]]:
    """Copy from a disk to S3, and on to GCS."""
    for kib in sizes or (20, 1024):
        disk = work / f"disk-{kib}"
        fill_many(disk, count, kib * 1024)
        with _running("s3", work / f"s3-{kib}") as s3, _running("gcs", work / f"gcs-{kib}") as gcs:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(work),
                **_settings(s3),
                "ATHENS_DISK_STORAGE_ROOT": str(disk),
                "STORAGE_EMULATOR_HOST": gcs.endpoint,
                "ATHENS_STORAGE_GCP_BUCKET": gcs.bucket().name,
            }
            for ends in (("disk", "s3"), ("s3", "gcp"), ("s3", "gcp")):
                yield _copy(ends, kib, parallel, environment)


def _copy(ends: tuple[str, str], kib: int, parallel: int, environment: Mapping[str, str]) -> Mapping[str, Any]:
    main = "import sys; from athens_tx.cli import main; main(prog_name='athens-tx')"
    command = [sys.executable, "-c", main, "copy", "--json", "--parallel", str(parallel), *ends]
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=environment["HOME"], env={**environment, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE
    )
    told = json.loads(done.stdout)
    names = ("copied", "there", "failed", "seconds", "versions_per_second", "mib_per_second")
    whole = round(time.monotonic() - begun, 2)
    figure = {"ends": " to ".join(ends), "kib": kib, "process": whole, **{name: told[name] for name in names}}
    print(json.dumps(figure), file=sys.stderr)
    return figure
