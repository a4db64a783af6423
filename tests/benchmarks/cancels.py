"""From the call of ``cancel`` to the moment when the job's process is gone."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time

from hpcjobs import Client, Job
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, percentile, spread
from tests.running import until

SLEEPER = "echo $$; exec sleep 600"


def pid_of(job: Job) -> int:
    """The process of a job that has said its number."""
    return int(until(lambda: job.logs() if job.logs().endswith("\n") else "", what="the job's first line"))


class Gone(threading.Thread):
    """Notes when a process ends, to the moment."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._file = os.pidfd_open(pid)
        self.at: float | None = None

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        if poll.poll(60_000):
            self.at = time.perf_counter()
        os.close(self._file)


def once(client: Client) -> tuple[float, float]:
    """Seconds until the process was gone, and until the call had returned."""
    job = client.submit(SLEEPER)
    gone = Gone(pid_of(job))
    gone.start()
    start = time.perf_counter()
    job.cancel(reason="measured")
    answered = time.perf_counter()
    gone.join(60)
    assert gone.at is not None, "the job did not end"
    assert job.wait(60, progress=False).state == "CANCELLED"
    return gone.at - start, answered - start


def bare() -> float:
    """Seconds from a signal to the end of a process that was started here."""
    with subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL) as process:
        gone = Gone(process.pid)
        gone.start()
        start = time.perf_counter()
        process.terminate()
        gone.join(60)
    assert gone.at is not None
    return gone.at - start


def run(bench: Bench) -> list[Figure]:
    times = bench.rounds(200, 10)
    with bench.service(workers=1, cores=2) as service, service.client() as client:
        bench.say(f"{times} jobs, one after the other")
        for _ in range(3):
            once(client)
        found = [(*once(client), bare()) for _ in range(times)]
    gone, answered, floor = ([row[column] for row in found] for column in range(3))
    return [
        Figure(
            "cancels",
            "from the call of `cancel` (precheck included) to the end of the job's process, p50",
            percentile(gone, 50) * 1e3,
            "ms",
            Goal(25),
            spread(gone),
        ),
        Figure("cancels", "the same, p99", percentile(gone, 99) * 1e3, "ms", Goal(100), f"n={len(gone)}"),
        Figure(
            "cancels", "the call of `cancel` itself, p50", percentile(answered, 50) * 1e3, "ms", None, spread(answered)
        ),
        Figure(
            "cancels",
            "for comparison: from SIGTERM by hand to the end of the process, p50",
            percentile(floor, 50) * 1e3,
            "ms",
            None,
            spread(floor),
        ),
    ]
