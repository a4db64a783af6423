"""What was written down about jobs, and what is forgotten in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from hpcjobs.lifecycle import JobState
from hpcjobs.records import AttemptInfo, Change, History
from hpcjobs_server.store.base import Database, to_uuid

# A change of the record alone (a tag, a priority) is no change of the state.
_CHANGES = """
SELECT state, attempt, cancel_requested, reason, actor, at FROM (
    SELECT e.*, lag((state, attempt, cancel_requested)) OVER (ORDER BY seq) AS before FROM events e WHERE job_id = %s
) e
WHERE before IS DISTINCT FROM (state, attempt, cancel_requested) ORDER BY seq
"""

_ATTEMPTS = """
SELECT attempt, state, reason, exit_code, host, started_at, finished_at, cpu_seconds, peak_memory
FROM attempts WHERE job_id = %s ORDER BY attempt
"""


class Records(Database):
    """Reads what was written down, and removes what is old."""

    async def history(self, owner: str | None, job_id: str) -> History | None:
        """Everything about one job; None where there is none, or it is another's."""
        uid = to_uuid(job_id)
        if uid is None:
            return None
        found = await self.all(
            "SELECT 1 AS x FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s)", [uid, owner, owner]
        )
        if not found:
            return None
        changes = [Change(**{**row, "state": JobState(row["state"])}) for row in await self.all(_CHANGES, [uid])]
        attempts = [AttemptInfo(**{**row, "state": JobState(row["state"])}) for row in await self.all(_ATTEMPTS, [uid])]
        queued, ran = _times(changes)
        return History(changes=changes, attempts=attempts, queue_time=queued, run_time=ran)

    async def forget(self, *, keep: float, most: int = 1000) -> int:
        """Delete jobs that ended longer ago than ``keep`` seconds, at most ``most`` of them; how many."""
        rows = await self.all(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state IN ('FINISHED', 'FAILED', 'CANCELLED')"
            " AND finished_at < now() - make_interval(secs => %s) ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED)"
            " RETURNING id",
            [keep, most],
        )
        return len(rows)

    async def removals(self, most: int = 1000) -> list[UUID]:
        """Jobs that were deleted and whose files may still be there."""
        return [row["job_id"] for row in await self.all("SELECT job_id FROM removals ORDER BY at LIMIT %s", [most])]

    async def removed(self, ids: Sequence[UUID]) -> None:
        """The files of these jobs are gone."""
        async with self.connection() as connection:
            await connection.execute("DELETE FROM removals WHERE job_id = ANY(%s)", [list(ids)])

    async def inputs_in_use(self) -> set[tuple[str, str]]:
        """The owner and the sum of every input that a job which is still known has."""
        rows = await self.all(
            "SELECT DISTINCT owner, i ->> 'sha256' AS sum FROM ("
            " SELECT owner, spec FROM jobs WHERE has_inputs UNION ALL SELECT owner, spec FROM arrays) s,"
            " jsonb_array_elements(s.spec -> 'inputs') i"
        )
        return {(row["owner"], row["sum"]) for row in rows}


def _times(changes: Sequence[Change]) -> tuple[dt.timedelta, dt.timedelta]:
    """How long a job waited and how long it ran, in all its attempts, until it ended or now."""
    queued = ran = dt.timedelta(0)
    now = dt.datetime.now(dt.timezone.utc)
    ends = [*(change.at for change in changes[1:]), now]
    for change, end in zip(changes, ends, strict=True):
        span = max(end - change.at, dt.timedelta(0))
        if change.state.not_started:
            queued += span
        elif not change.state.terminal:
            ran += span
    return queued, ran
