"""All SQL of the jobs, tokens and workers tables: nothing else reads or writes them.

The rules that hold here:

* The ``jobs`` table is the only truth; a ticket is written in the statement that makes a job ready.
* ``attempt`` fences: only the worker that made the attempt can end it.
* Many rows are locked in the order of their ids, so that two bulk calls cannot deadlock.
* Only the database's clock decides about time.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import psycopg_pool
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from hpcjobs.lifecycle import NOT_STARTED, TERMINAL, JobState
from hpcjobs.models import (
    CancelOutcome,
    CancelResult,
    JobFilter,
    JobInfo,
    JobPage,
    JobSpec,
    Progress,
    Scope,
    TokenInfo,
)
from hpcjobs_server.database import EVENTS_CHANNEL, connection_info
from hpcjobs_server.migrate import head
from hpcjobs_server.queue import TICKETS

__all__ = [
    "EVENTS_CHANNEL",
    "BadCursor",
    "Claim",
    "Finish",
    "Held",
    "KeyReused",
    "Place",
    "Store",
    "WorkerInfo",
]

_MAX_CHANGES = 50_000
"""Most jobs that one look at the changes returns; a client that was away for longer asks for its jobs anyway."""

Row = dict[str, Any]


class KeyReused(Exception):
    """The same submission key came with another body."""


class BadCursor(Exception):
    """A cursor that this server did not make."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a job's files are, and its state when that was read."""

    job_id: str
    owner: str
    state: JobState
    attempt: int


@dataclasses.dataclass(frozen=True)
class WorkerInfo:
    """A worker that is alive."""

    id: UUID
    host: str
    pid: int
    cores: int
    running: int
    started_at: dt.datetime
    seen_at: dt.datetime


@dataclasses.dataclass(frozen=True)
class Claim:
    """An attempt that a worker has made its own."""

    job_id: str
    attempt: int
    owner: str
    spec: JobSpec


@dataclasses.dataclass(frozen=True)
class Held:
    """An attempt that a worker holds, as the database sees it."""

    job_id: str
    attempt: int
    cancel_requested: bool
    cancel_reason: str | None
    actor: str


@dataclasses.dataclass(frozen=True)
class Finish:
    """How an attempt ended."""

    job_id: str
    attempt: int
    state: JobState
    reason: str | None = None
    exit_code: int | None = None


_INFO = """
    j.id, j.state, j.name, j.owner, j.queue, j.priority, j.tags, j.meta, j.cancel_requested_at IS NOT NULL AS cancelling,
    j.cancel_reason, j.reason, j.exit_code, j.attempt, j.max_attempts, j.created_at, j.started_at, j.finished_at,
    j.version, j.seq, p.done, p.total, p.message, p.at
"""
_FROM = "jobs j LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt"

_SUBMIT = f"""
WITH new AS (
    INSERT INTO jobs (id, owner, submit_key, digest, name, queue, priority, cores, tags, meta, spec, grace, requeue,
                      max_attempts, actor)
    VALUES (%(id)s, %(owner)s, %(key)s, %(digest)s, %(name)s, %(queue)s, %(priority)s, %(cores)s, %(tags)s, %(meta)s,
            %(spec)s, %(grace)s, %(requeue)s, %(max_attempts)s, %(actor)s)
    ON CONFLICT (owner, submit_key) WHERE submit_key IS NOT NULL DO NOTHING
    RETURNING *
), ticket AS ({TICKETS.format(rows="new")})
SELECT new.id, new.seq, new.created_at, new.version, (SELECT count(*) FROM ticket) FROM new
"""

_CLAIM = """
UPDATE jobs SET attempt = attempt + 1, worker_id = %(worker)s, started_at = now(), changed_at = now(),
    state = CASE WHEN jsonb_array_length(spec -> 'inputs') > 0 THEN 'STAGING' ELSE 'RUNNING' END,
    reason = NULL, exit_code = NULL, finished_at = NULL, actor = 'worker', version = version + 1
WHERE id = %(id)s AND state = 'QUEUED' AND attempt = %(attempt)s
RETURNING attempt, owner, spec
"""

