"""
The numbers at C{/metrics}: those of Athens under their names, ours as C{athens_...}, those of the process.

Fed from the reactor's thread only.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError

from athens_tx.errors import AthensError
from athens_tx.observe.requests import RequestSeries
from athens_tx.observe.series import Bounded, CounterSeries, HistogramSeries, Reading

#: As Athens has it; the names are of the old kind, so that nothing is escaped in truth.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"

_FETCH_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_STORAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# The caches that Athens counts, by our names for them.
_ATHENS_CACHES = {"info": "info", "mod": "gomod", "gomod": "gomod", "zip": "zip"}

SUCCESS = "success"


def outcome(error: BaseException | None) -> str:
    """
    @return: the C{result} of an operation that ended with C{error}: C{success}, the name of an L{AthensError}
        (C{NotFound}, C{FetchTimeout}), C{cancelled}, and C{error} for what nobody foresaw.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, AthensError):
        return type(error).__name__
    return "cancelled" if isinstance(error, CancelledError) else "error"


class _TargetInfo(Collector):
    """C{target_info}, by which Athens says who it is."""

    def collect(self) -> list[Metric]:
        family = GaugeMetricFamily("target_info", "Target metadata", labels=("service_name",))
        family.add_metric(("proxy",), 1.0)
        return [family]


class Metrics:
    """All that is counted, on a registry of its own."""

    def __init__(self, *, scheme: str = "http") -> None:
        """@param scheme: C{https} where the daemon itself speaks TLS."""
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = RequestSeries(scheme)
        self._kind, self._result, self._operation, self._cache = Bounded(), Bounded(), Bounded(), Bounded()
        self._athens_lookups = CounterSeries(
            "proxy_cache_lookup", "Number of cache lookups, by what was asked for.", ("cache_result", "cache_type")
        )
        self._lookups = CounterSeries("athens_cache_lookups", "Look-ups in all caches.", ("cache", "result"))
        self._athens_fetches = CounterSeries(
            "proxy_upstream_fetch", "Number of fetches from upstream.", ("fetch_result",)
        )
        self._athens_fetch_seconds = HistogramSeries(
            "proxy_upstream_fetch_duration_seconds", "Time of fetches from upstream.", ("fetch_result",), _FETCH_SECONDS
        )
        self._fetches = CounterSeries("athens_fetches", "Fetches, by how and with what result.", ("kind", "result"))
        self._fetch_seconds = HistogramSeries(
            "athens_fetch_duration_seconds", "Time of fetches.", ("kind",), _FETCH_SECONDS
        )
        self._listings = CounterSeries(
            "athens_listings", "Version lists asked from where the modules come from.", ("kind", "result")
        )
        self._listing_seconds = HistogramSeries(
            "athens_listing_duration_seconds", "Time of getting version lists.", ("kind",), _FETCH_SECONDS
        )
        self._operations = CounterSeries("athens_storage_operations", "Storage operations.", ("operation", "result"))
        self._operation_seconds = HistogramSeries(
            "athens_storage_operation_duration_seconds",
            "Time of storage operations; of a zip, the time until it is open.",
            ("operation",),
            _STORAGE_SECONDS,
        )
        for collector in (
            self._requests,
            self._athens_lookups,
            self._lookups,
            self._athens_fetches,
            self._athens_fetch_seconds,
            self._fetches,
            self._fetch_seconds,
            self._listings,
            self._listing_seconds,
            self._operations,
            self._operation_seconds,
            _TargetInfo(),
        ):
            self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float, bytes: int, received: int = 0) -> None:
        """
        Count a request that has been answered.

        @param method: as it came; one that nobody knows is counted as C{other}.
        @param route: one of our own names for routes, never a path.
        @param bytes: size of the body that was sent.
        @param received: size of the body that came with the request.
        """
        self._requests.request(method, route, status, seconds, bytes, received)

    def cache_lookup(self, kind: str, hit: bool) -> None:
        """
        Count a look into a cache, or into storage.

        @param kind: C{info}, C{mod} or C{zip} for storage, which Athens counts too; a name of ours for any other cache.
        """
        result = "hit" if hit else "miss"
        known = _ATHENS_CACHES.get(kind)
        if known is not None:
            self._athens_lookups.count(result, known)
        self._lookups.count(self._cache(kind), result)

    def fetch(self, kind: str, result: str, seconds: float) -> None:
        """
        Count a fetch that has ended.

        @param kind: C{go} or C{upstream}.
        @param result: as L{outcome} gives it.
        """
        athens = SUCCESS if result == SUCCESS else "failure"
        self._athens_fetches.count(athens)
        self._athens_fetch_seconds.child(athens).observe(seconds)
        kind = self._kind(kind)
        self._fetches.count(kind, self._result(result))
        self._fetch_seconds.child(kind).observe(seconds)

    def listing(self, kind: str, result: str, seconds: float) -> None:
        """Count a version list that was asked for; parameters as in L{fetch}."""
        kind = self._kind(kind)
        self._listings.count(kind, self._result(result))
        self._listing_seconds.child(kind).observe(seconds)

    def storage_operation(self, operation: str, result: str, seconds: float) -> None:
        """
        Count an operation of the storage.

        @param operation: the method of C{IStorage}.
        @param result: as L{outcome} gives it.
        """
        operation = self._operation(operation)
        self._operations.count(operation, self._result(result))
        self._operation_seconds.child(operation).observe(seconds)

    def gauge(self, name: str, documentation: str, function: Callable[[], float]) -> None:
        """
        Show a number that somebody else knows.

        @param function: called when the metrics are asked for; must be quick. Where it raises the gauge is left out.
        @raise ValueError: the name is taken, or is none.
        """
        self.registry.register(Reading(name, documentation, function))

    def histogram(self, name: str, documentation: str, bounds: tuple[float, ...]) -> Callable[[float], None]:
        """
        Show how the values of something are spread.

        @param bounds: of the buckets, ascending.
        @return: to be called with each value.
        @raise ValueError: the name is taken, or is none.
        """
        series = HistogramSeries(name, documentation, (), bounds)
        self.registry.register(series)
        return series.child().observe

    def render(self) -> tuple[str, bytes]:
        """@return: content type and body of the answer at C{/metrics}."""
        return CONTENT_TYPE, generate_latest(self.registry)
