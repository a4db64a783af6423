"""The jobs as the API sees them: submit, look, list, cancel, follow."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from hpcjobs.lifecycle import NOT_STARTED, TERMINAL, JobState
from hpcjobs.models import CancelOutcome, CancelResult, JobFilter, JobInfo, JobPage, JobSpec
from hpcjobs_server.queue import TICKETS
from hpcjobs_server.store.base import Row, to_uuid
from hpcjobs_server.store.rows import FROM, INFO, decode_cursor, encode_cursor, to_info
from hpcjobs_server.store.tokens import Tokens

_MAX_CHANGES = 50_000
"""Most jobs that one look at the changes returns; a client that was away for longer asks for its jobs anyway."""


class KeyReused(Exception):
    """The same submission key came with another body."""


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

_CHANGES = f"""
SELECT {INFO} FROM (
    SELECT job_id FROM events WHERE xid >= %(since)s::text::xid8
    UNION SELECT job_id FROM progress WHERE xid >= %(since)s::text::xid8
    LIMIT %(most)s
) c JOIN jobs j ON j.id = c.job_id LEFT JOIN progress p ON p.job_id = j.id AND p.attempt = j.attempt
"""


class Store(Tokens):
    """Everything that the API asks of the database."""

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
        rows = await self.all(_SUBMIT, parameters)
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
        rows = await self.all(
            f"SELECT {INFO}, j.spec, j.digest FROM {FROM} WHERE j.owner = %s AND j.submit_key = %s", [owner, key]
        )
        if not rows or bytes(rows[0]["digest"]) != digest:
            raise KeyReused
        return to_info(rows[0]), False

    async def get(self, owner: str | None, job_id: str) -> JobInfo | None:
        """One job with what was asked; None where there is none, or it is another's.

        Args:
            owner: Whose job it must be; None for anybody's.
            job_id: Its id; one that is no id is simply not found.
        """
        found = await self._by_ids(owner, [job_id], ", j.spec")
        return to_info(found[0]) if found else None

    async def get_many(self, owner: str | None, ids: Sequence[str]) -> list[JobInfo]:
        """The jobs that were found, without what was asked."""
        return [to_info(row) for row in await self._by_ids(owner, ids, "")]

    async def _by_ids(self, owner: str | None, ids: Sequence[str], more: str) -> list[Row]:
        good = [uid for uid in map(to_uuid, ids) if uid is not None]
        if not good:
            return []
        return await self.all(
            f"SELECT {INFO}{more} FROM {FROM} WHERE j.id = ANY(%(ids)s)"
            " AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)",
            {"ids": good, "owner": owner},
        )

    async def place(self, owner: str | None, job_id: str) -> Place | None:
        """Where a job's files are; None where there is none, or it is another's."""
        uid = to_uuid(job_id)
        if uid is None:
            return None
        rows = await self.all(
            "SELECT owner, state, attempt FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s)",
            [uid, owner, owner],
        )
        return Place(str(uid), rows[0]["owner"], JobState(rows[0]["state"]), rows[0]["attempt"]) if rows else None

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
        uids = [to_uuid(text) for text in ids]
        async with self.connection() as connection, connection.transaction():
            rows = await (
                await connection.execute(
                    "SELECT id, state, attempt FROM jobs WHERE id = ANY(%(ids)s)"
                    " AND (%(owner)s::text IS NULL OR owner = %(owner)s) ORDER BY id FOR UPDATE",
                    {"ids": [uid for uid in uids if uid is not None], "owner": owner},
                )
            ).fetchall()
            before = {row["id"]: JobState(row["state"]) for row in rows}
            # Two statements, because the second must see the rows as they are now that they are locked.
            touched = [uid for uid, state in before.items() if not state.terminal and (abort or state.not_started)]
            if touched:
                await connection.execute(_CANCEL, {"ids": touched, "reason": reason, "actor": actor})
            never = [row["id"] for row in rows if delete and row["attempt"] == 0 and before[row["id"]].not_started]
            if never:
                await connection.execute("DELETE FROM jobs WHERE id = ANY(%s)", [never])
        return [_cancel_result(text, uid, before, reason, abort=abort) for text, uid in zip(ids, uids, strict=True)]

    async def changes(self, since: int | None) -> tuple[int, list[tuple[str, JobInfo]]]:
        """The present info of each job that changed since a cursor.

        What a transaction that is still open has changed comes after its commit: the cursor is the oldest transaction
        that is under way, so nothing is missed, and a change may come twice.

        Args:
            since: A cursor that this method returned; None for the present one alone.

        Returns:
            The next cursor, and each job with its owner.
        """
        async with self.connection() as connection:
            # the cursor is read before the rows: what commits in between comes again, rather than never
            cursor = await (
                await connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS cursor")
            ).fetchone()
            assert cursor is not None
            if since is None:
                return int(cursor["cursor"]), []
            rows = await (await connection.execute(_CHANGES, {"since": str(since), "most": _MAX_CHANGES})).fetchall()
        return int(cursor["cursor"]), [(row["owner"], to_info(row)) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = await self.all("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def workers(self, *, silent: float = 15.0) -> list[WorkerInfo]:
        """The workers that were heard in the last ``silent`` seconds."""
        rows = await self.all(
            "SELECT id, host, pid, cores, running, started_at, seen_at FROM workers"
            " WHERE seen_at > now() - make_interval(secs => %s) ORDER BY started_at",
            [silent],
        )
        return [WorkerInfo(**row) for row in rows]

    async def list(
        self, owner: str | None, wanted: JobFilter, *, limit: int, cursor: str | None, key: str | None = None
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
            add("j.seq < %(before)s", before=decode_cursor(cursor))
        if key is not None:
            add("j.submit_key = %(key)s", key=key)
        if wanted.state:
            words = [state.value for state in wanted.state]
            if not set(wanted.state) & TERMINAL:
                # said plainly, so that the index of active jobs can serve
                conditions.append("j.state IN ('PENDING', 'QUEUED', 'STAGING', 'RUNNING', 'ARCHIVING')")
            add("j.state = ANY(%(states)s)", states=words)
        if wanted.tag:
            add("j.tags @> %(tags)s::text[]", tags=list(wanted.tag))
        if wanted.name is not None:
            if "*" in wanted.name:
                pattern = wanted.name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
                add("j.name LIKE %(name)s", name=pattern)
            else:
                add("j.name = %(name)s", name=wanted.name)
        if wanted.queue is not None:
            add("j.queue = %(queue)s", queue=wanted.queue)
        if wanted.created_after is not None:
            add("j.created_at > %(after)s", after=wanted.created_after)
        if wanted.created_before is not None:
            add("j.created_at < %(until)s", until=wanted.created_before)
        rows = await self.all(
            f"SELECT {INFO} FROM {FROM} WHERE {' AND '.join(conditions)} ORDER BY j.seq DESC LIMIT %(limit)s",
            parameters,
        )
        more = len(rows) > limit
        rows = rows[:limit]
        return JobPage(items=[to_info(row) for row in rows], next=encode_cursor(rows[-1]["seq"]) if more else None)


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
