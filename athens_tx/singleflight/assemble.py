"""The single flight over a lock service, for some settings: with its slots, and with its metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from athens_tx.config import Config
from athens_tx.fetch.pool import Pool
from athens_tx.interfaces import ILocks
from athens_tx.module.version import ModuleVersion
from athens_tx.observe.metrics import Metrics
from athens_tx.singleflight.locked import LockedSingleFlight
from athens_tx.singleflight.turns import Slots


def across_processes(
    reactor: Any,
    locks: ILocks,
    config: Config,
    exists: Callable[[ModuleVersion], Awaitable[bool]],
    metrics: Metrics | None,
) -> tuple[LockedSingleFlight, Pool]:
    """
    @param exists: whether a version is stored.
    @return: the flight, and the pool in which its versions wait: as many hold a lock as may be fetched at once.
    """
    pool = Pool(config.go_get_workers, config.fetch_queue_limit)
    slots = Slots(pool.slot, lambda: pool.in_flight >= pool.limit)
    if metrics is None:
        flight = LockedSingleFlight(reactor, locks, exists=exists, limit=config.stash_timeout, slots=slots)
        return flight, pool
    kind = config.single_flight_type
    flight = LockedSingleFlight(
        reactor,
        locks,
        exists=exists,
        limit=config.stash_timeout,
        slots=slots,
        waited=partial(metrics.lock_wait, kind),
        lost=partial(metrics.lock_lost, kind),
    )
    metrics.gauge("athens_locks_held", "Locks of versions that are held.", lambda: flight.held)
    metrics.gauge("athens_locks_waiting", "Locks of versions that are waited for.", lambda: flight.waiting)
    metrics.degraded("lock", lambda: flight.away)
    return flight, pool
