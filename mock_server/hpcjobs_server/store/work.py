"""The jobs as a worker sees them: claim, finish, heartbeat, sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from uuid import UUID

import psycopg
from pydantic import ValidationError

from hpcjobs.arrays import one_of
from hpcjobs.lifecycle import JobState
from hpcjobs.models import JobSpec, Progress
from hpcjobs_server.queue import TICKETS
from hpcjobs_server.store.base import Database, Row
from hpcjobs_server.store.rows import SPEC


@dataclasses.dataclass(frozen=True)
class Claim:
    """An attempt that a worker has made its own.

    Attributes:
        job_id: The job.
        attempt: Which of its attempts.
        owner: Whose it is.
        spec: What is asked; of a job of an array, already filled in.
        environ: What the job is told of itself beyond what every job is told.
        expires_at: When it is no longer to start.
        adopted: It was claimed before, by a worker that is gone: a cluster may have it already.
        cluster_job: The cluster's own id of it, where that was noted.
    """

    job_id: str
    attempt: int
    owner: str
    spec: JobSpec
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    expires_at: dt.datetime | None = None
    adopted: bool = False
    cluster_job: str | None = None


@dataclasses.dataclass(frozen=True)
class Moved:
    """Where an attempt that a cluster has is now.

    Attributes:
        job_id: The job.
        attempt: Which of its attempts.
        state: The state.
        reason: Why it is there, in words.
        cluster_job: The cluster's own id of it.
        started_at: When the cluster started it.
    """

    job_id: str
    attempt: int
    state: JobState
    reason: str | None = None
    cluster_job: str | None = None
    started_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Held:
    """An attempt that a worker holds, as the database sees it."""

    job_id: str
    attempt: int
    cancel_requested: bool
    cancel_reason: str | None
    actor: str
    abort: bool = True
    """Whether it is to stop if it has started, too."""


@dataclasses.dataclass(frozen=True)
class Finish:
    """How an attempt ended."""

    job_id: str
    attempt: int
    state: JobState
    reason: str | None = None
    exit_code: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    """Bytes."""
    own_error: bool = False
    """It ended by an error that it raised itself: FAILED, also where it had been asked to stop."""
    host: str | None = None
    """Where it ran, if that was not the worker's host."""


_CLAIMED = f"""
    j.attempt, j.owner, {SPEC} AS spec, j.array_id, j.array_index, j.item, j.expires_at, j.cluster_job,
    (SELECT a.size FROM arrays a WHERE a.id = j.array_id) AS array_size,
    (SELECT q.max_walltime FROM queues q WHERE q.name = j.queue) AS max_walltime
"""

# What a cluster is to run is still queued, only elsewhere.
_CLAIM = f"""
UPDATE jobs j SET attempt = attempt + 1, worker_id = %(worker)s, changed_at = now(),
    cluster = %(cluster)s, cluster_job = NULL, cancel_abort = true,
    started_at = CASE WHEN %(cluster)s::text IS NULL THEN now() END,
    state = CASE WHEN %(cluster)s::text IS NOT NULL THEN 'QUEUED' WHEN has_inputs THEN 'STAGING' ELSE 'RUNNING' END,
    start_at = NULL,
    reason = NULL, exit_code = NULL, finished_at = NULL, actor = 'worker', version = version + 1
WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id IS NULL
  AND (state = 'QUEUED' OR (state = 'PENDING' AND waiting_for = 0 AND start_at <= now()))
  AND (expires_at IS NULL OR expires_at > now())
  AND (j.queue = %(admitted)s OR NOT EXISTS (
      SELECT 1 FROM queues q WHERE q.name = j.queue AND (q.paused OR q.max_running IS NOT NULL)))
RETURNING {_CLAIMED}
"""

