"""From the submit to the job's first action, on an idle server."""

from __future__ import annotations

import subprocess
import time

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, percentile, spread

FIRST_ACTION = ["date", "+%s.%N"]


def bare() -> float:
    """Seconds from the call to the first action of a process that is started here."""
    start = time.time()
    said = subprocess.run(FIRST_ACTION, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    return float(said) - start


def run(bench: Bench) -> list[Figure]:
    times = bench.rounds(200, 10)
    called: list[float] = []
    acted: list[float] = []
    claimed: list[float] = []
    floor: list[float] = []
    with bench.service(workers=1, cores=2) as service, service.client() as client:
        bench.say(f"{times} jobs, one after the other")
        for number in range(times + 3):
            floor.append(bare())
            start = time.time()
            job = client.submit(FIRST_ACTION)
            answered = time.time()
            info = job.wait(60, progress=False)
            if number < 3:
                continue  # the first ones open connections
            assert info.created_at is not None
            assert info.started_at is not None
            acted.append(float(job.logs()) - start)
            called.append(answered - start)
            claimed.append((info.started_at - info.created_at).total_seconds())
    return [
        Figure(
            "starts",
            "from the call of `submit` to the first action of the job's own process, p50",
            percentile(acted, 50) * 1e3,
            "ms",
            Goal(50),
            spread(acted),
        ),
        Figure(
            "starts",
            "from `created_at` to `started_at`, by the server's clock, p50",
            percentile(claimed, 50) * 1e3,
            "ms",
            Goal(50),
            spread(claimed),
        ),
        Figure("starts", "the call of `submit` itself, p50", percentile(called, 50) * 1e3, "ms", None, spread(called)),
        Figure(
            "starts",
            "for comparison: the first action of a process that is started by hand, p50",
            percentile(floor, 50) * 1e3,
            "ms",
            None,
            spread(floor),
        ),
    ]
