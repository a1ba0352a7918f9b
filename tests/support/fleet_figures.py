"""What came of a round of a fleet, in figures."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping

import attrs
from prometheus_client.parser import text_string_to_metric_families


@attrs.frozen
class Waits:
    """
    The waits for locks.

    @ivar buckets: how many took so many seconds or less.
    @ivar results: how they ended.
    """

    buckets: Counter[float] = attrs.Factory(Counter)
    results: Counter[str] = attrs.Factory(Counter)

    @classmethod
    def read(cls, text: str) -> Waits:
        """@param text: the metrics of a daemon."""
        found = cls()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "athens_lock_wait_duration_seconds_bucket":
                    found.buckets[float(sample.labels["le"])] += int(sample.value)
                elif sample.name == "athens_lock_waits_total":
                    found.results[sample.labels["result"]] += int(sample.value)
        return found

    def __add__(self, other: Waits) -> Waits:
        return Waits(self.buckets + other.buckets, self.results + other.results)

    def __sub__(self, other: Waits) -> Waits:
        return Waits(self.buckets - other.buckets, self.results - other.results)

    def within(self, share: float) -> float:
        """@return: the seconds, as far as they are known, in which this share of the waits was over."""
        wanted = share * max(self.buckets.values(), default=0)
        return min((bound for bound, count in self.buckets.items() if count >= wanted), default=0.0)


@attrs.define
class Figures:
    """
    @ivar versions: how many were asked for.
    @ivar answers: seconds of each file that a client wanted, with its retry.
    @ivar retries: what the clients asked again for.
    @ivar errors: what they did not get in spite of that.
    @ivar broken: what was not as upstream has it.
    @ivar fetches: by module path.
    @ivar saves: how often each was stored, as the daemons say.
    @ivar unfinished: what the killed daemon had begun to fetch and did not say it had stored.
    @ivar remarks: warnings and worse in the logs of the daemons.
    """

    versions: int = 0
    seconds: float = 0.0
    answers: list[float] = attrs.Factory(list)
    retries: Counter[str] = attrs.Factory(Counter)
    errors: list[str] = attrs.Factory(list)
    broken: list[str] = attrs.Factory(list)
    fetches: Counter[str] = attrs.Factory(Counter)
    saves: Counter[str] = attrs.Factory(Counter)
    unfinished: set[str] = attrs.Factory(set)
    waits: Waits = attrs.Factory(Waits)
    remarks: Counter[str] = attrs.Factory(Counter)

    @property
    def needless(self) -> list[str]:
        """Fetched more than once, though the daemon that was killed is no reason."""
        twice = {path: count - (path in self.unfinished) for path, count in self.fetches.items()}
        return [path for path, count in twice.items() if count > 1]

    @property
    def stored_twice(self) -> list[str]:
        """Stored more than once."""
        return [path for path, count in self.saves.items() if count > 1]

    def row(self) -> Mapping[str, str]:
        """@return: for a table."""
        return {
            "versions": str(self.versions),
            "fetches": str(self.fetches.total()),
            "killed's": str(len(self.unfinished)),
            "needless": str(len(self.needless)),
            "files asked": str(len(self.answers)),
            "retries": str(self.retries.total()),
            "errors": str(len(self.errors)),
            "stored twice": str(len(self.stored_twice)),
            "broken": str(len(self.broken)),
            "s": f"{self.seconds:.1f}",
            "answer median s": f"{statistics.median(self.answers):.2f}",
            "longest": f"{max(self.answers):.1f}",
            "lock waits": ", ".join(f"{count} {name}" for name, count in sorted(self.waits.results.items())),
            "median": _bound(self.waits.within(0.5)),
            "longest wait": _bound(self.waits.within(1.0)),
        }


def _bound(seconds: float) -> str:
    return "> 300 s" if math.isinf(seconds) else f"<= {seconds:g} s"


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """@return: rows of the same columns, in Markdown."""
    lines = list(rows)
    head = list(lines[0])
    texts = [head, ["---"] * len(head), *(list(line.values()) for line in lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in texts)