# A job that a cluster runs outlives its worker: the next one of its kind goes on watching the same attempt. Who comes
# back finds that it is another's, and leaves it alone. One that is not in the list of workers has left it on purpose.
_ADOPT = f"""
WITH left_behind AS (
    SELECT j.id FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
    WHERE j.worker_id IS NOT NULL AND j.cluster = %(cluster)s
      AND (%(queues)s::text[] = '{{}}' OR j.queue = ANY(%(queues)s))
      AND (w.id IS NULL OR w.id = ANY(%(gone)s) OR j.id = ANY(%(unknown)s) AND w.id = %(worker)s
           OR w.seen_at < now() - make_interval(secs => %(lease)s)
              AND pg_postmaster_start_time() < now() - make_interval(secs => %(lease)s))
    ORDER BY j.id LIMIT %(most)s FOR UPDATE OF j SKIP LOCKED
)
UPDATE jobs j SET worker_id = %(worker)s, version = j.version + 1
FROM left_behind l WHERE j.id = l.id
RETURNING j.id, {_CLAIMED}
"""

_COLLEAGUES = """
SELECT w.id, w.pid FROM workers w WHERE w.host = %s AND w.id <> %s AND w.cluster = %s
  AND EXISTS (SELECT 1 FROM jobs j WHERE j.worker_id = w.id)
"""

_MOVED = """
UPDATE jobs j SET state = a.state, reason = a.reason, cluster_job = coalesce(a.cluster_job, j.cluster_job),
    -- the cluster's clock may be another one
    started_at = CASE WHEN a.state <> 'QUEUED'
                      THEN coalesce(j.started_at, least(now(), greatest(a.started_at, j.created_at))) END,
    changed_at = CASE WHEN a.state = j.state THEN j.changed_at ELSE now() END,
    actor = CASE WHEN j.cancel_requested_at IS NULL THEN 'worker' ELSE j.actor END, version = j.version + 1
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(states)s::text[], %(reasons)s::text[], %(jobs)s::text[],
            %(starts)s::timestamptz[]) a (id, attempt, state, reason, cluster_job, started_at)
WHERE j.id = a.id AND j.attempt = a.attempt AND j.worker_id = %(worker)s
"""

_SPARED = """
UPDATE jobs SET cancel_requested_at = NULL, cancel_reason = NULL, cancel_abort = true, actor = 'worker',
    version = version + 1
WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id = %(worker)s AND NOT cancel_abort
"""

# The queue's row is locked, so that two workers cannot take the last place both. The count is a statement of its own:
# in the one that waits for the lock it would be as old as the waiting.
_LOCK_QUEUE = "SELECT paused, max_running FROM queues WHERE name = %(queue)s FOR UPDATE"

_RUNNING = "SELECT count(*) AS n FROM jobs WHERE worker_id IS NOT NULL AND queue = %(queue)s"

_STARTED = """
UPDATE jobs SET state = 'RUNNING', started_at = now(), changed_at = now(), version = version + 1,
    actor = CASE WHEN cancel_requested_at IS NULL THEN 'worker' ELSE actor END
WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id = %(worker)s AND state = 'STAGING'
"""

