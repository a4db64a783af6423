"""What a million jobs in the table cost: list, claim, cancel and submit, against ten thousand."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
import uuid
from collections.abc import Callable, Iterator

from hpcjobs.models import JobFilter, Scope
from hpcjobs_server.store import Work
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal
from tests.benchmarks.filled import fill
from tests.benchmarks.plans import plans_of, write_plans
from tests.running import Service

_TICKET = "SELECT args FROM procrastinate_fetch_job_v2(NULL, NULL)"


class Table:
    """A service with so many jobs in its table, and one owner's client of it."""

    def __init__(self, service: Service, jobs: int) -> None:
        self.service, self.jobs = service, jobs
        fill(service.settings.database_url, jobs)
        token = service.make_token("owner-0", scope=Scope.WRITE.value).token
        self.client = service.client(token)
        self.everybodys = service.client()
        self.loop = asyncio.new_event_loop()
        self.work = Work(service.settings.database_url)
        self.loop.run_until_complete(self.work.open())
        self._worker = uuid.uuid4()
        self._submitted: list[str] = []
        self.middle = self.loop.run_until_complete(self._cursor())

    def close(self) -> None:
        """Close the connections."""
        self.loop.run_until_complete(self.work.close())
        self.loop.close()
        self.client.close()
        self.everybodys.close()

    async def _cursor(self) -> str:
        from hpcjobs_server.store.rows import encode_cursor

        rows = await self.work.all("SELECT max(seq) / 2 AS middle FROM jobs")
        return encode_cursor(rows[0]["middle"])

    def submit(self) -> None:
        self._submitted.append(self.client.submit(["true"], name="new").id)

    def cancel(self) -> None:
        self.client.cancel(self._submitted.pop())

    def claim(self) -> None:
        """What a worker does for one job: fetch a ticket, make the attempt its own."""

        async def main() -> None:
            claim = None
            while claim is None:  # the tickets of jobs that were cancelled are hints that have gone stale
                [row] = await self.work.all(_TICKET)
                claim = await self.work.claim(row["args"]["job"], row["args"]["attempt"], self._worker)

        self.loop.run_until_complete(main())

    def page(self, *, cursor: str | None = None, limit: int = 100, **conditions: object) -> None:
        session = self.client._session
        session.run(session.service.page(JobFilter.parse(conditions), limit=limit, cursor=cursor))


WAYS: dict[str, tuple[str, Callable[[Table], None]]] = {
    "list": ("the newest 100 of an owner", lambda table: table.page()),
    "list, everybody's": ("the newest 100", lambda table: list(table.everybodys.jobs(limit=100)) and None),
    "list, deep": ("100 from the middle", lambda table: table.page(cursor=table.middle)),
    "list by state": ("the newest 100 that finished", lambda table: table.page(state="FINISHED")),
    "list by tag": ("the newest 100 with a tag that half of them have", lambda table: table.page(tag="night")),
    "list by name": ("the one of that name", lambda table: table.page(name="fit-4711")),
    "submit": ("one job", Table.submit),
    "cancel": ("a look, and the request", Table.cancel),
    "claim": ("a ticket, and the attempt, by the worker's own statements", Table.claim),
}


@contextlib.contextmanager
def tables(bench: Bench, *sizes: int) -> Iterator[list[Table]]:
    """A service for each size, at the same time."""
    with contextlib.ExitStack() as stack:
        made = []
        for size in sizes:
            service = stack.enter_context(bench.service(workers=0))
            bench.say(f"filling a table with {size:,} jobs")
            table = Table(service, size)
            stack.callback(table.close)
            made.append(table)
        yield made


def run(bench: Bench) -> list[Figure]:
    rounds = bench.rounds(90, 20)
    large, small = bench.rounds(1_000_000, 50_000), 10_000
    found: dict[str, dict[int, list[float]]] = {}
    with tables(bench, large, small) as both:
        bench.say(f"{rounds} rounds of {len(WAYS)} calls each")
        for number in range(rounds + 5):
            for what, (_, way) in WAYS.items():
                for table in both[:: -1 if number % 2 else 1]:
                    start = time.perf_counter()
                    way(table)
                    spent = time.perf_counter() - start
                    if number >= 5:  # the first ones open connections, and plan
                        found.setdefault(what, {}).setdefault(table.jobs, []).append(spent)
        if not bench.quick:
            write_plans(plans_of(both[0].service), large)
    middle = {what: {jobs: statistics.median(times) for jobs, times in ways.items()} for what, ways in found.items()}
    return [
        Figure(
            "scale",
            f"{what} ({WAYS[what][0]}): p50 with {large:,} jobs in the table against {small:,}",
            times[large] / times[small],
            "x",
            Goal(1.5),
            f"{times[large] * 1e3:.1f} ms against {times[small] * 1e3:.1f} ms (n={rounds})",
        )
        for what, times in middle.items()
    ]
