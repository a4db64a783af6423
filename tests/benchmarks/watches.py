"""What a client costs that watches thousands of jobs in which nothing happens."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal

# In a process of its own, so that nothing but the client is counted.
WATCHING = """
    import os, sys, threading, time
    from hpcjobs import Client

    settling, seconds = float(sys.argv[1]), float(sys.argv[2])
    with Client() as client:
        jobs = list(client.jobs())
        quiet = threading.Semaphore(0)

        def watch():
            for _ in client.watch(jobs):
                quiet.release()

        threading.Thread(target=watch, daemon=True).start()
        for _ in jobs:  # what is known is told at once
            quiet.acquire()
        time.sleep(settling)  # the first look at all of them is a part of the start
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(len(jobs), cpu / wall, quiet.acquire(blocking=False), flush=True)
        os._exit(0)
"""


def run(bench: Bench) -> list[Figure]:
    # Longer than the longest pause between two looks, so that at least one look at all jobs is within.
    count, seconds = bench.rounds(5000, 500), bench.rounds(72, 5)
    with bench.service(workers=0) as service, service.client() as client:
        client.submit_many([["true"]] * count)
        bench.say(f"{count} jobs, {seconds} s")
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(WATCHING), "5", str(seconds)],
            env=service.environ(),
            check=True,
            timeout=300,
            stdout=subprocess.PIPE,
            text=True,
        )
    told, share, news = done.stdout.split()
    assert (int(told), news) == (count, "False"), done.stdout
    return [
        Figure(
            "watches",
            f"CPU of a client that watches {count:,} quiet jobs, of one core",
            float(share) * 100,
            "%",
            Goal(2),
            f"{float(share) * seconds * 1e3:.0f} ms in {seconds} s, two looks at all of them included",
        )
    ]
