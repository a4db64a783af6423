"""What jobs in a notebook cost: a real kernel, whose messages are counted as a browser would get them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from jupyter_client.manager import start_new_kernel

from hpcjobs import Client
from tests.benchmarks.bench import Bench
from tests.benchmarks.cancels import Gone, pid_of
from tests.benchmarks.figures import Figure, percentile, spread
from tests.running import Service, until

CLIENT = "from hpcjobs import Client\nclient = Client()"
CPU = "import time; print(time.process_time())"


class Kernel:
    """A kernel, and how many bytes it has published.

    Args:
        client: A started client of it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.bytes = self.messages = 0
        self._idle: dict[str, threading.Event] = {}
        self._said: dict[str, list[str]] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended:
            with contextlib.suppress(Exception):  # nothing came
                message = self._client.get_iopub_msg(timeout=0.2)
                content = message["content"]
                self.messages += 1
                self.bytes += len(json.dumps(content, default=str))
                parent = message["parent_header"].get("msg_id", "")
                if message["msg_type"] == "stream":
                    self._said.setdefault(parent, []).append(content["text"])
                if message["msg_type"] == "error":
                    self._said.setdefault(parent, []).append("\n".join(content["traceback"]))
                if message["msg_type"] == "status" and content["execution_state"] == "idle":
                    self._idle.setdefault(parent, threading.Event()).set()

    def run(self, code: str, timeout: float = 120) -> str:
        """Run a cell; what it printed."""
        number = self._client.execute(code)
        assert self._idle.setdefault(number, threading.Event()).wait(timeout), code
        return "".join(self._said.get(number, []))

    def end(self) -> None:
        self._ended = True
        self._thread.join()


@contextlib.contextmanager
def kernel(service: Service) -> Iterator[Kernel]:
    environ = {**os.environ, **service.environ()}
    manager, client = start_new_kernel(kernel_name="python3", env=environ)
    found = Kernel(client)
    try:
        found.run(CLIENT)
        yield found
    finally:
        found.end()
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def quiet_cards(bench: Bench, count: int, seconds: float) -> tuple[float, float]:
    """The share of a core that a kernel needs with so many cards of jobs that run and say nothing; bytes a second."""
    with bench.service(workers=1, cores=count) as service, service.client() as client:
        jobs = client.submit_many([{"command": "echo begun; exec sleep 600", "grace": 1}] * count)
        until(lambda: all(job.state == "RUNNING" for job in client.jobs()), timeout=120)
        with kernel(service) as at:
            at.run("for job in client.jobs(): display(job)")
            time.sleep(20)  # every log was read, and is read less and less often
            before, sent = float(at.run(CPU)), at.bytes
            time.sleep(seconds)
            used, told = float(at.run(CPU)) - before, at.bytes - sent
        client.cancel_many(jobs)
        return used / seconds, told / seconds


def busy_table(bench: Bench, count: int, seconds: float) -> tuple[float, float]:
    """Bytes a second of a table whose jobs all change all the time, and changes a second."""
    with bench.service(workers=0) as service, service.client() as client:
        array = client.submit_array(["true"], array=count)
        with kernel(service) as at:
            at.run(f"client.array({array.id!r})")
            time.sleep(2)
            sent, changes, began = at.bytes, 0, time.monotonic()
            while time.monotonic() - began < seconds:
                client.cancel(array.id)
                client.retry_many([array.id])
                changes += 2 * count
            took = time.monotonic() - began
            return (at.bytes - sent) / took, changes / took


def click(client: Client, at: Kernel) -> float:
    """Seconds from the click on a card to the end of the job's process."""
    job = client.submit("echo $$; exec sleep 600")
    gone = Gone(pid_of(job))
    gone.start()
    at.run(
        f"from hpcjobs.notebook.card import show_card\njob = client.job({job.id!r})\ncard = show_card(job._session, job.info)"
    )
    start = time.perf_counter()
    at.run("card._yes.click()")
    gone.join(60)
    assert gone.at is not None, "the job did not end"
    return gone.at - start


def run(bench: Bench) -> list[Figure]:
    cards, jobs = bench.rounds(100, 10), bench.rounds(1000, 50)
    seconds, clicks = bench.rounds(30, 3), bench.rounds(50, 5)
    bench.say(f"{cards} cards, {seconds} s")
    share, quiet = quiet_cards(bench, cards, seconds)
    bench.say(f"a table of {jobs} jobs, {seconds} s")
    told, changes = busy_table(bench, jobs, seconds)
    bench.say(f"{clicks} clicks")
    with bench.service(workers=1, cores=2) as service, service.client() as client, kernel(service) as at:
        found = [click(client, at) for _ in range(clicks)]
    return [
        Figure(
            "cards",
            f"CPU of a kernel with {cards} open cards of jobs that run and say nothing, of one core",
            share * 100,
            "%",
            None,
            f"{quiet / 1e3:.1f} kB/s, for the seconds that go by",
        ),
        Figure(
            "cards",
            f"what a table of {jobs:,} jobs sends a second while all of them change",
            told / 1e3,
            "kB",
            None,
            f"{changes:,.0f} changes of a job in a second",
        ),
        Figure(
            "cards",
            "from the click on a card to the end of the job's process, p50",
            percentile(found, 50) * 1e3,
            "ms",
            None,
            spread(found),
        ),
    ]