_STARTED = """
UPDATE jobs SET state = 'RUNNING', started_at = now(), changed_at = now(), actor = 'worker', version = version + 1
WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id = %(worker)s AND state = 'STAGING'
"""

# A job that failed by itself and has attempts left is ready again, unless it was asked to stop.
_FINISH = f"""
WITH ended AS (
    UPDATE jobs j SET
        state = CASE WHEN a.state <> 'FAILED' OR j.attempt >= j.max_attempts THEN a.state
                     WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELLED' ELSE 'QUEUED' END,
        finished_at = CASE WHEN a.state = 'FAILED' AND j.attempt < j.max_attempts AND j.cancel_requested_at IS NULL
                           THEN NULL ELSE now() END,
        reason = a.reason, exit_code = a.exit_code, worker_id = NULL, cancel_requested_at = NULL,
        changed_at = now(), actor = 'worker', version = j.version + 1
    FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(states)s::text[], %(reasons)s::text[], %(codes)s::int[])
        a (id, attempt, state, reason, exit_code)
    WHERE j.id = a.id AND j.attempt = a.attempt AND j.worker_id = %(worker)s
    RETURNING j.*
), again AS (SELECT * FROM ended WHERE state = 'QUEUED'), ticket AS ({TICKETS.format(rows="again")})
SELECT id, (SELECT count(*) FROM ticket) FROM ended
"""

_RELEASE = f"""
WITH released AS (
    UPDATE jobs SET
        state = CASE WHEN cancel_requested_at IS NULL THEN 'QUEUED' ELSE 'CANCELLED' END,
        finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN now() END,
        reason = coalesce(cancel_reason, 'its worker stood still'), max_attempts = greatest(max_attempts, attempt + 1),
        worker_id = NULL, cancel_requested_at = NULL, changed_at = now(), actor = 'worker', version = version + 1
    WHERE id = %(id)s AND attempt = %(attempt)s AND worker_id = %(worker)s
    RETURNING *
), again AS (SELECT * FROM released WHERE state = 'QUEUED'), ticket AS ({TICKETS.format(rows="again")})
SELECT id, (SELECT count(*) FROM ticket) FROM released
"""

_CANCEL = """
WITH changed AS (
    UPDATE jobs SET
        state = CASE WHEN worker_id IS NULL THEN 'CANCELLED' ELSE state END,
        finished_at = CASE WHEN worker_id IS NULL THEN now() END,
        changed_at = CASE WHEN worker_id IS NULL THEN now() ELSE changed_at END,
        reason = CASE WHEN worker_id IS NULL THEN coalesce(%(reason)s, 'cancelled by ' || %(actor)s) ELSE reason END,
        cancel_requested_at = CASE WHEN worker_id IS NOT NULL THEN coalesce(cancel_requested_at, now()) END,
        cancel_reason = CASE WHEN cancel_requested_at IS NULL THEN %(reason)s
                             ELSE coalesce(cancel_reason, %(reason)s) END,
        actor = %(actor)s, version = version + 1
    WHERE id = ANY(%(ids)s)
    RETURNING worker_id
)
SELECT count(pg_notify('hpcjobs_worker_' || replace(w.worker_id::text, '-', ''), 'cancel'))
FROM (SELECT DISTINCT worker_id FROM changed WHERE worker_id IS NOT NULL) w
"""

_BEAT = """
WITH me AS (
    INSERT INTO workers (id, host, pid, cores, busy, running)
    VALUES (%(worker)s, %(host)s, %(pid)s, %(cores)s, %(busy)s, %(running)s)
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), busy = excluded.busy, running = excluded.running
    RETURNING id
)
SELECT j.id, j.attempt, j.cancel_requested_at IS NOT NULL AS cancelling, j.cancel_reason, j.actor
FROM me LEFT JOIN jobs j ON j.worker_id = me.id
"""