# A job that failed by itself and has attempts left runs again, unless it was asked to stop or its exit code says that
# it is of no use.
_FINISH = f"""
WITH locked AS MATERIALIZED (
    -- as they are once they are locked: one may have been asked to stop in this very moment
    SELECT id, attempt, max_attempts, cancel_requested_at, retry_on, backoff, worker_id
    FROM jobs WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
), told AS (
    SELECT a.*, a.state = 'FAILED' AND j.attempt < j.max_attempts AND j.cancel_requested_at IS NULL
                AND (j.retry_on IS NULL OR a.exit_code = ANY(j.retry_on)) AS again,
           j.backoff > 0 AS later,
           now() + make_interval(secs => least(3600, j.backoff * 2 ^ least(a.attempt - 1, 60))) AS then
    FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(states)s::text[], %(reasons)s::text[], %(codes)s::int[],
                %(cpu)s::float8[], %(memory)s::bigint[], %(own)s::boolean[], %(hosts)s::text[])
        a (id, attempt, state, reason, exit_code, cpu_seconds, peak_memory, own_error, host)
    JOIN locked j ON j.id = a.id
    WHERE j.attempt = a.attempt AND j.worker_id = %(worker)s
), ended AS (
    UPDATE jobs j SET
        state = CASE WHEN a.again THEN CASE WHEN a.later THEN 'PENDING' ELSE 'QUEUED' END
                     WHEN a.state = 'FAILED' AND j.cancel_requested_at IS NOT NULL AND j.attempt < j.max_attempts
                          AND NOT a.own_error
                     THEN 'CANCELLED' ELSE a.state END,
        finished_at = CASE WHEN a.again THEN NULL ELSE now() END,
        start_at = CASE WHEN a.again AND a.later THEN a.then END,
        reason = a.reason, exit_code = a.exit_code, worker_id = NULL, cancel_requested_at = NULL,
        cluster = NULL, cancel_abort = true, changed_at = now(), actor = 'worker', version = j.version + 1
    FROM told a WHERE j.id = a.id AND j.attempt = a.attempt AND j.worker_id = %(worker)s
    RETURNING j.*
), noted AS (
    INSERT INTO attempts (job_id, attempt, state, reason, exit_code, host, started_at, cpu_seconds, peak_memory)
    SELECT a.id, a.attempt, CASE WHEN a.again THEN 'FAILED' ELSE e.state END, a.reason, a.exit_code,
           coalesce(a.host, (SELECT w.host FROM workers w WHERE w.id = %(worker)s)), e.started_at,
           a.cpu_seconds, a.peak_memory
    FROM told a JOIN ended e ON e.id = a.id
    ON CONFLICT DO NOTHING
), again AS (SELECT * FROM ended WHERE state IN ('QUEUED', 'PENDING')), ticket AS ({TICKETS.format(rows="again")})
SELECT id, (SELECT count(*) FROM ticket) FROM ended
"""

_RELEASE = f"""
WITH released AS (
    UPDATE jobs SET
        state = CASE WHEN cancel_requested_at IS NULL THEN 'QUEUED' ELSE 'CANCELLED' END,
        finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END,
        reason = coalesce(cancel_reason, 'its worker gave it back'), max_attempts = greatest(max_attempts, attempt + 1),
        worker_id = NULL, cancel_requested_at = NULL, cluster = NULL, changed_at = now(), actor = 'worker',
        version = version + 1
    WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id = %(worker)s
    RETURNING *
), again AS (SELECT * FROM released WHERE state = 'QUEUED'), ticket AS ({TICKETS.format(rows="again")})
SELECT id, (SELECT count(*) FROM ticket) FROM released
"""

_BEAT = """
WITH me AS (
    INSERT INTO workers (id, host, pid, cores, queues, busy, running, closing, cluster)
    VALUES (%(worker)s, %(host)s, %(pid)s, %(cores)s, %(queues)s, %(busy)s, %(running)s, %(closing)s, %(cluster)s)
    ON CONFLICT (id) DO UPDATE
        SET seen_at = now(), busy = excluded.busy, running = excluded.running, closing = excluded.closing
    RETURNING id
)
SELECT j.id, j.attempt, j.cancel_requested_at IS NOT NULL AS cancelling, j.cancel_reason, j.actor, j.cancel_abort
FROM me LEFT JOIN jobs j ON j.worker_id = me.id
"""

_TO_STOP = """
SELECT id, attempt, cancel_reason, actor, cancel_abort FROM jobs
WHERE worker_id = %s AND cancel_requested_at IS NOT NULL
"""

