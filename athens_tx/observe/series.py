"""
Counters and histograms that cost next to nothing to feed.

C{prometheus_client} takes a lock for each number and looks at each bucket in turn; here only the reactor's thread
writes and reads, so a histogram is a bisection and two additions. It still does the rest: registry, names, exposition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

#: How many different values one label may take before the rest becomes L{OTHER}.
VALUES_LIMIT = 100
OTHER = "other"


class Bounded:
    """
    The values of one label, of which there are a few: the first L{VALUES_LIMIT}, all others are L{OTHER}.

    No more than a net below those who give the values: a mistake there must not eat the memory of the daemon.
    """

    def __init__(self, known: Iterable[str] = (), *, closed: bool = False) -> None:
        """@param closed: no values but the C{known} ones."""
        self._known = set(known)
        self._limit = len(self._known) if closed else VALUES_LIMIT

    def __call__(self, value: str) -> str:
        """@return: C{value}, or L{OTHER}."""
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value


class Distribution:
    """How values are spread over buckets: the content of a histogram for one set of labels."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count C{value}; it belongs to the first bucket whose bound is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add(self, other: Distribution) -> None:
        """Take over what C{other}, of the same bounds, has seen."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def buckets(self) -> list[tuple[str, float]]:
        """@return: the bounds as Go writes them, each with how many values are not above it."""
        total, found = 0, []
        for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class CounterSeries(Collector):
    """A counter with labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}

    def count(self, *labels: str) -> None:
        """Count one more."""
        self._values[labels] = self._values.get(labels, 0.0) + 1.0

    def collect(self) -> Iterable[Metric]:
        """@return: the family as it is now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class HistogramSeries(Collector):
    """A histogram with labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._bounds = tuple(bounds)
        self._children: dict[tuple[str, ...], Distribution] = {}

    def child(self, *labels: str) -> Distribution:
        """@return: the distribution of one set of labels, to be kept by who needs it often."""
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = Distribution(self._bounds)
        return found

    def collect(self) -> Iterable[Metric]:
        """@return: the family as it is now."""
        yield histogram_family(self._name, self._documentation, self._labels, self._children)


def histogram_family(
    name: str, documentation: str, labels: Sequence[str], children: dict[tuple[str, ...], Distribution]
) -> HistogramMetricFamily:
    """@return: distributions in the form that C{prometheus_client} writes."""
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, child in children.items():
        family.add_metric(values, child.buckets(), child.sum)
    return family


class Reading(Collector):
    """A gauge that is read when it is asked for. A reading that fails is left out and harms no other."""

    def __init__(self, name: str, documentation: str, function: Callable[[], float]) -> None:
        self._name, self._documentation, self._function = name, documentation, function

    def collect(self) -> Iterable[Metric]:
        """@return: the gauge, without a sample where it can't be read now."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=())
        try:
            family.add_metric((), float(self._function()))
        except Exception:
            family.samples.clear()
        yield family


class Flags(Collector):
    """A gauge of 0 or 1 for each value of one label, read when it is asked for."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._functions: dict[str, Callable[[], object]] = {}

    def show(self, value: str, function: Callable[[], object]) -> None:
        """Have a sample for C{value}: whether what C{function} gives is true."""
        self._functions[value] = function

    def collect(self) -> Iterable[Metric]:
        """@return: the family, without samples where there is nothing to show."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
        for value, function in self._functions.items():
            family.add_metric((value,), float(bool(function())))
        yield family
