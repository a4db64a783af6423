"""What one look at a job costs over raw httpx and pydantic."""

from __future__ import annotations

import time

import httpx

from hpcjobs.models import JobInfo
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, interleaved, ratio, timed


def run(bench: Bench) -> list[Figure]:
    rounds, times = bench.rounds(40, 4), bench.rounds(50, 10)
    headers: dict[str, str] = {}
    with bench.service(workers=0) as service, service.client() as client:
        job = client.submit("true", name="looked-at", tags=["bench"], meta={"a": 1})
        headers["Authorization"] = f"Bearer {service.token}"
        path = f"/v1/jobs/{job.id}"
        with httpx.Client(base_url=service.url, headers=headers, timeout=30) as http:

            def raw() -> JobInfo:
                return JobInfo.model_validate_json(http.get(path).raise_for_status().content)

            def ours() -> object:
                return job.refresh()

            for action in (raw, ours):
                timed(action, times)
            bench.say(f"{rounds} rounds of {times} calls each")
            wall = interleaved(rounds, ours=lambda: timed(ours, times), raw=lambda: timed(raw, times))
            cpu = interleaved(
                rounds,
                ours=lambda: timed(ours, times, clock=time.process_time),
                raw=lambda: timed(raw, times, clock=time.process_time),
            )
    best = {name: min(values) * 1e3 for name, values in wall.items()}
    busy = {name: min(values) * 1e3 for name, values in cpu.items()}
    return [
        Figure(
            "gets",
            "time of a `get` against raw httpx and `model_validate_json`",
            ratio(wall["ours"], wall["raw"]),
            "x",
            Goal(1.15),
            f"{best['ours']:.2f} ms against {best['raw']:.2f} ms in the best round",
        ),
        Figure(
            "gets",
            "the same, CPU of the client's process only",
            ratio(cpu["ours"], cpu["raw"]),
            "x",
            None,
            f"{busy['ours']:.2f} ms against {busy['raw']:.2f} ms in the best round",
        ),
    ]
