"""What is counted, under which names, and that no client can make up new series."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import CancelledError

from athens_tx.errors import FetchTimeout, NotFound, RepositoryGone
from athens_tx.observe.metrics import CONTENT_TYPE, Metrics, outcome
from athens_tx.observe.series import OTHER, VALUES_LIMIT, Bounded, CounterSeries, Distribution


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Everything that a scraper reads, by name and labels."""
    _, body = metrics.render()
    families = text_string_to_metric_families(body.decode())
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def test_the_content_type_is_that_of_athens():
    content_type, body = Metrics().render()
    assert content_type == CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    assert body.endswith(b"\n")


def test_a_request_is_counted_by_route_method_and_status():
    metrics = Metrics()
    metrics.request("GET", "info", 200, 0.002, 63)
    metrics.request("GET", "info", 200, 0.2, 63)
    metrics.request("GET", "info", 404, 0.1, 0)
    ours = {"route": "info", "method": "GET", "status": "200"}
    assert value(metrics, "athens_http_requests_total", **ours) == 2
    name = "athens_http_request_duration_seconds"
    assert value(metrics, f"{name}_count", **ours) == 2
    assert value(metrics, f"{name}_sum", **ours) == pytest.approx(0.202)
    assert [value(metrics, f"{name}_bucket", le=le, **ours) for le in ("0.001", "0.0025", "0.1", "0.25", "+Inf")] == [
        0,
        1,
        1,
        2,
        2,
    ]


def test_athens_series_are_the_sums_over_our_routes():
    metrics = Metrics(scheme="https")
    metrics.request("GET", "info", 200, 0.002, 63)
    metrics.request("GET", "zip", 200, 0.2, 20000, received=7)
    labels = {
        "http_request_method": "GET",
        "http_response_status_code": "200",
        "network_protocol_name": "http",
        "url_scheme": "https",
    }
    assert value(metrics, "proxy_http_server_request_duration_count", **labels) == 2
    assert value(metrics, "proxy_http_server_request_duration_bucket", le="0.005", **labels) == 1
    assert value(metrics, "proxy_http_server_response_body_size_sum", **labels) == 20063
    assert value(metrics, "proxy_http_server_response_body_size_bucket", le="75", **labels) == 1
    assert value(metrics, "proxy_http_server_request_body_size_bucket", le="0", **labels) == 1
    assert value(metrics, "proxy_http_server_request_body_size_sum", **labels) == 7


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        (
            "proxy_http_server_request_duration",
            "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10",
        ),
        (
            "proxy_http_server_response_body_size",
            "0 5 10 25 50 75 100 250 500 750 1000 2500 5000 7500 10000",
        ),
        ("proxy_upstream_fetch_duration_seconds", "0.05 0.1 0.2 0.5 1 2 5 10 30"),
    ],
)
def test_the_bounds_of_athens_are_kept(name, bounds):
    metrics = Metrics()
    metrics.request("GET", "info", 200, 0.1, 1)
    metrics.fetch("go", "success", 0.1)
    found = {dict(labels)["le"] for each, labels in samples(metrics) if each == f"{name}_bucket"}
    assert set(bounds.split()) <= found


def test_what_a_client_sends_makes_no_new_series():
    metrics = Metrics()
    for number in range(1000):
        metrics.request(f"M{number}", "info", 200, 0.1, 1)
        metrics.request("GET", "info", number + 600, 0.1, 1)
        metrics.request("GET", f"route{number}", 200, 0.1, 1)
        metrics.cache_lookup(f"cache{number}", True)
        metrics.fetch(f"kind{number}", f"result{number}", 0.1)
        metrics.listing(f"kind{number}", f"result{number}", 0.1)
        metrics.storage_operation(f"operation{number}", f"result{number}", 0.1)
    assert len(samples(metrics)) < 30 * VALUES_LIMIT + 15000
    assert value(metrics, "athens_http_requests_total", route="info", method=OTHER, status="200") == 1000
    assert value(metrics, "athens_http_requests_total", route="info", method="GET", status=OTHER) == 1000
    before = len(samples(metrics))
    for number in range(1000, 1100):
        metrics.request(f"M{number}", f"route{number}", number, 0.1, 1)
        metrics.fetch(f"kind{number}", f"result{number}", 0.1)
    assert len(samples(metrics)) - before < 200


def test_lookups_have_the_names_of_athens_and_ours():
    metrics = Metrics()
    metrics.cache_lookup("mod", True)
    metrics.cache_lookup("zip", False)
    metrics.cache_lookup("list", True)
    assert value(metrics, "proxy_cache_lookup_total", cache_result="hit", cache_type="gomod") == 1
    assert value(metrics, "proxy_cache_lookup_total", cache_result="miss", cache_type="zip") == 1
    assert value(metrics, "proxy_cache_lookup_total", cache_result="hit", cache_type="list") is None
    assert value(metrics, "athens_cache_lookups_total", cache="mod", result="hit") == 1
    assert value(metrics, "athens_cache_lookups_total", cache="list", result="hit") == 1


