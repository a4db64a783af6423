"""How many jobs a second a worker runs, against a bare loop of ``subprocess`` of the same width."""

from __future__ import annotations

import concurrent.futures
import subprocess

from hpcjobs import Client
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, interleaved, ratio, timed
from tests.running import Service

WIDTH = 2
COMMAND = ["true"]


def worked(service: Service, client: Client, count: int) -> float:
    """Jobs a second of a worker that finds ``count`` jobs in the queue, by the server's clock."""
    jobs = [client.submit(COMMAND) for _ in range(count)]
    worker = service.start_worker()
    infos = client.wait(jobs, 300, progress=False)
    service.stop_worker(worker)
    assert all(info.state == "FINISHED" for info in infos)
    starts = [info.started_at for info in infos if info.started_at]
    ends = [info.finished_at for info in infos if info.finished_at]
    return count / (max(ends) - min(starts)).total_seconds()


def bare(count: int) -> float:
    """Processes a second of a bare loop."""

    def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(WIDTH) as pool:
            list(pool.map(lambda _: subprocess.run(COMMAND, check=True, stdin=subprocess.DEVNULL), range(count)))

    return count / timed(main)


def run(bench: Bench) -> list[Figure]:
    rounds, count = bench.rounds(5, 2), bench.rounds(400, 40)
    with bench.service(workers=0, cores=WIDTH) as service, service.client() as client:
        worked(service, client, 20)
        bench.say(f"{rounds} rounds of {count} jobs")
        found = interleaved(rounds, ours=lambda: worked(service, client, count), bare=lambda: bare(count))
    best = {name: max(values) for name, values in found.items()}
    return [
        Figure(
            "throughput",
            f"jobs a second of a worker with {WIDTH} cores, `true` each, against a bare subprocess loop of that width",
            ratio(found["ours"], found["bare"]),
            "x",
            None,
            f"{best['ours']:.0f}/s against {best['bare']:.0f}/s in the best round",
        )
    ]
