"""What was written down about jobs, and what is forgotten in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from hpcjobs.lifecycle import JobState
from hpcjobs.records import AttemptInfo, Change, History
from hpcjobs_server.store.base import Database, to_uuid

MOST = 1000
"""Most changes, and most attempts, that one history has: the newest."""

LOOKED = 20_000
"""Most entries that are looked at for it. A job that many had changed for years has no times rather than wrong ones."""

_NOT_STARTED = ", ".join(f"'{state}'" for state in JobState if state.not_started)
_STARTED = ", ".join(f"'{state}'" for state in JobState if not (state.not_started or state.terminal))

# A change of the record alone (a tag, a priority) is no change of the state. The times are those of all changes that
# are looked at, though only the newest of them are told.
_CHANGES = f"""
WITH looked AS (
    SELECT seq, state, attempt, cancel_requested, reason, actor, at FROM events WHERE job_id = %(id)s
    ORDER BY seq DESC LIMIT %(looked)s
), changed AS (
    SELECT *, greatest(coalesce(lead(at) OVER (ORDER BY seq), now()) - at, interval '0') AS span FROM (
        SELECT l.*, lag((state, attempt, cancel_requested)) OVER (ORDER BY seq) AS before FROM looked l
    ) e WHERE before IS DISTINCT FROM (state, attempt, cancel_requested)
)
SELECT state, attempt, cancel_requested, reason, actor, at,
    sum(span) FILTER (WHERE state IN ({_NOT_STARTED})) OVER () AS queued,
    sum(span) FILTER (WHERE state IN ({_STARTED})) OVER () AS ran,
    (SELECT count(*) FROM looked) AS looked
FROM changed ORDER BY seq DESC LIMIT %(most)s
"""

_ATTEMPTS = """
SELECT attempt, state, reason, exit_code, host, started_at, finished_at, cpu_seconds, peak_memory
FROM attempts WHERE job_id = %s ORDER BY attempt DESC LIMIT %s
"""

_NONE = dt.timedelta(0)


class Records(Database):
    """Reads what was written down, and removes what is old."""

    async def history(
        self, owner: str | None, job_id: str, *, most: int = MOST, looked: int = LOOKED
    ) -> History | None:
        """What was written down about one job; None where there is none, or it is another's.

        Args:
            owner: Whose it must be; None for anybody's.
            job_id: Its id.
            most: Most changes, and most attempts: the newest.
            looked: Most entries to look at; where there are more, the times are not known.
        """
        uid = to_uuid(job_id)
        if uid is None:
            return None
        found = await self.all(
            "SELECT 1 AS x FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s)", [uid, owner, owner]
        )
        if not found:
            return None
        rows = await self.all(_CHANGES, {"id": uid, "looked": looked + 1, "most": most + 1})
        attempts = await self.all(_ATTEMPTS, [uid, most + 1])
        queued: dt.timedelta | None = None
        ran: dt.timedelta | None = None
        known = not rows or rows[0]["looked"] <= looked
        if known:
            queued, ran = (_NONE, _NONE) if not rows else (rows[0]["queued"] or _NONE, rows[0]["ran"] or _NONE)
        return History(
            changes=[Change.model_validate(row) for row in rows[:most][::-1]],
            attempts=[AttemptInfo.model_validate(row) for row in attempts[:most][::-1]],
            queue_time=queued,
            run_time=ran,
            truncated=not known or len(rows) > most or len(attempts) > most,
        )

    async def forget(self, *, keep: float, most: int = 1000) -> int:
        """Delete jobs that ended longer ago than ``keep`` seconds, at most ``most`` of them; how many."""
        # in the words of the index, read backwards: where the jobs without a moment stand, which are none here
        rows = await self.all(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state IN ('FINISHED', 'FAILED', 'CANCELLED')"
            " AND finished_at < now() - make_interval(secs => %s) ORDER BY finished_at NULLS FIRST LIMIT %s"
            " FOR UPDATE SKIP LOCKED)"
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