def test_fetches_are_counted_by_kind_and_result():
    metrics = Metrics()
    metrics.fetch("go", "success", 1.0)
    metrics.fetch("upstream", "NotFound", 0.1)
    assert value(metrics, "proxy_upstream_fetch_total", fetch_result="success") == 1
    assert value(metrics, "proxy_upstream_fetch_total", fetch_result="failure") == 1
    assert value(metrics, "proxy_upstream_fetch_duration_seconds_sum", fetch_result="success") == 1.0
    assert value(metrics, "athens_fetches_total", kind="upstream", result="NotFound") == 1
    assert value(metrics, "athens_fetch_duration_seconds_sum", kind="go") == 1.0


def test_listings_are_not_fetches():
    metrics = Metrics()
    metrics.listing("go", "success", 0.3)
    assert value(metrics, "athens_listings_total", kind="go", result="success") == 1
    assert value(metrics, "athens_listing_duration_seconds_count", kind="go") == 1
    assert value(metrics, "proxy_upstream_fetch_total", fetch_result="success") is None


def test_a_gauge_is_read_when_it_is_asked_for_and_one_that_fails_harms_no_other():
    metrics, numbers = Metrics(), [1]
    metrics.gauge("athens_fetches_running", "Fetches under way.", lambda: numbers[0])
    metrics.gauge("athens_broken", "Can't be read.", lambda: 1 / 0)
    assert value(metrics, "athens_fetches_running") == 1
    numbers[0] = 2
    assert value(metrics, "athens_fetches_running") == 2
    assert value(metrics, "athens_broken") is None


def test_a_name_is_given_once():
    metrics = Metrics()
    metrics.gauge("athens_x", "x", lambda: 1)
    with pytest.raises(ValueError, match="athens_x"):
        metrics.gauge("athens_x", "x", lambda: 2)
    with pytest.raises(ValueError, match="proxy_cache_lookup"):
        metrics.gauge("proxy_cache_lookup_total", "x", lambda: 2)


def test_a_histogram_of_ones_own():
    metrics = Metrics()
    observe = metrics.histogram("athens_lag_seconds", "Lag.", (0.1, 1))
    observe(0.5)
    assert value(metrics, "athens_lag_seconds_bucket", le="0.1") == 0
    assert value(metrics, "athens_lag_seconds_bucket", le="1") == 1


def test_the_process_and_the_program_are_shown():
    found = {name for name, _ in samples(Metrics())}
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "python_info"} <= found
    assert value(Metrics(), "target_info", service_name="proxy") == 1
    assert not {name for name in found if name.endswith("_created")}


def test_two_registries_do_not_know_of_each_other():
    first, second = Metrics(), Metrics()
    first.cache_lookup("info", True)
    assert value(second, "proxy_cache_lookup_total", cache_result="hit", cache_type="info") is None


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (None, "success"),
        (NotFound("x"), "NotFound"),
        (RepositoryGone("x"), "RepositoryGone"),
        (FetchTimeout("x"), "FetchTimeout"),
        (CancelledError(), "cancelled"),
        (OSError(), "error"),
    ],
)
def test_an_outcome_is_one_of_a_few_names(error, name):
    assert outcome(error) == name


def test_a_value_on_a_bound_belongs_below_it():
    spread = Distribution((1.0, 2.0))
    for each in (0.5, 1.0, 1.5, 2.0, 3.0):
        spread.observe(each)
    assert spread.buckets() == [("1", 2), ("2", 4), ("+Inf", 5)]
    assert spread.sum == 8.0


def test_a_label_takes_a_few_values_and_then_no_more():
    label = Bounded(["a"])
    given = [label(str(number)) for number in range(2 * VALUES_LIMIT)]
    assert given.count(OTHER) == VALUES_LIMIT + 1
    assert (label("a"), label("0")) == ("a", "0")
    assert Bounded(["a"], closed=True)("b") == OTHER


def test_a_label_value_can_not_break_the_page():
    series = CounterSeries("athens_odd", "Odd.", ("x",))
    series.count('"} 1\nfake_total 7')
    metrics = Metrics()
    metrics.registry.register(series)
    assert value(metrics, "athens_odd_total", x='"} 1\nfake_total 7') == 1
    assert value(metrics, "fake_total") is None


def test_counting_a_request_costs_next_to_nothing():
    metrics = Metrics()
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            metrics.request("GET", "info", 200, 0.001, 63)
        best = min(best, (time.perf_counter() - began) / 2000)
    assert best < 10e-6