# A worker is lost when it was silent for the lease and, on top, for its job's grace time: by then a worker that is cut
# off has ended the job itself. After Postgres was away nobody is lost for one lease.
_REAP = f"""
WITH lost AS (
    SELECT j.id FROM jobs j LEFT JOIN workers w ON w.id = j.worker_id
    WHERE j.worker_id IS NOT NULL
      AND coalesce(w.seen_at, j.started_at) < now() - make_interval(secs => %(lease)s + j.grace)
      AND pg_postmaster_start_time() < now() - make_interval(secs => %(lease)s)
    ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
), reaped AS (
    UPDATE jobs j SET
        state = CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                     WHEN (j.requeue AND j.lost = 0) OR j.attempt < j.max_attempts THEN 'QUEUED' ELSE 'FAILED' END,
        finished_at = CASE WHEN j.cancel_requested_at IS NULL
                            AND ((j.requeue AND j.lost = 0) OR j.attempt < j.max_attempts) THEN NULL ELSE now() END,
        reason = CASE WHEN j.cancel_requested_at IS NOT NULL
                      THEN coalesce(j.cancel_reason, 'cancelled') || ' (its worker was lost)' ELSE 'its worker was lost' END,
        lost = j.lost + 1, worker_id = NULL, cancel_requested_at = NULL,
        changed_at = now(), actor = 'reaper', version = j.version + 1
    FROM lost WHERE j.id = lost.id
    RETURNING j.*
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
    WHERE j.state = 'QUEUED' AND j.changed_at < now() - make_interval(secs => %(age)s) AND NOT EXISTS (
        SELECT 1 FROM procrastinate_jobs p
        WHERE p.queueing_lock = j.id || ':' || j.attempt AND p.status IN ('todo', 'doing'))
    ORDER BY j.changed_at LIMIT 1000 FOR SHARE OF j SKIP LOCKED
), ticket AS ({TICKETS.format(rows="missing")})
SELECT count(*), (SELECT count(*) FROM ticket) FROM missing
"""

