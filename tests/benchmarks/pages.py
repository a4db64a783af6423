"""What a page of a list costs: every order, first page and deep one, filters, counts, against ``SELECT 1``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hpcjobs.models import JobFilter
from hpcjobs_server.store import SORTS, Store
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, percentile, ratio
from tests.benchmarks.filled import fill

_OWNER = "owner-0"
_PAGE = 50
_SLOWEST = 100.0
"""Milliseconds that a look may take with so many jobs."""

_FILTERS: dict[str, dict[str, Any]] = {
    "state=FINISHED": {"state": "FINISHED"},
    "state=active": {"state": "active"},
    "a tag that a third have": {"tag": "night"},
    "a rare tag": {"tag": "sweep-4"},
    "name=fit-47*": {"name": "fit-47*"},
    "a queue": {"queue": "long"},
    "a queue without jobs": {"queue": "nothing"},
}

Look = Callable[[], Awaitable[object]]


async def _middle(store: Store, owner: str | None, sort: str) -> str | None:
    """A cursor half-way through the list."""
    counted = await store.count(owner, JobFilter())
    left, cursor = sum(counted.states.values()) // 2, None
    while left > 0:
        page = await store.list(owner, JobFilter(), limit=1000, cursor=cursor, sort=sort)
        cursor, left = page.next, left - 1000
    return cursor


async def _looks(store: Store) -> dict[str, list[Look]]:
    """What is measured, by what it is called; those of an order together."""
    looks: dict[str, list[Look]] = {}

    def listed(owner: str | None, sort: str, conditions: dict[str, Any], **place: str | None) -> Look:
        wanted = JobFilter.parse(conditions)
        return lambda: store.list(owner, wanted, limit=_PAGE, sort=sort, **place)  # type: ignore[arg-type]

    for sort in SORTS:
        first, deep = [], []
        for owner in (_OWNER, None):
            middle = await _middle(store, owner, sort)
            first.append(listed(owner, sort, {}))
            deep += [listed(owner, sort, {}, cursor=middle), listed(owner, sort, {}, before=middle)]
        looks[f"sort={sort}, first page"] = first
        looks[f"sort={sort}, from the middle, both ways"] = deep
    for name, conditions in _FILTERS.items():
        looks[f"{name}, in every order"] = [
            listed(owner, sort, conditions) for sort in SORTS for owner in (_OWNER, None)
        ]
    for name, conditions in {"all": {}, **_FILTERS}.items():
        wanted = JobFilter.parse(conditions)
        looks[f"counts of {name}"] = [
            lambda owner=owner, wanted=wanted: store.count(owner, wanted)  # type: ignore[misc]
            for owner in (_OWNER, None)
        ]
    return looks


async def _measure(address: str, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of each call, and of a ``SELECT 1`` beside it."""
    store = Store(address)
    await store.open()
    found: dict[str, tuple[list[float], list[float]]] = {}
    try:
        looks = await _looks(store)
        for number in range(rounds + 1):
            for what, calls in looks.items():
                for call in calls:
                    start = time.perf_counter()
                    await store.all("SELECT 1 AS x")
                    between = time.perf_counter()
                    await call()
                    end = time.perf_counter()
                    if number:  # the first ones find nothing in memory
                        ours, baseline = found.setdefault(what, ([], []))
                        ours.append(end - between)
                        baseline.append(between - start)
    finally:
        await store.close()
    return found


def run(bench: Bench) -> list[Figure]:
    rounds, jobs = bench.rounds(20, 3), bench.rounds(100_000, 10_000)
    from hpcjobs_server.migrate import migrate

    with bench.database() as address:
        migrate(address)
        bench.say(f"filling a table with {jobs:,} jobs")
        fill(address, jobs)
        bench.say(f"{rounds} rounds")
        found = asyncio.run(_measure(address, rounds))
    return [
        Figure(
            "pages",
            f"{what}: p95 with {jobs:,} jobs, of an owner and everybody's",
            percentile(ours, 95) * 1e3,
            "ms",
            Goal(_SLOWEST),
            f"{ratio(ours, baseline):.0f} times a `SELECT 1`; p50 {percentile(ours, 50) * 1e3:.1f} ms,"
            f" max {max(ours) * 1e3:.1f} ms (n={len(ours)})",
        )
        for what, (ours, baseline) in found.items()
    ]
