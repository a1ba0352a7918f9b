"""
What is known of the requests: how many, how long they took, how large they were.

One record for each route, method and status feeds our own series and those of Athens, which has no routes; its sums are
made when somebody asks, not at each request.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from athens_tx.observe.series import OTHER, Bounded, Distribution, histogram_family

# Athens' own bounds, so that its dashboards stay true, and below them ours: an answer from memory takes less.
_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    30,
    60,
    300,
)
_BYTES = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000, 1e5, 1e6, 1e7, 1e8)

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_LABELS = ("route", "method", "status")
_ATHENS_LABELS = ("http_request_method", "http_response_status_code", "network_protocol_name", "url_scheme")


class _Record:
    """What is known of one kind of request."""

    __slots__ = ("received", "seconds", "sent")

    def __init__(self) -> None:
        self.seconds, self.sent, self.received = Distribution(_SECONDS), Distribution(_BYTES), Distribution(_BYTES)


class RequestSeries(Collector):
    """Counts requests and gives them in two forms."""

    def __init__(self, scheme: str) -> None:
        """@param scheme: C{http} or C{https}: a label of Athens' series."""
        self._scheme = scheme
        self._records: dict[tuple[str, str, int], _Record] = {}
        self._kept: dict[tuple[str, str, str], _Record] = {}
        self._method = Bounded(_METHODS, closed=True)
        self._route = Bounded()

    def request(self, method: str, route: str, status: int, seconds: float, sent: int, received: int) -> None:
        """Count one request. All labels are bounded, whatever a client sends."""
        record = self._records.get((method, route, status))
        if record is None:
            record = self._record(method, route, status)
        record.seconds.observe(seconds)
        record.sent.observe(sent)
        record.received.observe(received)

    def _record(self, method: str, route: str, status: int) -> _Record:
        """Find or make the record of a combination that was not seen before, or that has no record of its own."""
        bounded = (self._route(route), self._method(method), str(status) if 100 <= status <= 599 else OTHER)
        record = self._kept.get(bounded)
        if record is None:
            record = self._kept[bounded] = _Record()
        if OTHER not in bounded:
            self._records[method, route, status] = record
        return record

    def collect(self) -> Iterable[Metric]:
        """@return: our families by route, then Athens' without."""
        total = CounterMetricFamily("athens_http_requests", "Requests answered.", labels=_LABELS)
        for labels, record in self._kept.items():
            total.add_metric(labels, float(sum(record.seconds.counts)))
        yield total
        seconds: dict[tuple[str, ...], Distribution] = {labels: record.seconds for labels, record in self._kept.items()}
        yield histogram_family("athens_http_request_duration_seconds", "Time to answer requests.", _LABELS, seconds)
        yield from self._athens()

    def _athens(self) -> Iterable[Metric]:
        sums: dict[tuple[str, ...], _Record] = {}
        for (_, method, status), record in self._kept.items():
            known = sums.setdefault((method, status, "http", self._scheme), _Record())
            known.seconds.add(record.seconds)
            known.sent.add(record.sent)
            known.received.add(record.received)
        for name, documentation, part in (
            ("proxy_http_server_request_duration", "Duration of HTTP server requests, in seconds.", "seconds"),
            ("proxy_http_server_request_body_size", "Size of HTTP server request bodies, in bytes.", "received"),
            ("proxy_http_server_response_body_size", "Size of HTTP server response bodies, in bytes.", "sent"),
        ):
            children: dict[tuple[str, ...], Distribution] = {labels: getattr(sums[labels], part) for labels in sums}
            yield histogram_family(name, documentation, _ATHENS_LABELS, children)
