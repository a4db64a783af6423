"""What the server counts, for Prometheus. Each app has a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from hpcjobs._version import __version__
from hpcjobs.lifecycle import JobState
from hpcjobs_server.problems import DATABASE_AWAY

if TYPE_CHECKING:
    from hpcjobs_server.store import Store, WorkerInfo

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FRESH = 1.0
"""Seconds for which what the database said is shown again: anyone may ask, as often as they like."""
_SHARE = 20
"""And so many times as long as it took to say it: with millions of jobs they are not counted all the time."""


class Metrics:
    """Counts requests, and asks the store about jobs and workers when it is scraped.

    Args:
        store: Where jobs and workers are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh_until = float("-inf")
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "hpcjobs_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "hpcjobs_http_request_seconds",
            "Time to answer, without streams of events.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.streams = Gauge("hpcjobs_event_streams", "Streams of events that are open.", registry=self.registry)
        self._jobs = Gauge("hpcjobs_jobs", "Jobs in each state.", ["state"], registry=self.registry)
        self._workers = Gauge("hpcjobs_workers", "Workers that are alive.", registry=self.registry)
        self._cores = Gauge("hpcjobs_worker_cores", "Cores of the workers that are alive.", registry=self.registry)
        self._running = Gauge("hpcjobs_worker_jobs", "Jobs that the workers run.", registry=self.registry)
        self._up = Gauge("hpcjobs_database_up", "Whether the database answers.", registry=self.registry)
        Gauge("hpcjobs_build", "The version.", ["version"], registry=self.registry).labels(__version__).set(1)

    def answered(self, method: str, route: str, status: int, seconds: float, *, stream: bool = False) -> None:
        """Count a request.

        Args:
            method: The HTTP method.
            route: The route's template, never the path itself: labels must be few.
            status: The status of the answer; 0 where the client had gone before there was one.
            seconds: From the request's head to the answer's end.
            stream: Whether it was a stream, whose length says nothing of speed.
        """
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        if not stream:
            self._seconds.labels(method, route).observe(seconds)

    async def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        begun = time.monotonic()
        if begun > self._fresh_until:
            self._fresh_until = begun + _FRESH
            try:
                self._show(await self._store.counts(), await self._store.workers())
                self._up.set(1)
                self._fresh_until = max(self._fresh_until, begun + _SHARE * (time.monotonic() - begun))
            except DATABASE_AWAY:
                self._up.set(0)
        return generate_latest(self.registry)

    def _show(self, counts: Mapping[str, int], workers: Sequence[WorkerInfo]) -> None:
        for state in JobState:
            if state is not JobState.UNKNOWN:
                self._jobs.labels(state.value).set(counts.get(state.value, 0))
        self._workers.set(len(workers))
        self._cores.set(sum(worker.cores for worker in workers if worker.cluster is None))
        self._running.set(sum(worker.running for worker in workers))
