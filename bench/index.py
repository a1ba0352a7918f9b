"""
How long a page of a long index takes, and what it costs the daemon: C{python -m bench.index [mysql] [postgres]}.

The servers are those of the tests, of Debian's packages, with an index of 100,000 lines. Asked for are 2000 lines from
the middle on, one request after the other; then all lines at once, by four clients.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.servers import daemon_process
from tests.support.servers_process import HOST
from tests.support.servers_sql import PASSWORD, USER, MariaDb, Postgres, SqlDatabase

SERVERS = {"mysql": MariaDb, "postgres": Postgres}
START = datetime(2026, 1, 1)
CLIENTS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.index", description="Times the pages of a long index.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="mysql or postgres [both]")
    parser.add_argument("--lines", type=int, default=100_000, help="in the index [100000]")
    parser.add_argument("--limit", type=int, default=2000, help="lines of a page [2000]")
    parser.add_argument("--rounds", type=int, default=50, help="pages that are timed [50]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    found = {kind: _measure(kind, options) for kind in options.kinds or SERVERS}
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    names = list(next(iter(found.values())))
    print("| " + " | ".join(["index", *names]) + " |")
    print("|" + "---|" * (len(names) + 1))
    for kind, figures in found.items():
        print("| " + " | ".join([kind, *(f"{figures[name]:g}" for name in names)]) + " |")
    return 0


def _measure(kind: str, options: Any) -> dict[str, float]:
    """@return: the figures of one kind of database, by name."""
    with tempfile.TemporaryDirectory(prefix="athens-bench-") as work:
        server = SERVERS[kind](Path(work) / kind)
        server.start()
        try:
            database = server.database()
            (Path(work) / "storage").mkdir()
            settings = {**_settings(kind, server, database), "ATHENS_INDEX_JOURNAL": str(Path(work) / "journal")}
            with daemon_process(Path(work) / "storage", Path(work), settings) as (url, pid):
                _fill(database, options.lines)
                return _ask(url, pid, options)
        finally:
            server.stop()


def _settings(kind: str, server: Any, database: SqlDatabase) -> dict[str, str]:
    values = {"HOST": HOST, "PORT": str(server.port), "USER": USER, "PASSWORD": PASSWORD, "DATABASE": database.name}
    named = {f"ATHENS_INDEX_{kind.upper()}_{name}": value for name, value in values.items()}
    return {"ATHENS_INDEX_TYPE": kind, **named}


def _time(number: int) -> datetime:
    return START + timedelta(seconds=number)


def _fill(database: SqlDatabase, lines: int) -> None:
    """Write the lines past the daemon, as Athens would, a second apart."""
    for first in range(0, lines, 1000):
        numbers = range(first, min(first + 1000, lines))
        values = [
            value
            for number in numbers
            for value in (
                f"github.com/organisation-{number % 977}/module-{number % 9973}",
                f"v1.{number}.0",
                _time(number),
            )
        ]
        rows = ", ".join(["(%s, %s, %s)"] * len(numbers))
        if database.server.name == "mariadb":
            rows = rows.replace("(%s, %s, %s)", "(%s, %s, CONVERT_TZ(%s, '+00:00', '+09:00'))")
        database.execute(f"INSERT INTO indexes (path, version, timestamp) VALUES {rows}", *values)
    database.execute("ANALYZE TABLE indexes" if database.server.name == "mariadb" else "ANALYZE indexes")


def _ask(url: str, pid: int, options: Any) -> dict[str, float]:
    since = _time(options.lines // 2).replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    page = f"{url}/index?since={since}&limit={options.limit}"
    for _ in range(5):
        _get(page, options.limit)
    before, times = _memory(pid, "VmRSS"), []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        _get(page, options.limit)
        times.append((time.perf_counter() - begun) * 1000)
    after = _memory(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda _: _get(f"{url}/index?limit={options.lines}", options.lines), range(CLIENTS)))
    whole = time.perf_counter() - begun
    times.sort()
    return {
        "page ms, median": round(statistics.median(times), 1),
        "slowest 5 %": round(times[int(len(times) * 0.95)], 1),
        "MiB before": round(before, 1),
        "after": round(after, 1),
        f"peak of {CLIENTS} x all": round(_memory(pid, "VmHWM"), 1),
        "s for that": round(whole, 2),
    }


def _get(url: str, lines: int) -> None:
    with urllib.request.urlopen(url, timeout=120) as response:
        count = sum(block.count(b"\n") for block in iter(lambda: response.read(1 << 16), b""))
    if count != lines:
        raise SystemExit(f"{url}: {count} lines instead of {lines}")


def _memory(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
