"""Procrastinate, which carries the tickets: one for each attempt that a job is to make.

A ticket is a hint, never the truth: the claim in :mod:`hpcjobs_server.store` is guarded by the job's state and attempt,
so that a stale or doubled ticket does nothing, and :meth:`hpcjobs_server.store.Store.sweep` issues a missing one again.
Nothing here relies on Procrastinate's own abort, retry or recovery.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import procrastinate
import psycopg_pool

TASK = "hpcjobs.run"
HOUSEKEEPING_QUEUE = "hpcjobs.housekeeping"

TICKETS = f"""
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(t.queue, '{TASK}', t.priority, NULL, t.id || ':' || t.attempt,
            jsonb_build_object('job', t.id, 'attempt', t.attempt, 'cores', t.cores, 'queue', t.queue),
            t.not_before
        )::procrastinate_job_to_defer_v1 ORDER BY t.seq))
    FROM (SELECT id, attempt, cores, queue, priority, seq, start_at AS not_before FROM {{rows}}) t
    HAVING count(*) > 0
"""
"""Defers a ticket for each row of ``rows`` by Procrastinate's own SQL function, so that the tickets are written in the
same statement, and the same transaction, as the rows themselves. ``queueing_lock`` is ``JOB:ATTEMPT``."""

Take = Callable[[str, int, int, str], Awaitable[None]]
"""What a worker does with a ticket: job id, attempt, cores, queue."""


def make_app(take: Take) -> procrastinate.App:
    """A Procrastinate app for one worker.

    Args:
        take: Called for each ticket. What it raises is only logged, and the ticket is issued again by a sweep.
    """
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())

    @app.task(name=TASK)
    async def run(job: str, attempt: int, cores: int, queue: str) -> None:
        await take(job, attempt, cores, queue)

    # Without a periodic task Procrastinate's supervision of its own side tasks ends at once, and a worker that lost its
    # LISTEN in an outage of Postgres stays deaf (procrastinate-org/procrastinate#1597).
    @app.periodic(cron="0 0 1 1 *")
    @app.task(name="hpcjobs.housekeeping", queue=HOUSEKEEPING_QUEUE, pass_context=False)
    async def housekeeping(timestamp: int) -> None:
        del timestamp

    return app


async def serve_tickets(
    app: procrastinate.App,
    pool: psycopg_pool.AsyncConnectionPool[Any],
    *,
    queues: Iterable[str],
    concurrency: int,
    listen: bool,
    poll: float,
) -> None:
    """Take tickets until cancelled; returns early where Procrastinate gave up (the caller starts it again)."""
    wanted = list(queues)
    async with app.open_async(pool):
        await app.run_worker_async(
            # the stub says that None is not allowed, the documentation that it stands for every queue
            queues=[*wanted, HOUSEKEEPING_QUEUE] if wanted else None,  # type: ignore[arg-type]
            concurrency=concurrency,
            wait=True,
            fetch_job_polling_interval=poll,
            listen_notify=listen,
            delete_jobs="always",
            install_signal_handlers=False,
        )