# A worker is lost when it was silent for the lease and, on top, for its job's grace time: by then a worker that is cut
# off has ended the job itself. After Postgres was away nobody is lost for one lease. What a cluster runs is not lost.
_REAP = f"""
WITH lost AS (
    SELECT j.id, w.host FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
    WHERE j.worker_id IS NOT NULL AND j.cluster IS NULL
      AND coalesce(w.seen_at, j.started_at) < now() - make_interval(secs => %(lease)s + j.grace)
      AND pg_postmaster_start_time() < now() - make_interval(secs => %(lease)s)
    ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
), reaped AS (
    UPDATE jobs j SET
        state = CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                     WHEN j.requeue AND j.lost = 0 THEN 'QUEUED' ELSE 'FAILED' END,
        finished_at = CASE WHEN j.cancel_requested_at IS NULL
                            AND j.requeue AND j.lost = 0 THEN NULL ELSE now() END,
        reason = CASE WHEN j.cancel_requested_at IS NOT NULL
                      THEN coalesce(j.cancel_reason, 'cancelled') || ' (its worker was lost)'
                      ELSE 'its worker was lost' END,
        lost = j.lost + 1, worker_id = NULL, cancel_requested_at = NULL,
        changed_at = now(), actor = 'reaper', version = j.version + 1
    FROM lost WHERE j.id = lost.id
    RETURNING j.*, lost.host
), noted AS (
    INSERT INTO attempts (job_id, attempt, state, reason, host, started_at)
    SELECT id, attempt, CASE state WHEN 'CANCELLED' THEN state ELSE 'FAILED' END, reason, host, started_at FROM reaped
    ON CONFLICT DO NOTHING
), again AS (SELECT * FROM reaped WHERE state = 'QUEUED'), ticket AS ({TICKETS.format(rows="again")})
SELECT id, state, (SELECT count(*) FROM ticket) FROM reaped
"""

_DEAD_TICKETS = """
DELETE FROM procrastinate_jobs p WHERE p.status = 'doing' AND p.task_name = 'hpcjobs.run' AND NOT EXISTS (
    SELECT 1 FROM procrastinate_workers w WHERE w.id = p.worker_id AND w.last_heartbeat > now() - interval '60 s')
"""

_MISSING_TICKETS = f"""
WITH missing AS (
    SELECT j.* FROM jobs j
    WHERE j.state = 'QUEUED' AND j.worker_id IS NULL AND j.changed_at < now() - make_interval(secs => %(age)s)
      AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                      WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'todo')
      AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p
                      WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status = 'doing')
      AND NOT EXISTS (SELECT 1 FROM queues q WHERE q.name = j.queue AND (q.paused OR q.max_running IS NOT NULL))
    ORDER BY j.changed_at LIMIT 1000 FOR SHARE OF j SKIP LOCKED
), ticket AS ({TICKETS.format(rows="missing")})
SELECT count(*), (SELECT count(*) FROM ticket) FROM missing
"""

_DUE = """
UPDATE jobs j SET state = 'QUEUED', changed_at = now(), actor = 'scheduler', version = version + 1
FROM (SELECT id FROM jobs WHERE state = 'PENDING' AND waiting_for = 0 AND start_at <= now()
      ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED) due
WHERE j.id = due.id
"""

_EXPIRE = """
UPDATE jobs j SET state = 'FAILED', reason = 'it had not started by its expiry', waiting_for = 0, finished_at = now(),
    changed_at = now(), actor = 'scheduler', version = version + 1
FROM (SELECT id FROM jobs WHERE expires_at <= now() AND state IN ('PENDING', 'QUEUED') AND worker_id IS NULL
      ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED) late
WHERE j.id = late.id
"""

_PROGRESS = """
INSERT INTO progress (job_id, attempt, done, total, message, at)
SELECT a.id, a.attempt, a.done, a.total, a.message, a.at
FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(dones)s::float8[], %(totals)s::float8[], %(messages)s::text[],
            %(ats)s::timestamptz[]) a (id, attempt, done, total, message, at)
JOIN jobs j ON j.id = a.id AND j.attempt = a.attempt
ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, done = excluded.done, total = excluded.total,
    message = excluded.message, at = excluded.at, xid = pg_current_xact_id()
WHERE progress.attempt <= excluded.attempt
"""


