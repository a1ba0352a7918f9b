"""The bounded cache."""

import pytest
from twisted.internet.task import Clock

from athens_tx.cache.expiring import ExpiringCache


def test_an_entry_is_good_until_its_time_is_up() -> None:
    clock = Clock()
    cache: ExpiringCache[str, int] = ExpiringCache(clock, 10.0, 100)
    cache.put("a", 1, 1)
    clock.advance(9.9)
    assert cache.get("a") == 1
    clock.advance(0.1)
    assert cache.get("a") is None
    assert len(cache) == 0


def test_the_least_recently_used_goes_first() -> None:
    cache: ExpiringCache[str, int] = ExpiringCache(Clock(), 10.0, 3)
    for key in "abc":
        cache.put(key, 1, 1)
    cache.get("a")
    cache.put("d", 1, 1)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_putting_again_does_not_count_twice() -> None:
    cache: ExpiringCache[str, int] = ExpiringCache(Clock(), 10.0, 3)
    for value in range(10):
        cache.put("a", value, 2)
    cache.put("b", 1, 1)
    assert (cache.get("a"), cache.get("b")) == (9, 1)


@pytest.mark.parametrize(("ttl", "size"), [(0.0, 1), (10.0, 4)])
def test_nothing_is_kept_without_time_or_room(ttl: float, size: int) -> None:
    cache: ExpiringCache[str, int] = ExpiringCache(Clock(), ttl, 3)
    cache.put("a", 1, size)
    assert cache.get("a") is None
