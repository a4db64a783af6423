"""How many jobs a second one client submits over HTTP, against Procrastinate's own ``defer_async`` in process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import procrastinate
import psycopg
import psycopg_pool

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, Goal, interleaved, ratio, timed

if TYPE_CHECKING:
    from typing_extensions import Self


class Deferring:
    """Procrastinate in this process, on a database of its own on the same Postgres."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        self._address = address

        @self._app.task(name="bench.nothing")
        async def nothing(job: str, attempt: int) -> None:
            del job, attempt

        self._task = nothing

    def __enter__(self) -> Self:
        self._loop.run_until_complete(self._open())
        return self

    async def _open(self) -> None:
        self._pool = psycopg_pool.AsyncConnectionPool(self._address, min_size=1, max_size=4, open=False)
        await self._pool.open(wait=True)
        await self._app.open_async(self._pool)
        await self._app.schema_manager.apply_schema_async()

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        await self._app.close_async()
        await self._pool.close()

    def defer(self, times: int) -> float:
        """Seconds for each of ``times`` deferrals, one after the other."""

        async def main() -> None:
            for number in range(times):
                await self._task.defer_async(job=f"00000000-0000-0000-0000-{number:012d}", attempt=1)

        return timed(lambda: self._loop.run_until_complete(main())) / times

    def batch_defer(self, times: int) -> float:
        """Seconds for ``times`` deferrals in one call."""
        orders = [{"job": f"00000000-0000-0000-0000-{number:012d}", "attempt": 1} for number in range(times)]
        return timed(lambda: self._loop.run_until_complete(self._task.batch_defer_async(*orders)))

    def forget(self) -> None:
        """Remove everything that was deferred."""
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute("TRUNCATE procrastinate_jobs CASCADE")


def run(bench: Bench) -> list[Figure]:
    rounds, times = bench.rounds(30, 3), bench.rounds(50, 10)
    with (
        bench.service(workers=0) as service,
        service.client() as client,
        bench.database() as address,
        Deferring(address) as procrastinating,
    ):

        def submit() -> object:
            return client.submit(["true"])

        timed(submit, times)
        procrastinating.defer(times)
        bench.say(f"{rounds} rounds of {times} each")
        found = interleaved(
            rounds, ours=lambda: 1 / timed(submit, times), deferred=lambda: 1 / procrastinating.defer(times)
        )
    best = {name: max(values) for name, values in found.items()}
    return [
        Figure(
            "submits",
            "submits a second over HTTP, one by one, against Procrastinate's `defer_async` in process",
            ratio(found["ours"], found["deferred"]),
            "x",
            Goal(0.5, "at least"),
            f"{best['ours']:.0f}/s against {best['deferred']:.0f}/s in the best round",
        )
    ]
