"""
The numbers at C{/metrics}: those of Athens under their names, ours as C{athens_...}, those of the process.

Fed from the reactor's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError

from athens_tx.errors import AthensError
from athens_tx.observe.requests import RequestSeries
from athens_tx.observe.series import Bounded, CounterSeries, Flags, HistogramSeries, Reading

#: As Athens has it; the names are of the old kind, so that nothing is escaped in truth.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"

_FETCH_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_LOCK_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)
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


class _Timed:
    """Operations of one sort: how many, by kind and result, and how long they took, by kind."""

    def __init__(
        self, registry: CollectorRegistry, name: str, what: str, label: str, bounds: Sequence[float], *, plural: str
    ) -> None:
        self._kind, self._result = Bounded(), Bounded()
        self._count = CounterSeries(plural, f"{what}, by result.", (label, "result"))
        self._seconds = HistogramSeries(f"{name}_duration_seconds", f"Time of: {what}.", (label,), bounds)
        registry.register(self._count)
        registry.register(self._seconds)

    def ended(self, kind: str, result: str, seconds: float) -> None:
        """Count one."""
        kind = self._kind(kind)
        self._count.count(kind, self._result(result))
        self._seconds.child(kind).observe(seconds)


class Metrics:
    """All that is counted, on a registry of its own."""

    def __init__(self, *, scheme: str = "http") -> None:
        """@param scheme: C{https} where the daemon itself speaks TLS."""
        self.registry = registry = CollectorRegistry(auto_describe=True)
        self._requests = RequestSeries(scheme)
        self._cache = Bounded()
        self._athens_lookups = CounterSeries(
            "proxy_cache_lookup", "Look-ups in storage.", ("cache_result", "cache_type")
        )
        self._lookups = CounterSeries("athens_cache_lookups", "Look-ups in all caches.", ("cache", "result"))
        self._athens_fetches = CounterSeries("proxy_upstream_fetch", "Fetches from upstream.", ("fetch_result",))
        self._athens_fetch_seconds = HistogramSeries(
            "proxy_upstream_fetch_duration_seconds", "Time of fetches from upstream.", ("fetch_result",), _FETCH_SECONDS
        )
        for collector in (
            self._requests,
            self._athens_lookups,
            self._lookups,
            self._athens_fetches,
            self._athens_fetch_seconds,
            _TargetInfo(),
        ):
            registry.register(collector)
        what = "Fetches"
        self._fetches = _Timed(registry, "athens_fetch", what, "kind", _FETCH_SECONDS, plural="athens_fetches")
        what = "Version lists asked from where the modules come from"
        self._listings = _Timed(registry, "athens_listing", what, "kind", _FETCH_SECONDS, plural="athens_listings")
        what = "Storage operations (of a zip, until it is open)"
        name = "athens_storage_operation"
        self._operations = _Timed(registry, name, what, "operation", _STORAGE_SECONDS, plural=f"{name}s")
        name, what = "athens_lock_wait", "Waits for the lock of a version"
        self._lock_waits = _Timed(registry, name, what, "lock", _LOCK_SECONDS, plural=f"{name}s")
        self._locks_lost = CounterSeries("athens_locks_lost", "Locks that were lost while they were held.", ("lock",))
        registry.register(self._locks_lost)
        what = "Whether this part did not work when it was last asked, so that the daemon does without."
        self._degraded = Flags("athens_degraded", what, "part")
        registry.register(self._degraded)
        for of_the_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_the_process(registry=registry)

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
        self._fetches.ended(kind, result, seconds)

    def listing(self, kind: str, result: str, seconds: float) -> None:
        """Count a version list that was asked for; parameters as in L{fetch}."""
        self._listings.ended(kind, result, seconds)

    def storage_operation(self, operation: str, result: str, seconds: float) -> None:
        """
        Count an operation of the storage.

        @param operation: the method of C{IStorage}.
        @param result: as L{outcome} gives it.
        """
        self._operations.ended(operation, result, seconds)

    def lock_wait(self, kind: str, result: str, seconds: float) -> None:
        """
        Count a wait for a lock that has ended.

        @param kind: the C{SingleFlightType}.
        @param result: C{held}, C{stored} (somebody else was done), C{unlocked} (the service is away), C{gave_up}
            or C{left} (nobody wanted it any more).
        """
        self._lock_waits.ended(kind, result, seconds)

    def lock_lost(self, kind: str) -> None:
        """Count a lock that was lost while it was held."""
        self._locks_lost.count(kind)

    def degraded(self, part: str, function: Callable[[], object]) -> None:
        """
        Show whether the daemon does without a part.

        @param function: tells whether; must be quick.
        """
        self._degraded.show(part, function)

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