_CHANGES = f"""
SELECT {_INFO} FROM (
    SELECT job_id FROM events WHERE xid >= %(since)s::text::xid8
    UNION SELECT job_id FROM progress WHERE xid >= %(since)s::text::xid8
    LIMIT {_MAX_CHANGES}
) c JOIN jobs j ON j.id = c.job_id LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt
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


class Store:
    """The database of one server process.

    Args:
        url: The database's ``postgresql://`` URL.
        min_size: Connections that are kept.
        max_size: Connections at most.
        poll: Seconds after which :meth:`listen` looks even without a notification.
        use_listen: False where the database's pooler cannot LISTEN.
    """

    def __init__(
        self, url: str, *, min_size: int = 1, max_size: int = 8, poll: float = 1.0, use_listen: bool = True
    ) -> None:
        self.conninfo = connection_info(url)
        self._poll, self._use_listen = poll, use_listen
        self.pool: psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[Row]] = psycopg_pool.AsyncConnectionPool(
            self.conninfo,
            min_size=min_size,
            max_size=max_size,
            open=False,
            timeout=5.0,
            max_waiting=1000,
            reconnect_timeout=2.0,
            # not among kwargs: Procrastinate opens its listening connection with these and sets autocommit itself
            configure=_configure,
            kwargs={"row_factory": dict_row, "prepare_threshold": 3 if use_listen else None},
        )

    async def open(self) -> None:
        """Start the pool; does not wait for the database."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Give all connections back."""
        await self.pool.close(timeout=2.0)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        try:
            async with self.pool.connection() as connection:
                yield connection
        except psycopg.OperationalError:
            # the others are probably broken as well: find out now rather than one request at a time
            with contextlib.suppress(psycopg.Error):
                await self.pool.check()
            raise

    async def _all(self, query: str, parameters: Any = None) -> list[Row]:
        async with self._connection() as connection:
            return await (await connection.execute(cast("Any", query), parameters)).fetchall()

    async def ready(self) -> bool:
        """Whether the database answers and has this version's schema."""
        try:
            rows = await self._all("SELECT version_num FROM schema_version")
        except psycopg.Error:
            return False
        return bool(rows) and rows[0]["version_num"] == head()

    # ------------------------------------------------------------------------------------------------ jobs

    async def submit(self, owner: str, spec: JobSpec, *, key: str | None = None, actor: str) -> tuple[JobInfo, bool]:
        """Accept a job, once per ``key``.

        Returns:
            The job, and whether it is new.

        Raises:
            KeyReused: The key was used for another body.
        """
        data = spec.model_dump(mode="json")
        digest = hashlib.sha256(spec.model_dump_json().encode()).digest()
        parameters = {
            "id": uuid4(),
            "owner": owner,
            "key": key,
            "digest": digest,
            "name": spec.name,
            "queue": spec.queue,
            "priority": spec.priority,
            "cores": spec.resources.cores,
            "tags": spec.tags,
            "meta": Jsonb(spec.meta),
            "spec": Jsonb(data),
            "grace": spec.grace.total_seconds(),
            "requeue": spec.requeue,
            "max_attempts": spec.max_attempts,
            "actor": actor,
        }
        rows = await self._all(_SUBMIT, parameters)
        if rows:
            info = JobInfo(
                id=str(rows[0]["id"]),
                state=JobState.QUEUED,
                native_state=JobState.QUEUED.value,
                name=spec.name,
                owner=owner,
                queue=spec.queue,
                priority=spec.priority,
                tags=spec.tags,
                meta=spec.meta,
                max_attempts=spec.max_attempts,
                created_at=rows[0]["created_at"],
                version=rows[0]["version"],
                spec=data,
            )
            return info, True
        rows = await self._all(
            f"SELECT {_INFO}, j.spec, j.digest FROM {_FROM} WHERE j.owner = %s AND j.submit_key = %s", [owner, key]
        )
        if not rows or bytes(rows[0]["digest"]) != digest:
            raise KeyReused
        return _info(rows[0]), False

    async def get(self, owner: str | None, job_id: str) -> JobInfo | None:
        """One job with what was asked; None where there is none, or it is another's.

        Args:
            owner: Whose job it must be; None for anybody's.
            job_id: Its id; one that is no id is simply not found.
        """
        found = await self._by_ids(owner, [job_id], ", j.spec")
        return _info(found[0]) if found else None

    async def get_many(self, owner: str | None, ids: Sequence[str]) -> list[JobInfo]:
        """The jobs that were found, without what was asked."""
        return [_info(row) for row in await self._by_ids(owner, ids, "")]

    async def _by_ids(self, owner: str | None, ids: Sequence[str], more: str) -> list[Row]:
        good = [uid for uid in map(_uuid, ids) if uid is not None]
        if not good:
            return []
        return await self._all(
            f"SELECT {_INFO}{more} FROM {_FROM} WHERE j.id = ANY(%(ids)s) AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)",
            {"ids": good, "owner": owner},
        )

    async def place(self, owner: str | None, job_id: str) -> Place | None:
        """Where a job's files are; None where there is none, or it is another's."""
        uid = _uuid(job_id)
        if uid is None:
            return None
        rows = await self._all(
            "SELECT owner, state, attempt FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s)",
            [uid, owner, owner],
        )
        return Place(str(uid), rows[0]["owner"], JobState(rows[0]["state"]), rows[0]["attempt"]) if rows else None

    async def list(
        self, owner: str | None, filter: JobFilter, *, limit: int, cursor: str | None, key: str | None = None
    ) -> JobPage:
        """One page of jobs, newest first.

        Raises:
            BadCursor: The cursor is not one of ours.
        """
        conditions, parameters = ["true"], dict[str, Any](limit=limit + 1)

        def add(condition: str, **values: Any) -> None:
            conditions.append(condition)
            parameters.update(values)

        if owner is not None:
            add("j.owner = %(owner)s", owner=owner)
        if cursor is not None:
            add("j.seq < %(before)s", before=_decode_cursor(cursor))
        if key is not None:
            add("j.submit_key = %(key)s", key=key)
        if filter.state:
            words = [state.value for state in filter.state]
            if not set(filter.state) & TERMINAL:
                # said plainly, so that the index of active jobs can serve
                conditions.append("j.state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'ARCHIVING')")
            add("j.state = ANY(%(states)s)", states=words)
        if filter.tag:
            add("j.tags @> %(tags)s::text[]", tags=list(filter.tag))
        if filter.name is not None:
            if "*" in filter.name:
                pattern = filter.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
                add("j.name LIKE %(name)s", name=pattern)
            else:
                add("j.name = %(name)s", name=filter.name)
        if filter.queue is not None:
            add("j.queue = %(queue)s", queue=filter.queue)
        if filter.created_after is not None:
            add("j.created_at > %(after)s", after=filter.created_after)
        if filter.created_before is not None:
            add("j.created_at < %(until)s", until=filter.created_before)
        rows = await self._all(
            f"SELECT {_INFO} FROM {_FROM} WHERE {' AND '.join(conditions)} ORDER BY j.seq DESC LIMIT %(limit)s", parameters
        )
        more = len(rows) > limit
        rows = rows[:limit]
        return JobPage(items=[_info(row) for row in rows], next=_encode_cursor(rows[-1]["seq"]) if more else None)

    async def cancel(
        self,
        owner: str | None,
        ids: Sequence[str],
        *,
        reason: str | None,
        abort: bool = True,
        delete: bool = False,
        actor: str,
    ) -> list[CancelResult]:
        """Cancel jobs; atomic against a worker that is about to take one.

        Args:
            owner: Whose jobs; None for anybody's.
            ids: Which; one that is not found spoils nothing.
            reason: Kept with the job.
            abort: Whether a job that has started is asked to stop.
            delete: Whether the record of a job that never started is removed.
            actor: Who asks.

        Returns:
            One result per id, in their order.
        """
        wanted = [_uuid(text) for text in ids]
        async with self._connection() as connection, connection.transaction():
            rows = await (
                await connection.execute(
                    "SELECT id, state, attempt FROM jobs WHERE id = ANY(%(ids)s)"
                    " AND (%(owner)s::text IS NULL OR owner = %(owner)s) ORDER BY id FOR UPDATE",
                    {"ids": [uid for uid in wanted if uid is not None], "owner": owner},
                )
            ).fetchall()
            before = {row["id"]: JobState(row["state"]) for row in rows}
            # Two statements, because the second must see the rows as they are now that they are locked.
            touched = [
                uid for uid, state in before.items() if not state.terminal and (abort or state.not_started)
            ]
            if touched:
                await connection.execute(_CANCEL, {"ids": touched, "reason": reason, "actor": actor})
            never = [row["id"] for row in rows if delete and row["attempt"] == 0 and before[row["id"]].not_started]
            if never:
                await connection.execute("DELETE FROM jobs WHERE id = ANY(%s)", [never])
        return [_cancel_result(text, uid, before, reason, abort=abort) for text, uid in zip(ids, wanted, strict=True)]

    async def changes(self, since: int | None) -> tuple[int, list[tuple[str, JobInfo]]]:
        """The present info of each job that changed since a cursor.

        What a transaction that is still open has changed comes after its commit: the cursor is the oldest transaction
        that is under way, so nothing is missed, and a change may come twice.

        Args:
            since: A cursor that this method returned; None for the present one alone.

        Returns:
            The next cursor, and each job with its owner.
        """
        async with self._connection() as connection:
            # the cursor is read before the rows: what commits in between comes again, rather than never
            cursor = await (
                await connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS cursor")
            ).fetchone()
            assert cursor is not None
            if since is None:
                return int(cursor["cursor"]), []
            rows = await (await connection.execute(_CHANGES, {"since": str(since)})).fetchall()
        return int(cursor["cursor"]), [(row["owner"], _info(row)) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = await self._all("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    # ---------------------------------------------------------------------------------------------- tokens

    async def create_token(
        self, owner: str, *, name: str, scope: Scope, expires_in: dt.timedelta | None = None
    ) -> TokenInfo:
        """Make a token; its text is in the answer and nowhere else."""
        token = "hpcjobs_" + secrets.token_urlsafe(32)
        rows = await self._all(
            "INSERT INTO tokens (id, hash, name, owner, scope, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, now() + %s::interval) RETURNING id, name, owner, scope, created_at, expires_at",
            [uuid4(), _hash(token), name, owner, scope.value, expires_in],
        )
        return _token(rows[0]).model_copy(update={"token": token})

    async def authenticate(self, token: str) -> TokenInfo | None:
        """Whose token this is; None where it is not known. An expired one is returned: see ``expires_at``."""
        rows = await self._all(
            "SELECT id, name, owner, scope, created_at, expires_at FROM tokens WHERE hash = %s", [_hash(token)]
        )
        return _token(rows[0]) if rows else None

    async def list_tokens(self, owner: str | None) -> list[TokenInfo]:  # type: ignore[valid-type]
        """The tokens of an owner, or of everybody."""
        rows = await self._all(
            "SELECT id, name, owner, scope, created_at, expires_at FROM tokens"
            " WHERE %s::text IS NULL OR owner = %s ORDER BY created_at",
            [owner, owner],
        )
        return [_token(row) for row in rows]

    async def revoke_token(self, owner: str | None, token_id: str) -> bool:
        """Make a token useless; False where there is none, or it is another's."""
        uid = _uuid(token_id)
        rows = await self._all(
            "DELETE FROM tokens WHERE id = %s AND (%s::text IS NULL OR owner = %s) RETURNING id", [uid, owner, owner]
        )
        return bool(rows)

    # --------------------------------------------------------------------------------------------- workers

    async def workers(self, *, silent: float = 15.0) -> list[WorkerInfo]:  # type: ignore[valid-type]
        """The workers that were heard in the last ``silent`` seconds."""
        rows = await self._all(
            "SELECT id, host, pid, cores, running, started_at, seen_at FROM workers"
            " WHERE seen_at > now() - make_interval(secs => %s) ORDER BY started_at",
            [silent],
        )
        return [WorkerInfo(**row) for row in rows]

    async def beat(
        self, worker: UUID, *, host: str, pid: int, cores: int, busy: int, running: int
    ) -> list[Held]:  # type: ignore[valid-type]
        """Say that a worker is alive, and learn which attempts it holds and which of them were asked to stop."""
        rows = await self._all(
            _BEAT, {"worker": worker, "host": host, "pid": pid, "cores": cores, "busy": busy, "running": running}
        )
        return [
            Held(str(row["id"]), row["attempt"], row["cancelling"], row["cancel_reason"], row["actor"])
            for row in rows
            if row["id"] is not None
        ]

    async def leave(self, worker: UUID) -> None:
        """Say that a worker has ended and holds nothing."""
        await self._all("DELETE FROM workers WHERE id = %s RETURNING id", [worker])

    async def room_elsewhere(self, worker: UUID, cores: int) -> bool:
        """Whether another worker that is alive has this many cores free."""
        rows = await self._all(
            "SELECT 1 AS x FROM workers WHERE id <> %s AND cores - busy >= %s AND seen_at > now() - interval '10 s' LIMIT 1",
            [worker, cores],
        )
        return bool(rows)

    async def hand_back(self, job_id: str, attempt: int, *, delay: float) -> None:
        """Issue the ticket of an attempt again, for later."""
        rows = f"(SELECT * FROM jobs WHERE id = %(id)s AND state = 'QUEUED' AND attempt = %(attempt)s) q"
        query = TICKETS.format(rows=rows).replace(
            "NULL::timestamptz AS not_before", "now() + make_interval(secs => %(delay)s) AS not_before"
        )
        with contextlib.suppress(psycopg.errors.UniqueViolation):  # it was issued already
            await self._all(query, {"id": UUID(job_id), "attempt": attempt, "delay": delay})

    async def claim(self, job_id: str, attempt: int, worker: UUID) -> Claim | None:
        """Make the next attempt of a job a worker's own; None where the ticket is stale."""
        rows = await self._all(_CLAIM, {"id": UUID(job_id), "attempt": attempt, "worker": worker})
        if not rows:
            return None
        return Claim(job_id, rows[0]["attempt"], rows[0]["owner"], JobSpec.model_validate(rows[0]["spec"]))

    async def started(self, job_id: str, attempt: int, worker: UUID) -> None:
        """Say that an attempt's inputs are in place and it runs."""
        async with self._connection() as connection:
            await connection.execute(_STARTED, {"id": UUID(job_id), "attempt": attempt, "worker": worker})

    async def finish(self, worker: UUID, ends: Sequence[Finish]) -> set[str]:
        """End attempts; the ids of those that were still this worker's. The others were taken away: drop them."""
        rows = await self._all(
            _FINISH,
            {
                "worker": worker,
                "ids": [UUID(end.job_id) for end in ends],
                "attempts": [end.attempt for end in ends],
                "states": [end.state.value for end in ends],
                "reasons": [end.reason for end in ends],
                "codes": [end.exit_code for end in ends],
            },
        )
        return {str(row["id"]) for row in rows}

    async def release(self, job_id: str, attempt: int, worker: UUID) -> None:
        """Give an attempt back that this worker holds and cannot go on with: the job runs again, as if not attempted."""
        await self._all(_RELEASE, {"id": UUID(job_id), "attempt": attempt, "worker": worker})

    async def report_progress(self, reports: Sequence[tuple[str, int, Progress]]) -> None:
        """Store how far attempts are; a report of an attempt that is over is dropped."""
        now = dt.datetime.now(dt.timezone.utc)
        async with self._connection() as connection:
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
        async with self._connection() as connection, connection.transaction():
            lock = await (
                await connection.execute("SELECT pg_try_advisory_xact_lock(hashtext('hpcjobs.sweep')) AS mine")
            ).fetchone()
            if lock is None or not lock["mine"]:
                return {}
            done: dict[str, int] = {}
            if reap:
                done["reaped"] = (await connection.execute(_REAP, {"lease": lease})).rowcount
            done["dead_tickets"] = (await connection.execute(_DEAD_TICKETS)).rowcount
            missing = await (await connection.execute(_MISSING_TICKETS, {"age": min(5.0, lease)})).fetchone()
            done["new_tickets"] = missing["count"] if missing else 0
            await connection.execute(
                "DELETE FROM workers w WHERE seen_at < now() - make_interval(secs => 3600 + 10 * %s)"
                " AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker_id = w.id)",
                [lease],
            )
            return done

    # ---------------------------------------------------------------------------------------------- notice

    async def listen(self, channel: str) -> AsyncIterator[None]:
        """Yield at each notification on ``channel``, and at least once per poll; reconnects by itself."""
        import asyncio

        while True:
            if not self._use_listen:
                yield None
                await asyncio.sleep(self._poll)
                continue
            try:
                async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    yield None
                    while True:
                        async for _ in connection.notifies(timeout=self._poll, stop_after=1):
                            pass
                        yield None
            except psycopg.OperationalError:
                yield None
                await asyncio.sleep(min(self._poll, 1.0))


async def _configure(connection: psycopg.AsyncConnection[Row]) -> None:
    await connection.set_autocommit(True)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _hash(token: str) -> bytes:
    # tokens are long and random, so that a plain hash cannot be searched
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(row: Row) -> TokenInfo:
    return TokenInfo(**{**row, "id": str(row["id"])})


def _encode_cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text.startswith("s") and 0 <= int(text[1:]) < 2**63:
            return int(text[1:])
    except (ValueError, UnicodeDecodeError):
        pass
    raise BadCursor(cursor)


def _info(row: Row) -> JobInfo:
    progress = None
    if row["done"] is not None:
        progress = Progress(done=row["done"], total=row["total"], message=row["message"], at=row["at"])
    state = JobState(row["state"])
    return JobInfo(
        id=str(row["id"]),
        state=state,
        native_state=state.value,
        name=row["name"],
        owner=row["owner"],
        queue=row["queue"],
        priority=row["priority"],
        tags=row["tags"],
        meta=row["meta"],
        cancel_requested=row["cancelling"],
        cancel_reason=row["cancel_reason"],
        reason=row["reason"],
        exit_code=row["exit_code"],
        progress=progress,
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        version=row["version"],
        spec=row.get("spec"),
    )


def _cancel_result(
    text: str, uid: UUID | None, before: dict[UUID, JobState], reason: str | None, *, abort: bool
) -> CancelResult:
    state = before.get(uid) if uid is not None else None
    if state is None:
        return CancelResult(job_id=text, outcome=CancelOutcome.NOT_FOUND)
    if state.terminal:
        outcome, after = CancelOutcome.ALREADY_TERMINAL, state
    elif state in NOT_STARTED:
        outcome, after = CancelOutcome.CANCELLED, JobState.CANCELLED
    elif abort:
        outcome, after = CancelOutcome.CANCEL_REQUESTED, state
    else:
        outcome, after = CancelOutcome.LEFT_RUNNING, state
    return CancelResult(job_id=text, outcome=outcome, before=state, after=after, reason=reason)