class Work(Database):
    """Everything that a worker asks of the database."""

    async def beat(
        self,
        worker: UUID,
        *,
        host: str,
        pid: int,
        cores: int,
        busy: int,
        running: int,
        queues: Sequence[str] = (),
        closing: bool = False,
        cluster: str | None = None,
    ) -> list[Held]:
        """Say that a worker is alive, and learn which attempts it holds and which of them were asked to stop.

        Args:
            worker: The worker.
            host: Where it runs.
            pid: Its process id there.
            cores: The cores that it may give to jobs.
            busy: How many of them it has given.
            running: How many attempts it runs.
            queues: The queues that it serves; none for all.
            closing: Whether it takes no more jobs.
            cluster: The kind of cluster that it hands jobs to; its cores are the jobs that it hands over at once.
        """
        told = {"worker": worker, "host": host, "pid": pid, "cores": cores, "busy": busy, "running": running}
        rows = await self.all(_BEAT, {**told, "queues": list(queues), "closing": closing, "cluster": cluster})
        return [
            Held(
                str(row["id"]),
                row["attempt"],
                row["cancelling"],
                row["cancel_reason"],
                row["actor"],
                row["cancel_abort"],
            )
            for row in rows
            if row["id"] is not None
        ]

    async def to_stop(self, worker: UUID) -> list[Held]:
        """The attempts of a worker that were asked to stop: what a heartbeat tells too, without writing anything."""
        rows = await self.all(_TO_STOP, [worker])
        return [
            Held(str(row["id"]), row["attempt"], True, row["cancel_reason"], row["actor"], row["cancel_abort"])
            for row in rows
        ]

    async def leave(self, worker: UUID) -> None:
        """Say that a worker has ended and holds nothing."""
        await self.all("DELETE FROM workers WHERE id = %s RETURNING id", [worker])

    async def room_elsewhere(self, worker: UUID, cores: int, queue: str) -> bool:
        """Whether another worker that is alive and serves the queue has this many cores free."""
        rows = await self.all(
            "SELECT 1 AS x FROM workers WHERE id <> %s AND NOT closing"
            " AND cores - busy >= CASE WHEN cluster IS NULL THEN %s ELSE 1 END"
            " AND (queues = '{}' OR %s = ANY(queues)) AND seen_at > now() - interval '10 s' LIMIT 1",
            [worker, cores, queue],
        )
        return bool(rows)

    async def hand_back(self, job_id: str, attempt: int, *, delay: float) -> None:
        """Issue the ticket of an attempt again, for later."""
        where = "id = %(id)s AND attempt = %(attempt)s AND state = 'QUEUED' AND worker_id IS NULL"
        rows = f"(SELECT * FROM jobs WHERE {where}) q"
        query = TICKETS.format(rows=rows).replace(
            "start_at AS not_before", "now() + make_interval(secs => %(delay)s) AS not_before"
        )
        with contextlib.suppress(psycopg.errors.UniqueViolation):  # it was issued already
            await self.all(query, {"id": UUID(job_id), "attempt": attempt, "delay": delay})

    async def claim(
        self, job_id: str, attempt: int, worker: UUID, *, queue: str | None = None, cluster: str | None = None
    ) -> Claim | None:
        """Make the next attempt of a job a worker's own; None where the ticket is stale, or the queue has no room.

        Args:
            job_id: The job.
            attempt: How many attempts it has had.
            worker: The worker.
            queue: The queue that the ticket names.
            cluster: The kind of cluster that it is handed to; it stays QUEUED until that starts it.
        """
        parameters = {
            "id": UUID(job_id), "attempt": attempt, "worker": worker, "cluster": cluster, "admitted": None
        }  # fmt: skip
        rows = await self.all(_CLAIM, parameters)
        if not rows and queue is not None:
            async with self.connection() as connection, connection.transaction():
                limits = await (await connection.execute(_LOCK_QUEUE, {"queue": queue})).fetchone()
                if limits is None or limits["paused"]:
                    return None
                if limits["max_running"] is not None:
                    running = await (await connection.execute(_RUNNING, {"queue": queue})).fetchone()
                    if running is None or running["n"] >= limits["max_running"]:
                        return None
                rows = await (await connection.execute(_CLAIM, {**parameters, "admitted": queue})).fetchall()
        if not rows:
            return None
        return await self._claimed(job_id, rows[0], worker)

    async def _claimed(self, job_id: str, row: Row, worker: UUID, *, adopted: bool = False) -> Claim | None:
        """The claim that a row says; None where this version cannot read what was asked."""
        attempt = row["attempt"]
        try:
            spec = JobSpec.model_validate(row["spec"])
        except ValidationError:  # another version of the server accepted it
            unreadable = Finish(
                job_id, attempt, JobState.FAILED, "this version of the server cannot read what was asked"
            )
            await self.finish(worker, [unreadable])
            return None
        if row["array_id"] is not None:
            spec = one_of(spec, row["item"], row["array_index"])
        return Claim(
            job_id,
            attempt,
            row["owner"],
            _within(spec, row["max_walltime"]),
            _environ(row),
            expires_at=row["expires_at"],
            adopted=adopted,
            cluster_job=row["cluster_job"],
        )

    async def adopt(
        self,
        worker: UUID,
        cluster: str,
        *,
        lease: float,
        queues: Sequence[str] = (),
        gone: Sequence[UUID] = (),
        unknown: Sequence[str] = (),
        most: int = 1000,
    ) -> list[Claim]:
        """Make the attempts a worker's own that a cluster has and nobody watches any more.

        Args:
            worker: The worker.
            cluster: The kind of cluster.
            lease: Seconds of silence after which their worker is gone.
            queues: The queues that this worker serves; none for all.
            gone: Workers that are known to be gone, however long they have been silent.
            unknown: Jobs that are this worker's own already, and that it does not know.
            most: Attempts at most.
        """
        rows = await self.all(
            _ADOPT,
            {
                "worker": worker,
                "cluster": cluster,
                "lease": lease,
                "queues": list(queues),
                "gone": list(gone),
                "unknown": [UUID(job_id) for job_id in unknown],
                "most": most,
            },
        )
        claims = [await self._claimed(str(row["id"]), row, worker, adopted=True) for row in rows]
        return [claim for claim in claims if claim is not None]

    async def colleagues(self, worker: UUID, cluster: str, host: str) -> dict[UUID, int]:
        """The process ids of the other workers of this host that hold jobs of a cluster, by their ids."""
        return {row["id"]: row["pid"] for row in await self.all(_COLLEAGUES, [host, worker, cluster])}

    async def moved(self, worker: UUID, moves: Sequence[Moved]) -> None:
        """Say where attempts that a cluster has are now; a move of an attempt that is over is dropped."""
        async with self.connection() as connection:
            await connection.execute(
                _MOVED,
                {
                    "worker": worker,
                    "ids": [UUID(move.job_id) for move in moves],
                    "attempts": [move.attempt for move in moves],
                    "states": [move.state.value for move in moves],
                    "reasons": [move.reason for move in moves],
                    "jobs": [move.cluster_job for move in moves],
                    "starts": [move.started_at for move in moves],
                },
            )

    async def spared(self, job_id: str, attempt: int, worker: UUID) -> None:
        """Take back a cancel that was only for a job that has not started: it has."""
        async with self.connection() as connection:
            await connection.execute(_SPARED, {"id": UUID(job_id), "attempt": attempt, "worker": worker})

    async def started(self, job_id: str, attempt: int, worker: UUID) -> None:
        """Say that an attempt's inputs are in place and it runs."""
        async with self.connection() as connection:
            await connection.execute(_STARTED, {"id": UUID(job_id), "attempt": attempt, "worker": worker})

    async def finish(self, worker: UUID, ends: Sequence[Finish]) -> set[str]:
        """End attempts; the ids of those that were still this worker's. The others were taken away: drop them."""
        rows = await self.all(
            _FINISH,
            {
                "worker": worker,
                "ids": [UUID(end.job_id) for end in ends],
                "attempts": [end.attempt for end in ends],
                "states": [end.state.value for end in ends],
                "reasons": [end.reason for end in ends],
                "codes": [end.exit_code for end in ends],
                "cpu": [end.cpu_seconds for end in ends],
                "memory": [end.peak_memory for end in ends],
                "own": [end.own_error for end in ends],
                "hosts": [end.host for end in ends],
            },
        )
        return {str(row["id"]) for row in rows}

    async def release(self, job_id: str, attempt: int, worker: UUID) -> None:
        """Give back an attempt that this worker cannot go on with: the job runs again, as if not attempted."""
        await self.all(_RELEASE, {"id": UUID(job_id), "attempt": attempt, "worker": worker})

    async def report_progress(self, reports: Sequence[tuple[str, int, Progress]]) -> None:
        """Store how far attempts are; a report of an attempt that is over is dropped."""
        now = dt.datetime.now(dt.timezone.utc)
        async with self.connection() as connection:
            await connection.execute(
                _PROGRESS,
                {
                    "ids": [UUID(job_id) for job_id, _, _ in reports],
                    "attempts": [attempt for _, attempt, _ in reports],
                    "dones": [progress.done for _, _, progress in reports],
                    "totals": [progress.total for _, _, progress in reports],
                    "messages": [progress.message for _, _, progress in reports],
                    "ats": [progress.at or now for _, _, progress in reports],
                },
            )

    async def sweep(self, *, lease: float, reap: bool = True) -> dict[str, int]:
        """Put right what was left behind: lost workers' jobs, tickets that are missing or dead, old worker rows.

        Any worker may call it at any time; one at a time does the work.

        Returns:
            What was done, by name.
        """
        async with self.connection() as connection, connection.transaction():
            lock = await (
                await connection.execute("SELECT pg_try_advisory_xact_lock(hashtext('hpcjobs.sweep')) AS mine")
            ).fetchone()
            if lock is None or not lock["mine"]:
                return {}
            done: dict[str, int] = {}
            if reap:
                done["reaped"] = (await connection.execute(_REAP, {"lease": lease})).rowcount
            done["expired"] = (await connection.execute(_EXPIRE)).rowcount
            done["due"] = (await connection.execute(_DUE)).rowcount
            done["dead_tickets"] = (await connection.execute(_DEAD_TICKETS)).rowcount
            missing = await (await connection.execute(_MISSING_TICKETS, {"age": min(5.0, lease)})).fetchone()
            done["new_tickets"] = missing["count"] if missing else 0
            await connection.execute("SELECT admit(name) FROM queues WHERE NOT paused")
            await connection.execute(
                "DELETE FROM workers w WHERE seen_at < now() - make_interval(secs => 3600 + 10 * %s)"
                " AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker_id = w.id)",
                [lease],
            )
            return done


def _within(spec: JobSpec, longest: float | None) -> JobSpec:
    """The spec with its queue's walltime, where that is shorter or the only one."""
    if longest is None:
        return spec
    limit = dt.timedelta(seconds=longest)
    walltime = spec.resources.walltime
    shorter = limit if walltime is None else min(walltime, limit)
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"walltime": shorter})})


def _environ(row: Row) -> dict[str, str]:
    if row["array_id"] is None:
        return {}
    item = {} if row["item"] is None else {"HPCJOBS_ITEM": json.dumps(row["item"])}
    return {
        "HPCJOBS_ARRAY_ID": str(row["array_id"]),
        "HPCJOBS_ARRAY_INDEX": str(row["array_index"]),
        "HPCJOBS_ARRAY_SIZE": str(row["array_size"]),
        **item,
    }
